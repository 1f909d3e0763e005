"""How the training of some runs went, as numbers for the next prompt: more than a score, and safer than a log.

Proposed code reported these. Numbers pass as numbers, under names that we know. Of a failed run's log the last
lines pass as text, cut short; the prompt labels them as hostile.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import floor, log10
from typing import Any

from django.db.models import QuerySet

from gpu_runner import contract
from research.arms.claude import memory
from research.change.drafts import Dynamics, LogTail
from research.change.visible import visible
from research.models import Campaign, Incumbent, ReportBatch, Revision, Run, Verdict
from research.runs.points import read_batches

AT = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the run's steps
METRICS = (
    "train_loss",
    "watch_bpb",
    "grad_norm",
    "logit_rms",
    "lr_scale",
    "tokens_per_s",
    "step_ms_p50",
    "step_ms_p95",
    "data_wait_percent",
    "mfu_percent",
    "peak_memory_mib",
)
BY_GROUP = "update_ratio/"  # one metric for each group of weights
MAX_GROUPS = 8
MAX_BATCHES = 600  # of one run, each up to half a second of it: 100 a share and more, and a run may have 100,000s
MAX_WATCHED = 100  # an honest run has ten
CHUNK = 20
DIGITS = 4
NUM_PRECEDENTS = 4
MAX_VERDICTS = 200  # on one incumbent
NUM_TAILS = 2
TAIL_LINES, TAIL_CHARS = 20, 1_500

Column = tuple[float | None, ...]


def of_campaign(campaign: Campaign, incumbent: Incumbent, about: Iterable[Revision] = ()) -> tuple[Dynamics, ...]:
    """The incumbent's newest scored run, then one run each of its ``NUM_PRECEDENTS`` most useful precedents.

    In this order: the best effect measured on this incumbent (where a gain may be left), the newest crash (where
    training breaks), the newest verdict (what was learned last), what shares most with ``about``, the open proposals or
    the one under revision, then the latest. Runs on other incumbents are another curve, and left out.
    """
    own = incumbent.runs.filter(purpose="baseline", state="finished", set_aside=False).order_by("-pk")[:1]
    named = [("incumbent", run) for run in own]
    named += [(f"proposal {number}, {why}", run) for number, why, run in _nearest(incumbent, list(about))]
    return tuple(of_run(f"{name}, seed {run.seed}", run, campaign.metric) for name, run in named)


def _nearest(incumbent: Incumbent, about: list[Revision]) -> list[tuple[int, str, Run]]:
    """(proposal, why it is shown, its run), no proposal twice."""
    ranked = _ranked(incumbent, about)
    runs: dict[int | None, Run] = {}
    tried = Run.objects.filter(purpose="candidate", state__in=("finished", "failed", "timed_out"))
    tried = tried.filter(revision__in=[verdict.revision_id for verdict, _ in ranked])
    for run in sorted(tried, key=lambda run: (run.state == "finished", run.seed)):  # a crash tells more
        runs.setdefault(run.revision_id, run)
    found: dict[int, tuple[int, str, Run]] = {}
    for verdict, why in ranked:
        if verdict.revision_id in runs:
            found.setdefault(verdict.revision_id, (verdict.revision.proposal_id, why, runs[verdict.revision_id]))
    return list(found.values())[:NUM_PRECEDENTS]


def _ranked(incumbent: Incumbent, about: list[Revision]) -> list[tuple[Verdict, str]]:
    """Verdicts on ``incumbent`` with why each is shown, the most useful first; one may have several reasons."""
    rows = Verdict.objects.filter(revision__incumbent=incumbent).select_related("revision").order_by("-pk")
    newest = list(rows[:MAX_VERDICTS])
    mine = [memory.topics(r.knobs, r.patch) for r in about]
    shares = {v.pk: memory.nearness(memory.topics(v.revision.knobs, v.revision.patch), mine) for v in newest}
    best = rows.filter(effect_bpb__isnull=False).order_by("effect_bpb", "pk")[:1]
    crashed = rows.filter(crashed=True)[:1]
    near = sorted((v for v in newest if shares[v.pk] > 0), key=lambda v: -shares[v.pk])
    return [
        *((v, "best effect here") for v in best),
        *((v, "newest crash") for v in crashed),
        *((v, "newest verdict") for v in newest[:1]),
        *((v, "near to what is open") for v in near),
        *((v, "one of the latest") for v in newest),
    ]


def of_run(name: str, run: Run, metric: str = contract.OURS) -> Dynamics:
    """What ``run``'s last attempt reported, at ``AT`` of its steps."""
    told = run.batches.filter(attempt=run.attempt, num_points__gt=0)
    last = told.order_by("-seq").first()
    if last is None:
        return Dynamics(name=name, at=(), tokens=(), metrics={})
    ends = [max(1, round(share * _points(last)["step"][-1])) for share in AT]
    curve = _Curve(ends, metric)
    for batch in _sampled(told, last.seq):
        curve.hear(_points(batch))
    return Dynamics(name=name, at=AT, tokens=_short(curve.tokens), metrics=curve.metrics())


