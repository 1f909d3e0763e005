"""What both APIs have in common: bearer tokens, and refusals in one sentence."""

from __future__ import annotations

from django.core.cache import cache
from django.http import HttpRequest
from pydantic import ValidationError

from webapp.pages.accounts.turnstile import address_of

WRONG_TOKENS, WRONG_WITHIN_S = 60, 60


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


def wrong_token(request: HttpRequest, sentence: str) -> Refused:
    """401, and 429 from an address that sends one wrong token after another; a right one is let in all the same.

    Tokens cannot be guessed (256 bits); this ends what goes astray. So counts are each process's own, in memory.
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
