"""Gate: what does the edited code do that the incumbent's does not? Read, never run.

Every rule reads the whole file before and after; a finding is new when the file after has more of its kind and
text than the file before. So code that moves is not new, but a second use of what the base does once is. The gate
explains and sorts; it is not the boundary. The boundary is the sandbox, and the scorer that trusts nothing.
"""

from __future__ import annotations

import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from research.change.patches import as_python
from research.gates.code import binding, calling, foreign, harness, naming, packages, shaping, wording
from research.gates.code.source import Sighting, TooTangled, alone, together
from research.gates.outcome import Context, GateResult, Remark

NAME = "code"
RULES = (
    naming.sightings,
    calling.sightings,
    binding.sightings,
    harness.sightings,
    shaping.sightings,
    wording.sightings,
)
SETTINGS = (".toml", ".yaml", ".yml", ".json", ".cfg", ".ini", ".md", ".txt")  # hold values, and no code that runs
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


def check(context: Context) -> GateResult:
    if context.after is None:
        return GateResult.bad("It was not read: the patch does not apply.")
    remarks: list[Remark] = []
    changed = [p for p in sorted(context.after) if context.after[p] != context.files.get(p, "")]
    for path in changed:
        remarks += _of_file(context, path)
    if is_foreign(context):
        remarks += _of_the_number(context)
    for file in context.change.files:
        remarks += wording.spoken(min(file.paths, default=""), file.added)
    remarks += wording.spoken("", context.change.asides)
    return GateResult.of(
        remarks,
        "nothing that only new code does" if changed else "no code is changed",
        num_files=len(changed),
        packages=_asked(remarks) if changed else {},
    )


def _asked(remarks: list[Remark]) -> dict[str, str | None]:
    """Versions of the packages by which names were judged; {} where they could not be asked."""
    if any(remark.rule == "unresolved" for remark in remarks):
        return {}
    try:
        return packages.installed().versions()
    except packages.CannotTell:
        return {}  # nothing in it was for them to say


def is_foreign(context: Context) -> bool:
    """Whether the recipe is a foreign trainer, to which the rules of the harness do not apply."""
    return context.recipe.kind == "command"


def _of_the_number(context: Context) -> Iterator[Remark]:
    """A warning for lines that name the metric of a foreign trainer: its number is its own word."""
    metrics = context.recipe.metrics
    if metrics is None or not context.recipe.is_self_reported:
        return
    name = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(metrics.reads)}(?![A-Za-z0-9_])")
    for file in context.change.files:
        for number, text in file.added:
            if name.search(text[: wording.MAX_READ]):
                sentence = (
                    f"The line names {metrics.reads}, the trainer's own word, by which the change is judged:"
                    " see that it is measured as before."
                )
                path = min(file.paths, default="")
                yield Remark(
                    severity="warn", rule="own-number", sentence=sentence, path=path, line=number, snippet=text.strip()
                )


def _of_file(context: Context, path: str) -> list[Remark]:
    assert context.after is not None
    seen = _seen_alone if is_foreign(context) else _seen
    if not path.endswith(".py"):
        return _unread(context, path)
    try:
        after = seen(context.after, path)
    except TooTangled as error:
        sentence = f"{error}, so nobody can follow it; give every name one meaning."
        return [Remark(severity="block", rule="tangled", sentence=sentence, path=path, line=error.lineno)]
    except packages.CannotTell as problem:
        return [Remark(severity="block", rule="unresolved", sentence=str(problem), path=path)]
    except UNREADABLE as error:
        line = (error.lineno or 0) if isinstance(error, SyntaxError) else 0
        sentence = f"It is not Python after the edit ({type(error).__name__}: {str(error)[:120]}); correct it."
        return [Remark(severity="block", rule="not-python", sentence=sentence, path=path, line=line)]
    try:
        before = seen(context.files, path) if path in context.files else ()
    except packages.CannotTell as problem:
        return [Remark(severity="block", rule="unresolved", sentence=str(problem), path=path)]
    except UNREADABLE:
        before = ()  # a base that cannot be read vouches for nothing
    added = {number for file in context.change.files if path in file.paths for number, _ in file.added}
    lines = context.after[path].split("\n")
    return [_remark(path, lines, sighting) for sighting in _new(before, after, added)]


def _unread(context: Context, path: str) -> list[Remark]:
    """Of files that are no Python: the harness has none to run, a foreign trainer may run any."""
    if not is_foreign(context) or path.endswith(SETTINGS):  # of others the gate on paths has its word
        return []
    sentence = "No rule reads this kind of file: read all of it."
    return [Remark(severity="warn", rule="not-python", sentence=sentence, path=path)]


def _seen_alone(files: dict[str, str], path: str) -> tuple[Sighting, ...]:
    """All sightings in one file of a foreign trainer; the others of its repository need not be Python at all."""
    return _read_alone(as_python(files[path]))


@lru_cache(maxsize=32)
def _read_alone(text: str) -> tuple[Sighting, ...]:
    return tuple(foreign.sightings(alone(text)))


def _seen(files: dict[str, str], path: str) -> tuple[Sighting, ...]:
    installed = packages.installed().look()
    return _read(tuple(sorted(file for file in files.items() if file[0].endswith(".py"))), path, installed)


@lru_cache(maxsize=32)  # every proposal on an incumbent has its files for a base
def _read(files: tuple[tuple[str, str], ...], path: str, installed: packages.Installed) -> tuple[Sighting, ...]:
    """All sightings in a file. ``installed`` is for the cache: with other packages a name may lead elsewhere."""
    source = together({name: as_python(text) for name, text in files})[path]
    return tuple(sighting for rule in RULES for sighting in rule(source))


def _new(before: Iterable[Sighting], after: Iterable[Sighting], added: set[int]) -> Iterator[Sighting]:
    """Sightings that ``after`` has more of than ``before``, by rule and text; those on added lines first."""
    kinds: dict[tuple[str, str, str], list[Sighting]] = defaultdict(list)
    for sighting in after:
        kinds[sighting.severity, sighting.rule, sighting.said].append(sighting)
    known: dict[tuple[str, str, str], int] = defaultdict(int)
    for sighting in before:
        known[sighting.severity, sighting.rule, sighting.said] += 1
    for kind, found in kinds.items():
        num_new = len(found) - known[kind]
        yield from sorted(found, key=lambda s: (s.line not in added, s.line))[: max(0, num_new)]


def _remark(path: str, lines: list[str], sighting: Sighting) -> Remark:
    text = lines[sighting.line - 1].strip() if 0 < sighting.line <= len(lines) else sighting.said
    return Remark(
        severity="block" if sighting.severity == "block" else "warn",
        rule=sighting.rule,
        sentence=sighting.sentence,
        path=path,
        line=sighting.line,
        column=sighting.column,
        snippet=text,
    )
