"""Reads each step's loss without making a GPU wait, and lets a team agree on when to stop.

On a GPU ``loss.item()`` stalls until the queue is empty. Here the numbers of step n are copied to
pinned memory behind the step, and read when step n + 1 has been queued: the host runs one step
ahead, never more, so that the clock stops within a step and NaN is seen within two.

In a team every process must end, and write a snapshot, after the same step. The first process decides, but any that
was told to stop ends all. Their Words travel with the loss, in the same reduction, and all read them at the same step.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch

from gpu_runner.harness.team import Team


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a process tells its team with every step: seconds it spent, whether a snapshot is due, whether to stop."""

    spent_s: float
    snapshot: bool
    stop: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step as the recipe reported it. ``extras`` may hold tensors, [] each."""

    number: int  # counts from 1
    num_tokens: int  # drawn since the start, this step included
    loss: torch.Tensor
    word: Word
    extras: dict[str, float | torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A step whose numbers are known."""

    number: int
    num_tokens: int
    loss: float
    word: Word
    extras: dict[str, float]


class Losses:
    """A queue of steps whose numbers are not known yet."""

    def __init__(self, device: str, team: Team) -> None:
        self.device, self.team = device, team
        self.pending: deque[tuple[Step, torch.Tensor, torch.cuda.Event | None]] = deque()

    def push(self, step: Step) -> None:
        numbers = [step.loss, *(value for value in step.extras.values() if isinstance(value, torch.Tensor))]
        packed = torch.stack([n.detach().float().reshape(()) for n in numbers])  # [1 + tensors among the extras]
        if self.team.size > 1:
            packed = torch.cat([self._agreed(packed[0], step.word), packed[1:]])
        event = None
        if self.device == "cuda":
            packed = torch.empty_like(packed, device="cpu", pin_memory=True).copy_(packed, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self.pending.append((step, packed, event))

    def pop(self, *, everything: bool = False) -> list[Reading]:
        """Steps whose numbers are known by now, oldest first; with ``everything`` it waits for all of them."""
        keep = 1 if self.device == "cuda" and not everything else 0
        known = []
        while len(self.pending) > keep:
            step, packed, event = self.pending.popleft()
            if event is not None:
                event.synchronize()
            known.append(self._reading(step, packed.tolist()))
        return known

    def _agreed(self, loss: torch.Tensor, word: Word) -> torch.Tensor:
        """[4] float32: the team's mean loss, and the Word for all: the first process's, but with the stop of any."""
        leads = self.team.leads
        # One process that was told to end is enough; the rest is the first one's alone to say.
        said = [0.0, leads * word.spent_s, float(leads and word.snapshot), float(word.stop)]
        packed = torch.tensor(said).to(loss.device, non_blocking=True)
        packed[0] = loss / self.team.size
        return self.team.sum(packed)

    def _reading(self, step: Step, packed: list[float]) -> Reading:
        loss, word = packed.pop(0), step.word
        if self.team.size > 1:
            word = Word(spent_s=packed.pop(0), snapshot=packed.pop(0) > 0, stop=packed.pop(0) > 0)
        extras = {
            name: packed.pop(0) if isinstance(value, torch.Tensor) else float(value)
            for name, value in step.extras.items()
        }
        return Reading(number=step.number, num_tokens=step.num_tokens, loss=loss, word=word, extras=extras)
