"""Rules on what strings, comments and identifiers say."""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator

from research.gates.code.source import Sighting, Source, parse
from research.gates.outcome import Remark

_DUNDER = re.compile(r"__[A-Za-z]|[A-Za-z]__")
_PLACE = re.compile(
    r"(?:^|[\s'\"=(:])(?:/(?:etc|proc|sys|dev|tmp|home|root|var|usr|mnt|opt|run|srv)\b|~/|\.\.?/)|\b[a-z]{2,6}://"
)
_FILE = re.compile(r"^[\w./ -]+\.(?:pt|pth|bin|npy|npz|pkl|pickle|safetensors|so|json|py|sh|txt|toml|ckpt|h5)$")
_CODE = re.compile(
    r"\bimport\s+\w|\bexec\s*\(|\beval\s*\(|\bos\.\w|\bsubprocess\b|\blambda\b.*:|\bopen\s*\(|\bdef\s+\w+\s*\("
)
_FIELD = re.compile(r"\{[^{}.\[]{0,99}[.\[][^{}]*\}")
_CLOCK = re.compile(
    r"[<>=|]?M8?(?:\[\w*\])?|(?:numpy\.|np\.)?(?:datetime|timedelta)64(?:\[\w*\])?"
)  # numpy's types of instants
MAX_TEXT = 60  # characters without a space
# Who writes to the reader of a patch wants something from them.
# Comments of a recipe say "ignore previous keys", "do not block" and "skip the gates" of other things than these.
_ORDERS = re.compile(
    r"(?:ignore|disregard|forget) (?:\w+ ){0,3}(?:instructions?|prompts?|rules|orders|guidelines|findings)|"
    r"(?:do not|don't|never) (?:flag|review|reject) (?:this|it|any)\b|"
    r"(?:do not|don't|never) (?:flag|review|report|block|reject|run) (?:this|the) "
    r"(?:patch|change|edit|diff|line|file|proposal|gates?)\b|approve (?:this|it|the)|"
    r"(?:pre-|\bpre|\balready |\bwas )approved|mark (?:this|it) as (?:safe|passed|approved)\b(?! through)|"
    r"system prompt|you are (?:an?|the) (?:assistant|reviewer|model|ai|judge)|"
    r"<\s*/?\s*(?:system|assistant|human|instructions?)\s*>|\[/?INST\]|"
    r"(?:set|report|give) (?:the |a |an )?val_bpb (?:of|as|to|=|[\d.])|"
    r"skip (?:the )?(?:review|checks?)\b",
    re.I,
)
_SPOKEN_TO = re.compile(
    r"\b(?:reviewers?|claude|gatekeeper|auditor)\b|\b(?:nosec|pragma: no|type: ignore|noqa: ?S)\b|"
    r"\b(?:dear|hello|hey|note to|attention|as an?)\b.{0,20}\b(?:llm|language model|ai)\b|skip (?:the )?gates?\b|"
    r"ignore (?:all |any )?(?:previous|prior|above|earlier)\b|\bapprove\b|(?:set|report|give|return) .{0,20}val_bpb",
    re.I,
)
MAX_READ = 1_000  # characters of a line or a text; longer lines are refused, and some patterns go over them squared


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.of_kind(ast.Constant, ast.Subscript):
        if isinstance(node, ast.Constant) and node not in source.docstrings:
            if isinstance(node.value, str):
                yield from _text(source, node, node.value)
            elif isinstance(node.value, bytes):
                yield from _bytes(node, node.value)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            sentence = "It picks letters out of a text, which can spell a name that nobody reads; write the text out."
            yield Sighting("block", "spelling", node, ast.unparse(node), sentence)
    yield from identifiers(source)


