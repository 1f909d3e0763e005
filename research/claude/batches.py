"""Message Batches: the same question at half the price, answered within a day, for whom latency does not matter.

A batch outlives the process that asked: what is needed to find it again is ``Pending``, which the campaign keeps. An
answer that cannot be read, or never comes, is an Attempt with a problem, as for a question that is asked at once.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
from anthropic import RequestOptions
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from research.claude.attempt import Attempt, no_tokens, short
from research.claude.client import COUNT_S, MAX_TOKENS, Client, answered
from research.claude.message import read_message
from research.claude.pending import Pending
from research.claude.prompt import Prompt
from research.claude.wire import ElsewhereError

SHARE = Decimal("0.5")  # of the price of a question that is asked at once
NO_BATCH = "Claude's answer is not a batch of the API."
CUT = "The answers of the batch broke off in the middle; they are read again."
CUSTOM_ID = "wave"  # one question a batch


class _Batch(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")  # it becomes part of an address
    processing_status: str


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
            batch = _batch(client.body_of(response, started + COUNT_S))
        found = batch.id if batch else ""
        problem = "" if batch else NO_BATCH
        usd = Decimal(0) if batch else None
        return Attempt(usage=no_tokens(model, time.monotonic() - started, "batch_created", usd), problem=problem)

    attempt = client.told(ask, model, COUNT_S, wanted="a batch of the API")
    return found, attempt


def collect(client: Client, pending: Pending) -> Attempt:
    """What came of ``pending``. ``retry``: it is still worked on, or could not be looked at (why); look again later."""
    started, outcome = time.monotonic(), None

    def look() -> Attempt:
        nonlocal outcome
        attempt = _look(client, pending, started)
        outcome = None if attempt.retry else attempt
        return attempt

    looked = client.told(look, pending.model, 2 * COUNT_S)
    if outcome is not None:
        return outcome
    if looked.usage.stop_reason == "http_404":
        return _lost(pending, "Claude does not know the batch any more; it counts with the most that it can have cost.")
    if pending.is_overdue:
        return _lost(pending, looked.problem or "The batch did not end within a day; it is given up.")
    if looked.retry or looked.account:
        return replace(looked, retry=True)
    return _lost(pending, looked.problem)


def _look(client: Client, pending: Pending, started: float) -> Attempt:
    try:
        with client.sdk.messages.batches.with_streaming_response.retrieve(pending.id, timeout=COUNT_S) as response:
            batch = _batch(client.body_of(response, started + COUNT_S))
        if batch is None or batch.processing_status != "ended":
            return _nothing(pending, "batch_in_progress", "" if batch else NO_BATCH, retry=True)
        body = _results(client, pending, started + 2 * COUNT_S)
    except ElsewhereError as error:  # a page says nothing of the batch
        return _nothing(pending, "unreadable", f"{NO_BATCH} {error}", retry=True)
    return _outcome(body, pending, time.monotonic() - started)


def _results(client: Client, pending: Pending, deadline: float) -> bytes:
    """From the host that was asked: a batch's ``results_url`` could name any other, and our key would go there."""
    options: RequestOptions = {"timeout": COUNT_S, "headers": {"X-Stainless-Raw-Response": "stream"}}
    path = f"/v1/messages/batches/{pending.id}/results"
    with closing(client.sdk.get(path, cast_to=httpx2.Response, options=options)) as response:
        return client.body_of(response, deadline)


def lost(pending: Pending) -> Attempt:
    """A batch whose id nobody heard: it may be answered and billed, and cannot be found."""
    return _lost(pending, "A batch was asked for and its answer lost; it counts with the most that it can have cost.")


def _batch(body: bytes) -> _Batch | None:
    try:
        return _Batch.model_validate_json(body)
    except ValidationError:
        return None


def _outcome(body: bytes, pending: Pending, seconds: float) -> Attempt:
    """The one result, found by its custom id: the file may hold others, in any order, and lines that are broken.

    A line ends at a newline and nowhere else: in a text of JSON U+2028, U+2029 and U+0085 may stand as they are. Raw
    tabs may not; the answer that holds them was paid for.
    """
    unread = 0
    for line in filter(bytes.strip, body.split(b"\n")):
        try:
            row = json.loads(line.decode("utf-8", errors="replace"), strict=False)
            if row["custom_id"] == CUSTOM_ID:
                return _result(row["result"], pending, seconds)
        except (ValueError, KeyError, TypeError, RecursionError):
            unread += 1
    if not body.endswith(b"\n") and unread:
        return _nothing(pending, "batch_cut", CUT, retry=True)
    why = f" ({unread} of its lines are broken; it counts with the most that it can have cost)" if unread else ""
    return answered(_lost(pending, f"The batch ended without an answer that can be read{why}."), body)


def _result(result: Any, pending: Pending, seconds: float) -> Attempt:
    """Raises KeyError or TypeError for what is none."""
    if result["type"] != "succeeded":
        return _nothing(pending, short(f"batch_{result['type']}", 40), _why(result))
    message = json.dumps(result["message"]).encode()
    attempt = read_message(message, pending.model, seconds, share=SHARE)
    return answered(_bounded(attempt, pending), message)


def _why(result: dict[str, Any]) -> str:
    if result["type"] == "expired":
        return "The batch expired before Claude came to it; it is asked again."
    said = result.get("error")
    while isinstance(said, dict):  # an error response holds the error
        said = said.get("error", said.get("message"))
    return short(f"The batch was not answered ({result['type']}). {said if isinstance(said, str) else ''}")


def _nothing(pending: Pending, stop_reason: str, problem: str, *, retry: bool = False) -> Attempt:
    """Not billed: the model never ran."""
    return Attempt(usage=no_tokens(pending.model, 0.0, stop_reason, Decimal(0)), problem=problem, retry=retry)


def _bounded(attempt: Attempt, pending: Pending) -> Attempt:
    """An answer whose price cannot be known still counts with the most that it can have cost."""
    if attempt.usage.usd is not None:
        return attempt
    return replace(attempt, usage=replace(attempt.usage, usd_at_most=Decimal(pending.usd_at_most)))


def _lost(pending: Pending, problem: str) -> Attempt:
    usage = no_tokens(pending.model, 0.0, "batch_lost", None)
    return _bounded(Attempt(usage=usage, problem=problem), pending)
