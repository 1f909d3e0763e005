"""Access to pages: a row is fetched through the reader's permission, so nobody can hold one without the right to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, resolve_url
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache

from research.models import Campaign, Event, Proposal, Run
from research.record.rights import is_member

View = Callable[..., HttpResponseBase]
SINCE = "countersign.newest_event"
PART = "Countersign-Part"


def reader(view: View) -> View:
    """Wraps a view for members only; others are sent to sign in, or get 403.

    Pages are never cached, and vary by HX-Request: a fragment and its whole page have one address.
    """

    @never_cache
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _sign_in(request)
        if not is_member(request.user):
            raise PermissionDenied("Your account is not a member of this workspace. An administrator can add you.")
        # Before the page is read: what happens from here on is news to it, and its socket asks for just that.
        request.META[SINCE] = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        response = view(request, *args, **kwargs)
        patch_vary_headers(response, ["HX-Request"])
        mark_part(request, response)
        return response

    return guarded


def _sign_in(request: HttpRequest) -> HttpResponse:
    """Redirect to the sign-in page. A fragment must not be swapped for it, so htmx is told to leave the page.

    Unless somebody has typed something: then the page stays, and says what to do.
    """
    if not is_fragment(request):
        return redirect_to_login(request.get_full_path(), resolve_url(settings.LOGIN_URL))
    if typed(request):
        return HttpResponse(status=401)
    there = redirect_to_login(request.path, resolve_url(settings.LOGIN_URL))
    return HttpResponse(status=401, headers={"HX-Redirect": there["Location"]})


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asked. It gets the part of the page that changes, without the frame around it."""
    return request.headers.get("HX-Request") == "true"


def typed(request: HttpRequest) -> str:
    """The reason or note that a person typed into a refused form, to be shown again."""
    return request.POST.get("reason", "") or request.POST.get("note", "")


def mark_part(request: HttpRequest, response: HttpResponseBase) -> None:
    """Mark a fragment as ours by a header, which a proxy's page in its place lacks."""
    if is_fragment(request):
        response[PART] = "1"


def person(request: HttpRequest) -> User:
    """The member behind a request that passed ``reader``."""
    assert isinstance(request.user, User)
    return request.user


def campaign_for(user: User, slug: str) -> Campaign:
    return get_object_or_404(Campaign.objects.filter(**_seen_by(user)).select_related("created_by"), slug=slug)


def proposal_for(user: User, pk: int) -> Proposal:
    return get_object_or_404(
        Proposal.objects.filter(**_seen_by(user)).select_related("campaign", "author", "wave"), pk=pk
    )


def run_for(user: User, pk: int) -> Run:
    runs = Run.objects.filter(**_seen_by(user)).select_related(
        "campaign", "incumbent__proposal", "worker", "revision__proposal", "score__settled_by"
    )
    return get_object_or_404(runs, pk=pk)


def _seen_by(user: User) -> dict[str, Any]:
    """The filter for rows that ``user`` sees: every member sees all; walls inside a workspace would narrow it here."""
    if not is_member(user):
        raise PermissionDenied("Your account is not a member of this workspace.")
    return {}
