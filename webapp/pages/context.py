"""What every template may ask for. Lazy: a page that draws no frame pays for no query."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from webapp.pages.access import SINCE, may_decide, may_edit, may_propose, may_read, may_steer
from webapp.pages.campaigns import standings


def chrome(request: HttpRequest) -> dict[str, Any]:
    """``chrome`` (counts and budget), rights, and whether Claude is configured. Strangers get none of it."""
    user = getattr(request, "user", None)
    if not isinstance(user, User) or not may_read(user):
        return {}
    return {
        "chrome": SimpleLazyObject(lambda: standings.chrome(user)),
        "since": request.META.get(SINCE, 0),
        "can_decide": may_decide(user),
        "can_steer": may_steer(user),
        "can_propose": may_propose(user),
        "can_edit": may_edit(user),
        "offline_proposer": not settings.ANTHROPIC_CONFIGURED,
    }
