"""The frames of sockets and of ``points.json``: everything after ``since``, read from the database.

A frame is bounded (``MAX_BATCHES``, ``MAX_POINTS``) and never mixes two attempts of a run; when there
is more, it says so and the reader asks again with ``since`` = the frame's ``seq``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from research.lifecycle import RUN_OVER
from research.models import Campaign, Event, ReportBatch, Run
from research.runs.points import read_batches

MAX_BATCHES = 40
MAX_POINTS = 5_000
MAX_EVENTS = 200
Batch = tuple[int, int, dict[str, Any]]  # seq, attempt, {"points": ..., "log": [...]}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One encoded frame, which can be sent to any number of readers."""

    seq: int
    text: str  # JSON
    fresh: bool  # holds something after ``since``
    standing: str  # JSON of what may change without a new seq: state, progress, newest values
    more: bool
    over: bool  # nothing will ever follow


def run_frame(run_id: int, since: int) -> dict[str, Any] | None:
    """The frame of docs/architecture.md "The socket"; None when there is no such run.

    ``points`` are columns of one length (None when there are none), ``seq`` is the last batch within.
    """
    fields = ("state", "attempt", "last_seq", "progress", "latest", "stop_reason")
    # The row before the batches: a run that the row calls over has all its batches stored already. A batch that is
    # committed in between comes with the state before it; its nudge brings the frame that corrects that.
    row = Run.objects.filter(pk=run_id).values(*fields).first()
    if row is None:
        return None
    batches = _one_attempt(read_batches(run_id, since, _num_batches(run_id, since)))
    seq = batches[-1][0] if batches else since
    more = bool(batches) and seq < row["last_seq"]
    return {
        "run": run_id,
        "seq": seq,
        "attempt": batches[-1][1] if batches else row["attempt"],
        "state": row["state"],
        "stop_reason": row["stop_reason"],
        "over": row["state"] in RUN_OVER,
        "more": more,
        "points": merged(body["points"] for _, _, body in batches),
        "log": [line for _, _, body in batches for line in body["log"]],
        "progress": row["progress"],
        "latest": row["latest"],
    }


def campaign_frame(campaign_id: int, since: int) -> dict[str, Any] | None:
    """Kinds of the events after event ``since``, with their proposals and runs; None when there is no such campaign."""
    slug = Campaign.objects.filter(pk=campaign_id).values_list("slug", flat=True).first()
    if slug is None:
        return None
    after = Event.objects.filter(campaign_id=campaign_id, pk__gt=since).order_by("pk")
    events = list(after.values("pk", "kind", "proposal_id", "run_id")[:MAX_EVENTS])
    return {
        "campaign": slug,
        "seq": events[-1]["pk"] if events else since,
        "changed": sorted({event["kind"] for event in events}),
        "proposals": sorted({event["proposal_id"] for event in events} - {None}),
        "runs": sorted({event["run_id"] for event in events} - {None}),
        "more": len(events) == MAX_EVENTS,
    }


def newest_event(campaign_id: int) -> int:
    """Id of the campaign's newest event, 0 without any: the ``since`` of a page that was just rendered."""
    newest = Event.objects.filter(campaign_id=campaign_id).order_by("-pk").values_list("pk", flat=True).first()
    return newest or 0


def packed(frame: dict[str, Any], since: int) -> Frame:
    """``frame`` as JSON, with what the sender has to know about it."""
    standing = {key: frame.get(key) for key in ("state", "attempt", "stop_reason", "progress", "latest")}
    return Frame(
        seq=frame["seq"],
        text=as_json(frame),
        fresh=frame["seq"] > since,
        standing=as_json(standing),
        more=frame["more"],
        over=frame.get("over", False) and not frame["more"],
    )


def as_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def merged(columns: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Points of several batches as one. A metric that a batch does not have is None at its steps."""
    parts = [part for part in columns if part is not None]
    if not parts:
        return None
    names = dict.fromkeys(name for part in parts for name in part["metrics"])
    return {
        **{key: [value for part in parts for value in part[key]] for key in ("step", "tokens", "elapsed_s")},
        "metrics": {name: [value for part in parts for value in _column(part, name)] for name in names},
    }


def _column(part: dict[str, Any], name: str) -> Sequence[float | None]:
    column: Sequence[float | None] | None = part["metrics"].get(name)
    return [None] * len(part["step"]) if column is None else column


def _num_batches(run_id: int, since: int) -> int:
    """How many batches fit into one frame; at least one, so that every frame makes progress."""
    sizes = (
        ReportBatch.objects.filter(run_id=run_id, seq__gt=since).order_by("seq").values_list("num_points", flat=True)
    )
    num_points = num_batches = 0
    for size in sizes[:MAX_BATCHES]:
        num_points += size
        if num_batches and num_points > MAX_POINTS:
            break
        num_batches += 1
    return max(num_batches, 1)


def _one_attempt(batches: list[Batch]) -> list[Batch]:
    """The leading batches of one attempt; the next attempt's curve begins in a frame of its own."""
    return [batch for batch in batches if batch[1] == batches[0][1]]
