"""The consumers of the live sockets: send what the database has after ``since``, then follow nudges.

What a browser sends is ignored: decisions are ordinary POSTs. Close codes: 1000 the run is
over, 4401 nobody is logged in, 4403 not allowed, 4404 no such thing, 4400 ``since`` is no number
(all final); 4429 a newer page of this person took the seat, reconnect when the page is looked at;
1011 an error here, try again.

A slow browser makes only its own ``send`` wait: the next frame is read from the database
when the last one has gone out, so there is no buffer that could grow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import ClassVar
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import get_user_model

from research.models import Campaign, Run
from research.record.rights import is_member
from webapp.live import frames, nudges, seats

log = logging.getLogger(__name__)
COALESCE_S = 0.25  # at most four frames a second for each socket
RECHECK_S = 60.0  # may this person still look?


class Closed(Exception):
    """The socket must be closed with ``code``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """The common part of both sockets. A subclass finds its subject and reads its frames."""

    channel_layer_alias = "(none)"  # no channel of its own: the process's hub listens for all sockets
    always_tell: ClassVar[bool] = False
    topic: str
    subject_id: int
    since: int

    async def connect(self) -> None:
        await self.accept()  # a close before this would reach the browser as 1006, without the code
        self._following = asyncio.ensure_future(self._live())

    async def disconnect(self, code: int) -> None:
        self._following.cancel()
        seats.leave(self.scope["user"].pk, self)

    def give_way(self) -> None:
        """Close, since a newer socket of the same person took the seat. Not awaited: this socket may be stalled."""
        self._following.cancel()
        self._leaving = asyncio.ensure_future(self.close(4429, "another page of yours is live instead"))

    async def _live(self) -> None:
        """Send frames until there are no more, then close with a code that tells the browser whether to come back."""
        try:
            await database_sync_to_async(self.find)()
            seats.take(self.scope["user"].pk, self)
            await self._follow()
        except Closed as closed:
            await self.close(closed.code, closed.reason)
        except Exception:
            log.exception("a live socket broke")
            await self.close(1011, "something broke here")

    async def _follow(self) -> None:
        hub = nudges.hub()
        standing, checked_at, beat = "", time.monotonic(), False
        async with hub.follow(self.topic) as (room, news):
            while True:
                nudged = news.is_set()
                news.clear()  # before reading: a nudge from now on is about something that may be missed
                frame: frames.Frame = await room.read(self.since, database_sync_to_async(self.read))
                if frame.fresh or beat or frame.standing != standing or (nudged and self.always_tell):
                    await self.send(frame.text)
                standing, self.since = frame.standing, frame.seq
                if frame.over:
                    raise Closed(1000, "the run is over")
                if frame.more:
                    continue
                await asyncio.sleep(COALESCE_S)
                if beat := not await _within(news, nudges.HEARTBEAT_S):
                    room.forget()
                    await hub.subscribe(self.topic)
                if time.monotonic() - checked_at > RECHECK_S:
                    await database_sync_to_async(self.recheck)()
                    checked_at = time.monotonic()

    def find(self) -> None:
        """Set topic, subject and since. Raises Closed."""
        if not self.scope["user"].is_authenticated:
            raise Closed(4401, "log in first")
        if not is_member(self.scope["user"]):
            raise Closed(4403, "not allowed")

    def recheck(self) -> None:
        """Raise Closed when the person's account was switched off meanwhile."""
        user = get_user_model().objects.filter(pk=self.scope["user"].pk).first()
        if user is None or not is_member(user):
            raise Closed(4403, "not allowed any more")

    def read(self, since: int) -> frames.Frame:
        raise NotImplementedError

    def asked_since(self, default: int) -> int:
        """``?since=`` as a whole number. Raises Closed."""
        text = parse_qs(self.scope["query_string"].decode("latin-1")).get("since", [str(default)])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise Closed(4400, "since must be a whole number")
        return int(text)


class NoSuchSocket(LiveConsumer):
    """Answers any other path, instead of a traceback of the router."""

    def find(self) -> None:
        super().find()
        raise Closed(4404, "no such socket")


class RunConsumer(LiveConsumer):
    """``/live/runs/ID/?since=SEQ``: measurements, log, progress and state of one run."""

    def find(self) -> None:
        super().find()
        self.subject_id = int(self.scope["url_route"]["kwargs"]["run_id"])
        if not Run.objects.filter(pk=self.subject_id).exists():
            raise Closed(4404, "no such run")
        self.topic = nudges.run_topic(self.subject_id)
        self.since = self.asked_since(0)

    def read(self, since: int) -> frames.Frame:
        if (frame := frames.run_frame(self.subject_id, since)) is None:
            raise Closed(4404, "no such run")
        return frames.packed(frame, since)


class CampaignConsumer(LiveConsumer):
    """``/live/campaigns/SLUG/?since=EVENT``: what changed, for pages to fetch again.

    Every nudge is passed on, even with nothing after ``since``: on PostgreSQL an event with a lower id
    may commit after one with a higher id. Without ``since`` it starts at the newest event.
    """

    always_tell = True

    def find(self) -> None:
        super().find()
        slug = self.scope["url_route"]["kwargs"]["slug"]
        campaign = Campaign.objects.filter(slug=slug).only("pk").first()
        if campaign is None:
            raise Closed(4404, "no such campaign")
        self.subject_id = campaign.pk
        self.topic = nudges.campaign_topic(campaign.pk)
        self.since = self.asked_since(frames.newest_event(campaign.pk))

    def read(self, since: int) -> frames.Frame:
        if (frame := frames.campaign_frame(self.subject_id, since)) is None:
            raise Closed(4404, "no such campaign")
        return frames.packed(frame, since)


async def _within(news: asyncio.Event, seconds: float) -> bool:
    """Whether ``news`` was set within ``seconds``."""
    try:
        await asyncio.wait_for(news.wait(), seconds)
    except TimeoutError:
        return False
    return True
