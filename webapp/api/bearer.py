"""What both APIs share: bearer tokens, and refusals in one sentence."""

from __future__ import annotations

from django.core.cache import cache
from django.http import HttpRequest
from pydantic import ValidationError

from webapp.pages.accounts.turnstile import address_of

WRONG_TOKENS, WRONG_WITHIN_S = 60, 60


class Refused(Exception):
    """A refusal, answered as {"error": sentence, ...} with its code and headers."""

    def __init__(self, code: int, sentence: str, *, headers: dict[str, str] | None = None, **also: object) -> None:
        super().__init__(sentence)
        self.code, self.headers, self.also = code, headers or {}, also


def sentence_of(error: ValidationError) -> str:
    """The first five wrong fields, with what is wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in first[:5])


def bearer(request: HttpRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise Refused(401, "Authorization: Bearer TOKEN is missing")
    return token


def wrong_token(request: HttpRequest, sentence: str) -> Refused:
    """401 for a wrong token; 429 where one address sends many. A right token from there still passes.

    Tokens cannot be guessed (256 bits), so this only stops misdirected programs, and counts per process in memory
    suffice.
    """
    place = f"wrong-token:{address_of(request)}"
    cache.add(place, 0, WRONG_WITHIN_S)
    try:
        num = cache.incr(place)
    except ValueError:  # its time was over just now
        num = 1
    if num <= WRONG_TOKENS:
        return Refused(401, sentence)
    wait = {"Retry-After": str(WRONG_WITHIN_S)}
    return Refused(429, f"{WRONG_TOKENS} wrong tokens came from your address within a minute: {sentence}", headers=wait)
