"""A worker at the API, as Django's test client plays it."""

from __future__ import annotations

from typing import Any

from django.test import Client

from gpu_runner import contract
from research.record import approval

CLAIM = contract.Claim(hardware_class="cpu-x86_64", sandbox_level="bubblewrap", lock_sha256=approval.lock_sha256())


def post(client: Client, path: str, body: contract.Wire | str, token: str) -> Any:
    text = body if isinstance(body, str) else body.model_dump_json()
    return client.post(
        f"/api/worker/{path}", text, content_type="application/json", headers={"authorization": f"Bearer {token}"}
    )


def lease_one(client: Client, token: str) -> contract.Lease:
    answer = post(client, "claim", CLAIM, token)
    assert answer.status_code == 200, answer.content
    return contract.parse(contract.Lease, answer.content)
