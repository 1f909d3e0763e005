"""The loop in one table: which event rings which doorbell. A verb writes its row and its Event, and knows no next step.

Once an event is committed its doorbell is rung: the GPU workers', or the control worker's, which answers in
``tasks``. ``reconcile`` does what a lost doorbell left undone.
"""

from __future__ import annotations

from research.models import Event
from research.record import doorbell, events, kinds

# kind of event -> (who is rung, about which row of the event)
AFTER: dict[str, tuple[str, str]] = {
    kinds.PROPOSAL["drafted"]: ("control.check", "proposal_id"),
    kinds.PROPOSAL["approved"]: ("control.advance", "campaign_id"),
    kinds.PROPOSAL["changes_requested"]: ("control.revise", "proposal_id"),
    kinds.PROPOSAL["stale"]: ("control.rebase", "proposal_id"),
    kinds.PROPOSAL["rejected"]: ("control.propose", "campaign_id"),
    kinds.PROPOSAL["withdrawn"]: ("control.look_after", "campaign_id"),
    kinds.PROPOSAL["blocked"]: ("control.propose", "campaign_id"),
    kinds.RUN["queued"]: ("workers", "run_id"),
    kinds.RUN["finished"]: ("control.run_ended", "run_id"),
    kinds.RUN["failed"]: ("control.run_ended", "run_id"),
    kinds.RUN["timed_out"]: ("control.run_ended", "run_id"),
    kinds.RUN["cancelled"]: ("control.run_ended", "run_id"),
    kinds.SCORE["ok"]: ("control.run_ended", "run_id"),
    kinds.SCORE["disputed"]: ("control.run_ended", "run_id"),
    kinds.VERDICT: ("control.look_after", "campaign_id"),
    kinds.CAMPAIGN["active"]: ("control.look_after", "campaign_id"),
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
