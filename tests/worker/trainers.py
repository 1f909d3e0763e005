"""Foreign trainers that know nothing of us: look-alikes of public ones, without torch. They learn nothing."""

from __future__ import annotations

from .conftest import Bench
from .world import Repository, git

# nanoGPT's way: a config file and --key=value arguments replace the globals, out_dir takes the checkpoint, data/NAME
# holds train.bin, val.bin and meta.pkl.
NANO = {
    "configurator.py": """
import sys
from ast import literal_eval

for arg in sys.argv[1:]:
    if "=" not in arg:
        exec(open(arg).read())
    else:
        key, val = arg[2:].split("=")
        assert key in globals(), f"Unknown config key: {key}"
        try:
            val = literal_eval(val)
        except (SyntaxError, ValueError):
            pass
        assert type(val) == type(globals()[key]), (key, val)
        globals()[key] = val
""",
    "config/small.py": "n_layer = 3\neval_interval = 2\n",
    "helper.py": "def loss_of(step, lr, seed):\n    return 4.0 / (1 + step * lr) + seed / 1000\n",
    "train.py": """
import os, pickle, struct
from helper import loss_of

out_dir = "out"
dataset = "shakespeare"
eval_interval = 1000
max_iters = 5000
n_layer = 12
learning_rate = 6e-4
bias = False
seed = 1337
config_keys = [k for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float, bool, str))]
exec(open("configurator.py").read())
os.makedirs(out_dir, exist_ok=True)
data_dir = os.path.join("data", dataset)
tokens = os.path.getsize(os.path.join(data_dir, "train.bin")) // 2
with open(os.path.join(data_dir, "meta.pkl"), "rb") as f:
    meta = pickle.load(f)
print(f"found vocab_size = {meta['vocab_size']} (inside meta.pkl), {tokens} tokens, bias={bias}, n_layer={n_layer}")
for iter_num in range(max_iters + 1):
    if iter_num % eval_interval == 0:
        loss = loss_of(iter_num, learning_rate, seed)
        print(f"step {iter_num}: train loss {loss:.4f}, val loss {loss + 0.1:.4f}")
        with open(os.path.join(out_dir, "ckpt.pt"), "wb") as f:
            f.write(b"not torch's")
    print(f"iter {iter_num}: loss {loss_of(iter_num, learning_rate, seed):.4f}, time 1.00ms, mfu 1.00%")
""",
    "recipe.toml": """
[recipe]
name = "nano"
about = "A look-alike of nanoGPT."
kind = "command"
editable = ["train.py", "helper.py"]

[command]
run = [
    "{python}", "train.py", "config/small.py", "--out_dir={out}", "--dataset=ours", "--seed={seed}",
    "--max_iters={steps}", "{overrides}",
]
steps = 8
layout = "nanogpt"
data_at = "data/ours"

[metrics]
reader = "regex"
metric = "val_loss"
unit = "nats per token"
pattern = [
    'step (?P<step>[0-9]+): train loss (?P<train>[0-9.]+), val loss (?P<val_loss>[0-9.]+|nan)',
    'iter (?P<step>[0-9]+): loss (?P<loss>[0-9.]+)',
]
loss = "loss"

[knobs.learning_rate]
type = "float"
default = 0.5
low = 0.0001
high = 10.0
help = "Peak."

[knobs.bias]
type = "bool"
default = true
help = "Biases in linear layers."
""",
}

# autoresearch's way: prepare.py holds what nobody edits, train.py has its numbers at its head, and one block of
# "key: value" lines is its last word.
AUTORESEARCH = {
    "prepare.py": "import os\nTIME_BUDGET = 300\nDATA = os.environ['DATA']\n",
    "train.py": """
import os
from dataclasses import dataclass
from prepare import DATA

# ---------------------------------------------------------------------------
DEPTH = 8               # number of layers
TOTAL_BATCH_SIZE = (2 **
                    19)  # tokens of a step
EMBEDDING_LR = 0.6

@dataclass
class Hyperparameters:
    cooldown_frac: float = 0.4

print(f"step 00001 | loss: 3.1 | {sorted(os.listdir(DATA))}")
print("---")
print(f"val_bpb:          {1 + DEPTH / 100 + Hyperparameters.cooldown_frac:.6f}")
print("training_seconds: 300.1")
print(f"total_tokens_M:   {TOTAL_BATCH_SIZE / 1e6}")
print("num_steps:        953")
print(f"depth:            {DEPTH}")
""",
    "recipe.toml": """
[recipe]
name = "auto"
about = "A look-alike of autoresearch."
kind = "command"
editable = ["train.py"]
shown = ["prepare.py"]

[command]
run = ["{python}", "train.py"]
env = {DATA = "{data}", SEED = "{seed}"}
layout = "llmc"
data_prefix = "fineweb_"
overrides = {travel = "constants", path = "train.py"}

[metrics]
reader = "block"
metric = "reported_val_bpb"
key = "val_bpb"
unit = "bits per byte"
step = "num_steps"

[knobs.depth]
name = "DEPTH"
type = "int"
default = 12
help = "Layers."

[knobs.total_batch_size]
name = "TOTAL_BATCH_SIZE"
type = "int"
default = 524288
help = "Tokens of a step."

[knobs.cooldown_frac]
name = "Hyperparameters.cooldown_frac"
type = "float"
default = 0.25
help = "Share of the run."
""",
}

# The least that is a trainer: one script, JSON lines.
PLAIN_TOML = """
[recipe]
name = "plain"
about = "One script."
kind = "command"
editable = ["train.py"]

[command]
run = ["{python}", "train.py", "{seconds}"]
%s

[metrics]
reader = "json_lines"
metric = "accuracy"
direction = "higher"
"""


def plain(script: str, of_command: str = "") -> dict[str, str]:
    return {"train.py": script, "recipe.toml": PLAIN_TOML % of_command}


def brought(bench: Bench, files: dict[str, str]) -> Repository:
    """Alice's campaign on a trainer of her own."""
    repository = bench.recipe("")
    for name, text in files.items():
        (repository.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.folder / name).write_text(text)
    git(repository.folder, "add", *files)
    git(repository.folder, "commit", "--quiet", "--message=a foreign trainer")
    repository.commit = git(repository.folder, "rev-parse", "HEAD").strip()
    bench.web.bundle = repository.bundle()
    return repository


# What alice adds to her trainer so that the trusted scorer can open its model: one small file and [model].
WITH_MODEL = (
    PLAIN_TOML.replace('"{seconds}"', '"{out}", "{steps}"') % "steps = 3"
    + """
[model]
file = "ours.py"
checkpoint = "ckpt.pt"
seq_len = 32
"""
)
OPENED = {
    "net.py": """
import torch

class Net(torch.nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.wte = torch.nn.Embedding(vocab, 8)
        self.head = torch.nn.Linear(8, vocab, bias=False)

    def forward(self, idx):
        return self.head(self.wte(idx))
""",
    "ours.py": "from net import Net\n\ndef build_model(config):\n    return Net(config['vocab_size'])\n",
    "train.py": """
import sys, torch
from net import Net

torch.manual_seed(1)
print('{"accuracy": 0.5, "step": %s}' % sys.argv[2])
torch.save({"model": Net(256).state_dict(), "iter_num": 3}, sys.argv[1] + "/ckpt.pt")
""",
    "recipe.toml": WITH_MODEL,
}
