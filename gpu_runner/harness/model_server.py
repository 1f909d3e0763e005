"""Serves the model in its own sandbox to the scorer: takes token batches on stdin, gives raw logits on stdout.

    python -m gpu_runner.harness.model_server RECIPE_DIR CHECKPOINT_DIR [--device auto|cpu|cuda]

Proposed code runs here (``build_model`` and the model's ``forward``), so the process has no targets, no held-out text
beyond the inputs, and no network. The scorer on the other side checks all it says.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from gpu_runner.harness import checkpoint, machine
from gpu_runner.harness.loading import load_builder
from gpu_runner.harness.no_training import refuse_training
from gpu_runner.scorer import frames


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_runner.harness.model_server")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    chosen = parser.parse_args(argv)
    requests, answers = _private_channel()
    try:
        here = machine.detect(chosen.device, None)
        torch.zeros(1, device=here.device)  # a GPU's context is not of the model's making
        refuse_training(here.device)
        answers.write(frames.ready())
        answers.flush()
        model, vocab = load_model(chosen.recipe, chosen.checkpoint, here.device)
        answers.write(frames.hello(_about(model, vocab, here)))
        answers.flush()
        loaded = frozenset(name for name, _ in _holdings(model))
        # Not inference mode: a model may learn from the row's own past, or compute in threads, which are not in it.
        with torch.no_grad(), machine.attention_kernels(here):
            for request in read_requests(requests):
                if request is None:
                    answers.write(frames.held(holdings_sha256(model, loaded)))
                    answers.flush()
                else:
                    _answer(answers, model, vocab, request, here.device)
    except BrokenPipeError:
        return 1  # the scorer hung up: it has said why on its side
    except Exception as error:  # noqa: BLE001  # whatever the recipe raises is told to the scorer
        answers.write(frames.error(_in_words(error, chosen.recipe)))
        answers.flush()
        return 1
    return 0


def load_model(recipe: Path, saved: Path, device: str) -> tuple[torch.nn.Module, int]:
    """The recipe's model with the run's weights, and the vocabulary size of its config."""
    config = checkpoint.load_config(saved)
    if not isinstance(vocab := config.get("vocab_size"), int):
        raise TypeError(f"config.json: vocab_size must be a whole number, not {vocab!r}")
    model = load_builder(recipe)(config)
    checkpoint.load(saved, model)
    return model.to(device).eval(), vocab


def holdings_sha256(model: torch.nn.Module, names: Collection[str] | None = None) -> str:
    """sha256 over the names, types, shapes and bytes of all parameters and buffers, the unsaved ones as well.

    With ``names``, of these only: a buffer that a model first makes when it answers, such as a table of angles, is like
    any attribute that it sets. Computed beside proposed code: it catches accidents and lazy cheats, not code that fakes
    this answer.
    """
    digest = sha256()
    for name, tensor in _holdings(model):
        if names is None or name in names:
            body = tensor.detach().cpu().to_dense().contiguous()
            digest.update(f"{name} {body.dtype} {tuple(body.shape)}\n".encode())
            digest.update(body.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _holdings(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """All parameters and buffers, by the base class: a model's own named_parameters() may leave some out."""
    yield from torch.nn.Module.named_parameters(model)
    yield from torch.nn.Module.named_buffers(model)


class Request(NamedTuple):
    tokens: torch.Tensor  # [B, T] int64
    first: list[int]  # of each row, the position from which on logits are wanted
    wanted: int


def read_requests(requests: BinaryIO) -> Iterator[Request | None]:
    """Requests until the scorer hangs up; None stands for the question what parameters and buffers the model has."""
    while head := requests.read(frames.ASKED.size):
        magic, rows, length, wanted = frames.ASKED.unpack(head)
        if magic == frames.HOLDS:
            yield None
            continue
        assert magic == frames.REQUEST, "the scorer speaks another protocol"
        first = np.frombuffer(requests.read(rows * 4), dtype="<i4").tolist()
        tokens = np.frombuffer(requests.read(rows * length * 4), dtype="<i4").reshape(rows, length)
        yield Request(torch.from_numpy(tokens.astype(np.int64)), first, wanted)


def _answer(answers: BinaryIO, model: torch.nn.Module, vocab: int, request: Request, device: str) -> None:
    tokens, first, wanted = request
    logits = model(tokens.to(device))
    if not isinstance(logits, torch.Tensor) or logits.is_complex():
        raise TypeError(f"the model gave {type(logits).__name__} and not logits, a real tensor [B, T, vocabulary]")
    if logits.shape != (*tokens.shape, vocab):
        raise ValueError(
            f"the model gave logits {tuple(logits.shape)} for tokens {tuple(tokens.shape)}, vocabulary {vocab}"
        )
    parts = torch.stack([row[start : start + wanted] for row, start in zip(logits.detach(), first, strict=True)])
    body = parts.float().contiguous().cpu().numpy().astype("<f4", copy=False)
    answers.write(frames.answer_head(*body.shape))
    answers.write(body.data)
    answers.flush()


def _in_words(error: Exception, recipe: Path) -> str:
    """The error as text, without frames of torch and harness."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{recipe}/")]
    said = [*traceback.format_list(own), *traceback.format_exception_only(error)]
    return "".join(said).replace(f"{recipe}/", "").strip()


def _about(model: torch.nn.Module, vocab: int, here: machine.Machine) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "device": here.device,
        "device_name": here.name,
        "vocab_size": vocab,
        "num_params": sum(p.numel() for p in model.parameters()),
    }


def _private_channel() -> tuple[BinaryIO, BinaryIO]:
    """Move the frames off descriptors 0 and 1, so that a print() in the recipe cannot break them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


if __name__ == "__main__":
    sys.exit(main())
