"""Nudges: tell every web process that a run or campaign has something new. The truth stays in the database.

    commit -> nudge() -> the hub of every event loop in this process        (works without Redis)
                      -> Publisher, a thread -> channel layer -> the hubs of other processes

A nudge ("run 7 reached 1204") may be lost, doubled or late without harm: a follower of a topic reads the database
after the last seq it has seen, and reads again when no nudge came for ``HEARTBEAT_S``.

``nudge`` is called in requests and in Celery tasks, so it only leaves a note and returns: one thread with one event
loop talks to the channel layer. ``async_to_sync(group_send)`` would make and drop a loop,
and with it a connection, per call (channels_redis 332).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import redis.exceptions
from channels.layers import InMemoryChannelLayer, get_channel_layer

from research.models import Event

log = logging.getLogger(__name__)
HEARTBEAT_S = 15.0
LAYER_TIMEOUT_S = 3.0
LAYER_ERRORS = (redis.exceptions.RedisError, OSError, TimeoutError)
T = TypeVar("T")


def run_topic(run_id: int) -> str:
    return f"run.{run_id}"


def campaign_topic(campaign_id: int) -> str:
    return f"campaign.{campaign_id}"


def connect() -> None:
    """Nudge after each commit of the record. Called once, when the app registry is ready."""
    from research.record import events
    from research.runs import report

    events.committed.connect(_on_event, dispatch_uid="webapp.live.nudges")
    report.reported.connect(_on_report, dispatch_uid="webapp.live.nudges")


def _on_event(event: Event, **_: Any) -> None:
    if event.campaign_id is not None:
        nudge(campaign_topic(event.campaign_id), event.pk)
    if event.run_id is not None:
        nudge(run_topic(event.run_id), 0)  # the state moved; no new batch


def _on_report(run_id: int, seq: int, **_: Any) -> None:
    nudge(run_topic(run_id), seq)


def nudge(topic: str, seq: int) -> None:
    """Say that ``topic`` has something to read up to ``seq``. Never blocks, never raises."""
    with _hubs_lock:
        hubs = list(_hubs.values())
    for hub in hubs:
        hub.wake_threadsafe(topic)
    if _layer() is not None:
        _publisher().publish(topic, seq)


def _layer() -> Any:
    """The channel layer that reaches other processes; None without one."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


class _Complaint:
    """Logs a failure at most once a minute, with the number of failures in between."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._silent_until = 0.0
        self._num_silent = 0

    def __call__(self, error: BaseException) -> None:
        if time.monotonic() < self._silent_until:
            self._num_silent += 1
            return
        log.warning("%s: %r (%d more in the minute before)", self._what, error, self._num_silent)
        self._silent_until, self._num_silent = time.monotonic() + 60.0, 0


# --- sending --------------------------------------------------------------------------------


class Publisher:
    """The one thread of a process that sends nudges to the channel layer.

    Per topic only the newest unsent seq is kept, so that a layer that hangs costs no memory.
    """

    def __init__(self) -> None:
        self._pending: dict[str, int] = {}
        self._lock = threading.Lock()
        self._complain = _Complaint("browsers are told late, the channel layer does not answer")
        self._loop = asyncio.new_event_loop()
        self._woken = asyncio.Event()
        threading.Thread(target=self._run, name="live-publisher", daemon=True).start()

    def publish(self, topic: str, seq: int) -> None:
        with self._lock:
            self._pending[topic] = max(seq, self._pending.get(topic, 0))
        self._loop.call_soon_threadsafe(self._woken.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._publish_forever())

    async def _publish_forever(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            with self._lock:
                pending, self._pending = self._pending, {}
            for topic, seq in pending.items():
                await self._send(topic, {"type": "nudge", "topic": topic, "seq": seq})

    async def _send(self, topic: str, message: dict[str, Any]) -> None:
        try:
            await asyncio.wait_for(_layer().group_send(topic, message), LAYER_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - this thread must outlive whatever the layer does
            self._complain(error)


_publishers: dict[int, Publisher] = {}
_publishers_lock = threading.Lock()


def _publisher() -> Publisher:
    """This process's publisher. A fork inherits the object but not its thread, hence the process id."""
    with _publishers_lock:
        if os.getpid() not in _publishers:
            _publishers.clear()
            _publishers[os.getpid()] = Publisher()
        return _publishers[os.getpid()]


