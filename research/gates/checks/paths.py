"""Gate: are only files touched that the recipe declares editable?"""

from __future__ import annotations

from gpu_runner import contract
from research.gates.outcome import Context, GateResult, Remark

NAME = "paths allowed"


def check(context: Context) -> GateResult:
    editable, touched = context.recipe.editable, sorted(touched_paths(context))
    remarks = [
        Remark(
            severity="block",
            rule="path",
            sentence=f"It touches {path[:120]}; only {', '.join(editable)} may be edited.",
            path=path,
        )
        for path in touched
        if not contract.is_safe_path(path) or path not in editable
    ]
    return GateResult.of(
        remarks, ", ".join(touched) or "no file is touched", touched=[r.shown()["path"] for r in remarks] or touched
    )


def touched_paths(context: Context) -> set[str]:
    """Every path in any header, and every path that git changed, so that the two cannot disagree unseen."""
    by_git = {
        path
        for path in context.files.keys() | (context.after or {}).keys()
        if context.after is not None and context.after.get(path) != context.files.get(path)
    }
    return context.change.paths | by_git
