"""A round of training when it is asked for: the side of it that sits in the process that trains.

The trainer, ours or a peer's, calls ``step()`` before each of its steps. There it is held until somebody
asks for a round, one JSON line on standard input, and the answer goes out when the round is over:

    {"seconds": 2.0, "num_steps": null, "profile": false}
    {"seconds": 2.03, "num_steps": 61, "loss": 2.41, "peak_memory_mib": 812.0}

The first line out, before any round, says what was built. When the input ends so does the process.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import torch
from torch import nn

from gpu_runner.harness.machine import peak_memory_mib
from tests.benchmarks.order import Shape


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a trainer made of its shape."""

    num_params: int
    flops_per_token: float
    tokens_per_step: int
    about: str  # dtype, attention, compiled or eager: in words


def flops_per_token(model: nn.Module, shape: Shape) -> float:
    """6 per weight of a linear layer, the head included, and 12 D T per layer; causal attention is not halved.

    The formula of nanochat and of PaLM's appendix B, counted by us in the same way for every peer.
    """
    matrices = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear)}
    return float(6 * sum(matrices.values()) + 12 * shape.depth * shape.width * shape.seq_len)


class Pace:
    """Holds a trainer between the rounds. ``asked`` and ``answers`` are lines of JSON."""

    def __init__(self, asked: TextIO, answers: TextIO, device: str) -> None:
        self.asked, self.answers, self.device = asked, answers, device
        self.loss: torch.Tensor | float = math.nan
        self.round: dict[str, Any] | None = None
        self.num_steps, self.began = 0, 0.0

    def begin(self, model: nn.Module, shape: Shape, about: str) -> None:
        """Called once by a peer, when its model stands; ``model`` is the plain one, before it is compiled."""
        num_params = sum(p.numel() for p in model.parameters())
        self.built(
            Built(
                num_params=num_params,
                flops_per_token=flops_per_token(model, shape),
                tokens_per_step=shape.tokens_per_step,
                about=about,
            )
        )

    def built(self, built: Built) -> None:
        self.answer(asdict(built))

    def note(self, loss: torch.Tensor) -> torch.Tensor:
        """Remember the newest loss, nats per token; hands it through, so that it fits into an expression."""
        self.loss = loss.detach()
        return loss

    def step(self) -> None:
        """Goes on at once inside a round, and waits for the next one at its end."""
        if self.round is not None and not self._is_over(self.round):
            self.num_steps += 1
            return
        if self.round is not None:
            self.answer(self._measured(self.round))
        self._wait()
        self.num_steps = 1

    def answer(self, what: dict[str, Any]) -> None:
        self.answers.write(json.dumps(what) + "\n")
        self.answers.flush()

    def _is_over(self, asked: dict[str, Any]) -> bool:
        if asked["num_steps"] is not None:
            return self.num_steps >= int(asked["num_steps"])
        return time.monotonic() - self.began >= float(asked["seconds"])

    def _measured(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._synchronize()
        seconds = time.monotonic() - self.began
        measured: dict[str, Any] = {"seconds": seconds, "num_steps": self.num_steps, "loss": float(self.loss)}
        if asked["profile"]:
            measured["ops"] = self._profiled(asked["profile"])
        return measured | {"peak_memory_mib": peak_memory_mib("cuda" if self.device == "cuda" else "cpu")}

    def _wait(self) -> None:
        line = self.asked.readline()
        if not line:
            sys.exit()
        self.round = json.loads(line)
        assert self.round is not None
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if self.round["profile"]:
            self.profiler = torch.profiler.profile()
            self.profiler.start()
        self._synchronize()
        self.began = time.monotonic()

    def _profiled(self, path: str) -> list[dict[str, Any]]:
        """What the round spent itself, by operation and longest first; the whole trace goes to ``path``."""
        self.profiler.stop()
        self.profiler.export_chrome_trace(path)
        averages = self.profiler.key_averages()
        return [
            {"op": op.key, "self_cpu_us": op.self_cpu_time_total, "num_calls": op.count}
            for op in sorted(averages, key=lambda op: -op.self_cpu_time_total)
        ]

    def _synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
