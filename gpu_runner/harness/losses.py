"""Reads losses without making a GPU wait.

On a GPU ``loss.item()`` stalls until the queue is empty. Here the loss of step n is copied to
pinned memory behind the step, and read when step n + 1 has been queued: the host runs one step
ahead, never more, so that the clock stops within a step and NaN is seen within two.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step as the recipe reported it. ``extras`` may hold tensors; they are read only for points."""

    number: int  # counts from 1
    num_tokens: int  # drawn since the start, this step included
    loss: torch.Tensor
    extras: dict[str, float | torch.Tensor] = field(default_factory=dict)


class Losses:
    """A queue of steps whose loss is not known yet."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        self.pending: deque[tuple[Step, torch.Tensor, torch.cuda.Event | None]] = deque()

    def push(self, step: Step) -> None:
        loss, event = step.loss.detach(), None
        if self.on_gpu:
            pinned = torch.empty((), dtype=torch.float32, pin_memory=True)
            loss = pinned.copy_(loss, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self.pending.append((step, loss, event))

    def pop(self, *, everything: bool = False) -> list[tuple[Step, float]]:
        """Steps whose loss is known by now, oldest first; waits for all of them with ``everything``."""
        keep = 1 if self.on_gpu and not everything else 0
        known = []
        while len(self.pending) > keep:
            step, loss, event = self.pending.popleft()
            if event is not None:
                event.synchronize()
            known.append((step, float(loss)))
        return known