def _text(source: Source, node: ast.Constant, text: str) -> Iterator[Sighting]:
    said = repr(text)[:200]
    if _DUNDER.search(text) and text != "__main__":
        sentence = "The text holds one of Python's inner names, or a part of one; leave it out."
        yield Sighting("block", "text", node, said, sentence)
    if _PLACE.search(text) or _FILE.match(text):
        sentence = "The text names a file, a folder or an address; a recipe gets everything through `run`."
        severity = "warn" if _is_sentence(text) else "block"
        yield Sighting(severity, "place", node, said, sentence)
    if any(map(_CODE.search, _stretches(text))):
        severity = "block" if _is_code(text) else "warn"
        yield Sighting(severity, "text", node, said, "The text is code; write it as code, where it can be read.")
    if len(text) > MAX_TEXT and " " not in text.strip():
        sentence = f"{len(text)} characters without a space may be anything, encoded; write out what it is."
        yield Sighting("block", "blob", node, said, sentence)
    if _CLOCK.fullmatch(text) and (text != "M" or _may_be_a_kind(source, node)):
        sentence = "The type of an instant makes numpy read the clock; count in steps, or in tokens."
        yield Sighting("block", "clock", node, said, sentence)
    parent = source.parents.get(node)
    if isinstance(parent, ast.Attribute) and parent.attr in ("format", "format_map") and _FIELD.search(text):
        sentence = "format() with attributes or items in braces reaches into what it is given; use an f-string."
        yield Sighting("block", "format", node, said, sentence)


def names_a_place(text: str) -> bool:
    """Whether the text names a folder outside, or an address."""
    return _PLACE.search(text[:MAX_READ]) is not None


def _may_be_a_kind(source: Source, node: ast.Constant) -> bool:
    """Whether "M" may be numpy's type of instants: ``dtype("M")``, ``"M" + "8[s]"``.

    Elsewhere it may be a layer's kind.
    """
    parent = source.parents.get(node)
    if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr):
        return any(d.split(".")[0] == "numpy" for dotted in source.imports.values() for d in dotted)
    return isinstance(parent, ast.Call | ast.keyword | ast.BinOp | ast.JoinedStr)


def _stretches(text: str) -> Iterator[str]:
    """The text in parts short enough for every pattern; neighbours overlap, so that no match is cut in two."""
    for line in text.split("\n"):
        yield from (line[start : start + MAX_READ] for start in range(0, max(1, len(line)), MAX_READ - 100))


def _is_sentence(text: str) -> bool:
    """Whether the text is a sentence, which may name a file (not a folder): "keep in step with kernels.py"."""
    return len(text.split()) > 3 and not _PLACE.search(text)


def _is_code(text: str) -> bool:
    """Whether the text, or a part that looks like code, parses as Python. "could not import triton" does not.

    A text of more than MAX_READ characters counts as code.
    """
    parts = [textwrap.dedent(text).strip(), *(part.strip() for part in re.split(r"[;\n]", text) if _CODE.search(part))]
    return len(text) > MAX_READ or any(map(_can_be_parsed, parts))


def _can_be_parsed(text: str) -> bool:
    try:
        parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _bytes(node: ast.Constant, value: bytes) -> Iterator[Sighting]:
    severity = "block" if len(value) > 16 else "warn"
    yield Sighting(severity, "blob", node, repr(value)[:200], "Bytes may be anything, encoded; write out what it is.")


def identifiers(source: Source) -> Iterator[Sighting]:
    """Python reads letters that look alike as other names, and some that differ as the same (NFKC)."""
    if not any(f"_{letter}".isidentifier() for letter in set(source.text) if not letter.isascii()):
        return  # ² may stand in a comment, and in no name
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.NAME and not token.string.isascii():
            node = ast.Pass(lineno=token.start[0], col_offset=token.start[1])
            sentence = "The name has letters outside of ASCII, which can look like others; use plain letters."
            yield Sighting("block", "identifier", node, token.string, sentence)


def spoken(path: str, added: Iterable[tuple[int, str]]) -> Iterator[Remark]:
    """Remarks on added lines that address the reader of the patch, a person or a model. Orders block."""
    for number, whole in added:
        text = whole[:MAX_READ]
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
