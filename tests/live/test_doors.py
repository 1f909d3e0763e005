"""Strangers lean on the doors: bodies too long or too slow, connections that say nothing, sockets without end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.live.conftest import House
from tests.live.frames import PATIENCE_S
from tests.waiting import wait_in_loop_until
from webapp.house import doorstep
from webapp.live import seats

PIECE = b"a" * 65_536
PLACES = ["/login/", "/api/v1/campaigns/first/proposals", "/api/worker/claim", "/nowhere", "/static/nothing.css"]
FORM = "application/x-www-form-urlencoded"


def head(house: House, path: str, *fields: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{house.port}", *fields, "", ""]).encode()


async def opened(house: House, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(first)
    return reader, writer


async def answer_of(reader: asyncio.StreamReader, within_s: float = PATIENCE_S) -> tuple[int, bytes]:
    """Code and body of an answer after which the connection ends; 0 where it ends without one."""
    said = await asyncio.wait_for(reader.read(), within_s)
    top, _, body = said.partition(b"\r\n\r\n")
    return (int(top.split()[1]) if top else 0), body


@pytest.mark.parametrize("path", PLACES)
async def test_a_body_that_says_it_is_too_long_is_refused_before_a_byte_of_it_is_read(house: House, path: str) -> None:
    reader, writer = await opened(house, head(house, path, f"Content-Length: {300 * 2**20}"))
    code, words = await answer_of(reader)
    writer.close()
    assert code == 413
    sentence = json.loads(words)["error"] if path.startswith("/api/") else words.decode()
    assert "ody: it is too long; at most" in sentence


async def test_whoever_asks_first_whether_to_send_a_long_body_is_told_no(house: House) -> None:
    asks = head(house, "/login/", f"Content-Length: {300 * 2**20}", "Expect: 100-continue")
    reader, writer = await opened(house, asks)
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


@pytest.mark.parametrize("path", PLACES)
async def test_a_body_that_hides_its_length_is_cut_off_where_it_is_too_long(house: House, path: str) -> None:
    reader, writer = await opened(house, head(house, path, "Transfer-Encoding: chunked"))
    answer = asyncio.ensure_future(reader.readline())
    num_sent = 0
    while not answer.done() and num_sent < 2**30:
        writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        num_sent += len(PIECE)
        await writer.drain()
        await asyncio.sleep(0)
    assert b"413" in await answer
    writer.close()
    assert num_sent < 64 * 2**20, "what fits into the two machines' buffers, and not what it wanted to send"
    assert spooled(house) == 0


def spooled(house: House) -> int:
    """Bytes in files of the web process that have no name: what Django keeps of bodies."""
    held = Path(f"/proc/{house.web_pid}/fd")
    return sum(os.stat(file).st_size for file in held.iterdir() if "(deleted)" in os.readlink(file))


def test_what_a_page_can_use_still_comes_in(house: House) -> None:
    patch = {"patch": "a" * 3_000_000}
    url = house.address("/proposals/999999/edit/", "http")
    assert requests.post(url, data=patch, timeout=20).status_code == 403, "it is Django that looks for the CSRF token"
    report = house.address("/api/worker/runs/1/report", "http")
    assert requests.post(report, data=b"a" * 2_000_000, timeout=20).status_code == 401
    assert requests.post(report, data=iter([b"a" * 2_000_000]), timeout=20).status_code == 401, "in chunks"
    assert requests.post(report, data=b"a" * 2_200_000, timeout=20).status_code == 413


async def test_what_is_slow_ends_after_ten_seconds_and_others_are_served_meanwhile(house: House) -> None:
    slow_body = head(house, "/login/", f"Content-Type: {FORM}", "Content-Length: 5000")
    ways = {
        "a body, byte by byte": (slow_body, b"a", 408),
        "a body that never comes": (head(house, "/nowhere", "Content-Length: 5000"), b"", 408),
        "a chunked one": (head(house, "/api/v1/", "Transfer-Encoding: chunked"), b"1\r\na\r\n", 408),
        "headers, line by line": (b"GET /login/ HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n", 408),
        "nothing at all": (b"", b"", 0),
        "a second request's headers": (head(house, "/login/", method="GET") + b"GET / HT", b"T", 408),
    }
    began = time.monotonic()
    crowd = [asyncio.ensure_future(_lean(house, *way)) for way in ways.values() for _ in range(10)]
    page = await asyncio.to_thread(requests.get, house.address("/login/", "http"), timeout=10)
    assert (page.status_code, time.monotonic() - began < doorstep.HEADERS_WITHIN_S) == (200, True)
    ended = await asyncio.wait_for(asyncio.gather(*crowd), 30)
    assert time.monotonic() - began < 20
    assert Counter(ended) == Counter(code for _, _, code in ways.values() for _ in range(10))


async def _lean(house: House, first: bytes, drip: bytes, code: int) -> int:
    """The last code that came before the connection ended."""
    reader, writer = await opened(house, first)
    dripping = asyncio.ensure_future(_drip(writer, drip))
    try:
        said = await reader.read()
    except ConnectionError:
        said = b""
    finally:
        dripping.cancel()
        writer.close()
    return max((int(found) for found in re.findall(rb"^HTTP/1.1 (\d+)", said, re.M)), default=0)


async def _drip(writer: asyncio.StreamWriter, drip: bytes) -> None:
    while True:
        await asyncio.sleep(0.5)
        writer.write(drip)


def num_connections(house: House) -> int:
    """Established ones, as the kernel counts them at the server's end."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{house.port:04X}") and line.split()[3] == "01" for line in lines)


