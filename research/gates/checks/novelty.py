"""Gate: was the same change proposed before, or one that does the same? It links to those and their outcomes.

Two changes are the same when their overrides are equal and their lines differ at most in white space, comments and
the names that they introduce themselves; a knob replaced by a number in code counts as the override of that knob.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gpu_runner.contract import Knobs
from research.change import patches, unified
from research.change.drafts import Precedent
from research.gates.outcome import Context, GateResult, Remark

NAME = "novelty"
MAX_LINKS = 5
_TOKEN = re.compile(r"""\s+|\#.*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\d[\w.]*|\w+|[^\w\s]""")
_KNOB = re.compile(r"""(?:\bk|\bknobs|\brun\.knobs|\bconfig)\[["'](\w+)["']\]""")


@dataclass(frozen=True)
class Fingerprint:
    """Equal for changes that do the same. ``lines`` are (file, sign, words), with new names numbered."""

    overrides: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, str, tuple[str, ...]], ...]


def check(context: Context) -> GateResult:
    mine = fingerprint(context.patch, context.overrides, context.files)
    same = [p for p in context.precedents if _of(p, context.files) == mine]
    numbers = [p.number for p in same]
    remarks = [_remark(context, precedent) for precedent in same[:MAX_LINKS]]
    return GateResult.of(
        remarks,
        f"not among {len(context.precedents)} earlier one{'s' * (len(context.precedents) != 1)}",
        earlier=numbers,
    )


def _remark(context: Context, earlier: Precedent) -> Remark:
    """A warning that names the earlier proposal.

    An open identical one answers this one; others may be worth a repeat.
    """
    is_copy = (
        {o.key: o.value for o in earlier.overrides} == context.overrides and earlier.patch == context.patch
    ) and patches.is_waiting(earlier)
    outcome = earlier.outcome or earlier.state.replace("_", " ")
    why = f" ({earlier.reason[:120]})" if earlier.reason else ""
    way_out = "decide on that one, or change this one." if is_copy else "look at what came of it first."
    how = "the same as" if is_copy else "equivalent to"
    return Remark(
        severity="warn",
        rule="asked-before",
        sentence=f"It is {how} P-{earlier.number} {earlier.title[:80]}, {outcome}{why}: {way_out}",
        snippet=f"P-{earlier.number}",
    )


def _of(earlier: Precedent, files: dict[str, str]) -> Fingerprint:
    return fingerprint(earlier.patch, {o.key: o.value for o in earlier.overrides}, files)


def fingerprint(patch: str, overrides: Knobs, files: dict[str, str]) -> Fingerprint:
    """The fingerprint of a change. ``files`` tell which names it introduces itself."""
    change = unified.read(patch)
    known = set().union(*map(_names_in, files.values())) if change.files else set[str]()
    lines: list[tuple[str, str, tuple[str, ...]]] = []
    in_code: Knobs = {}
    names: dict[str, str] = {}
    for file in sorted(change.files, key=lambda f: min(f.paths, default="")):
        path = min(file.paths, default="")
        removed, added = [text for _, text in file.removed], [text for _, text in file.added]
        if (fixed := _fixed_knobs(removed, added)) is not None:
            in_code |= fixed
            continue
        for sign, texts in (("-", removed), ("+", added)):
            lines += [(path, sign, words) for text in texts if (words := _words(text, known, names))]
    wanted = sorted((key, _number(value)) for key, value in (in_code | overrides).items())
    return Fingerprint(overrides=tuple(wanted), lines=tuple(lines))


@lru_cache(maxsize=64)
def _names_in(text: str) -> frozenset[str]:
    """All names in a file. Cached: it is asked for every earlier proposal, of the same few files."""
    return frozenset(re.findall(r"\w+", text))


def _words(text: str, known: set[str], names: dict[str, str]) -> tuple[str, ...]:
    """The line's tokens without white space and comments; a new name becomes its number in order of appearance."""
    words = [word for word in _TOKEN.findall(text) if word.strip() and not word.startswith("#")]
    return tuple(
        names.setdefault(word, f"name {len(names)}") if word.isidentifier() and word not in known else word
        for word in words
    )


def _fixed_knobs(removed: list[str], added: list[str]) -> Knobs | None:
    """The overrides that the lines amount to, if they only put a number where a knob was; None if they do more."""
    if not removed or len(removed) != len(added):
        return None
    fixed: Knobs = {}
    for old, new in zip(removed, added, strict=True):
        match = _KNOB.search(old)
        if match is None or len(_KNOB.findall(old)) != 1:
            return None
        shape = re.escape(old[: match.start()]) + r"([-+.\w]+)" + re.escape(old[match.end() :]) + r"\s*(?:#.*)?"
        value = re.fullmatch(shape, new)
        if value is None or (number := _literal(value[1])) is None:
            return None
        fixed[match[1]] = number
    return fixed


def _literal(text: str) -> float | bool | None:
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return None


def _number(value: object) -> str:
    """1 and 1.0 are equal; 2**53 and 2**53 + 1 are not, though as floats they would be."""
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)
