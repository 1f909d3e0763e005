"""Waiting for what other processes, threads and tasks do: on a condition with a deadline, never on the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 20.0
Answer = TypeVar("Answer")


def wait_until(is_so: Callable[[], Answer], what: str, within_s: float = PATIENCE_S) -> Answer:
    """The first true answer of ``is_so``; fails with ``what`` when there is none in time."""
    give_up_at = time.monotonic() + within_s
    while not (answer := is_so()):
        assert time.monotonic() < give_up_at, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
    return answer


async def wait_in_loop_until(is_so: Callable[[], Answer], what: str, within_s: float = PATIENCE_S) -> Answer:
    """The same in an event loop, which goes on meanwhile."""
    give_up_at = time.monotonic() + within_s
    while not (answer := is_so()):
        assert time.monotonic() < give_up_at, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.01)
    return answer
