"""Signs webhooks by Standard Webhooks 1.0.0: ids, secrets, HMAC-SHA256 signatures over ``{id}.{timestamp}.{body}``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def new_id() -> str:
    """The id of a message: the same in all its attempts, so that a receiver can drop a repetition."""
    return f"msg_{secrets.token_hex(16)}"


def headers(webhook_id: str, *, at: int, body: str, keys: Iterable[str]) -> dict[str, str]:
    """The three headers of one attempt at Unix second ``at``; while a secret is rotated there are two ``keys``."""
    signatures = (signature(key, webhook_id, at=at, body=body) for key in keys)
    return {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


def signature(secret: str, webhook_id: str, *, at: int, body: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    mac = hmac.new(key, f"{webhook_id}.{at}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"
