"""A campaign that nobody attends: the house that it runs in, how long its runs may be, and who approves."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from pathlib import Path

import requests

from gpu_runner.worker import compile_cache
from tests.gpu import inside
from tests.gpu import utilization as use
from tests.gpu.machine import IS_DRY_RUN, left_s
from tests.gpu.stages import Steps
from tests.loop.house import House, approve

SLUG = "gpu"
NUM_PAIRS = 3
NUM_APPROVED = 2  # at a time: one runs, one waits behind it
NUM_RUNS = 6 if IS_DRY_RUN else 24  # three of the incumbent, and three for each proposal
SCORE_TOKENS = 8_192 if IS_DRY_RUN else 524_288  # rows enough that few processes ask them all (test_scorer.py)
# Around each run's seconds: starting, compiling warm, scoring, and its part of the smoke runs. Chosen; see the table.
AROUND_S = 40.0
SHORTEST_S, LONGEST_S = 10.0, 300.0
END_S = 90.0  # kept for the last run's end, the pages and the table
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
