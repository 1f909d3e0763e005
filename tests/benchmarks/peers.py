"""Peers' own training scripts, run as they are but for a few lines, each of which must still be there.

Nothing of theirs is kept here: a checkout's script is copied to a temporary folder, edited and run by its
path. The edits set the shape, give it our tokens and hold it between rounds (pace.py); where a script wants
Hopper's flash-attention 3, both sides get torch's own full causal attention.
"""

from __future__ import annotations

import itertools
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_runner.data.order import row_starts
from tests.benchmarks.order import Order
from tests.benchmarks.pace import Pace
from tests.benchmarks.texts import write_llmc
from tests.ports import free_port

Edits = dict[str, str]  # a text that stands in the script exactly once, and what it becomes
FOR_EVER = 10**9  # steps
SHARD_TOKENS = 1 << 24


class Peer(NamedTuple):
    """Where a script lies, the commit that the edits were written for, and how to run it."""

    repository: str
    commit: str
    script: str  # in the checkout
    prepare: Callable[[Order, Pace, Path], tuple[Edits, list[str]]]  # checkout -> edits and arguments


def train(order: Order, pace: Pace) -> None:
    """Run the peer's script until the rounds end. Raises ValueError when a line to edit is not there once."""
    if not order.compile:
        _without_compiler()
    peer = PEERS[order.who]
    checkout = Path(order.peers) / order.who
    os.chdir(order.folder)
    sys.path.insert(0, str(checkout))
    edits, arguments = peer.prepare(order, pace, checkout)
    script = Path(order.folder) / Path(peer.script).name
    script.write_text(edited((checkout / peer.script).read_text(), edits, peer))
    sys.argv = [str(script), *arguments]
    begin = lambda model: pace.begin(model, order.shape, _about(order))  # noqa: E731
    runpy.run_path(
        str(script), init_globals={"PACE": pace, "BEGIN": begin, "CYCLE": itertools.cycle}, run_name="__main__"
    )


def edited(text: str, edits: Edits, peer: Peer) -> str:
    """``text`` with every edit made. Raises ValueError naming the first line that is not there exactly once."""
    for old, new in edits.items():
        if text.count(old) != 1:
            raise ValueError(
                f"{peer.script}: {old!r} stands there {text.count(old)} times instead of once;"
                f" check out commit {peer.commit} of {peer.repository}, or adapt tests/benchmarks/peers.py"
            )
        text = text.replace(old, new)
    return text


def full_causal(q: Tensor, k: Tensor, v: Tensor, causal: bool, window_size: tuple[int, int]) -> Tensor:
    """flash-attention 3's signature over torch's attention: q, k, v [B, T, H, K] -> [B, T, H, K]."""
    assert causal and (window_size[0] < 0 or window_size[0] >= q.size(1)), "only full causal attention is compared"
    return torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
    ).transpose(1, 2)


def _about(order: Order) -> str:
    how = "compiled" if order.compile else "eager"
    return f"{'float32' if order.who == 'nanoGPT' else 'its own dtype'}, torch's attention, {how}"


# --- the four of them ----------------------------------------------------------------------------


