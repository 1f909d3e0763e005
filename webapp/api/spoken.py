"""What both APIs have in common: bearer tokens, and refusals in one sentence."""

from __future__ import annotations

from django.http import HttpRequest
from pydantic import ValidationError


class Refused(Exception):
    """Answered as {"error": sentence, ...} with its code and headers."""

    def __init__(self, code: int, sentence: str, *, headers: dict[str, str] | None = None, **also: object) -> None:
        super().__init__(sentence)
        self.code, self.headers, self.also = code, headers or {}, also


def sentence_of(error: ValidationError) -> str:
    """The first five fields that are wrong, and how."""
    first = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in first[:5])


def bearer(request: HttpRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise Refused(401, "Authorization: Bearer TOKEN is missing")
    return token
