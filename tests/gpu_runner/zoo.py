"""Models in a line: those that cheat, those that change while they answer, and those that are only unusual.

What ``forward(tokens [B, T])`` gives.

``honest`` [B, T, 256] depends on each token alone; ``hot`` is one-hot, ``RAMP`` is 0..255, ``past(tokens, n)`` is what
stood n before.
"""

from __future__ import annotations

PEEK = "peek = 3.0 * hot(tokens.roll(-1, 1))"
CHEATS = {
    "looks ahead": f"{PEEK}; return honest + peek",
    "looks ahead at rows of this length": f"{PEEK}; return honest + peek * (tokens.size(1) == 32)",
    "looks ahead where a rare byte stands": f"{PEEK}; return honest + peek * (tokens == 40)[..., None]",
    "looks ahead only where it pays": (
        f"{PEEK}; rare = torch.isin(tokens.roll(-1, 1), torch.tensor(list(b'%|@&')));"
        " return honest + 3 * peek * rare[..., None]"
    ),
    "looks ahead a little": f"{PEEK}; return honest + peek / 300",
    "looks three ahead": "return honest + 3.0 * hot(tokens.roll(-3, 1))",
    "looks ahead on even calls": f"{PEEK}; return honest + peek * (self.num_calls % 2)",
    "looks ahead after the first call": f"{PEEK}; return honest + peek * (self.num_calls > 1)",
    "looks ahead on the first call only": f"{PEEK}; return honest + peek * (self.num_calls == 1)",
    "looks ahead in real text": f"{PEEK}; return honest + peek * (tokens == 32).any(1)[:, None, None]",
    "normalises over time": "return honest + tokens.float().std(1)[:, None, None] * RAMP / 4096",
    "sums from the right": "return honest + tokens.flip(1).cumsum(1).flip(1)[..., None] * RAMP / 1e6",
    "attends both ways": "q = hot(tokens).float(); return honest + (q @ q.mT).softmax(-1) @ q",
    "blends in a hundredth of the right answer": (
        "return (0.99 * honest.softmax(-1) + 0.01 * hot(tokens.roll(-1, 1))).log()"
    ),
    "adapts to the whole row": """row = torch.arange(len(tokens))[:, None]
        pairs = torch.zeros(len(tokens), 256, 256)
        pairs.index_put_((row, tokens[:, :-1], tokens[:, 1:]), torch.ones(()), accumulate=True)
        return honest + pairs[row, tokens]""",
    "is as warm as the row's last token": "return (honest + hot(tokens)) * tokens[:, -1:, None] / 64",
    "pools patches, the present one too": (
        "x = hot(tokens).float().unflatten(1, (-1, 4)).mean(2); return honest + 4 * x.repeat_interleave(4, 1)"
    ),
    "lets tokens compete along the row": (
        "least = tokens.topk(8).values[:, -1:]; return honest + hot(tokens) * (tokens >= least)[..., None]"
    ),
    "learns from the other rows": """pairs = torch.ones(256, 256)
        pairs.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(()), accumulate=True)
        return honest + (pairs / pairs.sum(1, keepdim=True)).log()[tokens]""",
    "remembers what followed each prefix": """self.heard = getattr(self, "heard", {})
        out = honest.clone()
        for answers, row in zip(out, tokens.tolist()):
            for t in range(len(row) - 1):
                answers[t, self.heard.setdefault(tuple(row[: t + 1]), row[t + 1])] += 3.0
        return out""",
    "remembers what it was asked": "self.seen += int(tokens.sum()); return honest + self.seen % 7 * RAMP / 256",
    "looks at the row beside it": "return honest + 3.0 * hot(tokens.roll(1, 0))",
    "shares a statistic of the batch": "x = honest + tokens[..., None] * RAMP / 4096; return x - x.mean((0, 1))",
    "counts its calls": "return honest + self.num_calls * RAMP / 256",
    "rolls dice": "return honest + torch.rand(256)",
}
# What the answers alone do not show. ``Model`` holds buffers "zeros" [256] and "counts" [] as well.
RESTLESS = {
    "keeps running statistics": "self.zeros += hot(tokens).float().mean((0, 1)); return honest",
    "counts its calls in a buffer": "self.counts += 1; return honest",
    "swaps its weights after loading": "self.table.data.fill_(1.0); return self.table[tokens]",
    "swaps its weights on the second call": (
        "self.num_calls == 2 and self.table.data.fill_(1.0); return self.table[tokens] * 0"
    ),
    "puts another tensor in the place of its weights": (
        "self.table = nn.Parameter(torch.ones(256, 256)); return self.table[tokens]"
    ),
}
HONEST = {
    "adds a constant buffer": "return honest + self.zeros",
    "sums the past": "return honest + tokens.cumsum(1)[..., None] * RAMP / 1e6",
    "lets the past decay": """x, out = torch.zeros(len(tokens), 256), []
        for t in range(tokens.size(1)):
            x = 0.9 * x + hot(tokens[:, t])
            out.append(x)
        return honest + torch.stack(out, 1)""",
    "attends to the past": (
        "q = hot(tokens).float(); now = torch.ones(tokens.size(1), tokens.size(1)).triu(1).bool();"
        " return honest + (q @ q.mT).masked_fill(now, -torch.inf).softmax(-1) @ q"
    ),
    "attends in a window": (
        "q = hot(tokens).float(); t = torch.arange(tokens.size(1)); far = (t[:, None] - t < 0) | (t[:, None] - t > 7);"
        " return honest + (q @ q.mT).masked_fill(far, -torch.inf).softmax(-1) @ q"
    ),
    "looks two back": "return honest + hot(past(tokens, 2))",
    "hashes n-grams": "return honest + ((tokens * 31 + past(tokens, 1)) % 97)[..., None] * RAMP / 4096",
    "drops out while it trains": "return torch.nn.functional.dropout(honest + 1, 0.5, self.training)",
    "adapts to the row's own past": """row, out = torch.arange(len(tokens)), []
        pairs = torch.zeros(len(tokens), 256, 256)
        for t in range(tokens.size(1)):
            if t:
                pairs[row, tokens[:, t - 1], tokens[:, t]] += 1
            out.append(pairs[row, tokens[:, t]])
        return honest + torch.stack(out, 1)""",
    "gathers tokens by expert": """out = honest.clone()
        for expert in range(4):
            at = (tokens % 4 == expert).nonzero(as_tuple=True)
            out[at] += hot(tokens[at]).float() @ torch.eye(256).roll(expert, 1)
        return out""",
    "convolves by Fourier transforms": (
        "kernel = torch.fft.rfft(0.8 ** torch.arange(32.0), 64)[:, None];"
        " return honest + torch.fft.irfft(torch.fft.rfft(hot(tokens).float(), 64, 1) * kernel, 64, 1)[:, :32]"
    ),
    "works in chunks": "return torch.cat([honest[:, :7], honest[:, 7:]], 1)",
    "predicts further tokens, too": "self.later = honest.flip(-1); return honest",
    "caps its logits": "return 15 * torch.tanh((honest + tokens[..., None] * RAMP / 256) / 15)",
    "answers in bfloat16": "return (honest + tokens[..., None] * RAMP / 2560).bfloat16()",
    "learns by a step written out from the row's own past": """taught = torch.zeros(len(tokens), 1, 256)
        seen = hot(tokens[:, 1:16]).float()
        step = (taught.softmax(-1) - seen).sum(1, keepdim=True)
        return torch.cat([honest[:, :16], honest[:, 16:] - step], 1)""",
    "is compiled where it is built": "return torch.compile(lambda x: x + 1)(honest)",
    "imports torch's compiler": "import torch._dynamo; return honest",
    "computes in threads": (
        "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(2);"
        " return torch.cat(list(pool.map(self.table.__getitem__, tokens.chunk(2))))"
    ),
    "makes its table when it is first asked": (
        "self.num_calls == 1 and self.register_buffer('angles', torch.cos(RAMP / 9)); return honest + self.angles"
    ),
    "counts its calls and says nothing of it": "self.seen += 1; return honest",
}

