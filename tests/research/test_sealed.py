"""A keep on val is confirmed on the sealed text, which is read then only and never shown to the proposer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gpu_runner import contract
from research import lifecycle
from research.arms.claude import prompt
from research.judge import judge
from research.loop import reconcile, tasks
from research.models import Campaign, Event, Proposal, Run, Score, Verdict
from research.propose import briefing
from research.record import learn, moves, repository, withheld
from research.record.rights import COMMAND_LINE
from research.review import decisions, quarantined
from research.runs import dispatch, ending, report
from tests import builders
from tests.web.people import text_of
from webapp.api import tokens
from webapp.live import frames
from webapp.notify import outbox
from webapp.notify.models import KINDS

pytestmark = pytest.mark.django_db(transaction=True)
WOBBLE = 0.001


@pytest.fixture
def better(campaign: Campaign, bob: User) -> Proposal:
    """Kept on val by 0.08; its sealed pair is queued."""
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    while not Proposal.objects.filter(pk=proposal.pk, kept_on_val__isnull=False).exists():
        lease = claimed()
        assert lease.spec.splits == ("val",)
        builders.finish(lease, val_bpb=val_of(lease.spec))
    proposal.refresh_from_db()
    return proposal


def val_of(spec: contract.RunSpec) -> float:
    return 1.60 + WOBBLE * (spec.seed % 7) - (0.08 if spec.purpose == "candidate" else 0)


def pair_of(seed: int) -> int:
    return seed % contract.SEEDS_OF_AN_INCUMBENT


def claimed() -> contract.Lease:
    lease = builders.claim(builders.make_worker())
    assert lease is not None, "the worker has nothing to do and the story is not over"
    return lease


def play_sealed(sealed: Callable[[contract.RunSpec], float] | None = None, **candidate: Any) -> list[Run]:
    """Both runs of the sealed pair; ``candidate`` is what the candidate's score says besides."""
    played: list[Run] = []
    for _ in range(2):
        lease = claimed()
        assert (pair_of(lease.spec.seed), lease.spec.splits) == (dispatch.SEALED_PAIR, ("val", "sealed"))
        over = dict(candidate) if lease.spec.purpose == "candidate" else {}
        if sealed is not None:
            over = {"sealed_bpb": sealed(lease.spec)} | over
        played.append(builders.finish(lease, **({"val_bpb": val_of(lease.spec)} | over)))
    return played


def state_of(proposal: Proposal) -> str:
    return Proposal.objects.get(pk=proposal.pk).state


def verdict_of(proposal: Proposal) -> Verdict:
    return Proposal.objects.get(pk=proposal.pk).revision.verdict


def all_that_webhooks_tell(campaign: Campaign) -> list[tuple[str, Event]]:
    """Whatever an endpoint may ask for."""
    sent = {kind: name for name, kinds in KINDS.items() for kind in kinds}
    return [(sent[event.kind], event) for event in campaign.events.order_by("pk") if event.kind in sent]


def frames_of(campaign: Campaign) -> list[dict[str, Any] | None]:
    """Whatever the socket tells."""
    numbers = campaign.runs.values_list("pk", flat=True)
    return [*(frames.run_frame(number, 0) for number in numbers), frames.campaign_frame(campaign.pk, 0)]


# --- happy -----------------------------------------------------------------------------------------


def test_a_gain_that_carries_over_is_kept_with_both_effects(
    better: Proposal, campaign: Campaign, bobs_browser: Client
) -> None:
    assert (state_of(better), campaign.incumbent.number) == ("running", 0)
    waits = text_of(bobs_browser, f"/proposals/{better.pk}/")
    assert "Better on val; one more pair reads the sealed text" in waits
    play_sealed(lambda spec: 1.70 - (0.07 if spec.purpose == "candidate" else 0))
    verdict = verdict_of(better)
    assert (verdict.outcome, verdict.num_pairs) == ("keep", 3)
    assert verdict.effect_bpb == pytest.approx(-0.08)
    assert verdict.sealed_effect_bpb == pytest.approx(-0.07)
    assert (verdict.sealed["candidate_sealed_bpb"], verdict.sealed["incumbent_sealed_bpb"]) == (1.63, 1.70)
    assert [pair_of(pair["seed"]) for pair in verdict.pairs] == [1, 2, 3], (
        "the sealed pair is no part of the test on val"
    )
    assert campaign.incumbent.number == 1
    log = ["git", "-C", repository.path_of(campaign), "log", "-1", "--format=%B", campaign.incumbent.commit]
    message = subprocess.run(log, capture_output=True, text=True, check=True).stdout  # type: ignore[arg-type]
    assert "Sealed-effect-bpb: -0.070000" in message
    page = text_of(bobs_browser, f"/proposals/{better.pk}/")
    assert "sealed text −0.0700" in page
    assert "1.6300" in page
    assert "read at a promotion only" in page


