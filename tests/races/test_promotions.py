"""Two proposals turn out better than one incumbent at the same moment."""

from __future__ import annotations

from functools import partial

from .town import NUM_TRIALS, Town, at_once


def test_of_two_keeps_on_one_incumbent_one_moves_it(town: Town) -> None:
    for _ in range(NUM_TRIALS):
        there = town.stage.do("make_running")
        first, second = there["proposals"]
        said = at_once(
            [partial(town.stage.do, "keep", proposal=first), partial(town.control.do, "keep", proposal=second)]
        )
        assert sum(word == "keep" for word in said) == 1, said
        assert town.stage.do("incumbents", campaign=there["campaign"]) == [0, 1]
        other = [first, second][said[0] == "keep"]
        again = town.stage.do("keep", proposal=other)  # as the next reconcile asks
        assert again == "inconclusive" or "inconclusive" in said, (said, again)
        assert town.stage.do("incumbents", campaign=there["campaign"]) == [0, 1]
