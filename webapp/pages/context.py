"""Context of every template, lazily: a page that draws no frame pays for no query."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from research.record import rights
from webapp.pages.access import SINCE
from webapp.pages.chrome import chrome_of


def chrome(request: HttpRequest) -> dict[str, Any]:
    """``chrome`` (counts and budget), rights, and whether Claude is configured; nothing for strangers."""
    user = getattr(request, "user", None)
    if not isinstance(user, User) or not rights.is_member(user):
        return {}
    return {
        "chrome": SimpleLazyObject(lambda: chrome_of(user)),
        "since": request.META.get(SINCE, 0),
        "can_decide": rights.may(user, rights.decide, None),
        "can_steer": rights.may(user, rights.steer, None),
        "can_propose": rights.may(user, rights.propose, None),
        "can_edit": rights.may(user, rights.edit, None),
        "offline_proposer": not settings.ANTHROPIC_CONFIGURED,
    }
