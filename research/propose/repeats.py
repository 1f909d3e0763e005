"""Drops drafts that repeat an earlier proposal: equal changes, and changes that do the same.

A repeat costs gates, a smoke run and somebody's attention. People may repeat what they like: the novelty gate tells
their reviewer.
"""

from __future__ import annotations

from dataclasses import replace

from research.change import patches
from research.change.drafts import Answer, Brief, Draft, Precedent
from research.gates.checks.novelty import Fingerprint, fingerprint


def screened(answer: Answer, brief: Brief, *, apart_from: int | None = None) -> Answer:
    """``answer`` without drafts that repeat an earlier proposal or each other; ``problem`` says which.

    ``apart_from`` is the proposal under revision: a new text for its own change is no repeat. A draft equal to
    one that a person rejected passes when it names that proposal and says what has changed.
    """
    if not answer.drafts:
        return answer
    earlier = _standing(brief, apart_from)
    kept: dict[Fingerprint, Draft] = {}
    dropped: list[str] = []
    for draft in answer.drafts:
        mine = _of(draft, brief)
        if (why := _why_not(draft, earlier.get(mine, []), mine in kept)) is None:
            kept[mine] = draft
        else:
            dropped.append(f"{draft.title!r} was dropped: {why}.")
    problem = " ".join(filter(None, [answer.problem, *dropped]))
    return replace(answer, drafts=tuple(kept.values()), problem=problem)


def _standing(brief: Brief, apart_from: int | None) -> dict[Fingerprint, list[Precedent]]:
    found: dict[Fingerprint, list[Precedent]] = {}
    for earlier in brief.precedents:
        if patches.still_stands(earlier) and earlier.number != apart_from:
            knobs = {o.key: o.value for o in earlier.overrides}
            found.setdefault(fingerprint(earlier.patch, knobs, brief.files), []).append(earlier)
    return found


def _of(draft: Draft, brief: Brief) -> Fingerprint:
    patch = patches.to_patch(brief.files, draft.edits)
    return fingerprint(patch, {o.key: o.value for o in draft.overrides}, brief.files)


def _why_not(draft: Draft, same: list[Precedent], is_twin: bool) -> str | None:
    if is_twin:
        return "it stands twice in the same answer"
    said = draft.returns.proposal if draft.returns else None
    for earlier in same:
        if earlier.state != "rejected":
            where = "is still open" if patches.is_waiting(earlier) else "was tried on this incumbent"
            return f"proposal {earlier.number} makes the same change and {where}"
    if same and said not in [earlier.number for earlier in same]:
        return f"a person rejected the same change, proposal {same[0].number}, and it does not say what has changed"
    return None
