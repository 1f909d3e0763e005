"""A campaign that nobody attends: the real house on a GPU; a reviewer approves all that the gates let through."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import requests
from playwright.sync_api import sync_playwright

from gpu_runner.worker import compile_cache
from tests.benchmarks.record import FOLDER, Record
from tests.doors import walk_in
from tests.gpu import inside
from tests.gpu import utilization as use
from tests.gpu.machine import DRY, FILES, IS_DRY_RUN, MINUTES, gpu_memory_mib, left_s, verdict
from tests.gpu.stages import Steps, steps
from tests.loop.house import House
from tests.loop.test_whole_loop import approve
from tests.web.chromium import QUIET
from tests.worker.world import processes_with

pytestmark = pytest.mark.gpu

SLUG = "gpu"
NUM_PAIRS = 3
NUM_APPROVED = 2  # at a time: one runs, one waits behind it
NUM_RUNS = 6 if IS_DRY_RUN else 24  # three of the incumbent, and three for each proposal
WANTED_RUNS = 20
SCORE_TOKENS = 8_192 if IS_DRY_RUN else 524_288  # rows enough that few processes ask them all (test_scorer.py)
# Around each run's seconds: starting, compiling warm, scoring, and its part of the smoke runs. Chosen; see the table.
AROUND_S = 40.0
SHORTEST_S, LONGEST_S = 10.0, 300.0
END_S = 90.0  # kept for the last run's end, the pages and the table
MOST_IDLE_PERCENT = 2.0
SLACK_MIB = 64

SCRIPT = """
from pathlib import Path
from django.conf import settings
from gpu_runner.data.manifest import manifest_sha256
from research.record import campaigns
from research.record.rights import Part
from research.runs import ending
from research.models import Campaign, Proposal
from webapp.house import doctor
from webapp.management.commands.bootstrap import administrator

