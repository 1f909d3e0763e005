"""One-time login links, by which the first person signs in without a password being typed or printed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from research.record import events, kinds
from webapp.models import LoginLink

LINK_TTL = timedelta(hours=1)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def make_link(user: User) -> str:
    """A new token for ``/login/TOKEN/``. The person's earlier unused links stop working."""
    token = secrets.token_urlsafe(32)
    LoginLink.objects.filter(user=user, used_at=None).delete()
    LoginLink.objects.create(user=user, token_sha256=_hash(token), expires_at=timezone.now() + LINK_TTL)
    return token


def holder(token: str) -> User | None:
    """The person whom ``token`` would sign in; None when it is unknown, used or expired. Does not use it up."""
    link = _usable(token).select_related("user").first()
    return None if link is None else link.user


def redeem(token: str) -> User | None:
    """The person whom ``token`` signs in, and use it up; None when it is unknown, used or expired."""
    links = _usable(token)
    if not links.exists():  # looked at first: a guess writes nothing
        return None
    with transaction.atomic():
        if links.update(used_at=timezone.now()) != 1:
            return None
        link = LoginLink.objects.select_related("user").get(token_sha256=_hash(token))
        who = f"user:{link.user.get_username()}"
        events.record(kinds.LINK_USED(), f"{link.user} signed in with a link", by=who, rows=[link])
    return link.user


def _usable(token: str) -> QuerySet[LoginLink]:
    unused = LoginLink.objects.filter(token_sha256=_hash(token), used_at=None)
    return unused.filter(expires_at__gt=timezone.now(), user__is_active=True)
