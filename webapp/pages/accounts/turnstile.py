"""The turnstile: limits password tries on every page that asks for a password, before the password is checked.

It is the first authentication backend. It signs nobody in, and stops Django where a limit is reached. The limits:

    from a browser that this person signed in with before       8  for it and this name
    from anywhere else                                          8  for the address and this name
                                                               40  for the address
                                                              100  for this name, whoever asks

Within WAIT_S. So nobody can lock alice out of a browser she has used; somebody who uses up the last limit leaves her
those browsers and a login link. These are the device cookies of OWASP's "Slow Down Online Guessing Attacks with Device
Cookies".

A try is counted before the password is checked and given back if it was right: of a hundred guesses at the same
moment eight are checked. The counts are in the database: every web process shares them, a restart forgets none,
and they need no Redis.

Checking a password takes a core for a fifth of a second, by design, and holds a database connection meanwhile. So few
are checked at once, from however many addresses (``room``), and other requests go on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.crypto import salted_hmac

from research.record import events, kinds
from webapp.house.client_address import network_of
from webapp.models import Tries

log = logging.getLogger(__name__)
WAIT_S = 15 * 60
HERE, FROM_ADDRESS, FOR_NAME = 8, 40, 100
AT_ONCE, WAITING, WAITS_S = 2, 30, 10.0  # passwords looked at in one process; how many others wait, and how long
DEVICE_AGE_S = 180 * 24 * 3600
SALT = "countersign.device"
_COUNTED, _REST = "countersign.tries", "countersign.rest"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What tries are counted for: ``kind`` is here, address or name."""

    kind: str
    key: str
    limit: int

    @property
    def sha256(self) -> str:
        return salted_hmac("countersign.tries", f"{self.kind}\0{self.key}", algorithm="sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A limit that was reached, and until when."""

    kind: str
    name: str
    address: str
    until: datetime

    @property
    def wait_s(self) -> int:
        return max(1, math.ceil((self.until - timezone.now()).total_seconds()))

    @property
    def wait_min(self) -> int:
        return math.ceil(self.wait_s / 60)

    @property
    def says(self) -> str:
        """What is limited and for how long, as a sentence for the person who waits."""
        what = {
            "address": f"Sign-in from your network, {self.address}, rests",
            "name": f"Sign-in as {self.name} rests in browsers that are new to us",
        }.get(self.kind, f"Sign-in as {self.name} rests here")
        more = f"{self.wait_min} more minute" + ("" if self.wait_min == 1 else "s")
        return f"{what} for {more}: no password is looked at, not even the right one."


class Crowded(Exception):
    """Too many passwords at once to be checked soon. Nothing was counted."""


_inside = threading.BoundedSemaphore(AT_ONCE)
_queue = threading.BoundedSemaphore(AT_ONCE + WAITING)


@contextmanager
def room() -> Iterator[None]:
    """Wait for one of AT_ONCE places. Enter it before any database query. Raises Crowded."""
    if not _queue.acquire(blocking=False):
        raise Crowded
    try:
        if not _inside.acquire(timeout=WAITS_S):
            raise Crowded
        try:
            yield
        finally:
            _inside.release()
    finally:
        _queue.release()


class Turnstile:
    """An authentication backend that only counts."""

    def authenticate(self, request: HttpRequest | None, username: str = "", password: str = "") -> None:
        """Raises PermissionDenied, which ends the search for a backend, where a limit is reached."""
        if request is not None and enter(request, username) is not None:
            raise PermissionDenied("sign-in with a password rests")


def enter(request: HttpRequest, name: str) -> Rest | None:
    """Count one try for ``name``. None: the password may be checked."""
    places = _places(request, name)
    refused = _full(places)
    for counted, place in enumerate(places if refused is None else [], 1):
        if (until := _count(place)) is not None:
            refused = place, until
            break
        request.META[_COUNTED] = places[:counted]
    if refused is None:
        return None
    rest = Rest(kind=refused[0].kind, name=name, address=address_of(request), until=refused[1])
    request.META[_REST] = rest
    return rest


def rest_of(request: HttpRequest) -> Rest | None:
    """Why this request's password was not checked; None where it was."""
    rest: Rest | None = request.META.get(_REST)
    return rest


def forgive(request: HttpRequest) -> None:
    """Give this request's counts back, as its password was right; all that was counted for ``here`` is forgotten."""
    for place in request.META.pop(_COUNTED, ()):
        rows = Tries.objects.filter(place=place.sha256)
        if place.kind == "here":
            rows.delete()
        else:
            rows.filter(num__gt=0).update(num=F("num") - 1)


def connect() -> None:
    user_logged_in.connect(_on_sign_in, dispatch_uid="webapp.pages.accounts.turnstile")


def _on_sign_in(request: HttpRequest | None, **_: Any) -> None:
    if request is not None:
        forgive(request)


def address_of(request: HttpRequest) -> str:
    return network_of(request.META.get("REMOTE_ADDR"))


def _places(request: HttpRequest, name: str) -> list[Place]:
    """The places to count for, in order.

    After a full one the next is not counted, so one address adds few tries to a name.
    """
    if device := _known_device(request, name):
        return [Place(kind="here", key=f"{device}\0{name}", limit=HERE)]
    address = address_of(request)
    return [
        Place(kind="here", key=f"{address}\0{name}", limit=HERE),
        Place(kind="address", key=address, limit=FROM_ADDRESS),
        Place(kind="name", key=name, limit=FOR_NAME),
    ]


def _full(places: list[Place]) -> tuple[Place, datetime] | None:
    """The first place whose limit is reached, found by reading alone, so that a flood of tries writes nothing."""
    by_hash = {place.sha256: place for place in places}
    rows = Tries.objects.filter(place__in=by_hash, until__gt=timezone.now())
    resting = {row.place: row.until for row in rows if row.num > by_hash[row.place].limit}
    return next(((place, resting[key]) for key, place in by_hash.items() if key in resting), None)


def _count(place: Place) -> datetime | None:
    """Count one more, by a conditional UPDATE. None within the limit, else until when the place rests."""
    now = timezone.now()
    Tries.objects.filter(until__lte=now).delete()
    row = Tries(place=place.sha256, until=now + timedelta(seconds=WAIT_S))
    Tries.objects.bulk_create([row], ignore_conflicts=True)
    rows = Tries.objects.filter(place=place.sha256)
    if rows.filter(num__lt=place.limit).update(num=F("num") + 1):
        return None
    if rows.filter(num=place.limit).update(num=place.limit + 1):  # the first that is refused says so, once
        _tell(place)
    return rows.values_list("until", flat=True).first() or now  # its time was over just now


def _tell(place: Place) -> None:
    """Log a reached limit, and record it for an account.

    A name without one may be a mistyped password, and is not told.
    """
    name = place.key.rpartition("\0")[2] if place.kind != "address" else ""
    where = place.key.partition("\0")[0] if place.kind != "name" else "anywhere"
    known = bool(name) and User.objects.filter(username=name).exists()
    whose = f"as {name} " if known else ""
    sentence = f"Sign-in {whose}rests for {WAIT_S // 60} minutes from {where}: {place.limit} wrong passwords"
    log.warning(sentence)
    if known:
        with transaction.atomic():
            events.record(kinds.SIGN_IN_RESTS(user=name), sentence, by="turnstile")


# --- browsers that somebody signed in with before --------------------------------------------------


def remember(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Set the device cookie of ``user``'s browser: valid for half a year, or until the password changes."""
    device = _known_device(request, user.get_username()) or f"browser {secrets.token_hex(8)}"
    value = signing.dumps([user.pk, device, _stamp(user)], salt=SALT)
    response.set_cookie(
        settings.DEVICE_COOKIE_NAME,
        value,
        max_age=DEVICE_AGE_S,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _known_device(request: HttpRequest, name: str) -> str:
    """The id of the browser if ``name`` signed in with it before; "" for any other."""
    try:
        pk, device, stamp = signing.loads(
            request.COOKIES.get(settings.DEVICE_COOKIE_NAME, ""), salt=SALT, max_age=DEVICE_AGE_S
        )
    except (signing.BadSignature, ValueError, TypeError):
        return ""
    user = User.objects.filter(pk=pk, username=name).first()
    return str(device) if user is not None and secrets.compare_digest(_stamp(user), str(stamp)) else ""


def _stamp(user: User) -> str:
    """A hash that changes with the password."""
    return hashlib.sha256(user.get_session_auth_hash().encode()).hexdigest()[:16]