def _points(batch: ReportBatch) -> dict[str, Any]:
    points: dict[str, Any] = json.loads(zlib.decompress(batch.body))["points"]
    return points


def _sampled(told: QuerySet[ReportBatch], last: int) -> Iterator[ReportBatch]:
    """All batches of a short run; of a long one some, evenly over its length, and those with a watch measurement.

    In order and one at a time, since a batch may hold thousands of points.
    """
    first = told.order_by("seq").values_list("seq", flat=True)[0]
    chosen = _evenly(range(first, last + 1), MAX_BATCHES)
    watched = _evenly(list(told.filter(watched=True).order_by("seq").values_list("seq", flat=True)), MAX_WATCHED)
    return told.filter(seq__in={*chosen, *watched}).order_by("seq").iterator(CHUNK)


def _evenly(seqs: Sequence[int], at_most: int) -> list[int]:
    """Some of the items, evenly spaced. Always the last, which says how the run ended."""
    if len(seqs) <= at_most:
        return list(seqs)
    return [seqs[round((n + 1) * len(seqs) / at_most) - 1] for n in range(at_most)]


class _Curve:
    """For each step in ``ends`` the last measurement up to it; None where there was none since the one before."""

    def __init__(self, ends: list[int], metric: str) -> None:
        """``metric`` is what the campaign's runs are compared by: a foreign trainer's own, or val_bpb."""
        self.ends = ends
        self.known = tuple(dict.fromkeys((*METRICS, metric)))
        self.tokens: list[float | None] = [None] * len(ends)
        self.columns: dict[str, list[float | None]] = {}

    def hear(self, points: Mapping[str, Any]) -> None:
        """Take the next batch. Proposed code chose the names of metrics, so few are kept."""
        kept = self._kept(points["metrics"])
        known = {name: column for name, column in points["metrics"].items() if name in kept}
        for row, step in enumerate(points["step"]):
            end = bisect_left(self.ends, step)
            if end == len(self.ends):
                return
            self.tokens[end] = points["tokens"][row]
            for name, column in known.items():
                if column[row] is not None:
                    self.columns.setdefault(name, [None] * len(self.ends))[end] = column[row]

    def _kept(self, names: Iterable[str]) -> set[str]:
        """The metrics that we know, and of groups of weights the first ``MAX_GROUPS`` by name."""
        groups = sorted(name for name in {*self.columns, *names} if name.startswith(BY_GROUP))
        for late in groups[MAX_GROUPS:]:
            self.columns.pop(late, None)
        return {*self.known, *groups[:MAX_GROUPS]}

    def metrics(self) -> dict[str, Column]:
        order = [*self.known, *sorted(name for name in self.columns if name.startswith(BY_GROUP))]
        return {name: _short(self.columns[name]) for name in order if name in self.columns}


def _short(column: list[float | None]) -> Column:
    return tuple(None if value is None else rounded(value) for value in column)


def rounded(value: float) -> float:
    """To ``DIGITS`` significant digits; more would be noise and cost tokens."""
    return value if value == 0 else round(value, DIGITS - 1 - floor(log10(abs(value))))


def log_tails(campaign: Campaign) -> tuple[LogTail, ...]:
    """The last log lines of the newest ``NUM_TAILS`` failed runs of proposals."""
    failed = Run.objects.filter(campaign=campaign, state__in=("failed", "timed_out"), revision__isnull=False)
    runs = failed.select_related("revision").order_by("-pk")[:NUM_TAILS]
    return tuple(_tail(run) for run in runs)


def _tail(run: Run) -> LogTail:
    assert run.revision is not None
    since = max(0, run.last_seq - TAIL_LINES)
    lines = [line["text"] for _, _, body in read_batches(run.pk, since, TAIL_LINES) for line in body["log"]]
    text = visible("\n".join(lines[-TAIL_LINES:]))[-TAIL_CHARS:]
    return LogTail(proposal=run.revision.proposal_id, purpose=run.purpose, text=text)
