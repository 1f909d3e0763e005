"""The name that was likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, names: Iterable[str]) -> str:
    """The way out of a name that does not exist: the one that was likely meant, else all there are."""
    known = list(names)
    if near := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known)}" if known else "there are none"
