"""A small modern GPT and how it is trained. This file is what proposals edit.

Read downward: layers -> model -> optimizer -> schedule -> train(run). Two names are called from
outside and must stay: ``train(run)`` by the harness, ``build_model(config)`` by the scorer, in a
process of its own, with nothing but ``config.json`` and the weights.

Where it comes from: nanochat (layout, x0 and value embeddings), modded-nanogpt (ReLU², zero-init
projections, soft-cap, smear, Muon by Keller Jordan), Amsel et al. 2025 (Polar Express), Zhang and
Sennrich 2019 (RMSNorm), Su et al. 2021 (rotary), Henry et al. 2020 (QK-norm).

Letters in shapes: B rows, T tokens of a row, D width, H query heads, G key/value heads,
K = D / H the size of a head, F hidden width of the MLP, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, NamedTuple

import kernels
import torch
import torch.nn.functional as F
from attention import windowed_attention
from fp8 import fp8_linear
from torch import Tensor, nn

# --- layers ------------------------------------------------------------------------------------


# Three operations come with their gradients. Left to autograd without a compiler, each goes over the
# activations two to three times as often; on a CPU such passes cost more than the matrix products do.


class RMSNorm(torch.autograd.Function):
    """By the norm, not by F.rms_norm: without a compiler that is eight passes over float32 copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.mul_(x.size(-1) ** -0.5).add_(1e-6).reciprocal_()
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, y).unsqueeze(-1)  # longer or shorter x gives the same y: that part is lost
        return torch.addcmul(grad, y, along, value=-1 / y.size(-1)).mul_(inverse)


class ReluSquared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


class Rotate(torch.autograd.Function):
    """Its gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _turned(grad, *ctx.saved_tensors, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((b, a), dim=-1), sin, value=way)


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square over the last axis. No gain: the next matrix can learn it."""
    return RMSNorm.apply(x)


class Linear(nn.Linear):
    """No bias; weights are kept in float32 and cast to the activations' dtype, or to fp8, when they are used.

    fp8 is for training alone (as in nanochat): its one scale for a whole batch would round a row by its neighbours.
    """

    def __init__(self, num_in: int, num_out: int, *, fp8: bool = False) -> None:
        super().__init__(num_in, num_out, bias=False)
        self.fp8 = fp8

    def forward(self, x: Tensor) -> Tensor:
        # fp8 rounds the float32 weight by itself, once.
        return fp8_linear(x, self.weight) if self.fp8 and self.training else F.linear(x, self.weight.to(x.dtype))


def rotary_tables(seq_len: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of every position and channel, sin negated in the second half; each [1, T, 1, K]."""
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(seq_len, dtype=torch.float32), frequency)[None, :, None, :]
    return torch.cat((angle.cos(), angle.cos()), dim=-1), torch.cat((angle.sin(), -angle.sin()), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of channels (k, k + K/2) of x [B, T, H, K] by their position's angle."""
    return Rotate.apply(x, cos, sin)


class Place(NamedTuple):
    """Where a row's tokens stand."""

    cos: Tensor  # [1, T, 1, K]
    sin: Tensor
    documents: Tensor | None  # [B, T] int64, which document of the row; None: attention crosses their borders


def attend(q: Tensor, k: Tensor, v: Tensor, *, window: int, documents: Tensor | None, fused: bool) -> Tensor:
    """Attention over the past. q [B, H, T, K], k and v [B, G, T, K] -> [B, H, T, K].

    ``window`` is how far back, 0 for all; ``documents`` [B, T] keeps a token from looking into another one.
    FOOT-GUN: never give the fused kernel bfloat16 on a CPU (2.7 times slower than float32), and
    never give it a dense mask on a GPU (27 % slower than ``is_causal``).
    """
    if fused and not window and documents is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.size(1) != k.size(1))
    return windowed_attention(q, k, v, window or q.size(2), documents)


