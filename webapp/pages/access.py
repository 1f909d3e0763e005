"""Who may see what: a row is fetched through the permission, so nobody can hold one without the right to it."""

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
    """For members only. A page is never cached; its fragment and its whole are told apart."""

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
    """The sign-in page; a fragment must not be swapped for it, so htmx is told to leave the page.

    Not where somebody has written something: the page stays, and says what to do.
    """
    if not is_fragment(request):
        return redirect_to_login(request.get_full_path(), resolve_url(settings.LOGIN_URL))
    if typed(request):
        return HttpResponse(status=401)
    there = redirect_to_login(request.path, resolve_url(settings.LOGIN_URL))
    return HttpResponse(status=401, headers={"HX-Redirect": there["Location"]})


def is_fragment(request: HttpRequest) -> bool:
    """Did htmx ask? Then it gets the part of the page that changes, not the frame around it."""
    return request.headers.get("HX-Request") == "true"


def typed(request: HttpRequest) -> str:
    """What a person wrote into a form that is not taken, to be shown again."""
    return request.POST.get("reason", "") or request.POST.get("note", "")


def mark_part(request: HttpRequest, response: HttpResponseBase) -> None:
    """Our word that this belongs into the page. What a proxy answers in our place lacks it, whatever it looks like."""
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
    """Every member sees every row; a workspace with walls inside narrows it here."""
    if not is_member(user):
        raise PermissionDenied("Your account is not a member of this workspace.")
    return {}
