"""Reads the stored reports of a run."""

from __future__ import annotations

import json
import zlib
from typing import Any

from research.models import ReportBatch


def read_batches(run_id: int, since_seq: int, limit: int) -> list[tuple[int, int, dict[str, Any]]]:
    """(seq, attempt, {points, log}) of up to ``limit`` batches after ``since_seq``, in order."""
    rows = ReportBatch.objects.filter(run_id=run_id, seq__gt=since_seq).order_by("seq")[:limit]
    return [(row.seq, row.attempt, json.loads(zlib.decompress(row.body))) for row in rows]
