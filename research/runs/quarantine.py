"""Quarantine: scores too good to be believed before a person has looked, and the proposals that wait for one."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from gpu_runner import contract
from research import statistics
from research.models import Proposal, Revision, Run, Score

LATEST, FEWEST = 30, 8  # scores that a new one is held against; under eight the spread is anybody's guess
LIMIT_SD = 5.0
# The robust spread of a history is 0 where most proposals changed nothing, and after quiet ones every real gain would
# lie beyond five of it. With a floor of 1 % nothing under a gain of 5 % waits: of the 23 parts of our recipe 21 are
# worth less than that (docs/trainer.md), and a change that is worth more deserves a person's look.
FLOOR_SHARE = 0.01


def too_good(run: Run, val_bpb: float) -> str:
    """Why ``val_bpb`` of a candidate is better than its campaign's history allows; empty when it is not."""
    latest = _comparable(run).order_by("-pk").values_list("val_bpb", flat=True)[:LATEST]
    history = [bpb for bpb in latest if bpb is not None]
    if len(history) < FEWEST:
        return ""
    centre, sd = statistics.robust_centre_sd(history)
    floor = FLOOR_SHARE * centre
    if centre - val_bpb <= LIMIT_SD * max(sd, floor):
        return ""
    spread = f"a robust standard deviation of {sd:.4f}" + (f", taken as {floor:.4f}" if sd < floor else "")
    return (
        f"{val_bpb:.4f} bits per byte is {(centre - val_bpb) / max(sd, floor):.1f} standard deviations better than the"
        f" last {len(history)} scores of this campaign (median {centre:.4f}, {spread}); beyond {LIMIT_SD:g} a person"
        " looks."
    )


def _comparable(run: Run) -> QuerySet[Score]:
    """Believed scores of the campaign with the same dataset, scorer, budget and hardware."""
    signed = contract.Approval.model_validate(run.approval)
    return Score.objects.filter(
        outcome="ok",
        run__campaign=run.campaign_id,
        run__purpose__in=("baseline", "candidate"),
        run__hardware_class=run.hardware_class,
        run__approval__dataset_sha256=signed.dataset_sha256,
        run__approval__scorer_version=signed.scorer_version,
        run__approval__budget__kind=signed.budget.kind,
        run__approval__budget__amount=signed.budget.amount,
    )


# --- who waits -----------------------------------------------------------------------------


def of_revision(reference: str) -> Exists:
    """A filter: the revision at ``reference`` has a candidate's score in quarantine."""
    scores = Score.objects.filter(outcome="quarantined", run__purpose="candidate", run__revision=OuterRef(reference))
    return Exists(scores)


def of_proposal(reference: str = "pk") -> Exists:
    """A filter: the proposal at ``reference`` has a candidate's score in quarantine."""
    scores = Score.objects.filter(outcome="quarantined", run__purpose="candidate")
    return Exists(scores.filter(run__revision__proposal=OuterRef(reference)))


def waiting(proposals: QuerySet[Proposal]) -> QuerySet[Proposal]:
    """Running proposals with a score in quarantine. They hold up no other."""
    return proposals.filter(of_proposal(), state="running")


def is_waiting(revision: Revision) -> bool:
    return Revision.objects.filter(Q(of_revision("pk")), pk=revision.pk).exists()
