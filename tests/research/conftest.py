"""A proposer with a key, and a scripted server at the other end of its wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from research.arms.claude.proposer import ClaudeProposer

from .anthropic_server import Script, Server, serving


class Ask(Protocol):
    def __call__(self, *scripts: Script, **options: Any) -> tuple[ClaudeProposer, Server]: ...


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """A proposer that talks to a scripted server and notes its pauses instead of sitting through them."""
    with ExitStack() as stack:

        def start(*scripts: Script, **options: Any) -> tuple[ClaudeProposer, Server]:
            server = stack.enter_context(serving(*scripts))
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            proposer = ClaudeProposer(**({"api_key": "test-key", "timeout_s": 20.0} | options))
            proposer.client.sleep = pauses.append
            return proposer, server

        yield start


pauses: list[float] = []


@pytest.fixture(autouse=True)
def _no_pauses_yet() -> None:
    pauses.clear()