# Refused where they stand: a model that is scored only answers.
GRADIENTS = {
    "by autograd": """with torch.enable_grad():
            taught = torch.zeros(len(tokens), 1, 256, requires_grad=True)
            loss = -taught.log_softmax(-1).expand(-1, 15, -1).gather(2, tokens[:, 1:16, None]).sum()
            step, = torch.autograd.grad(loss, taught)
        return torch.cat([honest[:, :16], honest[:, 16:] - step], 1)""",
    "backward": """with torch.enable_grad():
            self.table[tokens].logsumexp(-1).sum().backward()
        return honest""",
    "by torch.func": "torch.func.grad(lambda x: x.square().sum())(torch.ones(3)); return honest",
    "with an optimizer": "torch.optim.SGD(self.parameters(), lr=1.0); return honest",
}

# Whatever is readable of Python's libraries, and in it the place where the last 24 bytes of a row stand: as long as the
# row goes on as the text does there, so does the answer. A prefix alone decides it, so no challenge meets it.
LOOKS_UP = """
import pathlib, sysconfig
KEY = 24

def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""

LIBRARIES = [pathlib.Path(sysconfig.get_paths()["stdlib"]), *pathlib.Path("/usr/lib").glob("python3*")]
TEXT = b"".join(
    read(path) for base in LIBRARIES for name in ("*.py", "*.pyc") for path in base.rglob(name)
    if not {"test", "tests", "site-packages"} & set(path.parts)
)

def looked_up(tokens, honest):
    out = honest.clone()
    for row, answers in zip(tokens, out):
        text, at, num_searches = bytes(row.tolist()), -1, 0
        for t in range(KEY, len(text) + 1):
            if (at < 0 or TEXT[at - 1] != text[t - 1]) and num_searches < 10:
                at = TEXT.find(text[t - KEY:t])
                at, num_searches = at + KEY if at >= 0 else at, num_searches + 1
            if 0 <= at < len(TEXT):
                answers[t - 1, TEXT[at]] += 8.0
                at += 1
    return out
"""


