"""Alice and bob watch a run in their browsers: a real uvicorn, a real Redis, a worker in another process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.live.conftest import House

PATIENCE_S = 20.0


async def frames(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Every frame until the server closes; fails when one is long in coming."""
    while True:
        try:
            yield json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        except ConnectionClosed:
            return


async def until(socket: ClientConnection, seq: int) -> list[dict[str, Any]]:
    """Frames up to the one that reaches ``seq``."""
    seen = []
    async for frame in frames(socket):
        seen.append(frame)
        if frame["seq"] >= seq:
            return seen
    raise AssertionError(f"closed with {socket.close_code} before {seq}: {seen}")


async def until_state(socket: ClientConnection, state: str) -> AsyncIterator[dict[str, Any]]:
    """Frames up to the first in ``state``."""
    async for frame in frames(socket):
        yield frame
        if frame["state"] == state:
            return


def steps(seen: list[dict[str, Any]]) -> list[int]:
    return [step for frame in seen if frame["points"] for step in frame["points"]["step"]]


async def refused(house: House, path: str, headers: dict[str, str]) -> int | None:
    async with connect(house.address(path), additional_headers=headers) as socket:
        assert [frame async for frame in frames(socket)] == []
        return socket.close_code


async def test_alice_and_bob_see_the_same_points_while_the_run_trains(house: House) -> None:
    _, run_id = house.train()
    path = house.address(f"/live/runs/{run_id}/")
    async with (
        connect(path, additional_headers=house.browser("alice")) as alice,
        connect(path, additional_headers=house.browser("bob")) as bob,
    ):
        first = json.loads(await asyncio.wait_for(alice.recv(), PATIENCE_S))
        assert (first["run"], first["seq"], first["points"], first["state"]) == (run_id, 0, None, "leased")
        house.say("for seq in range(1, 8): tell(lease, seq)")
        hers, his = await until(alice, 7), await until(bob, 7)
    assert steps(hers) == steps(his) == list(range(5, 40))
    url = house.address(f"/runs/{run_id}/points.json", "http")
    over_http = (await asyncio.to_thread(requests.get, url, headers=house.browser("alice"), timeout=10)).json()
    assert over_http["latest"]["train_loss"] == [5.0 - 0.01 * 39, 39]
    assert over_http["points"]["step"] == list(range(5, 40))
    assert over_http["points"]["metrics"]["train_loss"] == [5.0 - 0.01 * step for step in range(5, 40)]


async def test_a_browser_that_comes_back_after_kill_9_has_missed_nothing(house: House) -> None:
    _, run_id = house.train()
    headers = house.browser("alice")
    async with connect(house.address(f"/live/runs/{run_id}/"), additional_headers=headers) as socket:
        house.say("for seq in range(1, 4): tell(lease, seq)")
        before = await until(socket, 3)
        house.kill()
        house.say("for seq in range(4, 60): tell(lease, seq)")
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), PATIENCE_S)
    house.serve()
    since = before[-1]["seq"]
    async with connect(house.address(f"/live/runs/{run_id}/?since={since}"), additional_headers=headers) as socket:
        after = await until(socket, 59)
    assert steps(before) + steps(after) == list(range(5, 300))
    assert [frame["more"] for frame in after] == [True, False], "56 batches do not fit into one frame"


async def test_what_a_person_does_is_seen_without_a_new_measurement(house: House) -> None:
    _, run_id = house.train()
    async with connect(house.address(f"/live/runs/{run_id}/"), additional_headers=house.browser("alice")) as socket:
        await until(socket, 0)
        house.say(
            "ending.stop_run(Run.objects.select_related('campaign', 'revision__proposal').get(pk=lease.spec.run_id),"
            " kind='person', by=Part('test'), reason='too slow')"
        )
        house.say("tell(lease, 1)")
        last = (await until(socket, 1))[-1]
    assert "too slow" in last["stop_reason"]


async def test_the_last_frame_says_that_the_run_is_over_and_the_socket_ends(house: House) -> None:
    _, run_id = house.train()
    async with connect(house.address(f"/live/runs/{run_id}/"), additional_headers=house.browser("alice")) as socket:
        house.say("builders.finish(lease, val_bpb=1.5)")
        seen = [frame async for frame in frames(socket)]
        assert socket.close_code == 1000
    assert (seen[-1]["state"], seen[-1]["over"], steps(seen)) == ("finished", True, list(range(5)))


