"""Start, pause, resume, halt, archive: which verb a wish is, for every door."""

from __future__ import annotations

from research.models import Campaign
from research.record import moves
from research.record.rights import Actor
from research.runs import ending

PAST = {
    "active": "goes on",
    "paused": "is paused",
    "halted": "is halted",
    "archived": "is archived",
}


def steer(campaign: Campaign, new: str, *, by: Actor, reason: str) -> None:
    """Move a campaign to *active*, *paused*, *halted* or *archived*.

    Raises PermissionDenied, IllegalMove, LostRace, or ValueError where a score waits in quarantine.
    """
    verbs = {"halted": ending.halt, "active": ending.resume, "archived": ending.archive}
    if new in verbs:
        verbs[new](campaign, by=by, reason=reason)
    else:
        moves.move_campaign(campaign, new, by=by, reason=reason)
