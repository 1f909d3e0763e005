"""Disputed or quarantined scores of the incumbent: nothing runs beside them; Resume measures disputed ones again."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import QuerySet

from gpu_runner import contract
from research.models import Campaign, Revision, Run
from research.record import approval, events, kinds, rights
from research.record.rights import Actor

WAYS_OUT = {
    "quarantined": "is quarantined: accept or dispute it there, then resume.",
    "disputed": "is disputed, so nothing can be compared with it. Look at that run; Resume measures its seed again.",
}


def why_not(campaign: Campaign, revisions: Iterable[Revision] = ()) -> str:
    """Why nothing may run now; empty where all scores of the incumbent count.

    Looked at are its scores under the conditions of ``revisions`` and under today's.
    """
    incumbent = campaign.incumbent
    signed = (contract.Approval.model_validate(revision.approval).of_the_incumbent() for revision in revisions)
    digests = {one.digest() for one in (approval.of_incumbent(incumbent), *signed)}
    doubted = _standing(campaign).filter(incumbent=incumbent, digest__in=digests, score__outcome__in=WAYS_OUT)
    run = doubted.select_related("score").order_by("pk").first()
    return "" if run is None else in_words(run)


def in_words(run: Run) -> str:
    return f"the incumbent's own score in R-{run.pk} {WAYS_OUT[run.score.outcome]}"


def set_aside(campaign: Campaign, *, by: Actor) -> None:
    """Set the incumbent's runs with a disputed score aside, so that their seeds run again.

    Must run in the transaction that resumes.
    """
    rights.check(by, rights.steer, campaign)
    for run in _standing(campaign).filter(score__outcome="disputed"):
        Run.objects.filter(pk=run.pk).update(set_aside=True)
        sentence = f"R-{run.pk}, whose score is disputed, is set aside: its seed is measured again"
        fact, who = kinds.RUN_SET_ASIDE(), rights.name_of(by)
        events.record(fact, sentence, by=who, campaign=campaign, run=run, rows=[run])


def _standing(campaign: Campaign) -> QuerySet[Run]:
    return campaign.runs.filter(purpose="baseline", set_aside=False)
