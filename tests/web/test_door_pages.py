"""In Chromium: what a door says when it does not open, and a page whose seat was taken."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from playwright.sync_api import Page, WebSocketRoute

from research.models import Campaign
from tests.web.accessibility import problems_of
from tests.web.chromium import HOST, Site, in_browser, once, rendered

pytestmark = pytest.mark.browser


@pytest.fixture
def resting(bob: User) -> Site:
    """What bob sees once eight wrong passwords came from where he is."""
    form = {"username": "bob", "password": "wrong"}
    answer = [Client().post("/login/", form) for _ in range(9)][-1]
    kept = {name: answer[name] for name in ("Content-Type", "Content-Security-Policy")}
    return Site({"/login/": (200, kept, answer.content)})


@pytest.fixture
def resting_page(request: pytest.FixtureRequest) -> Site:
    return once("resting", lambda: request.getfixturevalue("resting").answers)


@pytest.mark.django_db
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_that_a_name_rests_is_said_in_words_that_everybody_can_read(resting_page: Site, theme: str, width: int) -> None:
    def look(page: Page) -> tuple[list[str], str, str]:
        problems = problems_of(page, "/login/")
        return problems, page.get_by_role("alert").inner_text(), page.input_value("#user")

    problems, words, name = in_browser(resting_page, look, theme=theme, width=width)
    assert problems == []
    assert "Too many wrong passwords" in words and "for 15 more minutes" in words
    assert "manage.py loginlink bob" in words
    assert name == "bob"


def test_the_command_that_the_page_names_prints_a_link_that_works_meanwhile(
    resting: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("loginlink", "bob")
    link = capsys.readouterr().out.strip()
    assert Client().post("/" + link.split("/", 3)[3])["Location"] == "/"


def test_a_page_whose_seat_was_taken_says_so_and_waits_until_somebody_looks(
    bobs_browser: Client, campaign: Campaign
) -> None:
    address = f"/campaigns/{campaign.slug}/"
    site = Site(rendered(bobs_browser, address))
    opened: list[WebSocketRoute] = []

    def answer(socket: WebSocketRoute) -> None:
        opened.append(socket)
        if len(opened) == 1:
            socket.close(code=4429, reason="another page of yours is live instead")

    def look(page: Page) -> tuple[str, str | None, int, str]:
        page.route_web_socket("**/live/**", answer)
        page.goto(HOST + address)
        chip = page.locator("#chip")
        page.get_by_text("Too many pages").wait_for(timeout=5_000)
        page.wait_for_timeout(3_000)  # a page that came back by itself would have done so twice
        said, why, num = chip.inner_text(), chip.get_attribute("title"), len(opened)
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.locator("#chip[data-now=live]").wait_for(timeout=5_000)
        return said, why, num, chip.inner_text()

    said, why, num, then = in_browser(site, look)
    assert (said.strip(), num, then.strip()) == ("Too many pages", 1, "Live")
    assert why is not None and why.startswith("More of your pages are open than are kept live at once")
    assert len(opened) == 2
    assert site.complaints == []
