"""Error pages: what a person sees when something is refused, missing or broken. htmx gets the card alone."""

from __future__ import annotations

import logging
import secrets

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone

from research.record.rights import is_member
from webapp.pages.access import is_fragment, mark_part, typed

log = logging.getLogger(__name__)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, "forbidden", 403, {"reason": str(exception)})


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, "not_found", 404, {})


def lost_race(request: HttpRequest, sentence: str, back: str) -> HttpResponse:
    """409: somebody was first, and nothing of the request was done."""
    return _page(request, "lost_race", 409, {"sentence": sentence, "back": back})


def csrf_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a failed CSRF check. Django has logged ``reason``, its own sentence for developers."""
    sentence = "The form was too old or came from another site. Nothing was saved: reload the page and send it again."
    kept = {} if is_fragment(request) else {"typed": ""}  # another site's words are no part of our page
    return _page(request, "forbidden", 403, {"reason": sentence, **kept})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: may come before there is a session. Django has logged ``exception``."""
    return HttpResponse(_outside(request, "bad_request", 400, {}), status=400)


def broken(request: HttpRequest) -> HttpResponse:
    """500: rendered without database and session, either of which may have failed. The log has the same number."""
    number = secrets.token_hex(4)
    log.error("error %s on %s", number, request.path)
    page = _outside(request, "broken", 500, {"error": number, "at": timezone.now()})
    return HttpResponse(page, status=500, headers={"Error-Number": number})


def _outside(request: HttpRequest, name: str, status: int, context: dict[str, object]) -> str:
    if is_fragment(request):
        return render_to_string(f"errors/_{name}.html", context)
    return render_to_string("errors/outside.html", context | {"card": f"errors/_{name}.html", "number": status})


def _page(request: HttpRequest, name: str, status: int, about: dict[str, object]) -> HttpResponse:
    """The error page, with what the person had typed, so that it is not lost."""
    context = {"typed": typed(request), **about}
    if is_fragment(request):
        part = render(request, f"errors/_{name}.html", context, status=status)
        mark_part(request, part)
        return part
    frame = "base.html" if is_member(request.user) else "bare.html"
    card = {"card": f"errors/_{name}.html", "frame": frame, "number": status}
    return render(request, "errors/page.html", context | card, status=status)