class Attention(nn.Module):
    def __init__(self, config: dict[str, Any], window: int) -> None:
        super().__init__()
        width, head_dim, fp8 = config["width"], config["head_dim"], config["fp8"]
        self.window, self.head_dim, self.fp8 = window, head_dim, fp8
        self.fused = config["attention"] == "sdpa"
        self.qk_norm = config["qk_norm"]
        self.num_heads = width // head_dim  # H
        self.num_kv_heads = self.num_heads // config["kv_share"]  # G
        kv_width = self.num_kv_heads * head_dim
        self.query = Linear(width, width)
        self.key = Linear(width, kv_width)
        self.value = Linear(width, kv_width)
        self.proj = Linear(width, width, fp8=fp8)

    def forward(self, x: Tensor, value_embedding: Tensor | None, place: Place) -> Tensor:
        """x [B, T, D], value_embedding [B, T, G*K] or None -> [B, T, D]."""
        B, T, D = x.shape
        # One product for all three: apart they are small, and small ones waste the machine.
        weights = torch.cat((self.query.weight, self.key.weight, self.value.weight))
        heads = fp8_linear(x, weights) if self.fp8 and self.training else F.linear(x, weights.to(x.dtype))
        heads = heads.view(B, T, -1, self.head_dim)  # [B, T, H + 2G, K]
        qk, v = heads.split((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=2)
        if value_embedding is not None:
            v = v + value_embedding.view_as(v)
        qk = rotate(rms_norm(qk) if self.qk_norm else qk, place.cos, place.sin).transpose(1, 2)
        q, k = qk.split((self.num_heads, self.num_kv_heads), dim=1)
        y = attend(q, k, v.transpose(1, 2), window=self.window, documents=place.documents, fused=self.fused)
        return self.proj(y.transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, hidden = config["width"], config["width"] * config["mlp_ratio"]
        self.activation = config["activation"]
        # fp8 has a product of its own; elsewhere the activation is fused into the first one.
        self.fused = self.activation == "relu2" and not config["fp8"]
        self.up = Linear(width, hidden, fp8=config["fp8"])
        self.gate = Linear(width, hidden, fp8=config["fp8"]) if self.activation == "swiglu" else None
        self.proj = Linear(hidden, width, fp8=config["fp8"])

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        if self.fused and x.is_cuda:
            return kernels.relu2_mlp(x, self.up.weight.to(x.dtype), self.proj.weight.to(x.dtype))
        h = self.up(x)  # [B, T, F]
        if self.gate is not None:
            h = F.silu(self.gate(x)) * h
        elif self.activation == "relu2":
            h = ReluSquared.apply(h)
        else:
            h = F.gelu(h) if self.activation == "gelu" else F.silu(h)
        return self.proj(h)


class Block(nn.Module):
    def __init__(self, config: dict[str, Any], window: int) -> None:
        super().__init__()
        self.attention = Attention(config, window)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, value_embedding: Tensor | None, place: Place) -> Tensor:
        x = x + self.attention(rms_norm(x), value_embedding, place)
        return x + self.mlp(rms_norm(x))


class NGrams(nn.Module):
    """What a token means together with those just before it: embeddings of the last 2, 3, ... tokens, added up.

    Rows of one table, found by a hash: there are more n-grams than rows, and rare ones share (hash n-gram
    embeddings: Pagnoni et al. 2024, BLT). They start at zero, so that one never seen says nothing.
    """

    PRIME = 2**31 - 1  # products of two numbers below it fit into int64

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.num_orders, self.num_rows = config["ngram_order"] - 1, config["ngram_rows"]
        self.table = nn.Parameter(torch.zeros(self.num_orders * self.num_rows, config["width"]))

    def rows(self, tokens: Tensor) -> Tensor:
        """tokens [B, T] int64 -> [B, T, orders] int64: the table's rows for every position and its past."""
        earlier = hashed = tokens + 1  # 0 stands for what was before the row
        rows = []
        for first_row in range(0, len(self.table), self.num_rows):
            earlier = F.pad(earlier[:, :-1], (1, 0))
            hashed = (hashed * 1_000_003 + earlier) % self.PRIME
            rows.append(hashed % self.num_rows + first_row)
        return torch.stack(rows, dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T] int64 -> [B, T, D] float32."""
        sparse = tokens.device.type == "cpu"  # a step touches few rows: there the gradient holds only those
        summed = F.embedding_bag(self.rows(tokens).flatten(0, 1), self.table, mode="sum", sparse=sparse)
        return summed.view(*tokens.shape, -1)


# --- model -------------------------------------------------------------------------------------

# What config.json must hold, beside what follows from them, the machine and the text (model_config).
MODEL_KNOBS = (
    "depth",
    "head_dim",
    "kv_share",
    "window",
    "full_every",
    "mlp_ratio",
    "activation",
    "qk_norm",
    "document_mask",
    "smear",
    "ngram_order",
    "ngram_rows",
    "value_embeddings",
    "x0_skip",
    "tied_head",
    "softcap",
    "rotary_base",
    "seq_len",
)


class GPT(nn.Module):
    """Tokens in, logits out: [B, T] int64 -> [B, T, V] float32, for T up to ``seq_len``."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        depth, width, vocab = config["depth"], config["width"], config["vocab_size"]
        self.dtype = getattr(torch, config["dtype"])
        self.softcap = config["softcap"]
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(config, window_of(config, i)) for i in range(depth))
        self.head = None if config["tied_head"] else Linear(width, vocab)
        self.ngrams = NGrams(config) if config["ngram_order"] > 1 else None
        # How much of the previous token's embedding is mixed into a token's own, by channel.
        self.smear = nn.Parameter(torch.zeros(width)) if config["smear"] else None
        # Every second layer, the last one included, adds a table of its own to its values.
        kv_width = width // config["kv_share"]
        with_table = range((depth - 1) % 2, depth, 2) if config["value_embeddings"] else ()
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(vocab, kv_width) for i in with_table})
        # The embedding is fed again to every layer, by a learned amount.
        self.x0_lambdas = nn.Parameter(torch.zeros(depth)) if config["x0_skip"] else None
        self._add_constants(config)

    def _add_constants(self, config: dict[str, Any]) -> None:
        """What follows from the config: not saved, but moved with the model."""
        self.separator = config["separator"] if config["document_mask"] else None
        cos, sin = rotary_tables(config["seq_len"], config["head_dim"], config["rotary_base"])
        self.register_buffer("cos", cos.to(self.dtype), persistent=False)
        self.register_buffer("sin", sin.to(self.dtype), persistent=False)

    def place(self, tokens: Tensor) -> Place:
        """A document ends with its separator: what comes behind it is the next one."""
        T, documents = tokens.size(1), None
        if self.separator is not None:
            ends = (tokens == self.separator).long()
            documents = ends.cumsum(1) - ends
        return Place(self.cos[:, :T], self.sin[:, :T], documents)

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.raw_logits(tokens).float()
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits

    def raw_logits(self, tokens: Tensor, grams: Tensor | None = None) -> Tensor:
        """Before the soft cap and in the compute dtype, [B, T, V]: the loss caps them as it reads them.

        ``grams`` [B, T, D] is what ``ngrams`` gives, where that was looked up before.
        """
        place = self.place(tokens)
        x = self.embed(tokens)  # [B, T, D]
        if self.ngrams is not None:
            x = x + (self.ngrams(tokens) if grams is None else grams)
        x = rms_norm(x.to(self.dtype))
        if self.smear is not None:
            x = x + F.pad(x[:, :-1], (0, 0, 1, 0)) * self.smear.to(self.dtype)
        x0 = x
        for i, block in enumerate(self.blocks):
            if self.x0_lambdas is not None:
                x = torch.addcmul(x, self.x0_lambdas[i].to(self.dtype), x0)
            table = self.value_embeds[str(i)] if str(i) in self.value_embeds else None  # noqa: SIM401  # has no get
            x = block(x, None if table is None else table(tokens).to(self.dtype), place)
        weight = self.embed.weight if self.head is None else self.head.weight
        return F.linear(rms_norm(x), weight.to(self.dtype))


