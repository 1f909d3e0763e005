"""Sets the stage of a race and plays the control worker, in a process of its own with the database of the web process.

Reads one JSON object a line, ``{"verb": NAME, ...}``, and answers with one: ``{"answer": ...}`` or ``{"broke":
traceback}``. The verbs call the house's own code as its processes call it.
"""

from __future__ import annotations

import io
import json
import sys
import time
import traceback
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.contrib.auth.models import Permission, User  # noqa: E402  after django.setup()
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from research import lifecycle  # noqa: E402
from research.judge import judge  # noqa: E402
from research.lifecycle import LostRace  # noqa: E402
from research.loop import reconcile  # noqa: E402
from research.models import Campaign, Event, LedgerEntry, Proposal, Run, Score  # noqa: E402
from research.propose import drafting  # noqa: E402
from research.record import approval, audit, chain, events, kinds, moves  # noqa: E402
from research.record.rights import Part  # noqa: E402
from research.runs import dispatch, ending, workers  # noqa: E402
from research.statistics import Look  # noqa: E402
from tests import builders  # noqa: E402
from webapp.house import processes  # noqa: E402
from webapp.pages.accounts import links  # noqa: E402


def manage(words: list[str]) -> str:
    """``manage.py WORDS``; what it printed."""
    said = io.StringIO()
    call_command(*words, stdout=said)
    return said.getvalue()


def web_command() -> list[str]:
    return processes.web({}).command


def enrol_people(names: list[str]) -> dict[str, str]:
    """Reviewers who may also steer; name -> token of a login link."""
    tokens = {}
    for name in names:
        user = User.objects.create_user(name, f"{name}@lab.example", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["add_decision", "steer_campaign"]))
        tokens[name] = links.make_link(user)
    return tokens


def enrol_workers(names: list[str]) -> dict[str, str]:
    return {name: workers.enrol(name, by=Part("test")) for name in names}


def lock_sha256() -> str:
    return approval.lock_sha256()


def _rest() -> None:
    """Every campaign that is there."""
    for older in Campaign.objects.exclude(state="paused"):
        moves.move_campaign(older, "paused", by=Part("test"), reason="it has had its turn")


def make_pending(num_proposals: int = 1) -> dict[str, Any]:
    """A campaign of its own, with proposals that wait; every older campaign rests."""
    _rest()
    campaign = builders.make_campaign(
        slug=f"race-{Campaign.objects.count()}", min_pairs=1, num_waiting=num_proposals, hardware_class="cpu-x86_64"
    )
    waiting = [builders.make_pending(campaign, title=f"Idea {number}") for number in range(num_proposals)]
    digests = {proposal.pk: proposal.revision.digest for proposal in waiting}
    return {
        "campaign": campaign.pk,
        "slug": campaign.slug,
        "proposals": list(digests),
        "digests": list(digests.values()),
    }


def make_blocked() -> int:
    """A proposal that a gate blocks, in a campaign of its own; every older campaign rests."""
    _rest()
    campaign = builders.make_campaign(slug=f"race-{Campaign.objects.count()}", min_pairs=1, num_waiting=0)
    return builders.make_blocked(campaign).pk


def smoke_runs(proposal: int) -> int:
    return Run.objects.filter(revision__proposal=proposal, purpose="smoke").count()


def look_after(campaign: int, proposal: int, budget: float | None) -> None:
    """The control worker's minute: reconcile, and answer the doorbells of ``proposal``.

    With ``budget`` an operator has just changed what a run may cost, so that every signature is for something else.
    """
    if budget is not None:
        chosen = Campaign.objects.get(pk=campaign)
        chosen.run_budget_amount = budget
        chosen.save(update_fields=["run_budget_amount"])
    for _ in range(2):
        reconcile.reconcile()
        _answer_doorbell(Proposal.objects.select_related("campaign").get(pk=proposal))


def _answer_doorbell(proposal: Proposal) -> None:
    verb = {"changes_requested": drafting.revise, "stale": drafting.rebase}.get(proposal.state)
    try:
        if verb is not None:
            verb(proposal)
            builders.pass_gates(Proposal.objects.get(pk=proposal.pk), builders.make_worker(name="smoke"))
    except LostRace as race:
        print(race, file=sys.stderr)


def told(proposal: int) -> dict[str, Any]:
    """What the record says about ``proposal``."""
    row = Proposal.objects.get(pk=proposal)
    return {
        "state": row.state,
        "digest": row.revision.digest,
        "revisions": list(row.revisions.order_by("number").values_list("pk", "digest")),
        "decisions": [
            {"choice": d.choice, "digest": d.digest, "revision": d.revision_id, "by": d.by.get_username()}
            for revision in row.revisions.all()
            for d in revision.decisions.all()
        ],
    }


