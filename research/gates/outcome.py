"""The input and the result of a gate: Context and GateResult. Pure, for a row's patch and a file from a shell alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from gpu_runner import contract
from research.change.drafts import Precedent
from research.change.unified import Change
from research.change.visible import visible

MAX_SNIPPET = 160  # characters, the ruler's line is 120
MAX_KEPT = 100  # remarks of one gate in its row; all are counted


@dataclass(frozen=True, kw_only=True)
class Context:
    """One change, with the incumbent's files that it changes. Read once for all gates."""

    patch: str
    overrides: contract.Knobs
    files: dict[str, str]
    commit: str  # the incumbent's, or what the files are called
    change: Change  # the patch as its lines read
    after: dict[str, str] | None  # files with the patch applied by git; None: it does not apply
    patch_problem: str | None  # git's words
    sandbox_level: str
    is_trusted: bool  # no code of the proposer's runs
    precedents: tuple[Precedent, ...] = ()
    origin: dict[str, str] | None = None  # files of the campaign's first commit; None: there is no campaign

    @cached_property
    def recipe(self) -> contract.Recipe:
        return contract.parse_recipe(self.files["recipe.toml"])


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing that a gate found in a patch, where, and what to do instead."""

    severity: Literal["block", "warn"]
    rule: str
    sentence: str
    path: str = ""
    line: int = 0  # of the changed file, or of the patch where there is no file; from 1, 0: of the whole
    column: int = 0  # from 1
    snippet: str = ""

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.path and self.line else self.path
        if not where and self.line:
            where = f"line {self.line} of the patch"
        return f"{where}: {self.sentence}" if where else self.sentence

    def shown(self) -> dict[str, Any]:
        """Plain values that are safe for a terminal, a page and a JSON column."""
        return asdict(self) | {
            "sentence": visible(self.sentence)[:400],
            "path": visible(self.path)[:200],
            "snippet": visible(self.snippet)[:MAX_SNIPPET],
        }


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What a gate answers. ``warned`` passes as ``passed`` does; the page shows it in amber: a person should look."""

    outcome: Literal["pending", "passed", "warned", "failed"]
    sentence: str
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.outcome in ("passed", "warned")

    @property
    def remarks(self) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = self.measured.get("findings", [])
        return kept

    @classmethod
    def ok(cls, sentence: str, **measured: Any) -> GateResult:
        return cls(outcome="passed", sentence=sentence, measured=measured)

    @classmethod
    def bad(cls, sentence: str, **measured: Any) -> GateResult:
        return cls(outcome="failed", sentence=sentence, measured=measured)

    @classmethod
    def pending(cls, sentence: str) -> GateResult:
        return cls(outcome="pending", sentence=sentence)

    @classmethod
    def of(cls, remarks: Iterable[Remark], otherwise: str, **measured: Any) -> GateResult:
        """Failed on any that blocks, warned on any other, else passed with the sentence ``otherwise``."""
        worst_first = sorted(remarks, key=lambda r: (r.severity, r.path, r.line, r.column))
        if not worst_first:
            return cls.ok(otherwise, **measured)
        num_blocking = sum(r.severity == "block" for r in worst_first)
        counted = {"num_blocking": num_blocking, "num_warnings": len(worst_first) - num_blocking}
        kept = [remark.shown() for remark in worst_first[:MAX_KEPT]]
        return cls(
            outcome="failed" if num_blocking else "warned",
            sentence=_summary(worst_first, num_blocking),
            measured=measured | counted | {"findings": kept},
        )


def _summary(worst_first: list[Remark], num_blocking: int) -> str:
    """The first remark in full, and how many more there are."""
    first, more = visible(str(worst_first[0])), (num_blocking or len(worst_first)) - 1
    return f"{first} And {more} more." if more else first