def window_of(config: dict[str, Any], layer: int) -> int:
    """How far back a layer looks, 0 for all: every ``full_every``-th, the last one included, looks all the way."""
    from_last = config["depth"] - 1 - layer
    return config["window"] if from_last % config["full_every"] else 0


def build_model(config: dict[str, Any]) -> nn.Module:
    """The model that ``config`` describes, its weights not yet set. The scorer calls this too."""
    return GPT(config)


def model_config(run: Any) -> dict[str, Any]:
    """What ``build_model`` needs, and nothing else. Refuses knobs that do not fit each other."""
    k = run.knobs
    num_heads = -(-k["depth"] * k["aspect"] // k["head_dim"])  # rounded up, as nanochat does
    if num_heads % k["kv_share"]:
        run.refuse(f"kv_share: {num_heads} heads (depth x aspect / head_dim) cannot be shared {k['kv_share']} to one")
    if k["micro_batch"] and k["batch_size"] // run.team.size % k["micro_batch"]:
        run.refuse(f"micro_batch: {k['micro_batch']} does not divide a GPU's {k['batch_size'] // run.team.size} rows")
    if k["warmup_fraction"] + k["cooldown_fraction"] > 1:
        run.refuse("warmup_fraction: more than 1 together with cooldown_fraction; lower one of them")
    if k["document_mask"] and run.separator is None:
        run.refuse(
            "document_mask: this dataset does not mark where documents end; prepare it with a tokenizer that does"
        )
    about_run = {"width": num_heads * k["head_dim"], "vocab_size": run.vocab_size, "separator": run.separator}
    about_machine = {"dtype": run.dtype, "attention": run.attention, "fp8": takes_fp8(run)}
    return {key: k[key] for key in MODEL_KNOBS} | about_run | about_machine


def takes_fp8(run: Any) -> bool:
    """Where asked for, and by itself from 24 layers on: below, casting costs more than it saves (nanochat)."""
    asked = run.knobs["fp8"]
    if asked == "on" and not run.has_fp8:
        run.refuse(
            "fp8: this machine's device has no fp8 products (NVIDIA Hopper or Ada and newer do); use auto or off"
        )
    return bool(run.has_fp8) and (asked == "on" or (asked == "auto" and run.knobs["depth"] >= 24))


@torch.no_grad()
def init_weights(model: nn.Module, knobs: dict[str, Any], width: int) -> None:
    """Embeddings normal, matrices uniform with the same spread, projections back to the stream zero.

    With zero projections every block starts as the identity, so depth costs nothing at first.
    """
    spread = knobs["init_scale"]
    nn.init.normal_(model.embed.weight, std=spread)
    if model.head is None:
        model.embed.weight.mul_(0.02)  # a tied table is the head as well: large logits at step 0 hurt
    else:
        nn.init.normal_(model.head.weight, std=0.001 * spread)
    for table in model.value_embeds.values():
        nn.init.normal_(table.weight, std=spread * width**-0.5)
    if model.x0_lambdas is not None:
        model.x0_lambdas.fill_(0.1)
    for name, weight in model.blocks.named_parameters():
        bound = spread * 3**0.5 * weight.size(1) ** -0.5
        if name.endswith("proj.weight") and knobs["zero_init_proj"]:
            nn.init.zeros_(weight)
        else:
            nn.init.uniform_(weight, -bound, bound)


def flops_per_token(model: nn.Module, config: dict[str, Any]) -> float:
    """Forward and backward: 6 per matrix parameter (head included, tables not) and 12 D min(window, T) per layer.

    Causal attention is not halved: the convention of nanochat and of PaLM's appendix B.
    """
    matrices = sum(p.numel() for p in model.blocks.parameters()) + config["vocab_size"] * config["width"]
    seen = sum(min(window_of(config, i) or config["seq_len"], config["seq_len"]) for i in range(config["depth"]))
    return float(6 * matrices + 12 * config["width"] * seen)


# --- the CPU's cores --------------------------------------------------------------------------


class Crew:
    """Splits a step over the CPU's cores by rows, not inside every operation as torch would.

    An operation of a small model takes 20 to 200 us, and waking the other cores for it costs as much;
    spinning until the next one is worse as soon as anybody else uses a core. Torch's operations
    release Python's lock, so threads with whole forward and backward passes really run at once.
    """

    def __init__(self, run: Any) -> None:
        self.size = torch.get_num_threads() if run.device == "cpu" else 1
        self.pool = None
        if self.size > 1:
            torch.set_num_threads(1)
            self.pool = ThreadPoolExecutor(self.size, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, function: Callable[..., Any], *parts: Any) -> Iterator[Any]:
        """As the builtin; in order, whoever is done first."""
        return self.pool.map(function, *parts) if self.pool else map(function, *parts)


def add_gradients(params: list[nn.Parameter], grads: tuple[Tensor, ...]) -> None:
    """To what is there, in one call for all; those of a table looked up by rows hold only the touched ones."""
    if params[0].grad is None:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        return
    dense = [(p.grad, grad) for p, grad in zip(params, grads, strict=True) if not grad.is_sparse]
    torch._foreach_add_(*zip(*dense, strict=True))
    for p, grad in zip(params, grads, strict=True):
        if grad.is_sparse:
            p.grad = p.grad + grad


# --- optimizer ---------------------------------------------------------------------------------

# Polar Express (Amsel et al. 2025): best degree-5 polynomials for five iterations, safety factor 2 %.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
# Newton-Schulz as in the first Muon: one polynomial, which overshoots on purpose.
NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5


def orthogonalize(g: Tensor, polynomials: tuple[tuple[float, float, float], ...]) -> Tensor:
    """Bring all singular values of every matrix in g [N, R, C] near 1, by matrix products alone."""
    tall = g.size(-2) > g.size(-1)
    x = g.mT if tall else g  # the small side first: the products below are [N, small, small]
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in polynomials:
        s = kernels.symmetric_product(x)
        x = torch.baddbmm(x, kernels.symmetric_polynomial(s, b, c), x, beta=a)  # a x + (b s + c s s) x
    return x.mT if tall else x


def muon_update(
    grads: Tensor,
    momentum: Tensor,
    beta: float,
    polynomials: tuple[tuple[float, float, float], ...],
    dtype: torch.dtype,
) -> Tensor:
    """The orthogonalised Nesterov step of matrices of one shape, [N, R, C] in ``dtype``. Moves ``momentum``."""
    momentum.lerp_(grads, 1 - beta)
    step = orthogonalize(grads.lerp(momentum, beta).to(dtype), polynomials)
    # Keller Jordan: a tall matrix's step is made larger, so that its outputs move as far as a square one's.
    return step * max(1.0, grads.size(-2) / grads.size(-1)) ** 0.5


class Muon:
    """Momentum, orthogonalised, for the matrices of the blocks (Jordan et al. 2024), batched by shape.

    In a team each process keeps the momentum of its part of every stack and orthogonalises that; the
    steps are gathered in the compute dtype, and all add the same ones to the same weights.
    """

    def __init__(self, params: list[nn.Parameter], run: Any) -> None:
        self.team = run.team
        shapes = sorted({tuple(p.shape) for p in params})
        self.stacks = [[p for p in params if tuple(p.shape) == shape] for shape in shapes]
        each = [-(-len(stack) // self.team.size) for stack in self.stacks]
        self.momenta = [
            torch.zeros(n, *stack[0].shape, device=stack[0].device) for n, stack in zip(each, self.stacks, strict=True)
        ]
        self.num_parts = len(self.stacks)
        self.lr, self.decay = run.knobs["matrix_lr"], run.knobs["weight_decay"]
        self.cautious = run.knobs["cautious_decay"]
        self.beta = run.knobs["muon_momentum"]
        self.polynomials = POLAR_EXPRESS if run.knobs["orthogonalizer"] == "polar_express" else NEWTON_SCHULZ
        self.dtype = getattr(torch, run.dtype)
        self.update = run.compile(muon_update)

    def state(self) -> list[Tensor]:
        return self.momenta

    def send(self) -> None:
        """Begin to average the gradients over the team."""
        self.arriving = [self.team.mean_shard(torch.stack([p.grad for p in stack])) for stack in self.stacks]

    def grads(self) -> list[Tensor]:
        """This process's part of the mean gradients, each [N / size, R, C]; waits for them."""
        return [pending.wait() for pending in self.arriving]

    def compute(self, i: int, scale: float) -> Tensor:
        grads = self.arriving[i].wait()
        return self.update(grads, self.momenta[i], self.beta, self.polynomials, self.dtype)

    def gather(self, i: int, step: Tensor) -> Any:
        return self.team.gather(step, len(self.stacks[i]))

    def apply(self, i: int, coming: Any, scale: float) -> None:
        stack, step = self.stacks[i], coming.wait().float().unbind(0)
        self._decay(stack, step, scale)
        torch._foreach_add_(stack, step, alpha=-self.lr * scale)

    def _decay(self, stack: list[nn.Parameter], step: tuple[Tensor, ...], scale: float) -> None:
        """Decoupled; the cautious kind shrinks a weight only where the step shrinks it too (Chen et al. 2024)."""
        rate = self.lr * scale * self.decay
        if rate and not self.cautious:
            torch._foreach_mul_(stack, 1 - rate)
        elif rate:
            for p, s in zip(stack, step, strict=True):
                p.sub_(torch.where(p * s > 0, p, 0.0), alpha=rate)


class AdamW:
    """Fused AdamW for one group of tensors, with its moments made up front; in a team, for its part of their rows.

    Not torch.optim.AdamW: building any torch.optim.Optimizer imports the compiler (1.6 s).
    """

    def __init__(self, params: list[nn.Parameter], lr: float, decay: float, run: Any) -> None:
        self.team, self.knobs = run.team, run.knobs
        self.params, self.lr, self.decay = params, lr, decay
        self.mine = [p.detach()[self.team.part_of(len(p))] for p in params]  # views of this process's rows
        self.first = [torch.zeros_like(p) for p in self.mine]
        self.second = [torch.zeros_like(p) for p in self.mine]
        self.num_steps = [torch.zeros((), device=p.device) for p in params]
        self.num_parts = 1

    def state(self) -> list[Tensor]:
        return [*self.first, *self.second, *self.num_steps]

    def send(self) -> None:
        """Begin to average the gradients over the team."""
        self.arriving = [self.team.mean_shard(p.grad) for p in self.params]

    def grads(self) -> list[Tensor]:
        """The mean gradients of this process's rows; waits for them."""
        return [pending.wait()[: len(p)] for pending, p in zip(self.arriving, self.mine, strict=True)]

    def compute(self, i: int, scale: float) -> None:
        torch._foreach_add_(self.num_steps, 1)
        torch._fused_adamw_(
            self.mine,
            self.grads(),
            self.first,
            self.second,
            [],
            self.num_steps,
            lr=self.lr * scale,
            beta1=self.knobs["adam_beta1"],
            beta2=self.knobs["adam_beta2"],
            weight_decay=self.decay,
            eps=self.knobs["adam_eps"],
            amsgrad=False,
            maximize=False,
        )

    def gather(self, i: int, done: None) -> list[Any]:
        return [self.team.gather(mine, len(p)) for mine, p in zip(self.mine, self.params, strict=True)]

    def apply(self, i: int, coming: list[Any], scale: float) -> None:
        if self.team.size > 1:  # alone, what was moved are the parameters themselves
            for p, pending in zip(self.params, coming, strict=True):
                p.copy_(pending.wait())


class RowAdagrad:
    """Adagrad with one rate a row (Duchi et al. 2011; by rows as in DLRM, Mudigere et al. 2022), for the n-grams.

    A row that a step did not touch stays as it is, and often none but the touched ones are looked at;
    the first time that an n-gram is seen moves it by the whole learning rate, later ones by less and less.
    """

    def __init__(self, table: nn.Parameter, lr: float, run: Any) -> None:
        self.team, self.table, self.lr = run.team, table, lr
        self.mine = table.detach()[self.team.part_of(len(table))]  # a view of this process's rows
        self.squares = torch.zeros(len(self.mine), 1, device=table.device)  # summed over the steps, mean of a row's
        self.num_parts = 1

    def state(self) -> list[Tensor]:
        return [self.squares]

    def send(self) -> None:
        """Begin to average the gradient over the team."""
        grad = self.table.grad
        assert grad is not None
        self.by_rows = grad.is_sparse and self.team.size == 1
        self.found: tuple[Any, Tensor] | None = None
        self.arriving = self.team.mean_shard(grad if self.by_rows or not grad.is_sparse else grad.to_dense())

    def touched(self) -> tuple[Any, Tensor]:
        """Which of this process's rows have a gradient, and their mean gradients; waits for them."""
        if self.found is None:
            grad = self.arriving.wait()
            if self.by_rows:
                grad = grad.coalesce()
                self.found = grad.indices()[0], grad.values()
            else:
                self.found = slice(None), grad[: len(self.mine)]
        return self.found

    def grads(self) -> list[Tensor]:
        return [self.touched()[1]]

    def compute(self, i: int, scale: float) -> None:
        rows, grad = self.touched()
        new = torch.linalg.vector_norm(grad, dim=-1, keepdim=True).square_().div_(grad.size(-1))
        self.squares[rows] = squares = self.squares[rows] + new
        step = grad * (-self.lr * scale / (squares.sqrt() + 1e-12))
        if self.by_rows:  # four times as fast as reading, adding and writing by an index
            self.mine.index_add_(0, rows, step)
        else:
            self.mine.add_(step)

    def gather(self, i: int, done: None) -> Any:
        return self.team.gather(self.mine, len(self.table))

    def apply(self, i: int, coming: Any, scale: float) -> None:
        if self.team.size > 1:
            self.table.copy_(coming.wait())


class Optimizer:
    """Muon (or AdamW) for the matrices of the blocks, AdamW with rates of their own for the rest.

    Every group of tensors ``send``s its gradients off to be averaged over the team; then, part by part, it
    ``compute``s a step, ``gather``s it from the team and ``apply``s it.
    """

    def __init__(self, model: nn.Module, run: Any, crew: Crew) -> None:
        k = run.knobs
        self.team, self.crew = run.team, crew
        self.params, self.clip = list(model.parameters()), k["grad_clip"]
        matrices = list(model.blocks.parameters())
        tables = [model.embed.weight, *(t.weight for t in model.value_embeds.values())]
        head = [] if model.head is None else [model.head.weight]
        scalars = [p for p in (model.x0_lambdas, model.smear) if p is not None]
        # By name: how far a step moves each of them is measured.
        self.weights = {"matrices": matrices, "tables": tables, "head": head, "scalars": scalars}
        rates = ((tables, "embed_lr"), (head, "head_lr"), (scalars, "scalar_lr"))
        self.groups: list[Muon | AdamW | RowAdagrad] = []  # the longest first
        if model.ngrams is not None:
            self.weights["ngrams"] = [model.ngrams.table]
            self.groups.append(RowAdagrad(model.ngrams.table, k["ngram_lr"], run))
        if k["matrix_optimizer"] == "muon":
            self.groups.append(Muon(matrices, run))
        else:
            self.groups.append(AdamW(matrices, k["matrix_lr"], k["weight_decay"], run))
        self.groups += [AdamW(p, k[rate], 0.0, run) for p, rate in rates if p]

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes, beside the parameters."""
        return [tensor for group in self.groups for tensor in group.state()]

    def norm(self) -> Tensor:
        """The gradient's norm over the whole team, [] float32."""
        grads = [grad for group in self.groups for grad in group.grads()]
        return self.team.sum(torch.stack(torch._foreach_norm(grads)).square().sum()).sqrt()

    @torch.no_grad()
    def step(self, scale: float) -> Tensor:
        """Clip, step at ``scale`` times the learning rates, drop the gradients. Returns their norm, [] float32."""
        for group in self.groups:
            group.send()
        norm = self.norm() if self.clip else None  # which waits for all; else each group waits for its own
        if norm is not None:
            grads = [grad for group in self.groups for grad in group.grads()]
            torch._foreach_mul_(grads, (self.clip / (norm + 1e-6)).clamp(max=1.0))
        parts = [(group, i) for group in self.groups for i in range(group.num_parts)]
        if self.team.size > 1:  # all send in the same order, and what is sent travels while the next one is computed
            coming = [group.gather(i, group.compute(i, scale)) for group, i in parts]
            for (group, i), step in zip(parts, coming, strict=True):
                group.apply(i, step, scale)
        else:
            list(self.crew.map(lambda part: self._move(*part, scale), parts))
        norm = self.norm() if norm is None else norm
        for p in self.params:
            p.grad = None
        return norm

    @torch.no_grad()  # which holds for one thread
    def _move(self, group: Muon | AdamW | RowAdagrad, i: int, scale: float) -> None:
        group.apply(i, group.gather(i, group.compute(i, scale)), scale)


# --- schedule ----------------------------------------------------------------------------------


def lr_scale(fraction: float, knobs: dict[str, Any]) -> float:
    """What the learning rates are multiplied by when ``fraction`` (0..1) of the budget is spent.

    Warm-up, then flat, then a cool-down of the chosen shape to ``final_lr_fraction``.
    """
    warmup, cooldown, floor = (knobs[key] for key in ("warmup_fraction", "cooldown_fraction", "final_lr_fraction"))
    if fraction < warmup:
        # Never 0: the first step would be lost.
        return (fraction + 0.01) / (warmup + 0.01)
    if fraction < 1 - cooldown:
        return 1.0
    left = min((1 - fraction) / cooldown, 1.0) if cooldown else 1.0  # 1 - 0.7 is more than 0.3
    shape = {"linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left), "sqrt": 1 - math.sqrt(1 - left)}
    return floor + (1 - floor) * shape[knobs["cooldown_shape"]]


# --- training ----------------------------------------------------------------------------------


def losses(model: nn.Module, z_loss: float, x: Tensor, y: Tensor, grams: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats per token, and what is differentiated: that and the z-loss (PaLM)."""
    logits = model.raw_logits(x, grams).flatten(0, 1)  # [B*T, V]
    each, log_z = kernels.softcapped_cross_entropy(logits, y.flatten(), model.softcap)
    nats = each.mean()
    return nats, nats + z_loss * log_z.square().mean() if z_loss else nats


def train(run: Any) -> None:
    """Train until ``run`` says that the budget is spent, then save. ``run`` is gpu_runner.harness.run.Run."""
    k = run.knobs
    config = model_config(run)
    model = build_model(config).to(run.device)
    init_weights(model, k, config["width"])
    crew, params = Crew(run), list(model.parameters())
    optimizer = Optimizer(model, run, crew)
    forward = run.compile(losses)
    batches = run.batches(k["batch_size"], k["seq_len"])

    def gradients(x: Tensor, y: Tensor, num_rows: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Of some of a step's rows, as their share of its mean."""
        # A compiler would make the table's gradient dense: on a CPU it is looked up outside of what is compiled.
        grams = model.ngrams(x) if model.ngrams is not None and run.device == "cpu" else None
        nats, objective = forward(model, k["z_loss"], x, y, grams)
        share = len(x) / num_rows
        return nats.detach() * share, torch.autograd.grad(objective * share, params)

    def step(x: Tensor, y: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        at_once = k["micro_batch"] or -(-len(x) // crew.size)
        total = torch.zeros((), device=x.device)
        for nats, grads in crew.map(gradients, x.split(at_once), y.split(at_once), repeat(len(x))):
            total += nats
            add_gradients(params, grads)
        return total, optimizer.step(scale)

    run.begin(
        model,
        config,
        step=step,
        state=optimizer.state(),
        flops_per_token=flops_per_token(model, config),
        groups=optimizer.weights,
    )
    for fraction in run.steps():
        x, y = next(batches)  # each [B, T] int64
        scale = lr_scale(fraction, k)
        nats, grad_norm = step(x, y, scale)
        run.report(nats, lr_scale=scale, grad_norm=grad_norm)
    run.save(model, config)
