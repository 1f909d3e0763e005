"""Sockets are opened by our own pages only. A browser sends its cookies along to every port of a host, whoever asks."""

from __future__ import annotations

from typing import Any

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host


class OwnOrigin:
    """Wraps the sockets: what has no Origin of ours, scheme, host and port, is answered with 403."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        application = self.application if is_own(scope) else WebsocketDenier()
        return await application(scope, receive, send)


def is_own(scope: Any) -> bool:
    """As Django's CSRF check has it: the public address, or the very address that was asked, if that is one of ours."""
    origin, host = _only(scope, b"origin"), _only(scope, b"host")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    name, _ = split_domain_port(host)
    return bool(name) and origin == f"{_scheme(scope)}://{host}" and validate_host(name, settings.ALLOWED_HOSTS)


def _scheme(scope: Any) -> str:
    """What the browser spoke: with us, or with a TLS proxy before us."""
    behind_tls = settings.SESSION_COOKIE_SECURE and _only(scope, b"x-forwarded-proto") == "https"
    return "https" if behind_tls or scope.get("scheme") == "wss" else "http"


def _only(scope: Any, name: bytes) -> str:
    """The one header of this name; empty where there is none, or several."""
    found = [value for header, value in scope["headers"] if header == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""
