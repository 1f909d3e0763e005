"""Chromium without a server: pages are rendered by Django's test client first, then served from memory.

The browser runs in a thread of its own: Playwright's event loop would make Django refuse the database in this one. All
tests of a process share it, each in a profile of its own: a start of it takes longer than most of what is done in it.
"""

from __future__ import annotations

import mimetypes
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, Playwright, Route, sync_playwright

from webapp.pages.access import PART

HOST = "http://countersign.test"
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
Answer = tuple[int, dict[str, str], bytes]
T = TypeVar("T")


@dataclass
class Site:
    """Rendered answers by address, and what the browser asked for beyond them."""

    answers: Mapping[str, Answer]
    posted: list[tuple[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def serve(self, route: Route) -> None:
        request = route.request
        address = request.url.removeprefix(HOST)
        if request.method == "POST":
            self.posted.append((address, request.post_data or ""))
            route.fulfill(status=204)
        elif address.startswith("/static/"):
            path = Path(settings.STATIC_ROOT) / urlsplit(address).path.removeprefix("/static/")
            route.fulfill(body=path.read_bytes(), content_type=mimetypes.guess_type(path.name)[0] or "text/plain")
        elif answer := self.answers.get(address):
            route.fulfill(status=answer[0], headers=answer[1], body=answer[2])
        elif request.headers.get("hx-request"):
            route.fulfill(status=204)  # a region that looks for news: there is none
        else:
            self.complaints.append(f"asked for {address}, which was not rendered")
            route.abort()


def rendered(client: Client, *addresses: str, **extra: Any) -> dict[str, Answer]:
    """What the test client gets, with the headers that rule the browser."""
    answers = {}
    for address in addresses:
        response = client.get(address, follow=True, **extra)
        kept = {name: response[name] for name in ("Content-Type", "Content-Security-Policy", PART) if name in response}
        content = b"".join(response.streaming_content) if response.streaming else response.content  # type: ignore[arg-type]
        answers[address] = (response.status_code, kept, content)
    return answers


_KEPT: dict[str, Mapping[str, Answer]] = {}


def once(name: str, render: Callable[[], Mapping[str, Answer]]) -> Site:
    """A site that many tests only look at, in other themes and widths: what the first of them rendered."""
    if name not in _KEPT:
        _KEPT[name] = render()
    return Site(_KEPT[name])


def in_browser(site: Site, act: Callable[[Page], T], *, theme: str = "light", width: int = 1440) -> T:
    """``act`` on a fresh page in Chromium; its answer, or its exception."""
    return CHROMIUM.play(site, act, theme, width)


def executable() -> str | None:
    """Debian's Chromium where there is one; else None: the one that Playwright brought."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One browser, started when it is first asked for something."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def play(self, site: Site, act: Callable[[Page], T], theme: str, width: int) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1)
        return self._thread.submit(self._play, site, act, theme, width).result(timeout=110)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.submit(self._close).result(timeout=30)
            self._thread.shutdown()
            self._thread = None

    def _play(self, site: Site, act: Callable[[Page], T], theme: str, width: int) -> T:
        with _profile(self._started(), theme, width) as page:
            page.on("pageerror", lambda error: site.complaints.append(str(error)))
            page.on("console", lambda line: site.complaints.append(line.text) if line.type == "error" else None)
            page.route("**/*", site.serve)
            page.route_web_socket("**/live/**", lambda socket: None)  # open, and silent
            return act(page)

    def _started(self) -> Browser:
        if self._playwright is None:
            self._playwright = sync_playwright().start()
        if self._browser is None or not self._browser.is_connected():
            self._browser = self._playwright.chromium.launch(executable_path=executable(), args=QUIET)
        return self._browser

    def _close(self) -> None:
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()
        self._browser = self._playwright = None


CHROMIUM = Chromium()


@contextmanager
def _profile(browser: Browser, theme: str, width: int) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if theme == "dark" else "light"
    )
    try:
        yield context.new_page()
    finally:
        context.close()
