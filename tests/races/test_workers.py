"""Two GPU machines at the same moment, and words that arrive twice or late."""

from __future__ import annotations

from functools import partial

from gpu_runner import contract

from .town import NUM_TRIALS, Town, at_once


def test_of_two_workers_that_claim_at_once_one_gets_the_lease(town: Town) -> None:
    one, two = town.boxes
    for _ in range(NUM_TRIALS):
        run = town.stage.do("make_queued")["run"]
        answers = at_once([one.claim, two.claim, one.claim, two.claim])
        assert sorted(answer.status_code for answer in answers) == [200, 204, 204, 204]
        winner = next(answer for answer in answers if answer.status_code == 200)
        lease = contract.parse(contract.Lease, winner.content)
        told = town.stage.do("told_of_run", run=run)
        assert (lease.spec.run_id, told["state"], told["fence"]) == (run, "leased", 1)
        assert told["events"] == ["run.queued", "run.leased"]


def test_what_is_delivered_twice_at_once_counts_once(town: Town) -> None:
    box = town.boxes[0]
    for _ in range(NUM_TRIALS):
        run = town.stage.do("make_queued")["run"]
        lease = box.lease()
        acked = at_once([partial(box.report, lease)] * 4)
        assert [contract.parse(contract.Order, answer.content).acked_seq for answer in acked] == [1] * 4
        ended = at_once([partial(box.finish, lease)] * 4)
        assert sorted(answer.status_code for answer in ended) == [200, 409, 409, 409]
        told = town.stage.do("told_of_run", run=run)
        assert (told["state"], told["batches"], told["num_scores"], told["gpu_s"]) == ("finished", [1], 1, [30.0])


def test_a_report_under_an_old_fence_is_refused(town: Town) -> None:
    one, two = town.boxes
    run = town.stage.do("make_queued")["run"]
    old = one.lease()
    town.stage.do("fall_silent", run=run)
    town.stage.do("expire_leases")
    new = two.lease()
    assert (new.spec.run_id, new.spec.fence) == (run, old.spec.fence + 1)
    late = at_once([partial(one.report, old), partial(one.finish, old), partial(two.report, new)])
    assert [answer.status_code for answer in late] == [401, 401, 200], "the token of an old lease opens nothing"
    assert two.report(new, fence=old.spec.fence).status_code == 409
    assert town.stage.do("told_of_run", run=run)["batches"] == [1]


def test_an_end_that_comes_while_its_lease_expires_counts_or_is_refused(town: Town) -> None:
    box = town.boxes[0]
    for _ in range(NUM_TRIALS):
        run = town.stage.do("make_queued")["run"]
        lease = box.lease()
        town.stage.do("fall_silent", run=run)
        answer, _ = at_once([partial(box.finish, lease), partial(town.control.do, "expire_leases")])
        told = town.stage.do("told_of_run", run=run)
        assert (answer.status_code, told["state"], told["num_scores"]) in {(200, "finished", 1), (409, "queued", 0)}
        assert len(told["gpu_s"]) == 1, "the time is charged once, whoever ended it"