Proposal.objects.all().delete()
ending.halt(Campaign.objects.get(), by=Part("make gpu"), reason="another campaign is measured here")
settings.RECIPES = Path({recipes!r})
campaigns.create(
    by=Part("make gpu"), created_by=administrator(), slug={slug!r}, name="GPU", recipe="gpt",
    goal="Fewer bits per byte of the source text of the packages that are installed, in the same seconds.",
    dataset={dataset!r}, dataset_sha256=manifest_sha256(Path({folder!r})), run_budget_kind="seconds",
    run_budget_amount={seconds!r}, score_tokens={score_tokens!r}, min_pairs={pairs!r}, max_pairs={pairs!r},
    smoke_steps=3, num_waiting=1, deadline_s=900.0, sandbox_level=doctor.machine()["sandbox"],
)
"""


def seconds_of_a_run() -> float | None:
    """What each of NUM_RUNS may train for in the time that is left; None when that is too short for any."""
    if IS_DRY_RUN:
        return 2.0
    each = (left_s() - END_S) / NUM_RUNS - AROUND_S
    if left_s() < END_S + 3 * (SHORTEST_S + AROUND_S):
        return None
    return float(round(min(max(each, SHORTEST_S), LONGEST_S)))


def sized(folder: Path) -> Path:
    """A folder of recipes with the shipped one, whose defaults are a GPU's. Its code is the shipped code."""
    shutil.copytree(compile_cache.RECIPES / "gpt", folder / "gpt", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "gpt" / "recipe.toml"
    text = path.read_text()
    for knob, value in inside.SMALL.items():
        text, num = re.subn(rf"(\[knobs\.{knob}\]\n(?:.+\n)*?default = ).*", rf"\g<1>{value}", text)
        assert num == 1, knob
    path.write_text(text)
    return folder


def make_house(home: Path, corpus: Path, seconds: float) -> House:
    home.mkdir()
    script = SCRIPT.format(
        recipes=str(sized(home / "recipes")),
        slug=SLUG,
        dataset=corpus.name,
        folder=str(corpus),
        seconds=seconds,
        score_tokens=SCORE_TOKENS,
        pairs=NUM_PAIRS,
    )
    return House(home, script=script, also={"COUNTERSIGN_DATASETS": str(corpus.parent)})


class Campaign:
    """The house while it runs, read from its database."""

    def __init__(self, house: House) -> None:
        self.house = house

    def ended(self) -> list[sqlite3.Row]:
        """Runs of the incumbent and of candidates that are over, in the order of their ends."""
        return self.house.ask(
            "SELECT id, purpose, state, val_bpb FROM (SELECT r.id, r.purpose, r.state, r.ended_at, s.val_bpb FROM"
            " research_run r JOIN research_campaign c ON c.id = r.campaign_id LEFT JOIN research_score s ON"
            " s.run_id = r.id WHERE c.slug = ? AND r.purpose != 'smoke' AND r.state IN"
            " ('finished', 'failed', 'timed_out')) ORDER BY ended_at",
            SLUG,
        )

    def review(self, browser: requests.Session) -> None:
        """Approve the oldest that waits, while few are approved: each one lets another be drafted, and tried first."""
        approved = self.house.ask("SELECT id FROM research_proposal WHERE state IN ('approved', 'running')")
        waiting = self.house.ask("SELECT id FROM research_proposal WHERE state = 'pending_review' ORDER BY id")
        for row in waiting[: max(NUM_APPROVED - len(approved), 0)]:
            approve(browser, f"{self.house.url}/proposals/{row['id']}/")

    def run_until(self, give_up_at: float, browser: requests.Session, bar: Steps) -> None:
        while len(ended := self.ended()) < NUM_RUNS and time.monotonic() < give_up_at:
            assert self.house.process.poll() is None, self.house.last_words()
            for run in ended[bar.num_done :]:
                bpb = "no score" if run["val_bpb"] is None else f"{run['val_bpb']:.4f} bits per byte"
                bar.done(f"R-{run['id']} {run['purpose']} {run['state']}, {bpb}")
            self.review(browser)
            time.sleep(0.5)


@pytest.fixture
def house(corpus: Path, tmp_path: Path) -> Iterator[tuple[House, float] | None]:
    seconds = seconds_of_a_run()
    if seconds is None:
        yield None
        return
    house = make_house(tmp_path / "home", corpus, seconds)
    yield house, seconds
    if house.process.poll() is None:
        house.end()


def test_a_campaign_runs_unattended(house: tuple[House, float] | None, tmp_path: Path) -> None:
    if house is None:
        _say_that_there_is_no_time()
        return
    at_home, seconds = house
    before = gpu_memory_mib()
    at_home.wait_for("web", lambda: "Sign in once" in (at_home.home / "up.log").read_text(), seconds=120)
    campaign, measured = Campaign(at_home), tmp_path / "use.csv"
    give_up_at = time.monotonic() + (150.0 if IS_DRY_RUN else left_s() - END_S)
    with requests.Session() as browser, use.watched(measured), steps("campaign", NUM_RUNS) as bar:
        assert walk_in(browser, at_home.login_link()).status_code == 200
        campaign.run_until(give_up_at, browser, bar)
    shown = photograph(at_home)
    _check(at_home)
    _publish(at_home, seconds, use.samples(measured), shown)
    assert at_home.end() == 0
    assert not processes_with(str(at_home.home))
    after = gpu_memory_mib()
    assert before is None or after is None or after <= before + SLACK_MIB


def _say_that_there_is_no_time() -> None:
    Record(
        name=f"{FILES}-campaign-not-run",
        title="No campaign: too little time was left",
        columns=("left", "needed"),
        rows=[(f"{left_s():.0f} s", f"{END_S + NUM_RUNS * (SHORTEST_S + AROUND_S):.0f} s")],
        notes=[f'GPU_MINUTES={MINUTES:g}; give more, or run it alone: make gpu ARGS="-k campaign"'],
    ).publish()


def photograph(house: House) -> list[str]:
    """The campaign's, a candidate's and a judged proposal's page, to test-results/; what came of it, in words."""
    run = house.ask(
        "SELECT id FROM research_run WHERE state = 'finished' AND purpose != 'smoke' ORDER BY id DESC LIMIT 1"
    )
    proposal = house.ask("SELECT id FROM research_proposal ORDER BY state = 'judged' DESC, id DESC LIMIT 1")
    pages = {"campaign": f"/campaigns/{SLUG}/"}
    pages |= {"run": f"/runs/{run[0]['id']}/"} if run else {}
    pages |= {"proposal": f"/proposals/{proposal[0]['id']}/"} if proposal else {}
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            return ["No screenshots: there is no Chromium here; `playwright install chromium` brings one."]
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        page = browser.new_page(viewport={"width": 1440, "height": 2000})  # pages scroll inside
        page.goto(house.login_link())
        page.get_by_role("button", name="Sign in as").click()
        for name, path in pages.items():
            page.goto(house.url + path)
            page.wait_for_load_state("load")
            page.screenshot(path=FOLDER / f"{FILES}-campaign-{name}.png")
        browser.close()
    return [f"Screenshots: {', '.join(f'{FILES}-campaign-{name}.png' for name in pages)}."]


# --- what came of it ----------------------------------------------------------------------------

RUNS = """
    SELECT r.id, r.purpose, r.seed, r.state, r.attempt, r.created_at, r.leased_at, r.ended_at, r.device_s, r.train_s,
    r.num_tokens, r.peak_memory_mib, r.last_seq, r.failure, r.started, s.val_bpb, s.outcome, s.seconds AS score_s,
    (SELECT COUNT(*) FROM research_reportbatch b WHERE b.run_id = r.id) AS num_batches, r.incumbent_id
    FROM research_run r JOIN research_campaign c ON c.id = r.campaign_id LEFT JOIN research_score s ON s.run_id = r.id
    WHERE c.slug = ? ORDER BY r.id
"""


def _check(house: House) -> None:
    """What must hold whatever was found: no run lost, no report missing, no number without a trusted score."""
    runs = house.ask(RUNS, SLUG)
    over = [run for run in runs if run["state"] in ("finished", "failed", "timed_out")]
    assert over, house.last_words()
    for run in over:
        assert run["attempt"] == 1, f"R-{run['id']} was lost"
        assert run["num_batches"] == run["last_seq"], f"R-{run['id']}: a report is missing"
        assert run["state"] != "finished" or (run["outcome"], run["train_s"] > 0) == ("ok", True), dict(run)
        assert run["state"] == "finished" or json.loads(run["failure"])["kind"] != "worker_error", run["failure"]
    assert all(run["state"] == "finished" for run in over if run["purpose"] == "baseline")


def spans(runs: list[sqlite3.Row]) -> tuple[list[use.Span], list[use.Span]]:
    """When each run waited and when it ran, from the first lease on; what still waits or runs does so until now."""
    now, first = time.time(), min(use.since_epoch(run["leased_at"]) for run in runs if run["leased_at"])
    waiting, running = [], []
    for run in runs:
        leased = use.since_epoch(run["leased_at"]) if run["leased_at"] else None
        ended = use.since_epoch(run["ended_at"]) if run["ended_at"] else now
        waiting.append((max(use.since_epoch(run["created_at"]), first), ended if leased is None else leased))
        running += [] if leased is None else [(leased, ended)]
    return waiting, running


def mean_s(runs: list[sqlite3.Row], field: str) -> str:
    values = [run[field] for run in runs if run[field] is not None]
    return f"{fmean(values):.1f}" if values else "unknown"


def compile_s(run: sqlite3.Row) -> float | None:
    started = json.loads(run["started"]) if run["started"] else {}
    return started.get("compile_s")


def noise(house: House, runs: list[sqlite3.Row]) -> tuple[str, dict[str, Any]]:
    """Spread over seeds of the first incumbent, and of the paired differences about each proposal's mean."""
    first = min(run["incumbent_id"] for run in runs)
    scored = [
        run["val_bpb"]
        for run in runs
        if run["purpose"] == "baseline" and run["incumbent_id"] == first and run["val_bpb"] is not None
    ]
    pairs = [json.loads(row["pairs"]) for row in house.ask("SELECT pairs FROM research_verdict")]
    apart = [[pair["difference_bpb"] for pair in of_one if pair["difference_bpb"] is not None] for of_one in pairs]
    residuals = [(d - fmean(of_one)) ** 2 for of_one in apart if len(of_one) > 1 for d in of_one]
    free = sum(len(of_one) - 1 for of_one in apart if len(of_one) > 1)
    seeds = f"{stdev(scored):.5f} (n = {len(scored)})" if len(scored) > 1 else f"unknown (n = {len(scored)})"
    paired = f"{(sum(residuals) / free) ** 0.5:.5f} ({free} degrees of freedom)" if free else "unknown"
    said = f"Noise in bits per byte: the incumbent over seeds, sd {seeds}; paired differences, sd {paired}."
    return said, {"incumbent_bpb": scored, "differences_bpb": apart}


def _publish(house: House, seconds: float, found: list[use.Sample], shown: list[str]) -> None:
    runs = house.ask(RUNS, SLUG)
    over = [run for run in runs if run["state"] in ("finished", "failed", "timed_out")]
    counted = [run for run in over if run["purpose"] != "smoke"]
    waiting, running = spans(runs)
    with_work = use.length([*waiting, *running])
    idle = 100 * use.idle_with_work_s(waiting, running) / with_work
    busy = use.within(found, [*waiting, *running])
    outcomes = [row["outcome"] for row in house.ask("SELECT outcome FROM research_verdict")]
    told, raw = noise(house, runs)
    in_use = f"{fmean(sample.percent for sample in busy):.0f} % (n = {len(busy)} samples)" if busy else "unknown"
    trained = sum(run["train_s"] or 0.0 for run in over)
    rows = []
    for purpose in ("baseline", "candidate", "smoke"):
        of_it = [run for run in over if run["purpose"] == purpose]
        good = [run for run in of_it if run["state"] == "finished"]
        compiling = [value for run in good if (value := compile_s(run)) is not None]
        rows.append(
            (
                purpose,
                f"{len(good)} of {len(of_it)}",
                mean_s(good, "device_s"),
                f"{fmean(compiling):.1f}" if compiling else "unknown",
                mean_s(good, "train_s"),
                mean_s(good, "score_s"),
                mean_s(good, "peak_memory_mib"),
            )
        )
    Record(
        name=f"{FILES}-campaign",
        title=f"{len(counted)} runs of {seconds:g} s, unattended, in {with_work / 60:.1f} min with work",
        columns=("purpose", "finished", "s held", "compile_s", "train_s", "score_s", "peak MiB"),
        rows=rows,
        notes=[
            f"Target: {WANTED_RUNS} runs at least: {verdict(len(counted), WANTED_RUNS)}.",
            f"Verdicts: {', '.join(f'{outcomes.count(one)} {one}' for one in sorted(set(outcomes))) or 'none yet'}.",
            f"No run held the GPU although one waited: {idle:.2f} % of the time with work; target: under"
            f" {MOST_IDLE_PERCENT:g} %: {verdict(-idle, -MOST_IDLE_PERCENT)}.",
            f"In training: {100 * trained / with_work:.0f} % of the time with work. A kernel ran, as the driver samples"
            f" it: {in_use}.",
            told,
            *shown,
            f"Means over finished runs.{DRY}",
        ],
        raw=raw | {"runs": [dict(run) for run in runs], "verdicts": outcomes, "seconds": seconds, "idle_percent": idle},
    ).publish()