def test_only_the_sealed_pair_reads_the_sealed_text(better: Proposal, bobs_browser: Client) -> None:
    assert {pair_of(run.seed) for run in Run.objects.filter(reads_sealed=True)} == {dispatch.SEALED_PAIR}
    assert Score.objects.filter(sealed_bpb__isnull=False).count() == 0
    runs = play_sealed(lambda spec: 1.7654)
    assert Score.objects.filter(sealed_bpb__isnull=False).count() == 2
    assert "1.7654" in text_of(bobs_browser, f"/runs/{runs[0].pk}/")


# --- refused ---------------------------------------------------------------------------------------


def test_a_gain_on_val_alone_is_inconclusive_and_says_so_with_the_numbers(better: Proposal, campaign: Campaign) -> None:
    play_sealed(lambda spec: 1.7654 + (0.0123 if spec.purpose == "candidate" else 0))
    verdict = verdict_of(better)
    assert verdict.outcome == "inconclusive"
    assert "does not carry over to the sealed text: +0.01230 bpb" in verdict.reason
    assert verdict.sealed_effect_bpb == pytest.approx(0.0123)
    assert verdict.effect_bpb == pytest.approx(-0.08)
    assert campaign.incumbent.number == 0


@pytest.mark.parametrize("gap", [0.0123, -0.0123, -0.2])
def test_the_proposer_reads_the_outcome_and_the_val_effect_and_no_sealed_number(
    better: Proposal, campaign: Campaign, client: Client, gap: float
) -> None:
    play_sealed(lambda spec: 1.7654 + (gap - 0.08 if spec.purpose == "candidate" else 0))
    verdict = verdict_of(better)
    (row,) = [precedent for precedent in learn.precedents(campaign) if precedent.number == better.pk]
    assert row.effect_bpb == pytest.approx(-0.08)
    assert row.outcome == verdict.outcome
    asked = str(prompt.propose(briefing.brief(campaign, 1)))
    assert "-0.08000 bpb over 3 pairs" in asked
    secret = f"{gap - 0.08:+.5f}"
    assert secret in verdict.reason, "people read it"
    scout = {"authorization": f"Bearer {tokens.make('scout', campaign=campaign, by=COMMAND_LINE)}"}
    answers = [
        client.get(f"/api/v1/{path}", headers=scout) for path in (f"proposals/{better.pk}", "campaigns/first/brief")
    ]
    assert answers[0].json()["verdict"]["reason"] == row.reason
    told_by_webhook = [json.dumps(outbox.body_of(kind, event)) for kind, event in all_that_webhooks_tell(campaign)]
    assert any(row.reason in json.loads(body)["data"].get("verdict", {}).get("reason", "") for body in told_by_webhook)
    for told in (secret, f"{gap:+.5f}", "1.7654", f"{1.7654 + gap - 0.08:.4f}"):
        assert not any(told in body for body in told_by_webhook), "other people's machines read no more than agents"
        assert not any(told in json.dumps(frame) for frame in frames_of(campaign))
        assert told not in row.reason
        assert told not in asked
        assert all(told not in answer.text for answer in answers), "an agent from outside reads no more than Claude"
    assert ("does not carry over" in row.reason) == (verdict.outcome == "inconclusive")


def test_a_disputed_sealed_score_disputes_the_proposal(better: Proposal) -> None:
    lease = claimed()
    assert lease.spec.purpose == "candidate"
    builders.finish(lease, val_bpb=1.52, outcome="disputed", reasons=["On the sealed text: it looks ahead."])
    verdict = verdict_of(better)
    assert (verdict.outcome, verdict.sealed_effect_bpb) == ("disputed", None)
    assert "On the sealed text: it looks ahead." in verdict.reason


SAID = "On the sealed text: 0.2917 bits per byte is below 0.3."


@pytest.mark.parametrize("ends", ["disputed", "failed", "settled"])
def test_what_a_scorer_or_bob_said_of_the_sealed_text_is_read_by_people_alone(
    better: Proposal, campaign: Campaign, bob: User, ends: str
) -> None:
    outcome = {"settled": "quarantined"}.get(ends, ends)
    numbers = {"val_bpb": None, "sealed_bpb": None} if ends == "failed" else {"sealed_bpb": 0.2917}
    candidate, _ = play_sealed(outcome=outcome, reasons=[SAID], **numbers)
    if ends == "settled":
        quarantined.resolve(candidate.pk, choice="dispute", reason="0.2917 cannot be.", by=bob)
        judge.consider(better)
    assert "0.2917" in verdict_of(better).reason
    told = [learn.precedents(campaign)[0].reason, str(prompt.propose(briefing.brief(campaign, 1)))]
    told += [json.dumps(outbox.body_of(kind, event)) for kind, event in all_that_webhooks_tell(campaign)]
    assert not any("0.2917" in one for one in told)
    assert withheld.FOR_PEOPLE in told[0]


