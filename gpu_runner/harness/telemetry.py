"""The metrics of a point: means, rates and percentiles over the steps since the last one.

Nothing here makes a GPU wait: losses and the recipe's extras arrive when they are known
(losses.py), and step times are the host's, which follows the GPU's pace through its queue.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from statistics import fmean, quantiles

import torch

from gpu_runner.harness.losses import Reading

POINT_EVERY_S = 0.25
RATIOS_EVERY_S = 2.0
SAMPLE = 65_536  # elements of a tensor that the update ratio is taken over


class Telemetry:
    """Collects one run's steps. ``bytes_per_token`` and ``peak_flops`` are None where they are not known."""

    def __init__(self, *, bytes_per_token: float | None, flops_per_token: float, peak_flops: float | None) -> None:
        self.bytes_per_token, self.flops_per_token, self.peak_flops = bytes_per_token, flops_per_token, peak_flops
        self.losses: list[float] = []
        self.step_s: list[float] = []
        self.all_step_s: list[float] = []
        self.extras: dict[str, float] = {}
        self.since_s, self.since_tokens, self.since_wait_s = 0.0, 0, 0.0

    def begin_at(self, elapsed_s: float, num_tokens: int) -> None:
        """Begin counting where a resumed run goes on."""
        self.since_s, self.since_tokens = elapsed_s, num_tokens

    def took(self, seconds: float) -> None:
        self.step_s.append(seconds)

    def heard(self, reading: Reading) -> None:
        self.losses.append(reading.loss)
        self.extras |= reading.extras

    def is_due(self, elapsed_s: float) -> bool:
        return elapsed_s - self.since_s >= POINT_EVERY_S

    def point(self, *, elapsed_s: float, num_tokens: int, wait_s: float) -> dict[str, float]:
        """The metrics since the last point. Begins the next point."""
        seconds = max(elapsed_s - self.since_s, 1e-9)
        rate = (num_tokens - self.since_tokens) / seconds
        nats = fmean(self.losses)
        metrics = {"train_loss": nats, "tokens_per_s": rate, **self.extras}
        if self.bytes_per_token is not None:
            metrics["train_bpb"] = nats / math.log(2) / self.bytes_per_token
        if self.peak_flops is not None:
            metrics["mfu_percent"] = 100 * rate * self.flops_per_token / self.peak_flops
        metrics["data_wait_percent"] = 100 * max(wait_s - self.since_wait_s, 0.0) / seconds
        if self.step_s:
            metrics |= percentiles_ms(self.step_s)
        self.all_step_s += self.step_s
        self.losses, self.step_s, self.extras = [], [], {}
        self.since_s, self.since_tokens, self.since_wait_s = elapsed_s, num_tokens, wait_s
        return metrics


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of step times, in ms."""
    if len(seconds) == 1:
        return {"step_ms_p50": 1e3 * seconds[0], "step_ms_p95": 1e3 * seconds[0]}
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {"step_ms_p50": 1e3 * cuts[9], "step_ms_p95": 1e3 * cuts[18]}


class UpdateRatios:
    """How far a step moves the weights, by group: |w after - w before| / |w after|.

    The learning rate is right where this is around 1e-3 to 1e-2 (Karpathy's rule of thumb is 1e-3 for Adam).
    Taken over the first 65,536 elements of every tensor, on one step every two seconds, without waiting.
    """

    def __init__(self, groups: Mapping[str, Sequence[torch.Tensor]]) -> None:
        self.groups = {name: group for name, group in groups.items() if group}
        self.before: dict[str, list[torch.Tensor]] = {}
        self.last_s = -math.inf

    def step_begins(self) -> None:
        if time.monotonic() - self.last_s >= RATIOS_EVERY_S:
            self.before = {name: [_sample(p).clone() for p in group] for name, group in self.groups.items()}

    def step_ended(self) -> dict[str, torch.Tensor]:
        """{"update_ratio/<group>": [] float32} for a measured step, else {}."""
        before, self.before = self.before, {}
        if before:
            self.last_s = time.monotonic()
        return {f"update_ratio/{name}": self._ratio(name, old) for name, old in before.items()}

    def _ratio(self, name: str, old: list[torch.Tensor]) -> torch.Tensor:
        new = [_sample(p) for p in self.groups[name]]
        moved = [now - then for now, then in zip(new, old, strict=True)]
        return _norm(moved) / (_norm(new) + 1e-12)


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1)[:SAMPLE]


def _norm(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of all tensors together, []."""
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors]))
    return norm
