"""Makes text of hostile code harmless for a terminal, a page, a log and a database."""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_UNUSUAL = re.compile(r"[^\x20-\x7e]")
# Letters and marks that are drawn as nothing: Hangul fillers, Braille blank, joiners, vowels, variation selectors.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}


def is_hidden(character: str) -> bool:
    """Whether a reader cannot see it: control, format (bidi, zero-width), private, unassigned, surrogate or blank.

    Also every separator but the plain space.
    """
    kind = unicodedata.category(character)
    return (
        kind in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") or (kind == "Zs" and character != " ") or character in _BLANK
    )


def plain(text: str, keep: str = "") -> str:
    """``text`` without terminal escapes and without what a reader cannot see. Tabs and odd spaces become spaces."""
    if text.isascii() and text.isprintable():
        return text
    bare = ESCAPES.sub("", text).replace("\t", "    ")
    return _UNUSUAL.sub(lambda found: found[0] if found[0] in keep else _shown(found[0]), bare)


def _shown(character: str) -> str:
    if unicodedata.category(character).startswith("Z"):
        return " "
    return "" if is_hidden(character) else character


def shortened(text: str, at_most: int) -> str:
    """``text``, or its beginning and end where it is too long: an error names itself first or last."""
    half = at_most // 2 - 2
    return text if len(text) <= at_most else f"{text[:half]} … {text[-half:]}"
