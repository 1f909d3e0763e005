"""The loop in one table: which event rings which doorbell. A verb writes its row and its Event, and knows no next step.

Once an event is committed its doorbell is rung: the GPU workers', or the control worker's, which answers in
``tasks``. ``reconcile`` does what a lost doorbell left undone.
"""

from __future__ import annotations

from research.models import Event
from research.record import doorbell, events

# kind of event -> (who is rung, about which row of the event)
AFTER = {
    "proposal.drafted": ("control.check", "proposal_id"),
    "proposal.approved": ("control.advance", "campaign_id"),
    "proposal.changes_requested": ("control.revise", "proposal_id"),
    "proposal.stale": ("control.rebase", "proposal_id"),
    "proposal.rejected": ("control.propose", "campaign_id"),
    "proposal.withdrawn": ("control.look_after", "campaign_id"),
    "proposal.blocked": ("control.propose", "campaign_id"),
    "run.queued": ("workers", "run_id"),
    "run.finished": ("control.run_ended", "run_id"),
    "run.failed": ("control.run_ended", "run_id"),
    "run.timed_out": ("control.run_ended", "run_id"),
    "run.cancelled": ("control.run_ended", "run_id"),
    "score.accepted": ("control.run_ended", "run_id"),
    "score.disputed": ("control.run_ended", "run_id"),
    "verdict": ("control.look_after", "campaign_id"),
    "campaign.active": ("control.look_after", "campaign_id"),
}


def connect() -> None:
    events.committed.connect(_ring, dispatch_uid="research.loop.follow")


def _ring(sender: object, event: Event, **_: object) -> None:
    if event.kind not in AFTER:
        return
    bell, row = AFTER[event.kind]
    pk = getattr(event, row)
    if bell == "workers":
        doorbell.workers(pk)
    else:
        doorbell.control(bell, pk)
