"""Seals events with a key that is not in the database, so that an event written by SQL alone is recognised.

HMAC-SHA256 (RFC 2104) under a key of the home (``COUNTERSIGN_AUDIT_KEY``, or a file that is made once). Each event is
sealed as it is written, with a nonce of its own; the head of the chain is signed as it grows. Every seal
begins with a mark of the key, so that another key is not taken for a forgery.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cache

from django.conf import settings

MARK, NONCE = 8, 32  # hexadecimal digits


@cache
def _key(said: str) -> bytes:
    return hashlib.sha256(b"countersign audit " + said.encode()).digest()


@cache
def _mark(said: str) -> str:
    return hashlib.sha256(b"mark " + _key(said)).hexdigest()[:MARK]


def mark() -> str:
    """Identifies this home's key without revealing it."""
    return _mark(settings.AUDIT_KEY)


def of_event(content_sha256: str) -> str:
    """A fresh seal over the hash of an event's content."""
    nonce = secrets.token_hex(NONCE // 2)
    return mark() + nonce + _mac("event", nonce, content_sha256)


def fits(seal: str, content_sha256: str) -> bool:
    nonce, given = seal[MARK : MARK + NONCE], seal[MARK + NONCE :]
    return seal[:MARK] == mark() and hmac.compare_digest(given, _mac("event", nonce, content_sha256))


def of_head(num_events: int, sha256: str, begun: int) -> str:
    """The signature of a head: the chain's length, its last hash, and where the sealed part begins."""
    return mark() + _mac("head", str(num_events), sha256, str(begun))


def _mac(*words: str) -> str:
    return hmac.new(_key(settings.AUDIT_KEY), " ".join(words).encode(), hashlib.sha256).hexdigest()
