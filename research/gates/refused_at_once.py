"""Runs two gates on a draft while its author is still there, since a patch that they block can never be run.

They are gates that nobody may override and that read nothing but the change. What people may disagree on (code, new
text, secrets) is for the review page; bounds of overrides are checked by ``patches.problems_with``.
"""

from __future__ import annotations

from collections.abc import Mapping

from research.change import patches, unified
from research.change.drafts import Draft
from research.gates.checks import sandbox, size
from research.gates.outcome import Context, GateResult

GATES = (size.check, sandbox.check)
MAX_SAID = 5


def problems(draft: Draft, files: Mapping[str, str], *, sandbox_level: str) -> list[str]:
    """Sentences that name the field; none for a draft that passes. Expects edits that can be applied."""
    patch = patches.to_patch(files, draft.edits)
    context = Context(
        patch=patch,
        overrides={o.key: o.value for o in draft.overrides},
        files=dict(files),
        commit="",
        change=unified.read(patch),
        after=patches.apply_edits(files, draft.edits),
        patch_problem=None,
        sandbox_level=sandbox_level,
        is_trusted=not patch,
    )
    return [said for gate in GATES for said in _said(gate(context))][:MAX_SAID]


def _said(found: GateResult) -> list[str]:
    if found.passed:
        return []
    blocking = [remark for remark in found.remarks if remark["severity"] == "block"]
    return [f"edits: {_where(remark)}{remark['sentence']}" for remark in blocking] or [f"edits: {found.sentence}"]


def _where(remark: dict[str, object]) -> str:
    place = f"{remark['path']}:{remark['line']}" if remark["path"] else f"line {remark['line']} of the diff"
    return f"{place}: " if remark["line"] else ""
