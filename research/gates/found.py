"""What a gate is given and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from research.models import Campaign, Revision


@dataclass(frozen=True, kw_only=True)
class Context:
    """One revision, with the incumbent's files that it changes. Read once for all gates."""

    revision: Revision
    campaign: Campaign
    files: dict[str, str]
    patch_problem: str | None


@dataclass(frozen=True, kw_only=True)
class Found:
    outcome: str  # pending | passed | failed
    sentence: str
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @classmethod
    def ok(cls, sentence: str, **measured: Any) -> Found:
        return cls(outcome="passed", sentence=sentence, measured=measured)

    @classmethod
    def bad(cls, sentence: str, **measured: Any) -> Found:
        return cls(outcome="failed", sentence=sentence, measured=measured)

    @classmethod
    def pending(cls, sentence: str) -> Found:
        return cls(outcome="pending", sentence=sentence)
