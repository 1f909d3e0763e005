"""Somebody stops what somebody else is just starting or ending."""

from __future__ import annotations

from functools import partial

from .town import NUM_TRIALS, Town, at_once


def test_a_stop_that_meets_the_claim_of_its_run_cancels_it_or_ends_it_soon(town: Town) -> None:
    box = town.boxes[0]
    for _ in range(NUM_TRIALS):
        run = town.stage.do("make_queued")["run"]
        page = town.screen("bob", f"runs/{run}")
        claimed, stopped = at_once([box.claim, page.stop])
        told = town.stage.do("told_of_run", run=run)
        if claimed.status_code == 204:
            assert (stopped.status_code, told["state"]) == (302, "cancelled")
        else:
            assert (claimed.status_code, told["state"]) == (200, "leased")
            assert (stopped.status_code, told["stop_reason"]) in {(302, "not now"), (409, "")}


def test_a_stop_that_meets_the_end_of_its_run_changes_no_score(town: Town) -> None:
    box = town.boxes[0]
    for _ in range(NUM_TRIALS):
        run = town.stage.do("make_queued")["run"]
        lease = box.lease()
        page = town.screen("bob", f"runs/{run}")
        ended, stopped = at_once([partial(box.finish, lease), page.stop])
        told = town.stage.do("told_of_run", run=run)
        assert (ended.status_code, told["state"], told["num_scores"]) == (200, "finished", 1)
        assert (stopped.status_code, told["stop_reason"]) in {(302, "not now"), (409, "")}


def test_nobody_claims_a_run_of_a_campaign_that_is_just_being_halted(town: Town) -> None:
    there = town.stage.do("make_queued")
    claimed, _ = at_once(
        [town.boxes[0].claim, partial(town.control.do, "halt_slowly", campaign=there["campaign"], for_s=0.7)]
    )
    told = town.stage.do("told_of_run", run=there["run"])
    assert told["campaign"] == "halted"
    if claimed.status_code == 200:
        assert told["stop_kind"] == "halted", "claimed before the halt, which told it to stop"
    else:
        assert (claimed.status_code, told["state"]) == (204, "queued")


def test_an_approval_that_meets_a_halt_starts_nothing(town: Town) -> None:
    for _ in range(NUM_TRIALS):
        there = town.stage.do("make_pending")
        shown = town.screen("bob", f"proposals/{there['proposals'][0]}")
        page = town.screen("carol", f"campaigns/{there['slug']}")
        approved, halted, _ = at_once([partial(shown.send, choice="approve"), page.halt, town.boxes[0].claim])
        assert (approved.status_code, halted.status_code) == (302, 302)
        assert town.stage.do("told", proposal=there["proposals"][0])["state"] in ("approved", "running")
        assert town.boxes[1].claim().status_code == 204
        assert town.stage.do("live_and_not_told_to_stop", campaign=there["campaign"]) == []


def test_a_baseline_that_crashes_while_its_campaign_is_halted(town: Town) -> None:
    box = town.boxes[0]
    for _ in range(NUM_TRIALS):
        there = town.stage.do("make_queued")
        lease = box.lease()
        page = town.screen("carol", f"campaigns/{there['slug']}")
        ended, halted = at_once([partial(box.crash, lease), page.halt])
        assert (ended.status_code, halted.status_code) in {(200, 302), (200, 409)}
        told = town.stage.do("told_of_run", run=there["run"])
        assert (told["state"], told["gpu_s"]) == ("failed", [3.0])
        assert told["campaign"] == ("halted" if halted.status_code == 302 else "paused")
