"""From nothing to a verdict, one person with one browser: real processes, real training, approved from the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.loop.house import House
from tests.web.chromium import QUIET, executable

pytestmark = pytest.mark.browser

STEP_TOKENS = 8 * 256  # the recipe's default batch
# Whatever is drawn has to change something: weights that are averaged over the last fifth of five steps are the same.
NUM_STEPS = 48  # and long enough to see the curve move


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
        home,
        run_budget_amount=NUM_STEPS * STEP_TOKENS,
        smoke_steps=2,
        score_tokens=8_192,
        min_pairs=2,
        max_pairs=2,
        num_waiting=1,
    )
    yield house
    if house.process.poll() is None:
        house.end()


def test_alice_starts_it_approves_with_a_key_sees_the_curve_move_and_reads_the_verdict(
    house: House, page: Page
) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    _walk_in(house, page)
    number = _approve_the_first(house, page)
    _watch_its_curve_move(house, page)

    page.goto(f"{house.url}/proposals/{number}/")
    expect(page.locator(".verdict")).to_be_visible(timeout=240_000)
    _the_verdict_is_about_two_pairs(house)
    _every_run_did_what_was_approved(house)
    _no_report_is_missing(house)
    for path in (f"/proposals/{number}/", "/campaigns/standard-library/", "/runs/", "/review/", "/admin/"):
        answer = page.goto(house.url + path)
        assert answer is not None and answer.status == 200, path
    house.wait_for(
        "the next proposal",
        lambda: house.ask("SELECT 1 FROM research_proposal WHERE id > ? AND state = 'pending_review'", number),
        seconds=90,
    )
    assert complaints == []
    page.goto("about:blank")
    assert house.end() == 0


def _walk_in(house: House, page: Page) -> None:
    house.wait_for("web", lambda: "Sign in once" in (house.home / "up.log").read_text(), seconds=60)
    page.goto(house.login_link())
    page.get_by_role("button", name="Sign in as").click()


def _approve_the_first(house: House, page: Page) -> int:
    """Its number. The page follows the gates without being reloaded."""
    page.goto(f"{house.url}/review/")
    start, approve = page.get_by_role("link", name="Start reviewing"), page.get_by_role("button", name="Approve")
    expect(start.or_(approve)).to_be_visible(timeout=90_000)
    if start.is_visible():
        start.click()
    expect(approve).to_be_visible()
    number = page.locator("[data-proposal]").first.get_attribute("data-proposal")
    page.keyboard.press("a")
    house.wait_for(
        "the approval", lambda: house.ask("SELECT 1 FROM research_decision WHERE choice = 'approve'"), seconds=20
    )
    return int(number or 0)


def _watch_its_curve_move(house: House, page: Page) -> None:
    training = "SELECT id FROM research_run WHERE purpose = 'candidate' AND state = 'training'"
    candidate = house.wait_for("the candidate's run", lambda: house.ask(training), seconds=120)[0]["id"]
    page.goto(f"{house.url}/runs/{candidate}/")
    seen = page.locator("[data-live-step]")
    expect(seen).not_to_have_attribute("data-live-step", "0", timeout=30_000)
    first = int(seen.get_attribute("data-live-step") or 0)
    page.wait_for_function(
        "n => Number(document.querySelector('[data-live-step]').dataset.liveStep) > n", arg=first, timeout=30_000
    )


def _every_run_did_what_was_approved(house: House) -> None:
    runs = house.ask(
        "SELECT r.purpose, r.state, r.last_seq, r.num_steps, r.num_tokens, s.val_bpb, r.device_s FROM research_run r"
        " LEFT JOIN research_score s ON s.run_id = r.id WHERE r.purpose != 'smoke' AND r.state = 'finished'"
    )
    assert {run["purpose"] for run in runs} == {"baseline", "candidate"}
    seen = [*map(tuple, runs)]
    assert all(run["num_steps"] == NUM_STEPS for run in runs if run["purpose"] == "baseline"), seen
    # A candidate may be drawn that changes the batch: other steps, never more tokens.
    assert all(0 < run["num_tokens"] <= NUM_STEPS * STEP_TOKENS for run in runs), seen
    assert all(0 < run["val_bpb"] < 9 and run["device_s"] > 0 for run in runs), seen


def _no_report_is_missing(house: House) -> None:
    stored = house.ask(
        "SELECT run_id, COUNT(*) AS n, MAX(seq) AS newest, SUM(num_points) AS points"
        " FROM research_reportbatch GROUP BY run_id"
    )
    assert all(row["n"] == row["newest"] and row["points"] >= 2 for row in stored), "a batch is missing"


def _the_verdict_is_about_two_pairs(house: House) -> None:
    verdict = house.ask("SELECT outcome, reason, num_pairs, crashed FROM research_verdict")[0]
    assert not verdict["crashed"], verdict["reason"]
    assert verdict["num_pairs"] == 2, verdict["reason"]
    assert house.ask("SELECT COUNT(*) AS n FROM research_finding")[0]["n"] >= 1
