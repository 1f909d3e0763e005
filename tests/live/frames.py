"""What comes over a socket, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

PATIENCE_S = 20.0


async def frames(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Every frame until the server closes; fails when one is long in coming."""
    while True:
        try:
            yield json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        except ConnectionClosed:
            return


async def frames_until(socket: ClientConnection, seq: int) -> list[dict[str, Any]]:
    """Frames up to the one that reaches ``seq``."""
    seen = []
    async for frame in frames(socket):
        seen.append(frame)
        if frame["seq"] >= seq:
            return seen
    raise AssertionError(f"closed with {socket.close_code} before {seq}: {seen}")


async def frames_until_state(socket: ClientConnection, state: str) -> AsyncIterator[dict[str, Any]]:
    """Frames up to the first in ``state``."""
    async for frame in frames(socket):
        yield frame
        if frame["state"] == state:
            return


def steps(seen: list[dict[str, Any]]) -> list[int]:
    return [step for frame in seen if frame["points"] for step in frame["points"]["step"]]
