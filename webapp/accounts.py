"""One-time login links: how the first person gets in without a password being typed or printed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from research import events
from webapp.models import LoginLink

LINK_TTL = timedelta(hours=1)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def make_link(user: User) -> str:
    """A fresh token for ``/login/TOKEN/``. Earlier unused links of the same person stop working."""
    token = secrets.token_urlsafe(32)
    LoginLink.objects.filter(user=user, used_at=None).delete()
    LoginLink.objects.create(user=user, token_sha256=_hash(token), expires_at=timezone.now() + LINK_TTL)
    return token


def redeem(token: str) -> User | None:
    """The person whom ``token`` signs in, once; None when it is unknown, used or expired."""
    now = timezone.now()
    links = LoginLink.objects.filter(token_sha256=_hash(token), used_at=None, expires_at__gt=now, user__is_active=True)
    with transaction.atomic():
        if links.update(used_at=now) != 1:
            return None
        link = LoginLink.objects.select_related("user").get(token_sha256=_hash(token))
        who = f"user:{link.user.get_username()}"
        events.record("loginlink.used", f"{link.user} signed in with a link", by=who, rows=[link])
    return link.user
