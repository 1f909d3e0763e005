"""What a person sees when something is refused, missing or broken. htmx gets the card alone."""

from __future__ import annotations

import logging
import secrets

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone

from webapp.access import is_fragment, may_read

log = logging.getLogger(__name__)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, "forbidden", 403, {"reason": str(exception)})


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, "not_found", 404, {})


def lost_race(request: HttpRequest, sentence: str, back: str, typed: str = "") -> HttpResponse:
    """409: somebody was first. Nothing of what was asked has happened; ``typed`` is shown, so that it is not lost."""
    return _page(request, "lost_race", 409, {"sentence": sentence, "back": back, "typed": typed})


def csrf_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django has logged ``reason``, one of its own sentences for developers."""
    sentence = "The form was too old or came from another site. Nothing was saved: reload the page and send it again."
    return _page(request, "forbidden", 403, {"reason": sentence})


def broken(request: HttpRequest) -> HttpResponse:
    """500: rendered without database or session, which may be what broke. The number is in the log."""
    number = secrets.token_hex(4)
    log.error("error %s on %s", number, request.path)
    context = {"number": number, "at": timezone.now()}
    name = "_broken" if is_fragment(request) else "broken"
    page = render_to_string(f"errors/{name}.html", context)
    return HttpResponse(page, status=500, headers={"Error-Number": number})


def _page(request: HttpRequest, name: str, status: int, context: dict[str, object]) -> HttpResponse:
    if is_fragment(request):
        return render(request, f"errors/_{name}.html", context, status=status)
    frame = "base.html" if may_read(request.user) else "bare.html"
    card = {"card": f"errors/_{name}.html", "frame": frame, "number": status}
    return render(request, "errors/page.html", context | card, status=status)