async def test_a_second_attempt_never_shares_a_frame_with_the_first(house: House) -> None:
    _, run_id = house.train()
    house.say(
        """
        tell(lease, 1)
        gone = contract.Failure(kind="worker_stopped", message="The worker was stopped.")
        report.end(report.leased(lease.spec.run_id, lease.token), contract.RunEnd(
            fence=lease.spec.fence, outcome="lost", failure=gone, device_s=1.0))
        lease = builders.claim(builders.make_worker(name=campaign.slug))
        assert lease.spec.run_id == {run_id}, lease
        tell(lease, lease.spec.next_seq)
    """.replace("{run_id}", str(run_id))
    )
    async with connect(house.address(f"/live/runs/{run_id}/"), additional_headers=house.browser("alice")) as socket:
        seen = await until(socket, 2)
    assert [(frame["attempt"], frame["seq"], frame["more"]) for frame in seen] == [(1, 1, True), (2, 2, False)]


async def test_a_campaign_page_hears_what_changed(house: House) -> None:
    slug, run_id = house.train()
    path = house.address(f"/live/campaigns/{slug}/")
    async with connect(path, additional_headers=house.browser("alice")) as socket:
        first = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        newest = house.say(f"answer = Event.objects.filter(campaign__slug={slug!r}).latest('pk').pk")
        assert (first["campaign"], first["changed"], first["seq"]) == (slug, [], newest)
        house.say("moves.move_campaign(campaign, 'paused', by=Part('test'), reason='lunch')")
        told = (await until(socket, newest + 1))[-1]
    assert told["changed"] == ["campaign.paused"]
    async with connect(f"{path}?since=0", additional_headers=house.browser("alice")) as socket:
        everything = (await until(socket, newest + 1))[-1]
    assert {"campaign.created", "run.leased", "campaign.paused"} <= set(everything["changed"])
    assert run_id in everything["runs"]


async def test_strangers_are_turned_away_with_a_code_that_ends_it(house: House) -> None:
    slug, run_id = house.train()
    alice, charlie = house.browser("alice"), house.browser("charlie")
    for path in (f"/live/runs/{run_id}/", f"/live/campaigns/{slug}/"):
        assert await refused(house, path, house.browser(None)) == 4401
        assert await refused(house, path, charlie) == 4403
        assert await refused(house, f"{path}?since=-1", alice) == 4400
    for path in ("/live/runs/999999/", "/live/campaigns/nowhere/", "/elsewhere/"):
        assert await refused(house, path, alice) == 4404
        assert await refused(house, path, house.browser(None)) == 4401, (
            "whether something exists is told to nobody unknown"
        )
    with pytest.raises(InvalidStatus) as other_site:
        await refused(house, f"/live/runs/{run_id}/", alice | {"Origin": "https://evil.example"})
    assert other_site.value.response.status_code == 403


async def test_nothing_that_a_browser_sends_changes_anything(house: House) -> None:
    _, run_id = house.train()
    async with connect(house.address(f"/live/runs/{run_id}/"), additional_headers=house.browser("alice")) as socket:
        await socket.send('{"type": "stop"}')
        await socket.send(b"\x00\xff")
        before = (await until(socket, 0))[-1]
        house.say("tell(lease, 1)")
        after = [frame async for frame in until_state(socket, "training")][-1]
    assert (before["state"], after["state"], after["stop_reason"]) == ("leased", "training", "")
    assert house.say(f"answer = Run.objects.get(pk={run_id}).stop_reason") == ""


def test_points_over_http_ask_for_the_same_rights(house: House) -> None:
    _, run_id = house.train()
    for ending in ("json", "csv"):
        url = house.address(f"/runs/{run_id}/points.{ending}", "http")
        assert requests.get(url, timeout=10, allow_redirects=False).status_code == 401
        assert requests.get(url, headers=house.browser("charlie"), timeout=10).status_code == 403
        nowhere = house.address(f"/runs/999999/points.{ending}", "http")
        assert requests.get(nowhere, headers=house.browser("alice"), timeout=10).status_code == 404
    bad_url = house.address(f"/runs/{run_id}/points.json?since=x", "http")
    bad = requests.get(bad_url, headers=house.browser("alice"), timeout=10)
    assert (bad.status_code, bad.json()["error"]) == (400, "since: must be a whole number, not 'x'.")


def test_csv_has_every_point_and_empty_cells_where_nothing_was_measured(house: House) -> None:
    _, run_id = house.train()
    house.say("""
        tell(lease, 1)
        metrics = {"grad_norm": [0.5], "train_loss": [None]}
        late = contract.Points(step=[11], tokens=[9], elapsed_s=[2.5], metrics=metrics)
        tell(lease, 2, points=late)
        tell(lease, 3, points=None)
    """)
    answer = requests.get(
        house.address(f"/runs/{run_id}/points.csv", "http"), headers=house.browser("alice"), timeout=10
    )
    lines = answer.text.split("\r\n")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="R-{run_id}.csv"'
    assert lines[0] == "attempt,step,tokens,elapsed_s,train_loss,watch_bpb,grad_norm"
    assert lines[1].startswith("1,5,10240,0.5,4.95,,")
    assert lines[-2:] == ["1,11,9,2.5,,,0.5", ""]
    assert len(lines) == 1 + 5 + 1 + 1