def nanogpt(order: Order, pace: Pace, checkout: Path) -> tuple[Edits, list[str]]:
    """Its CPU defaults: float32, no fused optimizer; its character model's learning rates."""
    shape = order.shape
    text = Path("data/ours")
    text.mkdir(parents=True)
    tokens = np.fromfile(Path(order.dataset) / "train" / "train-00000.bin", dtype=np.uint8)
    for split in ("train", "val"):
        tokens.astype(np.uint16).tofile(text / f"{split}.bin")
    settings = {
        "dataset": "ours", "device": order.device, "compile": order.compile, "dtype": "float32",
        "n_layer": shape.depth, "n_embd": shape.width, "n_head": shape.width // shape.head_dim,
        "block_size": shape.seq_len, "batch_size": shape.batch_rows, "dropout": 0.0,
        "eval_interval": FOR_EVER, "eval_iters": 1, "max_iters": FOR_EVER, "lr_decay_iters": FOR_EVER,
    }  # fmt: skip
    edits = {
        "open('configurator.py')": f"open({str(checkout / 'configurator.py')!r})",
        "if meta_vocab_size is not None else 50304": f"if meta_vocab_size is not None else {shape.vocab}",
        "raw_model = model.module": "BEGIN(getattr(model, '_orig_mod', model)); raw_model = model.module",
        "    for micro_step in range(gradient_accumulation_steps):\n": (
            "    PACE.step()\n    for micro_step in range(gradient_accumulation_steps):\n"
        ),
        "scaler.scale(loss).backward()": "scaler.scale(PACE.note(loss)).backward()",
    }
    config = str(checkout / "config" / "train_shakespeare_char.py")
    return edits, [config, *(f"--{key}={value}" for key, value in settings.items())]


def nanochat(order: Order, pace: Pace, checkout: Path) -> tuple[Edits, list[str]]:
    """scripts/base_train.py with all of its own settings; without its tokenizer, evaluation and logging."""
    shape = order.shape
    os.environ["NANOCHAT_BASE_DIR"] = order.folder
    _stub_nanochat(order)
    import nanochat.flash_attention as attention  # type: ignore[import-not-found,unused-ignore]

    attention.USE_FA3 = False  # its own fallback, which is full causal for the window pattern L
    settings = {
        "depth": shape.depth, "aspect-ratio": shape.width // shape.depth, "head-dim": shape.head_dim,
        "max-seq-len": shape.seq_len, "window-pattern": "L", "device-type": order.device,
        "device-batch-size": shape.micro_rows, "total-batch-size": shape.tokens_per_step,
        "num-iterations": FOR_EVER, "eval-every": -1, "core-metric-every": -1, "sample-every": -1,
    }  # fmt: skip
    edits = {
        "orig_model = model #": "BEGIN(model); orig_model = model #",
        "    # evaluate the gradient\n": "    PACE.step()\n",
        "train_loss.item() # .item()": "PACE.note(train_loss).item() # .item()",
    }
    return edits, [f"--{key}={value}" for key, value in settings.items()]


def modded_nanogpt(order: Order, pace: Pace, checkout: Path) -> tuple[Edits, list[str]]:
    """Track 3's trainer: its own loader over our tokens; validated once, before the first round."""
    shape, cpu = order.shape, order.device == "cpu"
    if cpu:
        _pretend_gpu()
    tokens, _ = order.texts()
    for i, start in enumerate(range(0, len(tokens), SHARD_TOKENS)):
        write_llmc(Path(f"data/fineweb10B/fineweb_train_{i:06}.bin"), tokens[start : start + SHARD_TOKENS])
    write_llmc(Path("data/fineweb10B/fineweb_val_000000.bin"), tokens[:SHARD_TOKENS])
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(alone, MASTER_PORT=str(free_port()))
    edits = {
        "file_iter = iter(files)": "file_iter = CYCLE(files)",
        "seq_len=1024):": f"seq_len={shape.seq_len}):",
        "dim: int, head_dim=128)": f"dim: int, head_dim={shape.head_dim})",
        "val_tokens = 20 * 524288": f"val_tokens = {shape.micro_rows * shape.seq_len}",
        "batch_size = 8 * 64 * 1024": f"batch_size = {shape.tokens_per_step}",
        "mbs = 64\n": f"mbs = {shape.micro_rows}\n",
        "vocab_size=50304, num_layers=12, model_dim=768)": (
            f"vocab_size={shape.vocab}, num_layers={shape.depth}, model_dim={shape.width})"
        ),
        "model.compile(dynamic=False)": "BEGIN(model); model.compile(dynamic=False)",
        "train_steps = 3250": f"train_steps = {FOR_EVER}",
        "val_step_freq = 125 if": f"val_step_freq = {FOR_EVER} if",
        "        inputs, targets = next(train_loader)\n": (
            "        PACE.step()\n        inputs, targets = next(train_loader)\n"
        ),
        "            model(inputs[i*mbs:(i+1)*mbs], targets[i*mbs:(i+1)*mbs]).backward()": (
            "            total = model(inputs[i*mbs:(i+1)*mbs], targets[i*mbs:(i+1)*mbs])\n"
            "            PACE.note(total / targets[i*mbs:(i+1)*mbs].numel())\n"
            "            total.backward()"
        ),
    }
    on_cpu = {
        "pin_memory=True": "pin_memory=False",
        'inputs = buf[:-1].to(device="cuda"': 'inputs = buf[:-1].to(device="cpu"',
        'targets = buf[1:].to(device="cuda"': 'targets = buf[1:].to(device="cpu"',
        'torch.device("cuda", int(os.environ["LOCAL_RANK"]))': 'torch.device("cpu")',
        'backend="nccl", device_id=device': 'backend="gloo"',
        ").cuda()": ")",
    }
    return edits | (on_cpu if cpu else {}), []


