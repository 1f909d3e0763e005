"""When nudges are lost, doubled or late, and when a browser or Redis does not answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from gpu_runner import contract
from research.runs import dispatch, report
from tests import builders
from tests.live.conftest import House
from tests.live.frames import frames_until, steps
from tests.waiting import wait_in_loop_until, wait_until
from webapp.house import redis_server
from webapp.live import frames, nudges
from webapp.live.consumers import RunConsumer

PATIENCE_S = 10.0


class Browser:
    """A socket without a network: ``frames`` is what arrived, ``stall`` holds the next frame up."""

    def __init__(self, run_id: int, user: User | AnonymousUser, since: int = 0) -> None:
        self.frames: list[dict[str, Any]] = []
        self.code: int | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self._coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._coming.put_nowait({"type": "websocket.connect"})
        route = {"kwargs": {"run_id": str(run_id)}}
        scope = {"type": "websocket", "user": user, "url_route": route, "query_string": f"since={since}".encode()}
        self._task = asyncio.ensure_future(RunConsumer.as_asgi()(scope, self._coming.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        if message["type"] == "websocket.send":
            self.frames.append(json.loads(message["text"]))
        self.code = message.get("code", self.code)

    async def leave(self) -> None:
        self._coming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(self._task, PATIENCE_S)


def lease_a_run() -> contract.Lease:
    dispatch.advance(builders.make_campaign())
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    return lease


def tell(lease: contract.Lease, seq: int) -> None:
    run = report.leased(lease.spec.run_id, lease.token)
    points = builders.make_points(5 * seq)
    report.accept(run, contract.Report(fence=lease.spec.fence, seq=seq, phase="training", points=points))


@pytest.mark.django_db(transaction=True)
async def test_a_lost_nudge_costs_one_heartbeat(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "HEARTBEAT_S", 0.4)
    lease = await database_sync_to_async(lease_a_run)()
    browser = Browser(lease.spec.run_id, alice)
    await wait_in_loop_until(lambda: browser.frames, "the first frame")
    monkeypatch.setattr(nudges, "nudge", lambda topic, seq: None)
    await database_sync_to_async(tell)(lease, 1)
    await wait_in_loop_until(lambda: browser.frames[-1]["seq"] == 1, "the heartbeat reads what no nudge announced")
    await browser.leave()


@pytest.mark.django_db(transaction=True)
async def test_a_browser_that_stalls_holds_up_nobody_and_gets_one_merged_frame(alice: User, bob: User) -> None:
    lease = await database_sync_to_async(lease_a_run)()
    stalled, brisk = Browser(lease.spec.run_id, alice), Browser(lease.spec.run_id, bob)
    await wait_in_loop_until(lambda: stalled.frames and brisk.frames, "the first frames")
    stalled.reads.clear()
    for seq in range(1, 31):
        await database_sync_to_async(tell)(lease, seq)
    await wait_in_loop_until(lambda: brisk.frames[-1]["seq"] == 30, "bob sees all")
    num_before = len(stalled.frames)
    stalled.reads.set()
    await wait_in_loop_until(lambda: stalled.frames[-1]["seq"] == 30, "alice catches up")
    assert steps(stalled.frames) == steps(brisk.frames) == list(range(5, 155))
    assert len(stalled.frames) - num_before <= 3, "the frame that stalled, then everything since in one"
    await stalled.leave()
    await brisk.leave()


@pytest.mark.django_db(transaction=True)
async def test_many_browsers_share_one_read_of_the_database(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    truly = frames.run_frame
    monkeypatch.setattr(frames, "run_frame", lambda run_id, since: (asked.append(since), truly(run_id, since))[1])
    lease = await database_sync_to_async(lease_a_run)()
    browsers = [Browser(lease.spec.run_id, alice) for _ in range(20)]
    await wait_in_loop_until(lambda: all(browser.frames for browser in browsers), "the first frames")
    await database_sync_to_async(tell)(lease, 1)
    await wait_in_loop_until(lambda: all(browser.frames[-1]["seq"] == 1 for browser in browsers), "the report")
    assert len(asked) < 20, f"{len(asked)} reads for 40 frames"
    for browser in browsers:
        await browser.leave()
    assert nudges.hub()._rooms == {}, "nobody is left, nothing is kept"


@pytest.mark.django_db(transaction=True)
async def test_whoever_is_switched_off_while_looking_is_shown_out(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.live.consumers.RECHECK_S", 0.0)
    lease = await database_sync_to_async(lease_a_run)()
    browser = Browser(lease.spec.run_id, alice)
    await wait_in_loop_until(lambda: browser.frames, "the first frame")
    await database_sync_to_async(User.objects.filter(pk=alice.pk).update)(is_active=False)
    await database_sync_to_async(tell)(lease, 1)
    await wait_in_loop_until(lambda: browser.code == 4403, "the door")
    await browser.leave()


@pytest.mark.django_db(transaction=True)
async def test_a_broken_read_asks_the_browser_to_come_back(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = await database_sync_to_async(lease_a_run)()
    monkeypatch.setattr(frames, "run_frame", lambda run_id, since: 1 / 0)
    browser = Browser(lease.spec.run_id, alice)
    await wait_in_loop_until(lambda: browser.code == 1011, "the close")
    await browser.leave()


def test_a_dead_redis_neither_delays_nor_fails_who_reports(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = [f"unix://{tmp_path}/nobody-listens.sock"]
    backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": hosts}}}
    with caplog.at_level(logging.WARNING, "webapp.live.nudges"):
        started = time.monotonic()
        for seq in range(2_000):
            nudges.nudge(f"run.{seq % 7}", seq)
        assert time.monotonic() - started < 5.0  # had each waited 10 ms, 20 s
        wait_until(lambda: caplog.records, "a warning")
    assert nudges._publisher()._pending.keys() <= {f"run.{n}" for n in range(7)}
    assert len(caplog.records) == 1, "once a minute, however often it fails"
    assert "channel layer does not answer" in caplog.text


async def test_nudges_come_through_again_after_redis_was_restarted(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("redis")
    with redis_server.private(home) as url:
        house = House(tmp_path_factory.mktemp("house"), url)
        house.serve()
        _, run_id = house.train()
        path, headers = house.address(f"/live/runs/{run_id}/"), house.browser("alice")
        socket = await connect(path, additional_headers=headers)
        house.say("tell(lease, 1)")
        await frames_until(socket, 1)
    try:
        house.say("tell(lease, 2)")  # nobody carries this nudge
        with redis_server.private(home):
            started = time.monotonic()
            arrived = asyncio.ensure_future(frames_until(socket, 3))
            for seq in range(3, 40):
                house.say(f"tell(lease, {seq})")
                if (await asyncio.wait({arrived}, timeout=0.3))[0]:
                    break
            assert steps(await arrived)[0] == 10, "the report that nobody announced comes with the next"
            assert time.monotonic() - started < nudges.HEARTBEAT_S - 3, "carried by a nudge, not by the heartbeat"
    finally:
        await socket.close()
        house.close()


columns = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.none() | st.floats(-9, 9), min_size=2, max_size=2)), max_size=5
)


@given(columns)
def test_merged_batches_keep_every_value_at_its_step(batches: list[dict[str, list[float | None]]]) -> None:
    parts = [
        {"step": [2 * n, 2 * n + 1], "tokens": [n, n], "elapsed_s": [0.5, 1.0], "metrics": metrics}
        for n, metrics in enumerate(batches)
    ]
    whole = frames.merged([None, *parts, None])
    if not parts:
        assert whole is None
        return
    assert whole is not None
    assert whole["step"] == list(range(2 * len(parts)))
    for name, column in whole["metrics"].items():
        assert column == [value for part in parts for value in part["metrics"].get(name, [None, None])]
    assert set(whole["metrics"]) == {name for part in parts for name in part["metrics"]}


def test_a_frame_stops_before_it_grows_too_large(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_POINTS", 12)
    lease = lease_a_run()
    for seq in range(1, 6):
        tell(lease, seq)
    seen, since = [], 0
    while True:
        frame = frames.run_frame(lease.spec.run_id, since)
        assert frame is not None
        seen.append((frame["seq"], len(frame["points"]["step"])))
        since = frame["seq"]
        if not frame["more"]:
            break
    assert seen == [(2, 10), (4, 10), (5, 5)]
