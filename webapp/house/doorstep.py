"""Limits on connections, below HTTP: how long a request's headers may take, and how many connections an address holds.

uvicorn by itself waits without end for headers, and for a client that does not read its answer. Its protocol classes
are named on its command line (``processes.web``); these add the limits:

    10 s for the headers of a request, from its first byte or from the connection's beginning
    60 s in which a client reads nothing, then the connection is cut; 10 s once it is being closed
    half of all connections that this process can hold for one address; a proxy's address has no such limit
    100 messages in 20 s on a live socket, whose client has nothing to send, each of at most 4 kB (``processes.web``)

A connection that is refused here costs no thread, no database and no answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from typing import TYPE_CHECKING, Any

import h11
from django.conf import settings
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from webapp.house.client_address import network_of

HEADERS_WITHIN_S = 10.0
TAKES_NOTHING_S = 60.0
CLOSES_WITHIN_S = 10.0
LINGER_S = 1.0  # what still comes is thrown away for so long: a connection that is reset would lose our last word
OTHER_FILES = 256  # of the process: database, Redis, libraries
MOST_HEARD = 100  # between two of our own pings, 20 s
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
PROXIES = [ipaddress.ip_network(proxy) for proxy in settings.PROXIES]


def most_connections() -> int:
    """How many connections the file descriptors of this process allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(soft, 2**20) - OTHER_FILES)


def is_full(connections: set[Any], host: str) -> bool:
    """Whether the newest connection, from ``host`` and already in ``connections``, is one too many."""
    most = most_connections()
    if len(connections) > most:
        return True
    if len(connections) <= most // 2 or _is_proxy(host):
        return False
    network = network_of(host)
    return sum(network_of(held.client[0]) == network for held in connections if held.client) > most // 2


def _is_proxy(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in proxy for proxy in PROXIES)


if TYPE_CHECKING:
    Protocol = Any
else:
    Protocol = object


class _Cut(Protocol):  # type: ignore[misc]  # either of uvicorn's two, which have no types
    """Cuts a connection whose client does not read: ``transport.close`` waits until all is written."""

    _cut: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut_after(TAKES_NOTHING_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._uncut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._uncut()
        super().connection_lost(exc)

    def _close(self) -> None:
        self.transport.close()
        self._cut_after(CLOSES_WITHIN_S)

    def _cut_after(self, seconds: float) -> None:
        self._uncut()
        self._cut = self.loop.call_later(seconds, self.transport.abort)

    def _uncut(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


class Doorstep(_Cut, H11Protocol):
    """uvicorn's HTTP protocol with a deadline for headers."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if is_full(self.connections, self.client[0] if self.client else ""):
            transport.abort()
        else:
            self._late = self.loop.call_later(HEADERS_WITHIN_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._in_time()
        elif self._late is None:  # the next request of a connection that is kept
            self._late = self.loop.call_later(HEADERS_WITHIN_S, self._too_slow)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._cut_after(CLOSES_WITHIN_S)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._cut_after(CLOSES_WITHIN_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_slow(self) -> None:
        self._late = None
        if self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            if self.conn.trailing_data[0]:  # a browser that only connected ahead of time is told nothing
                self.transport.write(TOO_SLOW)
            self._close()


class LiveStep(_Cut, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with a limit on messages from the client."""

    _num_heard = 0

    def data_received(self, data: bytes) -> None:
        if self._num_heard <= MOST_HEARD:
            super().data_received(data)

    def send_keepalive_ping(self) -> None:
        self._num_heard = 0
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._cut_after(CLOSES_WITHIN_S)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:
            self._cut_after(self.close_timeout + CLOSES_WITHIN_S)

    def handle_ping(self) -> None:
        if self._may_speak() and self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # answers that nobody takes are dropped, not kept

    def handle_cont(self, event: Any) -> None:
        if self._may_speak():
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self._may_speak():
            super().send_receive_event_to_app()

    def _may_speak(self) -> bool:
        self._num_heard += 1
        if self._num_heard > MOST_HEARD and not self.close_sent:
            self.conn.fail(1008, "too much was sent")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.loop.call_later(LINGER_S, self._close)
        return self._num_heard <= MOST_HEARD
