"""What a reader cannot see, written so that they can. Pure."""

from __future__ import annotations

import re
import unicodedata

# Letters and marks that are drawn as nothing: Hangul fillers, Braille blank, variation selectors, grapheme joiner.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180b\u180c\u180d") | {chr(c) for c in range(0xFE00, 0xFE10)}
_SPACE = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_UNUSUAL = re.compile(r"[^\n\t\x20-\x7e]")


def visible(text: str) -> str:
    """``text`` with everything that a reader cannot see written as its code point."""
    return _UNUSUAL.sub(lambda found: _written(found[0]), text)


def readable(text: str) -> str:
    """Prose as a person would have typed it: every space a space, every line's end a newline, the rest visible."""
    spaced = _SPACE.sub(" ", text.replace("\r\n", "\n"))
    return visible(spaced)


def _written(character: str) -> str:
    return f"<U+{ord(character):04X}>" if is_hidden(character) else character


def is_hidden(character: str) -> bool:
    """Control, format (bidi, zero-width), private, unassigned, lone surrogate, separators, blank fillers."""
    kind = unicodedata.category(character)
    return (
        kind in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") or (kind == "Zs" and character != " ") or character in _BLANK
    )