def autoresearch(order: Order, pace: Pace, checkout: Path) -> tuple[Edits, list[str]]:
    """Its train.py with all of its own settings. prepare.py, which tokenizes as it goes, is replaced by ready tokens.

    With ``budget_s`` it trains so long at one go, in its own shape, and the answer is its held-out loss.
    """
    shape, cpu = order.shape, order.device == "cpu"
    if cpu:
        _pretend_gpu()
    flash = SimpleNamespace(flash_attn_interface=SimpleNamespace(flash_attn_func=full_causal))
    _stub("kernels", get_kernel=lambda name: flash)
    _stub("prepare", **_prepared(order, pace))
    edits = {
        "ASPECT_RATIO = 64": f"ASPECT_RATIO = {shape.width // shape.depth}",
        "HEAD_DIM = 128": f"HEAD_DIM = {shape.head_dim}",
        'WINDOW_PATTERN = "SSSL"': 'WINDOW_PATTERN = "L"',
        "TOTAL_BATCH_SIZE = 2**19": f"TOTAL_BATCH_SIZE = {shape.tokens_per_step}",
        "DEPTH = 8": f"DEPTH = {shape.depth}",
        "DEVICE_BATCH_SIZE = 128": f"DEVICE_BATCH_SIZE = {shape.micro_rows}",
        "model = torch.compile(model": "BEGIN(model); model = torch.compile(model",
        "train_loss_f = train_loss.item()": "train_loss_f = PACE.note(train_loss).item()",
    }
    if order.budget_s is None:
        edits["    torch.cuda.synchronize()\n    t0 ="] = "    PACE.step()\n    torch.cuda.synchronize()\n    t0 ="
    on_cpu = {'torch.device("cuda")': 'torch.device("cpu")', 'device_type="cuda"': 'device_type="cpu"'}
    return edits | (on_cpu if cpu else {}), []


# The folder that a peer's checkout lies in, and what is run in it.
PEERS = {
    "nanoGPT": Peer(
        "https://github.com/karpathy/nanoGPT", "3adf61e154c3fe3fca428ad6bc3818b27a3b8291", "train.py", nanogpt
    ),
    "nanochat": Peer(
        "https://github.com/karpathy/nanochat",
        "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd",
        "scripts/base_train.py",
        nanochat,
    ),
    "modded-nanogpt": Peer(
        "https://github.com/KellerJordan/modded-nanogpt",
        "f411b3d346aa52d3504324ca93c230fd84c6c07f",
        "records/track_3_optimization/train_gpt_simple.py",
        modded_nanogpt,
    ),
    "autoresearch": Peer(
        "https://github.com/karpathy/autoresearch",
        "228791fb499afffb54b46200aca536f79142f117",
        "train.py",
        autoresearch,
    ),
}


# --- what stands in for their data and their services ----------------------------------------------


