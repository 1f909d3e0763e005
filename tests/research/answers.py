"""What Claude and the wire's end say, made up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from research.change.drafts import (
    Usage,
)


def make_answer(value: float) -> dict[str, Any]:
    return {
        "design": "One ramp, to see whether the first steps are too large.",
        "drafts": [
            {
                "title": "Warm up first",
                "hypothesis": "The first steps are too large.",
                "mechanism": "A ramp lets the moments settle.",
                "refuted_if": "val_bpb does not fall",
                "prediction": {"effect_bpb": -0.01, "low_bpb": -0.03, "high_bpb": 0.01, "chance_to_win": 0.4},
                "risk": "contained",
                "cost": {"time_factor": 1.0, "memory_factor": 1.0},
                "why_together": "",
                "what_changed": None,
                "overrides": [{"key": "warmup_fraction", "value": value, "reason": "a ramp"}],
                "edits": [],
                "precedents": [],
            }
        ],
    }


def use(usd: str | None, at_most: str | None = None) -> Usage:
    return Usage(
        model="claude-opus-5-5",
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        usd=usd and Decimal(usd),
        seconds=1.0,
        stop_reason="end_turn",
        usd_at_most=at_most and Decimal(at_most),
    )


OPUS_USD = Decimal("0.0450")  # 1,000 in + 500 out + 10,000 read + 1,000 written for 5 min + 3,000 for 1 h


def said(**over: Any) -> dict[str, Any]:
    return {
        "title": "Warmer matrices",
        "hypothesis": "h",
        "mechanism": "m",
        "refuted_if": "r",
        "prediction": {"effect_bpb": -0.01, "low_bpb": -0.03, "high_bpb": 0.01, "chance_to_win": 0.3},
        "risk": "may_diverge",
        "cost": {"time_factor": 1.0, "memory_factor": 1.0},
        "why_together": "",
        "what_changed": None,
        "overrides": [{"key": "matrix_lr", "value": 0.03, "reason": "faster"}],
        "edits": [],
        "precedents": [],
    } | over


SQUARE = said(
    title="Squared", overrides=[], edits=[{"path": "train.py", "search": "x.relu()", "replace": "x.relu().square()"}]
)
