"""What a proposal states about its risk and cost, beside what its smoke run measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from research.change.drafts import RISKS
from research.gates import smoke
from research.models import Gate, Revision

OFF = 1.5  # times apart, either way; less may be the first steps, which are slower than later ones


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One factor, relative to the incumbent; None where it was not stated, or not measured."""

    name: str
    said: float | None
    measured: float | None

    @property
    def is_off(self) -> bool:
        if self.said is None or self.measured is None:
            return False
        return not 1 / OFF <= self.measured / self.said <= OFF


class Estimates:
    def __init__(self, revision: Revision, gates: list[Gate], num_files: int) -> None:
        self.revision, self.gates, self.num_files = revision, gates, num_files

    @property
    def risk_means(self) -> str:
        return RISKS.get(self.revision.risk, "")

    @property
    def num_changes(self) -> int:
        """Knobs, and files with code. The proposer counts places in code, so this is a lower bound."""
        return len(self.revision.overrides) + self.num_files

    @cached_property
    def expected(self) -> list[Expected]:
        """Time and memory; empty where neither was stated."""
        revision = self.revision
        if revision.time_factor is None and revision.memory_factor is None:
            return []
        measured: dict[str, Any] = next((gate.measured for gate in self.gates if gate.name == smoke.NAME), {})
        return [
            Expected(name="Time", said=revision.time_factor, measured=measured.get("slowdown")),
            Expected(name="Memory", said=revision.memory_factor, measured=measured.get("memory_ratio")),
        ]