def _stub(name: str, **names: Any) -> None:
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module


def batches_of(order: Order) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets), each [micro_rows, T] int64 on the device, in the order that our own side reads them in."""
    tokens, _ = order.texts()
    shape, offsets = order.shape, np.arange(order.shape.seq_len + 1)
    starts = row_starts(len(tokens), shape.seq_len, seed=1)
    while True:
        at = np.fromiter(starts, dtype=np.int64, count=shape.micro_rows)
        rows = torch.from_numpy(tokens[at[:, None] + offsets])  # [B, T + 1] uint16
        if order.device == "cuda":
            rows = rows.pin_memory().to("cuda", non_blocking=True)
        rows = rows.long()
        yield rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def _prepared(order: Order, pace: Pace) -> dict[str, Any]:
    """What autoresearch's train.py imports from its prepare.py."""
    tokenizer = SimpleNamespace(get_vocab_size=lambda: order.shape.vocab)

    def evaluate(model: Any, *_: Any) -> float:
        nats = _held_out_loss(model, order)
        pace.answer({"val_loss": nats})
        return nats

    return {
        "MAX_SEQ_LEN": order.shape.seq_len,
        "TIME_BUDGET": order.budget_s or FOR_EVER,
        "Tokenizer": SimpleNamespace(from_directory=lambda: tokenizer),
        "make_dataloader": lambda *_: ((x, y, 1) for x, y in batches_of(order)),
        "evaluate_bpb": evaluate,
    }


@torch.no_grad()
def _held_out_loss(model: Any, order: Order) -> float:
    """Nats per token over the very rows that our harness watches."""
    from gpu_runner.harness.watch import ROWS_AT_ONCE, Watch

    _, watch = order.texts()
    dataset: Any = SimpleNamespace(watch=watch, bytes_per_token=None)
    rows = Watch(dataset, seq_len=order.shape.seq_len, device=order.device)
    parts = zip(torch.split(rows.x, ROWS_AT_ONCE), torch.split(rows.y, ROWS_AT_ONCE), strict=True)
    nats = sum(float(model(x.contiguous(), y.contiguous(), reduction="sum")) for x, y in parts)
    return nats / rows.num_tokens


def _stub_nanochat(order: Order) -> None:
    place = {"epoch": 1, "pq_idx": 0, "rg_idx": 0}
    loader = lambda *_, **__: ((x, y, place) for x, y in batches_of(order))  # noqa: E731
    unused: Any = None
    _stub("wandb", init=unused)
    _stub(
        "nanochat.dataloader",
        tokenizing_distributed_data_loader_bos_bestfit=loader,
        tokenizing_distributed_data_loader_with_state_bos_bestfit=loader,
    )
    tokenizer = SimpleNamespace(get_vocab_size=lambda: order.shape.vocab)
    _stub("nanochat.tokenizer", get_tokenizer=lambda: tokenizer, get_token_bytes=lambda device: unused)
    _stub("nanochat.checkpoint_manager", save_checkpoint=unused, load_checkpoint=unused)
    _stub("nanochat.loss_eval", evaluate_bpb=unused)
    _stub("nanochat.engine", Engine=unused)
    _stub("scripts.base_eval", evaluate_core=unused)


def _pretend_gpu() -> None:
    """For a dry run: what the scripts ask of CUDA between the lines that are edited."""
    import torch._dynamo  # before: it knows torch's functions by what they are

    torch.cuda.synchronize = lambda *_: None
    torch.cuda.set_device = lambda *_: None
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_name = lambda *_: "no GPU"
    torch.cuda.max_memory_allocated = lambda *_: 0


def _without_compiler() -> None:
    """Scripts that always compile run eager. TORCH_COMPILE_DISABLE would refuse fullgraph=True instead."""
    torch.compile = lambda function=None, **_: function or (lambda decorated: decorated)  # type: ignore[assignment]
    torch.nn.Module.compile = lambda *_, **__: None  # type: ignore[method-assign]