def findings() -> list[str]:
    audit.chain()
    return audit.verify().findings


def begin_anew() -> str:
    """Hold all that is there as it is, if nobody writes."""
    try:
        chain.begin("An operator looked at it", by=Part("operator:carol"))
    except chain.Busy as busy:
        return str(busy)
    return "begun"


def keep_writing(for_s: float) -> int:
    """The loop goes on: events are written and chained. Returns how many."""
    num, until = 0, time.monotonic() + for_s
    while time.monotonic() < until:
        with transaction.atomic():
            events.record(kinds.REPAIR_FAILED(), f"Number {num}", by=Part("test"))
        num += audit.chain()
    return num


def keep_verifying(for_s: float) -> list[str]:
    """What is found by whoever verifies again and again."""
    found, until = [], time.monotonic() + for_s
    while time.monotonic() < until:
        found += audit.verify().findings
    return found


def make_queued() -> dict[str, Any]:
    """A campaign whose only work is one run of its incumbent, in the queue."""
    _rest()
    campaign = builders.make_campaign(slug=f"race-{Campaign.objects.count()}", min_pairs=1, num_waiting=0)
    dispatch.advance(campaign)
    return {"campaign": campaign.pk, "slug": campaign.slug, "run": campaign.runs.get().pk}


def told_of_run(run: int) -> dict[str, Any]:
    row = Run.objects.select_related("campaign", "worker").get(pk=run)
    return {
        "state": row.state,
        "fence": row.fence,
        "worker": row.worker.name if row.worker else None,
        "stop_kind": row.stop_kind,
        "stop_reason": row.stop_reason,
        "batches": list(row.batches.order_by("seq").values_list("seq", flat=True)),
        "num_scores": Score.objects.filter(run=row).count(),
        "gpu_s": [entry.gpu_s for entry in LedgerEntry.objects.filter(run=row)],
        "campaign": row.campaign.state,
        "events": list(Event.objects.filter(run=row).order_by("pk").values_list("kind", flat=True)),
    }


def live_and_not_told_to_stop(campaign: int) -> list[int]:
    live = Run.objects.filter(campaign_id=campaign, state__in=lifecycle.RUN_LIVE, stop_kind="")
    return list(live.values_list("pk", flat=True))


def fall_silent(run: int) -> None:
    """Its worker has not been heard of for a minute; nobody has looked yet."""
    Run.objects.filter(pk=run).update(lease_until=timezone.now() - timedelta(seconds=1))


def expire_leases() -> None:
    ending.expire_leases()


def halt_slowly(campaign: int, for_s: float) -> None:
    """A halt whose transaction is still open for ``for_s`` after its last statement."""
    with transaction.atomic():
        ending.halt(
            Campaign.objects.get(pk=campaign), by=User.objects.get(username="carol"), reason="the data is wrong"
        )
        time.sleep(for_s)


def make_running() -> dict[str, Any]:
    """Two proposals that run against one incumbent, as two claims a moment apart can leave them."""
    there = make_pending(num_proposals=2)
    for proposal in Proposal.objects.filter(pk__in=there["proposals"]):
        carol = User.objects.get(username="carol")
        signed = kinds.Decided(digest=proposal.revision.digest, reason="", decision=0)
        moves.move_proposal(proposal, "approved", by=carol, sentence=f"P-{proposal.pk} is approved", payload=signed)
        moves.move_proposal(proposal, "running", by=Part("test"), sentence=f"P-{proposal.pk} is running")
    return there


def keep(proposal: int) -> str:
    """The judge finds ``proposal`` better. Returns the verdict's outcome, or why there is none yet."""
    look = Look(
        n=1, mean=-0.02, low=-0.03, high=-0.01, sd=0.002, e_value=99.0, chance_worth=0.99, decision="keep", reason=""
    )
    revision = Proposal.objects.get(pk=proposal).revision
    try:
        return judge.conclude(revision, outcome="keep", reason="Better.", look=look).outcome
    except LostRace as race:
        return f"lost: {race}"


def incumbents(campaign: int) -> list[int]:
    return list(Campaign.objects.get(pk=campaign).incumbents.order_by("number").values_list("number", flat=True))


VERBS = {
    verb.__name__: verb
    for verb in (
        manage, web_command, enrol_people, enrol_workers, lock_sha256, make_pending, make_blocked,
        smoke_runs, look_after, told, findings, begin_anew, keep_writing, keep_verifying,
        make_queued, told_of_run, live_and_not_told_to_stop, fall_silent, expire_leases, halt_slowly, make_running,
        keep, incumbents,
    )
}  # fmt: skip


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": VERBS[asked.pop("verb")](**asked)}
        except Exception:  # noqa: BLE001  told to the test, which fails with it
            answer = {"broke": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
