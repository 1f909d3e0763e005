"""Chromium without a server: pages are rendered by Django's test client first, then served from memory.

The browser runs in a thread of its own: Playwright's event loop would make Django refuse the database in this one.
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
from playwright.sync_api import Page, Route, sync_playwright

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


def in_browser(site: Site, act: Callable[[Page], T], *, theme: str = "light", width: int = 1440) -> T:
    """``act`` on a fresh page in Chromium; its answer, or its exception."""

    def play() -> T:
        with _page(site, theme, width) as page:
            return act(page)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(play).result(timeout=110)


@contextmanager
def _page(site: Site, theme: str, width: int) -> Iterator[Page]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if theme == "dark" else "light"
        )
        page = context.new_page()
        page.on("pageerror", lambda error: site.complaints.append(str(error)))
        page.on("console", lambda line: site.complaints.append(line.text) if line.type == "error" else None)
        page.route("**/*", site.serve)
        page.route_web_socket("**/live/**", lambda socket: None)  # open, and silent
        yield page
        browser.close()
