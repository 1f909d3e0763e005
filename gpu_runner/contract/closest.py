"""For a name that does not exist: the known name that was likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: "did you mean X?", else all known names."""
    known = list(names)
    if near := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known)}" if known else "there are none"
