"""Message Batches: the same question at half the price, answered within a day, for whom latency does not matter.

A batch outlives the process that asked: what is needed to find it again is ``Pending``, which the campaign keeps. An
answer that cannot be read, or never comes, is an Attempt with a problem, as for a question that is asked at once.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from research.claude.client import COUNT_S, MAX_TOKENS, Attempt, Client, body_of, no_tokens, read_message, told
from research.claude.prompt import Prompt
from research.drafts import Origin

SHARE = Decimal("0.5")  # of the price of a question that is asked at once
GIVEN_UP_AFTER = timedelta(hours=26)  # a batch ends within 24 hours
CUSTOM_ID = "wave"  # one question a batch


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A batch on its way. ``id`` is empty between asking for it and hearing of it."""

    id: str
    model: str
    prompt_sha256: str
    num_wanted: int
    usd_at_most: str  # JSON knows no Decimal
    at: str
    templates_sha256: str = ""  # a batch that was on its way before this was kept has none

    @property
    def origin(self) -> Origin:
        return Origin(model=self.model, prompt_sha256=self.prompt_sha256, templates_sha256=self.templates_sha256)

    @property
    def is_overdue(self) -> bool:
        return datetime.now(UTC) - datetime.fromisoformat(self.at) > GIVEN_UP_AFTER


class _Batch(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    processing_status: Literal["in_progress", "canceling", "ended"]


def create(client: Client, model: str, prompt: Prompt, schema: dict[str, Any]) -> tuple[str, Attempt]:
    """Hand the question in. Returns the batch's id, or "" and why not; it may exist where the answer was lost."""
    started, found = time.monotonic(), ""

    def ask() -> Attempt:
        nonlocal found
        params: Any = {
            "model": model,
            "max_tokens": MAX_TOKENS,
            "system": prompt.system,
            "messages": prompt.messages,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        }
        with client.sdk.messages.batches.with_streaming_response.create(
            requests=[{"custom_id": CUSTOM_ID, "params": params}], timeout=COUNT_S
        ) as response:
            batch = _batch(body_of(response.iter_bytes(), started + COUNT_S))
        found = batch.id if batch else ""
        problem = "" if batch else "Claude's answer is not a batch of the API."
        usd = Decimal(0) if batch else None
        return Attempt(usage=no_tokens(model, time.monotonic() - started, "batch_created", usd), problem=problem)

    attempt = told(ask, model, COUNT_S)
    return found, attempt


def collect(client: Client, pending: Pending) -> Attempt | None:
    """What came of ``pending``; None while it is still worked on. A passing trouble is ``retry``: look again later."""
    started = time.monotonic()

    def look() -> Attempt:
        batches = client.sdk.messages.batches.with_streaming_response
        with batches.retrieve(pending.id, timeout=COUNT_S) as response:
            batch = _batch(body_of(response.iter_bytes(), started + COUNT_S))
        if batch is None or batch.processing_status != "ended":
            return _nothing(pending, "batch_in_progress", "")
        with batches.results(pending.id, timeout=COUNT_S) as response:
            body = body_of(response.iter_bytes(), started + 2 * COUNT_S)
        return _outcome(body, pending, time.monotonic() - started)

    attempt = told(look, pending.model, COUNT_S)
    if attempt.usage.stop_reason == "batch_in_progress":
        return _lost(pending, "The batch did not end within a day; it is given up.") if pending.is_overdue else None
    if attempt.retry and pending.is_overdue:
        return _lost(pending, attempt.problem)
    return attempt


def lost(pending: Pending) -> Attempt:
    """A batch whose id nobody heard: it may be answered and billed, and cannot be found."""
    return _lost(pending, "A batch was asked for and its answer lost; it counts with the most that it can have cost.")


def _batch(body: bytes) -> _Batch | None:
    try:
        return _Batch.model_validate_json(body)
    except ValidationError:
        return None


def _outcome(body: bytes, pending: Pending, seconds: float) -> Attempt:
    """The one result, found by its custom id: the file may hold others, in any order."""
    for line in body.decode("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if row["custom_id"] != CUSTOM_ID:
                continue
            result = row["result"]
            if result["type"] == "succeeded":
                message = json.dumps(result["message"]).encode()
                return read_message(message, pending.model, seconds, share=SHARE)
            return _nothing(pending, f"batch_{result['type']}", _why(result))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return _lost(pending, "The batch ended without an answer that can be read.")


def _why(result: dict[str, Any]) -> str:
    if result["type"] == "expired":
        return "The batch expired before Claude came to it; it is asked again."
    error = result.get("error")
    said = error.get("error", error).get("message", "") if isinstance(error, dict) else ""
    return " ".join(f"The batch was not answered ({result['type']}). {said}".split())[:300]


def _nothing(pending: Pending, stop_reason: str, problem: str) -> Attempt:
    """Not billed: the model never ran."""
    return Attempt(usage=no_tokens(pending.model, 0.0, stop_reason, Decimal(0)), problem=problem)


def _lost(pending: Pending, problem: str) -> Attempt:
    usage = replace(no_tokens(pending.model, 0.0, "batch_lost", None), usd_at_most=Decimal(pending.usd_at_most))
    return Attempt(usage=usage, problem=problem)
