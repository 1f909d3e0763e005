"""One person, one browser: sign in, approve from the keyboard, watch the curve move, read the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.loop.house import House
from tests.web.chromium import QUIET, executable

pytestmark = pytest.mark.browser


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=QUIET)
        yield browser.new_page()
        browser.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    home = tmp_path / "home"
    home.mkdir()
    house = House(
        home, run_budget_amount=100_000, smoke_steps=2, score_tokens=8_192, min_pairs=2, max_pairs=2, num_waiting=1
    )
    yield house
    house.end()


def test_bob_approves_with_a_key_and_sees_the_curve_move_and_the_verdict(house: House, page: Page) -> None:
    house.wait_for("web", lambda: "Sign in once" in (house.home / "up.log").read_text(), seconds=60)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.goto(house.login_link())
    page.get_by_role("button", name="Sign in as").click()

    page.goto(f"{house.url}/review/")
    start, approve = page.get_by_role("link", name="Start reviewing"), page.get_by_role("button", name="Approve")
    expect(start.or_(approve)).to_be_visible(timeout=90_000)  # the page follows the gates without being reloaded
    if start.is_visible():
        start.click()
    expect(approve).to_be_visible()
    number = page.locator("[data-proposal]").first.get_attribute("data-proposal")
    page.keyboard.press("a")
    house.wait_for(
        "the approval", lambda: house.ask("SELECT 1 FROM research_decision WHERE choice = 'approve'"), seconds=20
    )

    candidate = house.wait_for(
        "the candidate's run",
        lambda: house.ask("SELECT id FROM research_run WHERE purpose = 'candidate' AND state = 'training'"),
        seconds=120,
    )[0]["id"]
    page.goto(f"{house.url}/runs/{candidate}/")
    seen = page.locator("[data-live-step]")
    expect(seen).not_to_have_attribute("data-live-step", "0", timeout=30_000)
    first = int(seen.get_attribute("data-live-step") or 0)
    page.wait_for_function(
        "n => Number(document.querySelector('[data-live-step]').dataset.liveStep) > n", arg=first, timeout=30_000
    )

    page.goto(f"{house.url}/proposals/{number}/")
    expect(page.locator(".verdict")).to_be_visible(timeout=180_000)
    assert complaints == []
