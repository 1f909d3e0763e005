"""How training went, as numbers for the next prompt: richer than a score, and harder to write orders into than a log.

What a run reported was written by proposed code. Numbers pass as numbers, under names that we know; of a failed
run's log the last lines pass as text, cut short and labelled by whoever quotes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import floor, log10
from typing import Any

from research.claude import memory
from research.drafts import Dynamics, LogTail
from research.models import Campaign, Incumbent, Revision, Run, Verdict
from research.points import read_batches
from research.visible import visible

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
MAX_BATCHES = 2_000
DIGITS = 4
NUM_PRECEDENTS = 4
MAX_VERDICTS = 200  # on one incumbent
NUM_TAILS = 2
TAIL_LINES, TAIL_CHARS = 20, 1_500

Column = tuple[float | None, ...]


def of_campaign(campaign: Campaign, incumbent: Incumbent, about: Iterable[Revision] = ()) -> tuple[Dynamics, ...]:
    """The incumbent's newest scored run, then one run each of its ``NUM_PRECEDENTS`` nearest precedents.

    Nearest to what is to be written next, which nobody knows yet. So: the best effect measured on this incumbent (where
    a gain may be left), the newest crash (where training breaks), the newest verdict (what was learned last), then what
    shares most with ``about``, the open proposals or the one under revision. Runs on other incumbents are another
    curve, and left out.
    """
    own = incumbent.runs.filter(purpose="baseline", state="finished").order_by("-pk")[:1]
    named = [("incumbent", run) for run in own]
    named += [(f"proposal {number}, {why}", run) for number, why, run in _nearest(incumbent, list(about))]
    return tuple(of_run(f"{name}, seed {run.seed}", run) for name, run in named)


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
    """Verdicts on ``incumbent`` with why each is worth a look, the most so first; one may stand for several reasons."""
    rows = Verdict.objects.filter(revision__incumbent=incumbent).select_related("revision").order_by("-pk")
    newest = list(rows[:MAX_VERDICTS])
    mine = [memory.topics(r.knobs, r.patch) for r in about]
    shares = {v.pk: memory.nearness(memory.topics(v.revision.knobs, v.revision.patch), mine) for v in newest}
    measured = [v for v in newest if v.effect_bpb is not None]
    best = sorted(measured, key=lambda v: v.effect_bpb or 0.0)[:1]
    crashed = [v for v in newest if v.crashed][:1]
    near = sorted((v for v in newest if shares[v.pk] > 0), key=lambda v: -shares[v.pk])
    return [
        *((v, "best effect here") for v in best),
        *((v, "newest crash") for v in crashed),
        *((v, "newest verdict") for v in newest[:1]),
        *((v, "near to what is open") for v in near),
        *((v, "one of the latest") for v in newest),
    ]


def of_run(name: str, run: Run) -> Dynamics:
    """What ``run``'s last attempt reported, at ``AT`` of its steps."""
    batches = [body["points"] for _, attempt, body in read_batches(run.pk, 0, MAX_BATCHES) if attempt == run.attempt]
    points = [part for part in batches if part]
    steps = [step for part in points for step in part["step"]]
    if not steps:
        return Dynamics(name=name, at=(), tokens=(), metrics={})
    ends = [max(1, round(share * steps[-1])) for share in AT]
    tokens = _newest(steps, [count for part in points for count in part["tokens"]], ends)
    known = _names(points)
    metrics = {name: _newest(steps, _column(points, name), ends) for name in known}
    return Dynamics(name=name, at=AT, tokens=tokens, metrics=metrics)


def _names(points: Iterable[Mapping[str, Any]]) -> list[str]:
    seen = dict.fromkeys(name for part in points for name in part["metrics"])
    groups = sorted(name for name in seen if name.startswith(BY_GROUP))
    return [name for name in METRICS if name in seen] + groups[:MAX_GROUPS]


def _column(points: Iterable[Mapping[str, Any]], name: str) -> list[float | None]:
    return [value for part in points for value in part["metrics"].get(name) or [None] * len(part["step"])]


def _newest(steps: list[int], column: list[float | None], ends: list[int]) -> Column:
    """The last measurement at or before each of ``ends``; None where there was none since the one before."""
    newest, first = [], 0
    for end in ends:
        value = None
        while first < len(steps) and steps[first] <= end:
            value = column[first] if column[first] is not None else value
            first += 1
        newest.append(None if value is None else rounded(value))
    return tuple(newest)


def rounded(value: float) -> float:
    """To ``DIGITS`` significant digits: the rest is noise and costs tokens."""
    return value if value == 0 else round(value, DIGITS - 1 - floor(log10(abs(value))))


def log_tails(campaign: Campaign) -> tuple[LogTail, ...]:
    """The last lines of the latest proposals' failed runs."""
    failed = Run.objects.filter(campaign=campaign, state__in=("failed", "timed_out"), revision__isnull=False)
    runs = failed.select_related("revision").order_by("-pk")[:NUM_TAILS]
    return tuple(_tail(run) for run in runs)


def _tail(run: Run) -> LogTail:
    assert run.revision is not None
    since = max(0, run.last_seq - TAIL_LINES)
    lines = [line["text"] for _, _, body in read_batches(run.pk, since, TAIL_LINES) for line in body["log"]]
    text = visible("\n".join(lines[-TAIL_LINES:]))[-TAIL_CHARS:]
    return LogTail(proposal=run.revision.proposal_id, purpose=run.purpose, text=text)
