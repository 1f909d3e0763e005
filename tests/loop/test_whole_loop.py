"""From nothing to a verdict: real processes, a real browser session, real training of ten steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.doors import walk_in
from tests.loop.house import House, approve

STEP_TOKENS = 8 * 256  # the recipe's default batch
# Whatever is drawn has to change something: weights that are averaged over the last fifth of five steps are the same.
NUM_STEPS = 10


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


@pytest.fixture
def browser(house: House) -> Iterator[requests.Session]:
    """Signed in by the link that was printed."""
    house.wait_for("web", lambda: "Sign in once" in (house.home / "up.log").read_text(), seconds=60)
    with requests.Session() as browser:
        assert walk_in(browser, house.login_link()).status_code == 200
        yield browser


def test_alice_starts_it_approves_a_proposal_and_reads_its_verdict(house: House, browser: requests.Session) -> None:
    waiting = house.wait_for(
        "a proposal to review",
        lambda: house.ask("SELECT id FROM research_proposal WHERE state = 'pending_review'"),
        seconds=90,
    )
    number = waiting[0]["id"]
    page = f"{house.url}/proposals/{number}/"
    assert approve(browser, page).status_code == 200
    house.wait_for(
        "a verdict",
        lambda: house.ask("SELECT 1 FROM research_proposal WHERE id = ? AND state = 'judged'", number),
        seconds=240,
    )

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
    stored = house.ask(
        "SELECT run_id, COUNT(*) AS n, MAX(seq) AS newest, SUM(num_points) AS points"
        " FROM research_reportbatch GROUP BY run_id"
    )
    assert all(row["n"] == row["newest"] and row["points"] >= 2 for row in stored), "a batch is missing"
    verdict = house.ask("SELECT outcome, reason, num_pairs, crashed FROM research_verdict")[0]
    assert verdict["num_pairs"] == 2, verdict["reason"]
    assert not verdict["crashed"], verdict["reason"]
    assert house.ask("SELECT COUNT(*) AS n FROM research_finding")[0]["n"] >= 1
    for path in (f"/proposals/{number}/", "/campaigns/standard-library/", "/runs/", "/review/", "/admin/"):
        assert browser.get(house.url + path, timeout=20).status_code == 200, path
    house.wait_for(
        "the next proposal",
        lambda: house.ask("SELECT 1 FROM research_proposal WHERE id > ? AND state = 'pending_review'", number),
        seconds=90,
    )
    assert house.end() == 0
