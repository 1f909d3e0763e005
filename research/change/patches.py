"""Makes a patch that git applies from search-and-replace edits, and checks a draft before it is written as a row.

Pure: files in, text out. A proposer never touches a work tree, and people sign the unified
diff made here, so the same edits must give the same bytes.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from gpu_runner.contract import Knobs, Recipe, is_safe_path
from research.change import nearest, unified
from research.change.drafts import Draft, Edit, Precedent
from research.change.undone import undone

NO_NEWLINE = "\\ No newline at end of file"


def apply_edits(files: Mapping[str, str], edits: Iterable[Edit]) -> dict[str, str]:
    """``files`` after ``edits``, made one after the other; each sees the result of the one before.

    Raises ValueError that names the edit when its file is unknown, its search text does not occur
    exactly once, or it changes nothing.
    """
    after = dict(files)
    for number, edit in enumerate(edits, start=1):
        after[edit.path] = _apply_one(after, edit, f"edit {number} of {edit.path}")
    return after


def _apply_one(files: Mapping[str, str], edit: Edit, name: str) -> str:
    text = files.get(edit.path)
    if text is None or not is_safe_path(edit.path):
        raise ValueError(f"{name}: there is no such file in the recipe; it has {', '.join(sorted(files))}")
    if not edit.search and text:
        raise ValueError(f"{name}: the search text is empty; quote the lines to replace")
    if text and len(found := nearest.lines_with(text, edit.search)) != 1:
        raise ValueError(f"{name}: the search text {_quoted(edit.search)} {_not_once(text, edit.search, found)}")
    if edit.search == edit.replace:
        raise ValueError(f"{name}: search and replacement are the same")
    return text.replace(edit.search, edit.replace)


def _not_once(text: str, search: str, found: list[int]) -> str:
    """How often the text occurs, and where, or what is nearest. Overlaps count: "aa" occurs twice in "aaa"."""
    occurs = f"occurs {len(found)} times; it must occur exactly once"
    if found:
        return f"{occurs}, and begins on lines {nearest.listed(found)}: quote more lines around the one that is meant"
    near = nearest.near(text, search)
    return f"{occurs}: {near.sentence}" if near else f"{occurs}, and nothing in the file is like it"


def _quoted(search: str) -> str:
    first, newline, _ = search.strip().partition("\n")
    return repr(first[:60] + (" ..." if newline or len(first) > 60 else ""))


def to_patch(files: Mapping[str, str], edits: Iterable[Edit], *, num_context: int = 3) -> str:
    """A unified diff with a/ and b/ prefixes, files in order of their path; "" for no edits.

    ``git apply`` (and ``git apply --check``) accepts it on a tree that holds ``files``. Raises ValueError
    as ``apply_edits`` does.
    """
    return _between(files, apply_edits(files, edits), num_context)


def moved(files: Mapping[str, str], before: Iterable[Edit], after: Iterable[Edit]) -> str:
    """The difference between two changes of the same ``files``, as a unified diff.

    Raises ValueError as ``to_patch``.
    """
    return _between(apply_edits(files, before), apply_edits(files, after), 3)


def _between(before: Mapping[str, str], after: Mapping[str, str], num_context: int) -> str:
    changed = (path for path in sorted(after) if after[path] != before[path])
    return "".join(_diff(path, before[path], after[path], num_context) for path in changed)


def _diff(path: str, before: str, after: str, num_context: int) -> str:
    name = f"{path}\t" if " " in path else path  # git reads a name with spaces up to a tab
    names = f"a/{name}", f"b/{name}"
    lines = difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="\n", n=num_context)
    body = "".join(line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}\n" for line in lines)
    return f"diff --git a/{path} b/{path}\n{body}"


def _lines(text: str) -> list[str]:
    """Split at newlines only, as git does; str.splitlines would also split at form feeds."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()
    return lines if last == "\n" else [*lines, last[:-1]]


# --- what is wrong with a draft ---------------------------------------------------------------


def problems_with(draft: Draft, recipe: Recipe, files: Mapping[str, str]) -> list[str]:
    """Every reason why ``draft`` cannot be an experiment on this incumbent; empty when it can."""
    problems = [*_override_problems(draft, recipe), *_edit_problems(draft, recipe, files), *_prediction_problems(draft)]
    if not draft.overrides and not draft.edits:
        problems.append("it changes nothing: neither an override nor an edit")
    return problems


