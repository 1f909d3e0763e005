"""Message Batches: the same request at half the price, answered within a day, where latency does not matter.

A batch outlives the process that asked; the Turn stores ``Pending``, with which it can be found again. An answer
that cannot be read, or never comes, is an Attempt with a problem, as for a request that is answered at once.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import httpx2
from anthropic import RequestOptions
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from research.arms.claude.attempt import Attempt, no_tokens, read_json, short
from research.arms.claude.client import COUNT_S, MAX_TOKENS, Client
from research.arms.claude.message import read_message
from research.arms.claude.pending import Pending
from research.arms.claude.prompt import Prompt
from research.arms.claude.wire import Came, ElsewhereError

SHARE = Decimal("0.5")  # of the price of a question that is asked at once
NO_BATCH = "Claude's answer is not a batch of the API."
CUT = "The answers of the batch broke off in the middle; they are read again."
NOT_BILLED = ("errored", "canceled", "expired")  # results of any unknown kind may be billed
CUSTOM_ID = "wave"  # one question a batch


class _Batch(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")  # it becomes part of an address
    processing_status: str


def create(client: Client, model: str, prompt: Prompt, schema: dict[str, Any]) -> tuple[str, Attempt]:
    """Submit the request. Returns the batch's id, or "" and why not; the batch may exist where the answer was lost."""
    started, found = time.monotonic(), ""

    def ask(came: Came) -> Attempt:
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
            batch = _batch(client.body_of(response, came, started + COUNT_S))
        found = batch.id if batch else ""
        problem = "" if batch else NO_BATCH
        usd = Decimal(0) if batch else None
        return Attempt(usage=no_tokens(model, time.monotonic() - started, "batch_created", usd), problem=problem)

    attempt = client.told(ask, model, COUNT_S, wanted="a batch of the API")
    return found, attempt


def collect(client: Client, pending: Pending) -> Attempt:
    """The outcome of ``pending``. ``retry``: it is still worked on, or could not be looked at (``problem``)."""
    started, is_over = time.monotonic(), False

    def look(came: Came) -> Attempt:
        nonlocal is_over
        attempt = _look(client, pending, came, started)
        is_over = not attempt.retry
        return attempt

    looked = client.told(look, pending.model, 2 * COUNT_S)
    if is_over:
        return looked
    if looked.usage.stop_reason == "http_404":
        gone = "Claude does not know the batch any more; it counts with the most that it can have cost."
        return _lost(pending, gone, looked)
    if pending.is_overdue:
        return _lost(pending, looked.problem or "The batch did not end within a day; it is given up.", looked)
    if looked.retry or looked.account:
        return replace(looked, retry=True)
    return _lost(pending, looked.problem, looked)


def _look(client: Client, pending: Pending, came: Came, started: float) -> Attempt:
    try:
        with client.sdk.messages.batches.with_streaming_response.retrieve(pending.id, timeout=COUNT_S) as response:
            batch = _batch(client.body_of(response, came, started + COUNT_S))
        if batch is None or batch.processing_status != "ended":
            return _nothing(pending, "batch_in_progress", "" if batch else NO_BATCH, retry=True)
        body = _results(client, pending, came, started + 2 * COUNT_S)
    except ElsewhereError as error:  # a page says nothing of the batch
        return _nothing(pending, "unreadable", f"{NO_BATCH} {error}", retry=True)
    return _outcome(body, pending, time.monotonic() - started)


def _results(client: Client, pending: Pending, came: Came, deadline: float) -> bytes:
    """The results, from the host that was asked: ``results_url`` could name another, which would get our key."""
    options: RequestOptions = {"timeout": COUNT_S, "headers": {"X-Stainless-Raw-Response": "stream"}}
    path = f"/v1/messages/batches/{pending.id}/results"
    with closing(client.sdk.get(path, cast_to=httpx2.Response, options=options)) as response:
        return client.body_of(response, came, deadline)


def lost(pending: Pending) -> Attempt:
    """The outcome of a batch whose id was lost: it may be answered and billed, but cannot be found."""
    return _lost(pending, "A batch was asked for and its answer lost; it counts with the most that it can have cost.")


def _batch(body: bytes) -> _Batch | None:
    try:
        return _Batch.model_validate(read_json(body))
    except ValidationError:
        return None


def _outcome(body: bytes, pending: Pending, seconds: float) -> Attempt:
    """The result with our custom id. The file may hold others, in any order, and broken lines.

    A line ends at a newline and nowhere else: JSON text may have U+2028, U+2029 and U+0085 as they are. Of
    two results with our id the answered one counts, since it was paid for.
    """
    lines = [line for line in body.split(b"\n") if line.strip()]
    read = [_read(line, pending, seconds) for line in lines]
    found = [attempt for attempt in read if isinstance(attempt, Attempt)]
    if found:
        return max(found, key=lambda attempt: attempt.usage.usd != 0)
    if not body.endswith(b"\n") and read[-1:] == ["broken"]:
        return _nothing(pending, "batch_cut", CUT, retry=True)
    unread = read.count("broken")
    why = f" ({unread} of its lines are broken; it counts with the most that it can have cost)" if unread else ""
    return _lost(pending, f"The batch ended without an answer that can be read{why}.")


def _read(line: bytes, pending: Pending, seconds: float) -> Attempt | Literal["broken", "another's"]:
    row: Any = read_json(line)
    try:
        return _result(row["result"], pending, seconds) if row["custom_id"] == CUSTOM_ID else "another's"
    except (KeyError, TypeError):
        return "broken"


def _result(result: Any, pending: Pending, seconds: float) -> Attempt:
    """The Attempt of a result. Raises KeyError or TypeError for a malformed one."""
    if result["type"] == "succeeded":
        message = json.dumps(result["message"]).encode()
        return _bounded(read_message(message, pending.model, seconds, share=SHARE), pending)
    ended = _nothing(pending, short(f"batch_{result['type']}", 40), _why(result))
    if result["type"] in NOT_BILLED:
        return ended
    return _bounded(replace(ended, usage=replace(ended.usage, usd=None)), pending)


def _why(result: dict[str, Any]) -> str:
    if result["type"] == "expired":
        return "The batch expired before Claude came to it; it is asked again."
    said = result.get("error")
    while isinstance(said, dict):  # an error response holds the error
        said = said.get("error", said.get("message"))
    return short(f"The batch was not answered ({result['type']}). {said if isinstance(said, str) else ''}")


def _nothing(pending: Pending, stop_reason: str, problem: str, *, retry: bool = False) -> Attempt:
    """An Attempt that is not billed: the model never ran, or nothing is known yet."""
    return Attempt(usage=no_tokens(pending.model, 0.0, stop_reason, Decimal(0)), problem=problem, retry=retry)


def _bounded(attempt: Attempt, pending: Pending) -> Attempt:
    """The attempt; where its price is unknown, with the most that it can have cost."""
    if attempt.usage.usd is not None:
        return attempt
    return replace(attempt, usage=replace(attempt.usage, usd_at_most=Decimal(pending.usd_at_most)))


def _lost(pending: Pending, problem: str, looked: Attempt | None = None) -> Attempt:
    """A lost batch's Attempt, with the body and request id that came last."""
    usage = no_tokens(pending.model, 0.0, "batch_lost", None)
    if looked is not None:
        usage = replace(usage, body=looked.usage.body, request_id=looked.usage.request_id)
    return _bounded(Attempt(usage=usage, problem=problem), pending)
