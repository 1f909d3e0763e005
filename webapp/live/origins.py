"""Accepts live sockets from our own pages only: a browser sends its cookies to every port of a host, whoever asks."""

from __future__ import annotations

from typing import Any

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host


class OwnOrigin:
    """Wraps the socket application; answers 403 unless the Origin (scheme, host and port) is ours."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        application = self.application if is_own(scope) else WebsocketDenier()
        return await application(scope, receive, send)


def is_own(scope: Any) -> bool:
    """Whether the Origin is ours, as in Django's CSRF check: the public address, or the requested one if allowed."""
    origin, host = _only(scope, b"origin"), _only(scope, b"host")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    name, _ = split_domain_port(host)
    return bool(name) and origin == f"{_scheme(scope)}://{host}" and validate_host(name, settings.ALLOWED_HOSTS)


def _scheme(scope: Any) -> str:
    """The scheme that the browser used, with us or with a TLS proxy before us."""
    behind_tls = settings.SESSION_COOKIE_SECURE and _only(scope, b"x-forwarded-proto") == "https"
    return "https" if behind_tls or scope.get("scheme") == "wss" else "http"


def _only(scope: Any, name: bytes) -> str:
    """The header's value; "" where it is missing or given twice."""
    found = [value for header, value in scope["headers"] if header == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""
