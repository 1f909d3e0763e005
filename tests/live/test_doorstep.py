"""The web server's protocols by themselves: whoever takes nothing is cut off, whoever is slow is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from tests.waiting import wait_in_loop_until
from webapp.house import doorstep

PATIENCE_S = 20.0
LONG = 40 * 2**20
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def long_answer(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """An application with much to say, over HTTP and on a socket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(LONG // 2**20):
            await send({"type": "websocket.send", "bytes": b"a" * 2**20})
        await send({"type": "websocket.close"})
        return
    length = (b"content-length", str(LONG).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    for left in reversed(range(LONG // 2**20)):
        await send({"type": "http.response.body", "body": b"a" * 2**20, "more_body": left > 0})


@pytest.fixture
async def state(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServerState]:
    """A server on ``state.port``; ``connections`` are those that it holds."""
    monkeypatch.setattr(doorstep, "TAKES_NOTHING_S", 0.5)
    monkeypatch.setattr(doorstep, "CLOSES_WITHIN_S", 0.5)
    state = ServerState()
    config = uvicorn.Config(long_answer, http=doorstep.Doorstep, ws=doorstep.LiveStep, lifespan="off", log_config=None)
    config.load()

    def protocol() -> doorstep.Doorstep:
        return doorstep.Doorstep(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield state
    server.close()
    while state.tasks:
        await asyncio.wait(state.tasks, timeout=PATIENCE_S)


async def gone(state: ServerState) -> None:
    await wait_in_loop_until(lambda: not state.connections and not state.tasks, "everybody gone")


async def test_who_asks_for_much_and_takes_none_of_it_is_cut_off(state: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", state.port, limit=1024)
    writer.write(GET)
    await wait_in_loop_until(lambda: state.tasks, "the request")
    await gone(state)
    writer.close()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await reader.readexactly(LONG)


async def test_a_socket_that_takes_nothing_is_cut_off_too(state: Any) -> None:
    socket = await connect(f"ws://127.0.0.1:{state.port}/", max_queue=1, ping_interval=None, compression=None)
    await wait_in_loop_until(lambda: state.tasks, "the request")
    await gone(state)
    socket.transport.abort()


async def test_who_takes_slowly_gets_all_of_it_however_long_that_takes(state: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", state.port)
    writer.write(GET)
    began = asyncio.get_running_loop().time()
    await reader.readuntil(b"\r\n\r\n")
    num_taken = 0
    while num_taken < LONG:
        piece = await reader.read(2**20)
        assert piece, "cut off"
        num_taken += len(piece)
        if num_taken % 2**22 < len(piece):
            await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - began > 2 * doorstep.TAKES_NOTHING_S - 0.2
    assert num_taken == LONG
    writer.close()
    await gone(state)


class Held:
    def __init__(self, host: str) -> None:
        self.client = (host, 1)


def test_one_address_holds_half_of_what_there_is_and_a_proxy_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorstep, "most_connections", lambda: 10)
    one: set[Any] = {Held("203.0.113.7") for _ in range(6)}
    assert doorstep.is_full(one, "203.0.113.7")
    assert not doorstep.is_full(one | {Held("198.51.100.9")}, "198.51.100.9")
    household: set[Any] = {Held(f"2001:db8:1:2::{n:x}") for n in range(6)}
    assert doorstep.is_full(household, "2001:db8:1:2::9")
    monkeypatch.setattr(doorstep, "PROXIES", [doorstep.ipaddress.ip_network("10.0.0.0/24")])
    proxy: set[Any] = {Held("10.0.0.7") for _ in range(10)}
    assert not doorstep.is_full(proxy, "10.0.0.7")
    assert doorstep.is_full(proxy | {Held("10.0.0.7")}, "10.0.0.7")
