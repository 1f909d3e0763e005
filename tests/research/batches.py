"""Batches of messages: what is asked for, and what the wire's end answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from research.models import Campaign, Turn
from research.propose import drafting
from tests.research.answers import make_answer

from .anthropic_server import Script, Server, send

BATCH = {"id": "msgbatch_1", "type": "message_batch", "results_url": None}


def batch(server: Server | None, status: str) -> Script:
    url = f"{server.url}/v1/messages/batches/msgbatch_1/results" if server else None
    return send(json.dumps(BATCH | {"processing_status": status, "results_url": url}).encode())


def ended(server: Server, *rows: object) -> None:
    server.gets = {
        "/results": send("".join(json.dumps(row) + "\n" for row in rows).encode()),
        "/msgbatch_1": batch(server, "ended"),
    }


def succeeded(said: object, **over: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1_000, "output_tokens": 500}
    content = [{"type": "text", "text": json.dumps(said)}]
    body = {"id": "msg_1", "model": "claude-opus-5-5", "content": content, "stop_reason": "end_turn", "usage": usage}
    return {"custom_id": "wave", "result": {"type": "succeeded", "message": body | over}}


def later(campaign: Campaign) -> Campaign:
    """The campaign as another process reads it, when it is time to look again."""
    Turn.objects.update(retry_at=None)
    return Campaign.objects.get(pk=campaign.pk)


def asked(monkeypatch: pytest.MonkeyPatch, server: Server, campaign: Campaign) -> Campaign:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    assert drafting.top_up(campaign) == []
    return later(campaign)


OTHER = {"custom_id": "another", "result": {"type": "canceled"}}


def raw(row: object) -> bytes:
    """As a server may write it: letters as they are, separators included."""
    return json.dumps(row, ensure_ascii=False).encode()


def with_words(words: str) -> dict[str, Any]:
    """A paid answer whose hypothesis holds ``words``."""
    answer, row = make_answer(0.1), succeeded("")
    answer["drafts"][0]["hypothesis"] += words
    row["result"]["message"]["content"][0]["text"] = json.dumps(answer, ensure_ascii=False, indent="\t")
    return row
