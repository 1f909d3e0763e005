"""Text that hostile code wrote, made fit for a terminal, a page and a database."""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


def plain(text: str, keep: str = "") -> str:
    """``text`` without terminal escapes, control, direction-changing and unpaired characters. Tabs become spaces."""
    bare = ESCAPES.sub("", text).replace("\t", "    ")
    return "".join(c for c in bare if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def shortened(text: str, at_most: int) -> str:
    """Its beginning and its end, where it is longer: what an error is stands first in some and last in others."""
    half = at_most // 2 - 2
    return text if len(text) <= at_most else f"{text[:half]} … {text[-half:]}"