def test_every_column_for_the_sealed_text_is_on_the_list_of_what_is_withheld() -> None:
    columns = {field.name for model in (Score, Verdict) for field in model._meta.get_fields()}
    assert {name for name in columns if "sealed" in name} <= withheld.NUMBERS
    inner = {"sealed": {"seed": 999, "candidate_sealed_bpb": 1.7}, "rows": [{"sealed_bpb": 1.7, "val_bpb": 1.6}]}
    assert withheld.stripped(inner) == {"rows": [{"val_bpb": 1.6}]}


def test_a_quarantined_sealed_score_waits_for_bob(better: Proposal, bob: User) -> None:
    lease = claimed()
    run = builders.finish(lease, val_bpb=1.52, outcome="quarantined", reasons=["On the sealed text: 0.1 is below 0.3."])
    builders.finish(claimed(), val_bpb=1.6)
    judge.consider(better)
    assert state_of(better) == "running"
    quarantined.resolve(run.pk, choice="accept", reason="Looked at.", by=bob)
    tasks.run_ended(run.pk)
    assert verdict_of(better).outcome == "keep"


def test_a_sealed_run_that_crashes_promotes_nobody(better: Proposal, campaign: Campaign) -> None:
    builders.fail(claimed())
    verdict = verdict_of(better)
    assert (verdict.outcome, verdict.crashed) == ("discard", True)
    assert campaign.incumbent.number == 0


def test_a_score_without_its_sealed_number_promotes_nobody(better: Proposal, campaign: Campaign) -> None:
    play_sealed(sealed_bpb=None)
    verdict = verdict_of(better)
    assert verdict.outcome == "inconclusive"
    assert "No sealed number came" in verdict.reason
    assert campaign.incumbent.number == 0


# --- it may be asked at any time, any number of times -----------------------------------------------------


def test_what_was_decided_on_val_is_not_looked_at_again(better: Proposal, monkeypatch: pytest.MonkeyPatch) -> None:
    final = better.kept_on_val
    monkeypatch.setattr(judge.statistics, "look", lambda *args, **kwargs: pytest.fail("val is decided"))
    for _ in range(3):
        judge.consider(better)
        dispatch.advance(better.campaign)
        reconcile.reconcile()
    seeds = better.revision.runs.filter(purpose="candidate").values_list("seed", flat=True)
    assert sorted(map(pair_of, seeds)) == [1, 2, 3, dispatch.SEALED_PAIR]
    assert Proposal.objects.get(pk=better.pk).kept_on_val == final
    assert Event.objects.filter(kind="proposal.better_on_val").count() == 1
    play_sealed()
    assert verdict_of(better).outcome == "keep"


def test_after_a_halt_the_sealed_pair_is_run_again(bob: User, better: Proposal, campaign: Campaign) -> None:
    lease = claimed()
    ending.halt(campaign, by=bob, reason="power is needed elsewhere")
    run = report.leased(lease.spec.run_id, lease.token)
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome="cancelled", device_s=2.0))
    tasks.run_ended(run.pk)
    assert state_of(better) == "running"
    campaign.refresh_from_db()
    moves.move_campaign(campaign, "active", by=bob, reason="power is back")
    dispatch.advance(campaign)
    play_sealed()
    assert verdict_of(better).outcome == "keep"


def test_a_crash_of_the_incumbent_in_its_sealed_run_is_made_good(
    bob: User, better: Proposal, campaign: Campaign
) -> None:
    builders.finish(claimed(), val_bpb=1.52)
    builders.fail(claimed())
    campaign.refresh_from_db()
    assert (campaign.state, state_of(better)) == ("paused", "running")
    moves.move_campaign(campaign, "active", by=bob, reason="memory was freed")
    dispatch.advance(campaign)
    builders.finish(claimed(), val_bpb=1.6)
    assert verdict_of(better).outcome == "keep"


def test_two_judges_at_once_ask_for_one_pair(campaign: Campaign, better: Proposal) -> None:
    late = Proposal.objects.get(pk=better.pk)
    late.kept_on_val = None
    with pytest.raises(lifecycle.LostRace):
        judge._look(late.revision)  # read before the other one wrote
    assert better.revision.runs.filter(purpose="candidate", reads_sealed=True).count() == 1
