"""Sends one HTTP POST to an address that a person typed in: bounded in time and bytes, and never inwards.

Every address of the name is judged (``addresses``). ``requests-hardened`` then resolves it again, refuses what it knows
to be private and connects to one address, not to the name; that address is judged once more, so a name that resolves
differently the second time (rebinding) gains nothing. Redirects are not followed; proxies from the environment are
ignored, since they would resolve the name again.

    any answer            -> Answer(code=...)
    time over, refused... -> Answer(code=None, problem=a sentence)
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from django.conf import settings
from requests_hardened import Config, HTTPSession
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter

from gpu_runner.contract import retry_after_s
from webapp.notify import addresses

LOOK_UP_S = 3.0  # for a person who saves an address and waits
CONNECT_S = 5.0
READ_S = 15.0  # between two bytes
TOTAL_S = 20.0  # for everything: a receiver that trickles bytes would never hit READ_S
MAX_RESPONSE = 65_536
NUM_KEPT = 256


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The outcome of one attempt. ``code`` is None when no HTTP answer came, and ``problem`` says why."""

    code: int | None
    latency_ms: int
    problem: str = ""
    retry_after_s: float | None = None
    sha256: str = ""
    start: str = ""

    @property
    def ok(self) -> bool:
        return self.code is not None and 200 <= self.code < 300 and not self.problem


def check_url(url: str) -> None:
    """Raise ValueError (naming the field) for an address that could never be sent to. Resolves nothing."""
    if found := _UNSENT.search(url):
        raise ValueError(f"url: holds {found[0]!r}; write it percent-encoded, as %{ord(found[0]):02X}")
    try:
        parts = urlsplit(url)
        port_is_sane = parts.port != 0
    except ValueError as error:
        raise ValueError(f"url: {error}") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.WEBHOOKS_ALLOW_LOOPBACK):
        raise ValueError("url: must start with https://")
    if not parts.hostname or not port_is_sane:
        raise ValueError("url: names no host and port that can be connected to")
    if "@" in parts.netloc:
        raise ValueError("url: must not hold a name or a password; the signature says who sends")
    try:
        requests.Request("POST", url).prepare()  # its own reading of hosts: international ones, empty labels
    except requests.RequestException as error:
        raise ValueError(f"url: names no host that can be connected to ({error})") from error


_UNSENT = re.compile(r"[\x00-\x20\x7f\\]")  # where readers of addresses disagree about what the host is


def check_destination(url: str) -> None:
    """Raise ValueError for an address that leads inwards today. A name that does not resolve passes: it may later."""
    host, port = _destination(requests.Request("POST", url).prepare())
    try:
        known = addresses.look_up_within(host, port, LOOK_UP_S)
        addresses.judge_all(known, loopback=settings.WEBHOOKS_ALLOW_LOOPBACK)
    except addresses.Inward as error:
        raise ValueError(f"url: {error}") from error


def _destination(request: requests.PreparedRequest) -> tuple[str, int]:
    """Host (as it will be looked up) and port."""
    parts = urlsplit(request.url or "")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def post(url: str, body: str, headers: dict[str, str]) -> Answer:
    """Send ``body`` once. Never raises for what the other side does."""
    started = time.monotonic()
    try:
        check_url(url)
        with _Session() as session, _cut_off(session):
            response = session.post(url, data=body.encode(), headers=headers, stream=True, timeout=(CONNECT_S, READ_S))
            content = response.raw.read(MAX_RESPONSE, decode_content=False)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Answer(code=None, latency_ms=_ms_since(started), problem=_sentence(error, time.monotonic() - started))
    return _answer(response, content, _ms_since(started))


def _answer(response: requests.Response, content: bytes, latency_ms: int) -> Answer:
    redirected = 300 <= response.status_code < 400
    return Answer(
        code=response.status_code,
        latency_ms=latency_ms,
        problem="It redirects, which is not followed; enter the address it leads to." if redirected else "",
        retry_after_s=retry_after_s(response.headers),
        sha256=hashlib.sha256(content).hexdigest(),
        start=content[:NUM_KEPT].decode("ascii", "backslashreplace").translate(_ESCAPES),
    )


