"""What a run may learn from is what was signed, whatever it says of itself: no text before the clock, none after it,
and no more time beside the budget than the incumbent takes."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from gpu_runner import contract
from gpu_runner.contract import Budget, Purpose, Spent
from gpu_runner.worker import allowance

from .conftest import Bench
from .world import processes_with

USUAL = Spent(
    before_s=0.1,
    before_cpu_s=0.1,
    train_s=0.1,
    train_cpu_s=0.1,
    after_s=0.1,
    after_cpu_s=0.1,
    num_tokens=300,
    num_batches=3,
)
BUSY = """
def work(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
ask("ready")
"""
SECONDS = {"budget": Budget(kind="seconds", amount=0.5)}


def failure_of(bench: Bench, train: str, **over: Any) -> contract.Failure:
    end = bench.run(bench.lease(bench.recipe(BUSY + train + "\nsave()\nfinish()\nask('done')\n"), **over))
    assert end is not None and end.failure is not None, end
    assert end.outcome == "failed" and end.score is None
    return end.failure


# --- text ----------------------------------------------------------------------------------------


def test_a_run_is_shown_no_shard_and_knows_how_its_tokens_are_made(bench: Bench) -> None:
    look = """
spec = json.load(open(RUN + "/spec.json"))
print("SHOWN", sorted(os.listdir(spec["dataset_dir"])))
"""
    bench.run(bench.lease(bench.recipe(look + "draw(3)\nsave()\nfinish()\n")))
    assert "SHOWN ['manifest.json', 'token_bytes.bin']" in bench.web.log()


def test_no_text_is_handed_out_before_the_clock_runs_nor_more_than_was_signed(bench: Bench) -> None:
    greedy = """
print("EARLY", ask("batch"), ask("watch", num_rows=2, length=5))
draw(3)
print("LATE", ask("batch"))
print("AGAIN", ask("begin", batch_size=4, seq_len=25))
save()
finish()
"""
    end = bench.run(bench.lease(bench.recipe(greedy)))
    assert end is not None and end.spent is not None
    assert (end.outcome, end.num_tokens, end.spent.num_batches) == ("finished", 300, 3)
    early, late, again = (next(line for line in bench.web.log() if line.startswith(word)) for word in
                          ("EARLY", "LATE", "AGAIN"))  # fmt: skip
    assert early.count("(False") == 2 and "no text before the clock" in early
    assert "(False" in late and "300 tokens were handed out, another" in late
    assert "(False" in again and "may be called once" in again


def test_a_smoke_run_is_given_as_many_batches_as_it_has_steps(bench: Bench) -> None:
    lease = bench.lease(bench.recipe("draw(2)\nprint('MORE', ask('batch'))\nsave()\nfinish()\n"), max_steps=2)
    end = bench.run(lease)
    assert end is not None and end.spent is not None
    assert end.spent.num_batches == 2
    assert any(line.startswith("MORE (False") for line in bench.web.log())


def test_text_ends_with_a_budget_in_seconds(bench: Bench) -> None:
    late = "draw()\ntime.sleep(2)\nprint('LATE', ask('batch'))\nsave()\nfinish()\n"
    bench.run(bench.lease(bench.recipe(late), signed=SECONDS))
    assert any(line.startswith("LATE (False") and "0.5 s are spent" in line for line in bench.web.log())


@pytest.mark.parametrize(
    "question",
    [
        "b'not json' + b'\\n'",
        "b'[]\\n'",
        "b'[' * 1_000 + b'\\n'",
        'b\'{"ask": "the moon"}\\n\'',
        'b\'{"ask": "begin", "batch_size": "4", "seq_len": 25}\\n\'',
        "b'{' * 100_000",
    ],
)
def test_whoever_breaks_the_protocol_is_told_nothing_more(bench: Bench, question: str) -> None:
    babble = f"""
try:
    for part in ({question},):
        os.write(TEXT, part)
    print("HEARD", os.read(TEXT, 5), os.read(TEXT, 5))
except OSError as error:
    print("HEARD b'' b''", error)
save()
finish()
"""
    end = bench.run(bench.lease(bench.recipe(babble)))
    assert end is not None
    assert end.outcome == "finished"
    assert any(line.startswith("HEARD b'' b''") for line in bench.web.log()), bench.web.log()


@pytest.mark.parametrize(
    ("batch_size", "seq_len", "reason"),
    [(0, 25, "no batch"), (4, -1, "no batch"), (10**9, 25, "no batch"), (4, 10**9, "no batch"), (4, 500, "too long")],
)
def test_a_batch_that_would_exhaust_the_supervisor_is_refused(
    bench: Bench, batch_size: int, seq_len: int, reason: str
) -> None:
    ask = f"print('TOLD', ask('begin', batch_size={batch_size}, seq_len={seq_len}))\nsave()\nfinish()\n"
    bench.run(bench.lease(bench.recipe(ask)))
    assert any(line.startswith("TOLD (False") and reason in line for line in bench.web.log()), bench.web.log()


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "bound"), [("smoke", "1.45, usual are 0.30"), ("candidate", "1.15, usual are 0.10")]
)
def test_training_before_the_clock_is_over_budget(bench: Bench, purpose: str, bound: str) -> None:
    failure = failure_of(bench, "work(3)\ndraw(3)", usual=USUAL, signed=SECONDS, purpose=purpose)
    assert failure.kind == "over_budget"
    assert "of processor time before its first text" in failure.message
    assert f"allowed were {bound}" in failure.message
    assert "before run.begin" in failure.todo


@pytest.mark.parametrize("budget", [Budget(kind="tokens", amount=300), Budget(kind="seconds", amount=0.5)])
def test_training_after_the_budget_is_over_budget(bench: Bench, budget: Budget) -> None:
    failure = failure_of(bench, "draw(3)\nwork(4)", usual=USUAL, signed={"budget": budget})
    assert failure.kind == "over_budget"
    assert "after its budget was spent" in failure.message


def test_going_over_each_batch_again_and_again_is_over_a_budget_in_tokens(bench: Bench) -> None:
    failure = failure_of(bench, "draw(2)\nwork(6)\ndraw()", usual=USUAL)
    assert failure.kind == "over_budget"
    assert "for its tokens" in failure.message
    assert "a run budget in seconds" in failure.todo


def test_what_a_child_process_learns_counts_too(bench: Bench) -> None:
    train = "draw(3)\nchild = os.fork()\nif not child:\n    work(4)\n    os._exit(0)\nos.waitpid(child, 0)\n"
    assert failure_of(bench, train, usual=USUAL).kind == "over_budget"


def test_a_first_smoke_run_is_held_against_its_own_steps(bench: Bench) -> None:
    failure = failure_of(bench, "work(12)\ndraw(3)", purpose="smoke", max_steps=3)
    assert failure.kind == "over_budget"
    assert "before its first text" in failure.message


def test_more_tokens_than_were_handed_out_are_over_budget_with_both_numbers(bench: Bench) -> None:
    failure = failure_of(bench, "draw(2)\nNUM_DRAWN = 30")
    assert failure.kind == "over_budget"
    assert "says that it took 3,000 tokens, and was given text for 200" in failure.message


def test_what_outlives_the_last_word_is_ended_before_the_checkpoint_is_read(bench: Bench) -> None:
    stray = f"""
draw(3)
subprocess.Popen([{sys.executable!r}, "-c", f"import time; time.sleep(600)  # stray of {{RUN}}"],
                 start_new_session=True)
save()
finish()
ask("done")
time.sleep(600)
"""
    end = bench.run(bench.lease(bench.recipe(stray), usual=USUAL))
    assert end is not None
    assert (end.outcome, end.failure) == ("finished", None)
    assert not processes_with(f"stray of {bench.folder}")


def test_a_run_that_is_done_without_a_last_word_is_not_told_of_memory(bench: Bench) -> None:
    failure = failure_of(bench, "draw(3)\nsave()\nask('done')\ntime.sleep(600)")
    assert failure.kind == "recipe_error"
    assert "without a last word" in failure.message


def test_the_incumbents_own_run_is_held_by_its_deadline_alone(bench: Bench) -> None:
    train = BUSY + "work(3)\ndraw(3)\nsave()\nfinish()\nask('done')\n"
    end = bench.run(bench.lease(bench.recipe(train), purpose="baseline", usual=USUAL))
    assert end is not None and end.spent is not None
    assert end.outcome == "finished"
    assert end.spent.before_cpu_s is not None and end.spent.before_cpu_s > 2.5


def test_a_budget_in_flops_is_refused_since_the_recipe_would_count_them(bench: Bench) -> None:
    end = bench.run(bench.lease(bench.recipe("draw(3)"), signed={"budget": Budget(kind="flops", amount=1e12)}))
    assert end is not None and end.failure is not None
    assert "in FLOPs" in end.failure.message
    assert "tokens or seconds" in end.failure.todo
    assert bench.web.phases() == []


# --- the rule ------------------------------------------------------------------------------------

MINUTES = Spent(
    before_s=20, before_cpu_s=15, train_s=100, train_cpu_s=190, after_s=4, after_cpu_s=6, num_tokens=10**6,
    num_batches=500,
)  # fmt: skip


@pytest.mark.parametrize(
    ("over", "budget", "purpose", "is_over"),
    [
        ({}, "tokens", "candidate", False),
        ({"train_cpu_s": 240}, "tokens", "candidate", False),  # a model that costs a quarter more
        ({"train_cpu_s": 260}, "tokens", "candidate", True),
        ({"train_cpu_s": 600}, "seconds", "candidate", False),  # seconds are the budget themselves
        ({"train_cpu_s": 600}, "tokens", "smoke", False),
        ({"train_cpu_s": 600}, "tokens", "baseline", False),
        ({"before_s": 90}, "seconds", "candidate", False),  # a busy machine
        ({"before_s": 300}, "seconds", "candidate", True),
        ({"before_cpu_s": 25}, "seconds", "candidate", True),
        ({"before_cpu_s": 130, "before_s": 70}, "seconds, long", "candidate", False),  # a cold compile
        ({"before_cpu_s": 150, "before_s": 70}, "seconds, long", "candidate", True),
        ({"after_cpu_s": 9}, "tokens", "candidate", False),
        ({"after_cpu_s": 11}, "tokens", "candidate", True),
    ],
)
def test_a_proposal_is_held_against_its_incumbent(
    over: dict[str, float], budget: str, purpose: Purpose, is_over: bool
) -> None:
    kind, amount = {"tokens": ("tokens", 1e6), "seconds": ("seconds", 100), "seconds, long": ("seconds", 300)}[budget]
    signed = Budget.model_validate({"kind": kind, "amount": amount})
    spent = MINUTES.model_copy(update=over)
    failure = allowance.over(spent, budget=signed, purpose=purpose, usual=MINUTES)
    assert (failure is not None) == is_over, failure


def test_where_processors_are_not_counted_the_clock_holds() -> None:
    on_gpu = MINUTES.model_copy(update={"before_cpu_s": None, "train_cpu_s": None, "after_cpu_s": None})
    budget = Budget(kind="tokens", amount=1e6)
    slow = on_gpu.model_copy(update={"train_s": 200.0})
    failure = allowance.over(slow, budget=budget, purpose="candidate", usual=on_gpu)
    assert failure is not None
    assert "200.00 s for its tokens; allowed were" in failure.message
    assert allowance.over(on_gpu, budget=budget, purpose="candidate", usual=on_gpu) is None


SHIPPED = Spent(
    before_s=0.6, before_cpu_s=0.6, train_s=17, train_cpu_s=9.7, after_s=0.5, after_cpu_s=0.3, num_tokens=409_600,
    num_batches=200,
)  # fmt: skip


def smoke(**over: float) -> Spent:
    """Five steps that take as much for each token as MINUTES' own."""
    fields = {"before_cpu_s": 15, "train_s": 0.8, "train_cpu_s": 1.52, "after_cpu_s": 6, "num_tokens": 10_000}
    return MINUTES.model_copy(update={**fields, "num_batches": 5, **over})


def test_how_heavy_a_token_is_shows_in_a_smoke_run_of_five_steps() -> None:
    assert smoke().times(MINUTES) == pytest.approx(1.0, abs=0.01)
    assert smoke(train_cpu_s=1.52 * 4).times(MINUTES) == pytest.approx(4.0, abs=0.04)
    assert smoke(num_batches=1).times(MINUTES) is None
    assert smoke(num_batches=0, num_tokens=0).times(MINUTES) is None


def test_a_larger_model_may_take_as_much_longer_as_was_shown_to_whoever_signed_it() -> None:
    usual = MINUTES.heavier(smoke(train_cpu_s=1.52 * 4).times(MINUTES))
    tokens = Budget(kind="tokens", amount=1e6)
    for train_cpu_s, is_over in ((760.0, False), (950.0, False), (1_050.0, True)):
        spent = MINUTES.model_copy(update={"train_cpu_s": train_cpu_s})
        failure = allowance.over(spent, budget=tokens, purpose="candidate", usual=usual)
        assert (failure is not None) == is_over


def test_larger_batches_take_longer_to_be_tried_and_for_the_last_step() -> None:
    """Three dummy steps come before the clock, and the step on the last batch ends after it."""
    short = SHIPPED.model_copy(update={"before_cpu_s": 2.9, "after_cpu_s": 1.4})  # batch_size 128, not 16
    eightfold = short.model_copy(update={"num_tokens": 81_920, "train_s": 8.4, "train_cpu_s": 1.5, "num_batches": 5})
    tokens = Budget(kind="tokens", amount=409_600)
    starting = eightfold.model_copy(update={"num_tokens": 0, "num_batches": 0, "train_cpu_s": 0.0, "after_cpu_s": 0.0})
    for so_far in (starting, eightfold):
        assert allowance.over(so_far, budget=tokens, purpose="smoke", usual=SHIPPED) is None
    usual = SHIPPED.as_heavy_as(eightfold)
    whole = eightfold.model_copy(update={"num_tokens": 409_600, "train_cpu_s": 9.0, "num_batches": 25})
    assert allowance.over(whole, budget=tokens, purpose="candidate", usual=usual) is None
    assert usual.before_cpu_s == pytest.approx(3 * 0.6)
    assert usual.train_cpu_s == 9.7
    same = SHIPPED.as_heavy_as(eightfold.model_copy(update={"num_tokens": 10_240, "train_cpu_s": 0.19}))
    assert same == SHIPPED == SHIPPED.as_heavy_as(None)


def test_no_model_is_so_large_that_it_may_take_for_ever_to_be_built(bench: Bench) -> None:
    assert MINUTES.heavier(100.0).before_cpu_s == 3 * 15
    assert MINUTES.heavier(100.0).train_cpu_s == 100 * 190
    assert MINUTES.heavier(0.1) == MINUTES.heavier(None) == MINUTES
    heavy = smoke(train_cpu_s=1.52 * 4, before_cpu_s=60)
    assert allowance.over(heavy, budget=Budget(kind="tokens", amount=1e6), purpose="smoke", usual=MINUTES) is None
    heavier = smoke(train_cpu_s=1.52 * 40, before_cpu_s=80)
    assert allowance.over(heavier, budget=Budget(kind="tokens", amount=1e6), purpose="smoke", usual=MINUTES)
