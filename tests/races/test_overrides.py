"""Eight reviewers sign the override of one gate at the same moment: two signatures are taken, and it goes on once."""

from __future__ import annotations

from functools import partial

from .town import NAMES, NUM_TRIALS, Town, at_once


def test_of_eight_who_sign_at_once_two_are_taken_and_it_is_tried_out_once(town: Town) -> None:
    for _ in range(NUM_TRIALS):
        number = town.stage.do("make_blocked")
        screens = [town.screen(name, f"proposals/{number}") for name in NAMES]
        answers = at_once(
            [partial(screen.override, f"{name} has read it") for screen, name in zip(screens, NAMES, strict=True)]
        )
        told = town.stage.do("told", proposal=number)
        signers = [decision["by"] for decision in told["decisions"]]
        assert sorted(answer.status_code for answer in answers) == [302, 302] + [409] * 6
        assert {decision["choice"] for decision in told["decisions"]} == {"override"}
        assert len(signers) == len(set(signers)) == 2
        assert told["state"] == "checking"
        assert town.stage.do("smoke_runs", proposal=number) == 1


def test_one_person_who_sends_the_form_eight_times_at_once_has_signed_once(town: Town) -> None:
    for _ in range(NUM_TRIALS):
        number = town.stage.do("make_blocked")
        screen = town.screen("carol", f"proposals/{number}")
        answers = at_once([partial(screen.override, "Only me, eight times")] * 8)
        told = town.stage.do("told", proposal=number)
        assert sorted(answer.status_code for answer in answers) == [302] + [422] * 7
        assert [decision["by"] for decision in told["decisions"]] == ["carol"]
        assert told["state"] == "blocked"