_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\n\t"}


def _sentence(error: Exception, seconds: float) -> str:
    if isinstance(error, InvalidIPAddress):
        return f"{error}."
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return f"{error}."
    if isinstance(error, requests.exceptions.SSLError):
        return "The TLS certificate or handshake was refused."
    if (
        isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError | TimeoutError)
        or seconds >= TOTAL_S
    ):
        return f"No complete answer within {seconds:.0f} s."
    if isinstance(error, requests.exceptions.ConnectionError):
        return "No connection: the name does not resolve, or the other side refused or hung up."
    return f"The answer could not be read ({type(error).__name__})."


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1_000)


# --- the session ----------------------------------------------------------------------------


class _Adapter(IPFilterAdapter):  # type: ignore[misc]  # the package has no types
    """The hardened adapter; its connections register their sockets, so that they can be cut."""

    def __init__(self, sockets: list[socket.socket], **kwargs: Any) -> None:
        self._sockets = sockets
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            scheme: type("Pool", (pool,), {"ConnectionCls": _noting(pool.ConnectionCls, self._sockets)})
            for scheme, pool in self.poolmanager.pool_classes_by_scheme.items()
        }

    def build_connection_pool_key_attributes(self, request: requests.PreparedRequest, *args: Any) -> Any:
        """Raises InvalidIPAddress for a name that leads inwards, and for an address about to be connected to."""
        loopback = self._allow_loopback
        try:
            addresses.judge_all(addresses.look_up(*_destination(request)), loopback=loopback)
            host_params, pool_kwargs = self._pinned(request, *args)
            addresses.judge(ip_address(host_params["host"].strip("[]")), loopback=loopback)
        except addresses.Inward as error:
            raise InvalidIPAddress(str(error)) from error  # requests makes an InvalidURL of every ValueError
        except socket.gaierror as error:
            raise requests.ConnectionError(str(error)) from error
        return host_params, pool_kwargs

    def _pinned(self, request: requests.PreparedRequest, *args: Any) -> Any:
        """As in the package, with our sentence; its error names the address only."""
        try:
            return super().build_connection_pool_key_attributes(request, *args)
        except InvalidIPAddress as error:
            raise addresses.Inward(f"{error} is private or local: webhooks go to public addresses only") from error


def _noting(connection: Any, sockets: list[socket.socket]) -> Any:
    class Connection(connection):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    return Connection


class _Session(HTTPSession):  # type: ignore[misc]  # the package has no types
    """The session of one request: hardened, without proxies, and able to be cut off."""

    def __init__(self) -> None:
        loopback = settings.WEBHOOKS_ALLOW_LOOPBACK
        super().__init__(
            Config(
                ip_filter_enable=True,
                ip_filter_allow_loopback_ips=loopback,
                never_redirect=True,
                default_timeout=(CONNECT_S, READ_S),
                user_agent_override="Countersign-Webhooks/1",
            )
        )
        self.trust_env = False
        self.sockets: list[socket.socket] = []
        for scheme in ("http", "https"):
            adapter = _Adapter(self.sockets, is_https_proto=scheme == "https", allow_loopback=loopback)
            self.mount(f"{scheme}://", adapter)


@contextlib.contextmanager
def _cut_off(session: _Session) -> Iterator[None]:
    """Shut down the sockets after TOTAL_S, which ends any read. Raises TimeoutError.

    The reader takes this for the other side's end, so otherwise half a header would pass for a whole answer.
    """
    cut = threading.Event()
    timer = threading.Timer(TOTAL_S, _shut, (session.sockets, cut))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if cut.is_set():
        raise TimeoutError


def _shut(sockets: list[socket.socket], cut: threading.Event) -> None:
    cut.set()
    for sock in sockets:
        with contextlib.suppress(OSError):  # closed already: nothing left to cut
            # The plain socket's method: an SSLSocket's own would pull the TLS object from under the reader.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
