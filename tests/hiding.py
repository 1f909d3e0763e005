"""Ways to hide a text in a recipe's source: a module's lines for each, harmless, and never run by a test."""

from __future__ import annotations

import base64
import bz2
import codecs
import gzip
import lzma
import re
import textwrap
import zlib
from collections.abc import Callable, Iterator

WIDTH = 80  # characters of a literal


def _literals(text: str, prefix: str = "") -> str:
    """A sum of literals, which Python puts together."""
    parts = (prefix + repr(text[start : start + WIDTH]) for start in range(0, len(text), WIDTH))
    return "TEXT = (\n" + "".join(f"    {part}\n" for part in parts) + ")\n"


def _docstring(text: str) -> str:
    body = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'def about():\n    """{body}"""\n'


def _comments(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _names(text: str) -> str:
    words = re.findall(r"\w+", text)
    lines = ("_" + "_".join(words[start : start + 5]) for start in range(0, len(words), 5))
    return "".join(f"{line} = 1\n" for line in lines)


def _numbers(text: str) -> str:
    return "TABLE = [\n" + textwrap.fill(", ".join(map(str, text.encode())), WIDTH) + "\n]\n"


def _long_numbers(text: str) -> str:
    body = text.encode()
    numbers = (int.from_bytes(body[start : start + 32], "big") for start in range(0, len(body), 32))
    return "".join(f"take({number})\n" for number in numbers)


def _scattered(text: str) -> str:
    """Ten characters to a function."""
    parts = (text[start : start + 10] for start in range(0, len(text), 10))
    return "".join(f"def part_{number}():\n    return {part!r}\n" for number, part in enumerate(parts))


def _packed(text: str) -> str:
    return _literals(base64.b85encode(zlib.compress(text.encode(), 9)).decode())


def _operators(text: str) -> str:
    """Four bits to a name, held together by operators that a class may define."""
    names = "abcdefghijklmnop"
    spelled = [names[half] for byte in text.encode() for half in divmod(byte, 16)]
    lines = ("+".join(spelled[start : start + 40]) for start in range(0, len(spelled), 40))
    return "".join(f"x = {line}\n" for line in lines)


HIDDEN: dict[str, Callable[[str], str]] = {
    "docstring": _docstring,
    "comments": _comments,
    "names": _names,
    "one long string": _literals,
    "strings of ten characters": _scattered,
    "escapes": lambda text: 'TEXT = "' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"\n',
    "bytes": lambda text: f"TEXT = {text.encode()!r}\n",
    "base64": lambda text: _literals(base64.b64encode(text.encode()).decode()),
    "base32": lambda text: _literals(base64.b32encode(text.encode()).decode()),
    "hex": lambda text: _literals(text.encode().hex()),
    "zlib and base85": _packed,
    "gzip and hex": lambda text: _literals(gzip.compress(text.encode()).hex()),
    "bz2 and base32": lambda text: _literals(base64.b32encode(bz2.compress(text.encode())).decode()),
    "lzma and base64": lambda text: _literals(base64.b64encode(lzma.compress(text.encode())).decode()),
    "small numbers": _numbers,
    "long numbers": _long_numbers,
    "upper case without spaces": lambda text: _literals("".join(text.upper().split())),
    "reversed": lambda text: _literals(text[::-1]),
    "rot13": lambda text: _literals(codecs.encode(text, "rot13")),
    "rot13 of base64": lambda text: _literals(codecs.encode(base64.b64encode(text.encode()).decode(), "rot13")),
    "reversed in comments": lambda text: _comments("\n".join(line[::-1] for line in text.splitlines()[::-1])),
}
UNREADABLE: dict[str, Callable[[str], str]] = {
    "xor and base64": lambda text: _literals(base64.b64encode(bytes(b ^ 0x5A for b in text.encode())).decode()),
    "every second letter": lambda text: _literals("".join(f"{letter}q" for letter in text)),
    "operators": _operators,
}


def every_way() -> Iterator[tuple[str, Callable[[str], str]]]:
    yield from HIDDEN.items()
    yield from UNREADABLE.items()