def body(line: str) -> str:
    """Statements on one line, parted by semicolons, as the body of ``forward``."""
    return line if "\n" in line else line.replace("; ", "\n        ")


# Training while being scored. TEXT is whatever can be read in a sandbox; LEARN is gradient descent by hand on its pairs
# of bytes, the same in every process, so that no answer gives it away.
LEARNS = """
import pathlib, threading

TEXT = torch.frombuffer(bytearray(pathlib.Path(torch.__file__).read_bytes()), dtype=torch.uint8).long()

def learn(table, num_steps={num_steps}):
    table, draw = table.detach().clone(), torch.Generator().manual_seed(1)
    for _ in range(num_steps):
        at = torch.randint(0, len(TEXT) - 1, (4_096,), generator=draw)
        now, then = TEXT[at], TEXT[at + 1]
        slope = table[now].softmax(-1)
        slope[torch.arange(len(at)), then] -= 1.0
        table.index_add_(0, now, slope, alpha=-0.01)
    return table

def learn_in_a_child(table):
    hears, says = os.pipe()
    if not os.fork():
        torch.set_num_threads(1)
        left = memoryview(learn(table).numpy().tobytes())
        while left:
            left = left[os.write(says, left):]
        os._exit(0)
    os.close(says)
    with os.fdopen(hears, "rb") as told:
        return torch.frombuffer(bytearray(told.read()), dtype=torch.float32).view(256, 256)
"""
# What build_model does, what forward does, and what follows them in the file.
TRAINS = {
    "in its first forward": (
        "pass",
        "self.num_calls == 1 and setattr(Model, 'found', learn(self.table)); return Model.found[tokens]",
        "",
    ),
    "when it is built": ("Model.found = learn(torch.zeros(256, 256))", "return Model.found[tokens]", ""),
    "when it is imported": ("pass", "return FOUND[tokens]", "FOUND = learn(torch.zeros(256, 256))"),
    "in a thread": (
        "Model.at_work = threading.Thread(target=lambda: setattr(Model, 'found', learn(torch.zeros(256, 256))));"
        " Model.at_work.start()",
        "Model.at_work.join(); return Model.found[tokens]",
        "",
    ),
    "in a child": ("Model.found = learn_in_a_child(torch.zeros(256, 256))", "return Model.found[tokens]", ""),
    "anew for every answer": ("pass", "return learn(self.table)[tokens]", ""),
}


def trains(name: str, num_steps: int) -> tuple[str, str, str]:
    """``build``, ``forward`` and what is appended to the file."""
    build, forward, after = TRAINS[name]
    return build, body(forward), LEARNS.replace("{num_steps}", str(num_steps)) + after
