"""Rules on what stands in strings, comments and identifiers."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator

from research.gates.found import Remark
from research.gates.source import Sighting, Source

_DUNDER = re.compile(r"__[A-Za-z]|[A-Za-z]__")
_PLACE = re.compile(
    r"(?:^|[\s'\"=(:])(?:/(?:etc|proc|sys|dev|tmp|home|root|var|usr|mnt|opt|run|srv)\b|~/|\.\.?/)|\b[a-z]{2,6}://"
)
_FILE = re.compile(r"^[\w./ -]+\.(?:pt|pth|bin|npy|npz|pkl|pickle|safetensors|so|json|py|sh|txt|toml|ckpt|h5)$")
_CODE = re.compile(
    r"\bimport\s+\w|\bexec\s*\(|\beval\s*\(|\bos\.\w|\bsubprocess\b|\blambda\b.*:|\bopen\s*\(|\bdef\s+\w+\s*\("
)
_FIELD = re.compile(r"\{[^{}]*[.\[][^{}]*\}")
MAX_TEXT = 60  # characters without a space
# Who writes to the reader of a patch wants something from them.
_ORDERS = re.compile(
    r"ignore (?:all |any |the )?(?:previous|prior|above|earlier|other)|disregard (?:all|any|the|previous)|"
    r"(?:do not|don't|never) (?:flag|review|report|block|reject|read|run the gates)|approve (?:this|it|the)|"
    r"(?:pre-?|already |was )approved|mark (?:this|it) as (?:safe|passed)|system prompt|you are (?:an?|the) "
    r"(?:assistant|reviewer|model|ai|judge)|<\s*/?\s*(?:system|assistant|human|instructions?)\s*>|\[/?INST\]|"
    r"(?:set|report|give|return) .{0,20}val_bpb|skip (?:the )?(?:gates?|review|checks?)",
    re.I,
)
_SPOKEN_TO = re.compile(
    r"\b(?:reviewers?|claude|llm|language model|gatekeeper|auditor)\b|\b(?:nosec|pragma: no|type: ignore|noqa: ?S)\b",
    re.I,
)


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.nodes:
        if isinstance(node, ast.Constant) and node not in source.docstrings:
            if isinstance(node.value, str):
                yield from _text(source, node, node.value)
            elif isinstance(node.value, bytes):
                yield from _bytes(node, node.value)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            sentence = "It picks letters out of a text, which can spell a name that nobody reads; write the text out."
            yield Sighting("block", "spelling", node, ast.unparse(node), sentence)
    yield from _identifiers(source)


def _text(source: Source, node: ast.Constant, text: str) -> Iterator[Sighting]:
    said = repr(text)[:200]
    if _DUNDER.search(text) and text != "__main__":
        sentence = "The text holds one of Python's inner names, or a part of one; leave it out."
        yield Sighting("block", "text", node, said, sentence)
    if _PLACE.search(text) or _FILE.match(text):
        sentence = "The text names a file, a folder or an address; a recipe gets everything through `run`."
        yield Sighting("block", "place", node, said, sentence)
    if _CODE.search(text):
        yield Sighting("block", "text", node, said, "The text is code; write it as code, where it can be read.")
    if len(text) > MAX_TEXT and " " not in text.strip():
        sentence = f"{len(text)} characters without a space may be anything, encoded; write out what it is."
        yield Sighting("block", "blob", node, said, sentence)
    parent = source.parents.get(node)
    if isinstance(parent, ast.Attribute) and parent.attr in ("format", "format_map") and _FIELD.search(text):
        sentence = "format() with attributes or items in braces reaches into what it is given; use an f-string."
        yield Sighting("block", "format", node, said, sentence)


def _bytes(node: ast.Constant, value: bytes) -> Iterator[Sighting]:
    severity = "block" if len(value) > 16 else "warn"
    yield Sighting(severity, "blob", node, repr(value)[:200], "Bytes may be anything, encoded; write out what it is.")


def _identifiers(source: Source) -> Iterator[Sighting]:
    """Python reads letters that look alike as other names, and some that differ as the same (NFKC)."""
    if source.text.isascii():
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.NAME and not token.string.isascii():
            node = ast.Pass(lineno=token.start[0], col_offset=token.start[1])
            sentence = "The name has letters outside of ASCII, which can look like others; use plain letters."
            yield Sighting("block", "identifier", node, token.string, sentence)


def spoken(path: str, added: Iterable[tuple[int, str]]) -> Iterator[Remark]:
    """Added lines that speak to whoever reads the patch, a person or a model."""
    for number, text in added:
        if orders := _ORDERS.search(text):
            sentence = f"The line tells its reader what to do ({orders[0]!r}); say what the code does, or nothing."
            yield Remark(
                severity="block", rule="orders", sentence=sentence, path=path, line=number, snippet=text.strip()
            )
        elif spoken_to := _SPOKEN_TO.search(text):
            sentence = f"The line speaks to who checks it ({spoken_to[0]!r}); read it as a claim, not as a fact."
            yield Remark(
                severity="warn", rule="spoken-to", sentence=sentence, path=path, line=number, snippet=text.strip()
            )