def _override_problems(draft: Draft, recipe: Recipe) -> list[str]:
    problems = recipe.problems_with({o.key: o.value for o in draft.overrides})
    keys = [o.key for o in draft.overrides]
    problems += [f"{key}: overridden twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    for override in draft.overrides:
        knob = recipe.knob(override.key)
        if knob is not None and knob.default == override.value:
            problems.append(f"{override.key}: {override.value!r} is already the incumbent's value")
    return problems


def _edit_problems(draft: Draft, recipe: Recipe, files: Mapping[str, str]) -> list[str]:
    outside = sorted({e.path for e in draft.edits} - set(recipe.editable))
    if outside:
        return [f"{', '.join(outside)}: not editable in this recipe; editable are {', '.join(recipe.editable)}"]
    try:
        after = apply_edits(files, draft.edits)
    except ValueError as error:
        return [str(error)]
    paths = sorted({e.path for e in draft.edits})
    return _undone(draft, files) or [p for path in paths if (p := _bad_end(path, files[path], after[path]))]


def _undone(draft: Draft, files: Mapping[str, str]) -> list[str]:
    return [
        f"edits: {nearest.listed(numbers)} cancel each other out in {path}, which stays as it is there; leave them out"
        for path, numbers in undone(files, draft.edits)
    ]


def _bad_end(path: str, before: str, after: str) -> str | None:
    """What a gate would block the finished file for, said already now."""
    if after == before:
        return f"edits: those of {path} cancel each other out, so that it stays as it is; leave them out"
    return (
        _syntax_problem(path, after) if after else f"edits: nothing would be left of {path}; a recipe keeps its files"
    )


def as_python(text: str) -> str:
    """The text without a byte order mark, which Python's parser accepts in a file but not in a text."""
    return text.removeprefix("\ufeff")


@lru_cache(maxsize=32)  # the offline proposer tries the same edits on the same files again and again
def _syntax_problem(path: str, text: str) -> str | None:
    """Why the file is not Python; parsed, never run.

    ast.parse also raises ValueError (null bytes), RecursionError and MemoryError (absurd nesting).
    """
    if not path.endswith(".py"):
        return None
    try:
        ast.parse(as_python(text), filename=path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        return f"{path}: after the edits it is not Python{f' (line {line})' if line else ''}: {error}"
    return None


def _prediction_problems(draft: Draft) -> list[str]:
    said = draft.prediction
    problems = []
    if not said.low_bpb <= said.effect_bpb <= said.high_bpb:
        problems.append(
            f"prediction: the effect {said.effect_bpb:g} is outside its interval {said.low_bpb:g} to {said.high_bpb:g}"
        )
    if not 0 <= said.chance_to_win <= 1:
        problems.append(f"prediction: chance_to_win {said.chance_to_win:g} is not between 0 and 1")
    return problems


# --- has it been asked before? ------------------------------------------------------------------

_WAITING = frozenset({"drafted", "checking", "pending_review", "changes_requested", "stale", "approved", "running"})


def answered_by(draft: Draft, precedents: Iterable[Precedent], files: Mapping[str, str]) -> Precedent | None:
    """The earlier proposal with the same change that still answers it, or None.

    It does if it was made on the present incumbent, is still open, or was rejected by a person (ever).
    Expects a draft without problems.
    """
    change = _change({o.key: o.value for o in draft.overrides}, to_patch(files, draft.edits))
    for precedent in precedents:
        if still_stands(precedent) and change == _change(
            {o.key: o.value for o in precedent.overrides}, precedent.patch
        ):
            return precedent
    return None


def still_stands(precedent: Precedent) -> bool:
    """Whether this proposal's outcome still holds, so that the same change need not be proposed again."""
    return precedent.on_incumbent or precedent.state == "rejected" or is_waiting(precedent)


def is_waiting(precedent: Precedent) -> bool:
    return precedent.outcome is None and precedent.state in _WAITING


def _change(overrides: Knobs, patch: str) -> tuple[Knobs, list[str]]:
    """Overrides, and the lines that go and come: line numbers and context move with the incumbent."""
    return overrides, [line for file in unified.read(patch).files for line in file.changed]
