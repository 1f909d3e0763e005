"""Gate: is the patch small plain text? Modes, symlinks, binaries and invisible characters are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from research.change.visible import is_hidden
from research.gates.outcome import Context, GateResult, Remark

NAME = "size and shape"
MAX_BYTES = 100_000
MAX_LINES = 1_500
MAX_LINE = 240  # characters; twice what the ruler of this project allows, and nothing is pushed out of sight
BOM = "\ufeff"
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")  # PEP 263
_NO_NEWLINE = re.compile(r"^\+.*\n\\ No newline at end of file$", re.M)


def check(context: Context) -> GateResult:
    patch = context.patch
    if not patch and not context.overrides:
        return GateResult.bad("It changes nothing: add an override or an edit.")
    num_bytes, num_lines = len(patch.encode(errors="surrogateescape")), patch.count("\n")
    if num_bytes > MAX_BYTES or num_lines > MAX_LINES:
        return GateResult.bad(
            f"The patch has {num_lines:,} lines, {num_bytes:,} bytes; at most {MAX_LINES:,} and {MAX_BYTES:,} may be "
            "read by a person in one go. Split it."
        )
    changed = context.change.num_added + context.change.num_removed
    remarks = [*_shape(context), *_hidden(context), *_lines(context)] if patch else []
    said = f"{changed} changed line{'s' * (changed != 1)}" if patch else "no code is changed"
    return GateResult.of(remarks, said, num_bytes=num_bytes, num_changed=changed)


def _block(rule: str, sentence: str, line: int, snippet: str, path: str = "") -> Remark:
    return Remark(severity="block", rule=rule, sentence=sentence, line=line, snippet=snippet, path=path)


def _shape(context: Context) -> Iterator[Remark]:
    seen: set[str] = set()
    for file in context.change.files:
        for line, text in file.special:
            sentence = f"The patch does more than change lines of text ({text.strip()[:60]!r}); leave that out."
            yield _block("special-header", sentence, line, text)
        if len(file.paths) != 1 or not 2 <= len(file.names) <= 4 or "/dev/null" in file.names:
            sentence = "A section has to change one file that exists, and give it one name."
            yield _block("one-file", sentence, file.line, " ".join(file.names))
        if file.paths & seen:
            yield _block("twice", "A file has two sections; write one.", file.line, ", ".join(file.paths))
        if not file.added and not file.removed:
            yield _block("empty-section", "A section changes no line; leave it out.", file.line, ", ".join(file.names))
        seen |= file.paths
    for line, text in context.change.strays:
        sentence = "This line belongs to no hunk; programs disagree on what it means. Write the patch with git diff."
        yield _block("stray-line", sentence, line, text)
    if not context.change.files:
        yield _block("no-diff", "There is no unified diff in it; write one with git diff.", 1, context.patch[:80])


def _hidden(context: Context) -> Iterator[Remark]:
    """A remark for each line with characters that a reader cannot see, by code point."""
    marked, from_windows = _first_lines_with_a_mark(context), _keeps_its_ends(context)
    is_foreign = context.recipe.kind == "command"
    for number, line in enumerate(context.patch.split("\n"), start=1):
        if is_foreign and line[:1] in (" ", "-"):  # it stood in the base already
            continue
        seen = line[:1] + line[2:] if line in marked else line
        if from_windows and line[:1] in (" ", "+", "-"):
            seen = seen.removesuffix("\r")
        if bad := sorted({c for c in seen if c != "\t" and is_hidden(c)}):
            points = ", ".join(f"U+{ord(c):04X}" for c in bad[:8])
            sentence = (
                f"It holds characters that a reader cannot see ({points}); write them as escapes, or leave them out."
            )
            yield _block("hidden-character", sentence, number, line)


def _first_lines_with_a_mark(context: Context) -> set[str]:
    """First lines with a byte order mark that the file has before and after, and nowhere else: it hides nothing."""
    found: set[str] = set()
    for path in context.change.paths:
        before, after = context.files.get(path, ""), (context.after or {}).get(path, "")
        if before.startswith(BOM) != after.startswith(BOM) or BOM in before[1:] + after[1:]:
            return set()  # then a line could be one of these and stand elsewhere
        if before.startswith(BOM):
            first, now = before.split("\n", 1)[0], after.split("\n", 1)[0]
            found |= {f" {first}", f"-{first}", f"+{now}"}
    return found


def _keeps_its_ends(context: Context) -> bool:
    """Whether every changed file keeps its line ends, all of one kind: then the CR of a CRLF hides nothing."""
    if context.after is None:
        return False
    texts = [(context.files.get(path, ""), context.after.get(path, "")) for path in context.change.paths]
    return all(_ends(before) == _ends(after) != "mixed" for before, after in texts)


def _ends(text: str) -> str:
    if "\r" not in text:
        return "LF"
    num_crlf = text.count("\r\n")
    return "CRLF" if num_crlf == text.count("\r") == text.count("\n") else "mixed"


def _lines(context: Context) -> Iterator[Remark]:
    for file in context.change.files:
        path = min(file.paths, default="")
        for number, text in file.added:
            if len(text) > MAX_LINE:
                sentence = f"The line has {len(text):,} characters; at most {MAX_LINE}, so that all of it is seen."
                yield _block("long-line", sentence, number, text, path)
            if number <= 2 and _CODING.match(text):
                # Python looks at the first two lines only.
                sentence = (
                    "It declares an encoding, by which Python would read other code than the page shows; drop it."
                )
                yield _block("encoding", sentence, number, text, path)
    for match in _NO_NEWLINE.finditer(context.patch):
        line = context.patch.count("\n", 0, match.start()) + 1
        yield Remark(
            severity="warn", rule="no-newline", sentence="The last line has no newline; add one.", line=line,
            snippet=match[0],
        )  # fmt: skip