async def test_one_address_does_not_take_all_connections_from_the_others(house: House) -> None:
    await wait_in_loop_until(lambda: num_connections(house) == 0, "those of other tests have gone")
    before = resource.prlimit(house.web_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(house.web_pid, resource.RLIMIT_NOFILE, (doorstep.OTHER_FILES + 64, before[1]))
    held = [await opened(house, b"GET / HT") for _ in range(40)]
    try:
        await wait_in_loop_until(lambda: num_connections(house) <= 32, "half of 64 are let in")
        assert num_connections(house) == 32
        local = await asyncio.open_connection("127.0.0.1", house.port, local_addr=("127.0.0.2", 0))
        local[1].write(head(house, "/login/", "Connection: close", method="GET"))
        assert (await answer_of(local[0]))[0] == 200
        local[1].close()
    finally:
        resource.prlimit(house.web_pid, resource.RLIMIT_NOFILE, before)
        for _, writer in held:
            writer.close()


async def test_the_sixty_fifth_socket_of_alice_takes_the_seat_of_her_first(house: House) -> None:
    slug, _ = house.train()
    path = house.address(f"/live/campaigns/{slug}/")
    bobs = await connect(path, additional_headers=house.browser("bob"))
    hers = []
    for _ in range(seats.SEATS + 6):
        hers.append(await connect(path, additional_headers=house.browser("alice")))
        await asyncio.wait_for(hers[-1].recv(), PATIENCE_S)
    assert [await closed(socket) for socket in hers[:6]] == [4429] * 6
    house.say("moves.move_campaign(campaign, 'paused', by=Part('test'), reason='lunch')")
    for socket in [*hers[6:], bobs]:
        assert "campaign.paused" in await told(socket)
        await socket.close()


async def closed(socket: ClientConnection) -> int | None:
    await asyncio.wait_for(socket.wait_closed(), PATIENCE_S)
    return socket.close_code


async def told(socket: ClientConnection) -> Any:
    """What changed, once something has."""
    while not (changed := json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))["changed"]):
        pass
    return changed


@pytest.mark.parametrize(("flood", "code"), [("short", 1008), ("pings", 1008), ("pieces", 1008), ("long", 1009)])
async def test_a_socket_that_will_not_be_quiet_is_closed(house: House, flood: str, code: int) -> None:
    slug, _ = house.train()
    address = house.address(f"/live/campaigns/{slug}/")
    socket = await connect(address, additional_headers=house.browser("alice"), ping_interval=None)
    with suppress(ConnectionClosed):
        await asyncio.wait_for(_flood(socket, flood), PATIENCE_S)
    assert await closed(socket) == code


async def _flood(socket: ClientConnection, how: str) -> None:
    if how == "long":
        await socket.send("a" * 5000)
    elif how == "pieces":
        await socket.send([""] * 150)
    else:
        for _ in range(150):
            await (socket.send("a") if how == "short" else socket.ping())


async def test_a_socket_is_for_pages_of_the_very_same_scheme_host_and_port(house: House) -> None:
    slug, _ = house.train()
    path, alice = f"/live/campaigns/{slug}/", house.browser("alice")
    strange = [f"http://127.0.0.1:{house.port + 1}", "http://127.0.0.1", f"https://127.0.0.1:{house.port}"]
    for origin in [*strange, f"http://localhost:{house.port}", "null", ""]:
        with pytest.raises(InvalidStatus) as refused:
            await connect(house.address(path), additional_headers=alice | {"Origin": origin})
        assert refused.value.response.status_code == 403, origin
    by_another_name = f"ws://localhost:{house.port}{path}"
    headers = alice | {"Origin": f"http://localhost:{house.port}"}
    async with connect(by_another_name, additional_headers=headers) as socket:
        assert json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))["campaign"] == slug


def stranger_at(house: House, name: str) -> Callable[..., requests.Response]:
    """Sends a wrong password for ``name``; ``headers`` may be given."""
    url = house.address("/login/", "http")
    with requests.Session() as browser:
        page = browser.get(url, timeout=10).text
        cookies = browser.cookies.get_dict()
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    form = {"username": name, "password": "wrong", "csrfmiddlewaretoken": found[1]}
    return partial(requests.post, url, data=form, cookies=cookies, timeout=60)


def once_there_is_room(guess: Callable[[], requests.Response]) -> int:
    """On a busy machine the door is crowded for longer than it lets anybody wait (503), and looks at no guess."""
    return next(code for _ in range(20) if (code := guess().status_code) != 503)


def test_of_a_hundred_guesses_at_the_same_moment_eight_are_looked_at(house: House) -> None:
    guess = stranger_at(house, "alice")
    with ThreadPoolExecutor(25) as pool:
        assert Counter(pool.map(once_there_is_room, [guess] * 100)) == {422: 8, 429: 92}
    assert house.say("answer = Event.objects.filter(kind='sign_in.rests', payload__user='alice').count()") == 1


def test_an_address_that_somebody_made_up_is_not_believed(house: House) -> None:
    guess = stranger_at(house, "bob")
    seen = [guess(headers={"X-Forwarded-For": f"203.0.113.{n}"}).status_code for n in range(9)]
    assert seen == [422] * 8 + [429]


def test_behind_a_proxy_that_was_named_the_last_address_is_believed_that_it_saw(tmp_path: Path, redis_url: str) -> None:
    house = House(tmp_path, redis_url, COUNTERSIGN_PROXIES="127.0.0.1")
    try:
        house.serve()
        guess = stranger_at(house, "bob")
        forged = [{"X-Forwarded-For": f"198.51.100.{n}, 203.0.113.7"} for n in range(9)]
        assert [guess(headers=headers).status_code for headers in forged] == [422] * 8 + [429]
        assert guess(headers={"X-Forwarded-For": "203.0.113.8"}).status_code == 422, "another address"
    finally:
        house.close()
