"""What single cells say: numbers, units, and the words for how an experiment ended. Pure."""

from __future__ import annotations

import math
import re

from research.history.past import Outcome

MISSING = frozenset(
    "- -- – — ? n/a na nan +nan -nan none null nil inf +inf -inf infinity -infinity unknown tbd pending crash "
    "crashed fail failed failure oom error timeout diverged skipped invalid".split()
) | {""}
_NUMBER = re.compile(
    r"[~=]?([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?:\.[0-9]*)?(?:e[+-]?[0-9]{1,4})?) ?%?", re.A | re.I
)
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+", re.A)
_WITH_UNIT = re.compile(r"([+-]?[0-9.]+(?:e[+-]?[0-9]+)?) ?([a-z]+)", re.A | re.I)

MEMORY_MIB = {
    "bytes": 2**-20, "b": 2**-20, "kb": 2**-10, "kib": 2**-10, "mb": 1.0, "mib": 1.0, "gb": 1024.0, "gib": 1024.0,
}  # fmt: skip  # autoresearch divides MiB by 1024 and calls it GB, and so do its forks
SECONDS = {
    "ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "min": 60.0, "mins": 60.0,
    "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86_400.0, "day": 86_400.0, "days": 86_400.0,
}  # fmt: skip


def number(text: str) -> float | None:
    """The number in a cell; None for a word that says there is none. Raises ValueError with the way out."""
    word = text.strip().replace("−", "-")
    if word.lower() in MISSING:
        return None
    if _COMMA.fullmatch(word) and not _NUMBER.fullmatch(word):
        raise ValueError(f"{word!r} has a comma for its decimal point; write {word.replace(',', '.')}")
    found = _NUMBER.fullmatch(word)
    digits = found[1].replace(",", "") if found else ""
    if not any(map(str.isdigit, digits)):
        raise ValueError(f"{text.strip()[:60]!r} is no number")
    value = float(digits)
    return value if math.isfinite(value) else None


def measured(text: str, unit: str, units: dict[str, float]) -> float | None:
    """A quantity by the unit in its cell ("12.3 GB"), else by ``unit``, its column's. None where it says none, or 0.

    Raises ValueError where it is no number or has no unit at all.
    """
    if (both := _WITH_UNIT.fullmatch(text.strip())) is not None and both[2].lower() in units:
        text, unit = both[1], both[2].lower()
    value = number(text)
    if value is None or value <= 0:
        return None
    if unit not in units:
        raise ValueError(f"{text.strip()[:60]!r} has no unit")
    return value * units[unit]


# --- how it ended ---------------------------------------------------------------------------------

_CRASHED = frozenset("crash crashed fail failed failure error oom timeout nan diverged broken".split())
_DISCARDED = frozenset(
    "discard discarded reject rejected revert reverted worse drop dropped rollback rolled abandon abandoned".split()
)
_KEPT = frozenset(
    "keep kept keeper best accept accepted adopt adopted improved improvement win winner merge merged promote "
    "promoted advance advanced baseline reference".split()
)
_NOT = frozenset(["not", "no", "never", "un"])
_TOKEN = re.compile(r"[a-z]+")
# "keep — depth 6", where there is no column for it.
_LEADING = re.compile(r"\s*([A-Za-z_]{3,12})\s*(?:[—–:|]|-\s)")


def outcome(said: str) -> Outcome:
    """How the source says that an experiment ended, by its own word: ``keep``, ``REVERT``, ``ADOPTED-WIN``, ``ok``."""
    words = _TOKEN.findall(said.lower())
    if _NOT & set(words):
        return "unsaid"
    for ending, known in (("crashed", _CRASHED), ("discarded", _DISCARDED), ("kept", _KEPT)):
        if known & set(words):
            return ending  # type: ignore[return-value]  # mypy takes the words of a tuple for any str
    return "unsaid"


def is_outcome(text: str) -> bool:
    """Whether a cell is such a word, and not a sentence that has one in it."""
    return len(text) <= 20 and outcome(text) != "unsaid"


def leading_word(description: str) -> str:
    """The outcome that a description begins with, as ``keep — depth 6``; "" where it does not."""
    found = _LEADING.match(description)
    return found[1] if found and is_outcome(found[1]) else ""
