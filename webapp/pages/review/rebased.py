"""What changed in a rebased revision: the same change, proposed again since a condition of its approval changed."""

from __future__ import annotations

from dataclasses import dataclass

from research.models import Decision, Revision

# Field of the approval -> what a person calls it, and how much of it is worth reading.
CONDITIONS = {
    "base_commit": ("Incumbent", 7),
    "budget": ("Budget", 60),
    "seeds": ("Seeds", 80),
    "dataset_sha256": ("Dataset", 12),
    "scorer_version": ("Scorer", 12),
    "lock_sha256": ("Lock file", 12),
    "sandbox_level": ("Sandbox", 20),
    "gate_version": ("Gates", 12),
}


@dataclass(frozen=True)
class Moved:
    """One changed condition."""

    name: str
    before: str
    now: str


@dataclass(frozen=True)
class Rebase:
    """The changed conditions since the revision before, and the approval that this made void, if there was one."""

    previous: Revision
    moved: list[Moved]
    void: Decision | None


def rebase_of(revision: Revision, decisions: list[Decision]) -> Rebase | None:
    """The rebase that made ``revision``; None for one that was written."""
    if revision.origin != "rebased":
        return None
    previous = revision.proposal.revisions.select_related("incumbent__proposal").get(number=revision.number - 1)
    void = next((d for d in decisions if d.revision_id == previous.pk and d.choice == "approve"), None)
    before, now = previous.approval, revision.approval
    moved = [
        Moved(name, _short(before.get(field), length), _short(now[field], length))
        for field, (name, length) in CONDITIONS.items()
        if before.get(field) != now[field]
    ]
    return Rebase(previous, moved, void)


def _short(value: object, length: int) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name.replace('_', ' ')} {part}" for name, part in value.items())
    return str(value)[:length]
