"""Makes characters visible that a reader cannot see. Pure."""

from __future__ import annotations

import re

from gpu_runner.contract import is_hidden as is_hidden  # part of what this module offers

_SPACE = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_UNUSUAL = re.compile(r"[^\n\t\x20-\x7e]")


def visible(text: str) -> str:
    """``text`` with every invisible character written as its code point."""
    return _UNUSUAL.sub(lambda found: _written(found[0]), text)


def readable(text: str) -> str:
    """Prose with plain spaces and line ends, and every other invisible character as its code point."""
    spaced = _SPACE.sub(" ", text.replace("\r\n", "\n"))
    return visible(spaced)


def _written(character: str) -> str:
    return f"<U+{ord(character):04X}>" if is_hidden(character) else character