# --- following ------------------------------------------------------------------------------


class Room(Generic[T]):
    """The followers of one topic in one process. They share each read until the next nudge."""

    def __init__(self) -> None:
        self.followers: set[asyncio.Event] = set()
        self.subscribed = False
        self._reads: dict[int, asyncio.Task[T]] = {}

    def wake(self) -> None:
        self.forget()
        for news in self.followers:
            news.set()

    def forget(self) -> None:
        """Drop shared reads, which may be older than the database, so that the next reader reads anew."""
        self._reads = {}

    async def read(self, since: int, reader: Callable[[int], Awaitable[T]]) -> T:
        """``reader(since)``, shared by all who ask the same after the same nudge. Errors are not shared."""
        reads = self._reads
        if since not in reads:
            reads[since] = asyncio.ensure_future(reader(since))
        try:
            return await asyncio.shield(reads[since])
        except Exception:
            reads.pop(since, None)
            raise


class Hub:
    """One subscription per process and topic, however many browsers follow it (about ten times a plain group).

    It lives on one event loop and is only touched there, ``wake_threadsafe`` excepted.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rooms: dict[str, Room[Any]] = {}
        self._lock = asyncio.Lock()  # subscribing and leaving happen one at a time
        self._channel = ""
        self._listening: asyncio.Task[None] | None = None
        self._complain = _Complaint("sockets re-read every 15 s only, the channel layer does not answer")

    def wake_threadsafe(self, topic: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed just now: nobody is left to be woken
            self._loop.call_soon_threadsafe(self._wake, topic)

    def _wake(self, topic: str) -> None:
        if room := self._rooms.get(topic):
            room.wake()

    @contextlib.asynccontextmanager
    async def follow(self, topic: str) -> AsyncIterator[tuple[Room[Any], asyncio.Event]]:
        """The topic's room, and an Event that every nudge sets, from before the caller's first read on."""
        room = self._rooms.setdefault(topic, Room())
        news = asyncio.Event()
        room.followers.add(news)
        try:
            await self.subscribe(topic)
            yield room, news
        finally:
            room.followers.discard(news)
            await self._leave(topic, room)

    async def subscribe(self, topic: str) -> None:
        """Join ``topic`` on the channel layer, if that is not done.

        Without the layer, followers re-read at each heartbeat.
        """
        async with self._lock:
            room = self._rooms.get(topic)
            if room is None or room.subscribed or (layer := _layer()) is None:
                return
            try:
                await asyncio.wait_for(self._join(layer, topic), LAYER_TIMEOUT_S)
            except LAYER_ERRORS as error:
                self._complain(error)
            else:
                room.subscribed = True

    async def _join(self, layer: Any, topic: str) -> None:
        if self._listening is None:
            self._channel = await layer.new_channel(f"hub.{uuid.uuid4().hex}.")
            self._listening = asyncio.ensure_future(self._listen(layer))
        await layer.group_add(topic, self._channel)

    async def _leave(self, topic: str, room: Room[Any]) -> None:
        async with self._lock:
            if room.followers or self._rooms.get(topic) is not room:
                return
            del self._rooms[topic]
            if room.subscribed:
                try:
                    await asyncio.wait_for(_layer().group_discard(topic, self._channel), LAYER_TIMEOUT_S)
                except LAYER_ERRORS as error:
                    self._complain(error)

    async def _listen(self, layer: Any) -> None:
        while True:
            message = await layer.receive(self._channel)
            self._wake(message["topic"])


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
_hubs_lock = threading.Lock()


def hub() -> Hub:
    """The hub of the running event loop; those of closed loops are dropped."""
    loop = asyncio.get_running_loop()
    with _hubs_lock:
        for other in [other for other in _hubs if other.is_closed()]:
            del _hubs[other]
        return _hubs.setdefault(loop, _hubs.get(loop) or Hub())
