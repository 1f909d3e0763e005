"""Eight people decide on one proposal at the same moment, while the control worker changes what is on the table."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from functools import partial

import requests

from .town import NAMES, NUM_TRIALS, Form, Town, at_once

CLICKS = ("approve", "approve", "approve", "reject", "reject", "request_changes", "approve", "request_changes")
WORDS = {"reason": "Try the other half.", "category": "later"}


@dataclass
class Tally:
    """What became of all clicks of one backend."""

    requests: int = 0
    decisions: int = 0
    moved: int = 0  # trials in which nobody decided: the conditions changed first
    double: int = 0
    wrong_content: int = 0
    codes: dict[int, int] = field(default_factory=dict)

    def count(self, answers: list[requests.Response]) -> None:
        self.requests += len(answers)
        for answer in answers:
            self.codes[answer.status_code] = self.codes.get(answer.status_code, 0) + 1


def test_of_eight_who_decide_at_once_one_does_and_only_on_what_was_on_the_screen(town: Town) -> None:
    chance, tally, began = random.Random(7), Tally(), time.monotonic()
    for trial in range(NUM_TRIALS):
        held_s = chance.uniform(0, 0.25) if trial % 2 else 0.0  # the conditions change up to so long before the clicks
        one_proposal(town, tally, held_s, budget=600_000.0 + trial if trial % 2 else None)
    print(f"\n{town.backend}: {NUM_TRIALS} trials, {tally}, {time.monotonic() - began:.1f} s")
    assert (tally.double, tally.wrong_content) == (0, 0)
    assert set(tally.codes) <= {302, 409}, tally.codes
    assert tally.decisions + tally.moved == NUM_TRIALS
    assert tally.decisions >= NUM_TRIALS // 2, "where nothing changed, somebody decides"
    assert "are what was written" in town.stage.do("manage", words=["verify_audit"])


def one_proposal(town: Town, tally: Tally, held_s: float, budget: float | None) -> None:
    there = town.stage.do("make_pending")
    number, shown = there["proposals"][0], there["digests"][0]
    page = f"{town.url}/proposals/{number}/"
    forms = at_once([partial(Form, town.browsers[name], page) for name in NAMES])
    assert {form.fields["digest"] for form in forms} == {shown}

    def click(form: Form, choice: str) -> requests.Response:
        time.sleep(held_s)
        return form.send(choice=choice, **WORDS)

    clicks = [partial(click, form, choice) for form, choice in zip(forms, CLICKS, strict=True)]
    meanwhile = partial(town.control.do, "look_after", campaign=there["campaign"], proposal=number, budget=budget)
    *answers, _ = at_once([*clicks, meanwhile])
    tally.count(answers)
    check(town, tally, answers, number, shown)


def check(town: Town, tally: Tally, answers: list[requests.Response], number: int, shown: str) -> None:
    told = town.stage.do("told", proposal=number)
    decided = [answer for answer in answers if answer.status_code == 302]
    decisions = told["decisions"]
    assert len(decided) == len(decisions), told
    tally.decisions += bool(decisions)
    tally.moved += not decisions
    tally.double += len(decisions) > 1
    digests = dict(told["revisions"])
    for decision in decisions:
        tally.wrong_content += not decision["digest"] == shown == digests[decision["revision"]]
    if told["state"] in ("approved", "running"):
        tally.wrong_content += told["digest"] != shown
    for answer in answers:
        if answer.status_code == 409:
            assert f"P-{number}" in answer.text and any(words in answer.text for words in LOST), answer.text


LOST = ("somebody was first", "changed while you read it", "was made under other conditions")
