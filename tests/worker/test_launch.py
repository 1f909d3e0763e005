"""A worker carries out one lease: what it tells the web side, and what ends a run."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract
from gpu_runner.contract import Budget
from tests.waiting import wait_until
from tests.worker.recipes import FOREVER, GOOD, strays

from .conftest import Bench
from .web import WORKER_TOKEN
from .world import RUN_TOKEN, make_dataset, make_lease, processes_with, scorer_that_says


def test_alices_run_is_reported_scored_and_cleared_away(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    end = bench.run(bench.lease(repository))
    web = bench.web
    assert end is not None
    assert end == web.end()
    assert (end.outcome, end.failure) == ("finished", None)
    assert end.score is not None
    assert (end.score.val_bpb, end.score.self_reported_bpb) == (1.5, 1.75)
    assert (end.num_steps, end.num_tokens, end.compile_s, end.peak_memory_mib) == (3, 300, None, 12.5)
    assert end.device_s > 0
    assert web.phases() == ["training", "scoring"]
    assert web.steps() == [0, 1, 2]
    assert web.column("train_loss") == [3.0, 2.0, 1.0]
    assert "alice was here" in web.log()
    assert [r.started for r in web.reports if r.started] == [
        {"device": "cpu", "num_params": 1234, "knobs": {"width": 64}}
    ]
    assert not list((bench.folder / "home" / "runs").iterdir())


def test_the_run_speaks_with_its_own_token_and_holds_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_WORKER_TOKEN", WORKER_TOKEN)
    repository = bench.recipe('print("SEEN", json.dumps(dict(os.environ)), open(RUN + "/spec.json").read())\n' + GOOD)
    bench.run(bench.lease(repository))
    assert {token for _, token in bench.web.tokens} == {f"Bearer {RUN_TOKEN}"}
    (seen,) = [line for line in bench.web.log() if line.startswith("SEEN")]
    assert '"HOME"' in seen
    assert "COUNTERSIGN" not in seen
    assert RUN_TOKEN not in seen


def test_what_runs_is_the_patched_source_without_its_repository(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    listing = 'print("FILES", sorted(os.listdir(RUN)), sorted(os.listdir(RUN + "/source")))\n'
    patched = (repository.folder / "train.py").read_text().replace("alice was here", "bob approved this") + listing
    end = bench.run(bench.lease(repository, patch=repository.patch({"train.py": patched})))
    assert end is not None
    assert end.outcome == "finished"
    assert "bob approved this" in bench.web.log()
    assert "FILES ['out', 'source', 'spec.json'] ['recipe.toml', 'train.py']" in bench.web.log()


def test_an_outage_in_the_middle_loses_no_point(bench: Bench, meanwhile: Any) -> None:
    repository = bench.recipe(
        """
for step in range(200):
    if step == 50:
        wait_for("web is away")
    if step == 150:
        tell("said 150")
        wait_for("web is back")
    point(step, train_loss=float(step))
save()
finish()
"""
    )
    lease, web = bench.lease(repository), bench.web

    def restart_the_web_side() -> None:
        web.until(lambda: 49 in web.steps())
        web.go_away()
        (bench.out(lease) / "web is away").touch()
        wait_until((bench.out(lease) / "said 150").exists, "150 is said")
        web.come_back()
        web.until(lambda: 149 in web.steps())
        (bench.out(lease) / "web is back").touch()

    meanwhile(restart_the_web_side)
    end = bench.run(lease)
    assert end is not None
    assert end.outcome == "finished"
    assert web.steps() == list(range(200))
    assert [report.seq for report in web.reports] == list(range(1, len(web.reports) + 1))


def test_a_proxys_page_in_the_middle_loses_no_point_and_no_score(bench: Bench, meanwhile: Any) -> None:
    repository = bench.recipe(
        """
point(1, train_loss=1.0)
wait_for("a page was answered")
point(2, train_loss=1.0)
save()
finish()
"""
    )
    lease, web = bench.lease(repository), bench.web
    pages = {"report": (200, b"<html>Back soon</html>"), "beat": (404, b"404 page not found"), "end": (200, b"<html>")}

    def stand_between() -> None:
        web.until(lambda: web.steps() == [1])
        before = len(web.tokens)
        web.answer |= pages
        (bench.out(lease) / "a page was answered").touch()
        web.until(lambda: [what for what, _ in web.tokens[before:]].count("report") > 1)
        del web.answer["report"], web.answer["beat"]
        web.until(lambda: "end" in {what for what, _ in web.tokens[before:]})
        web.answer.clear()

    meanwhile(stand_between)
    end = bench.run(lease)
    assert end is not None
    assert (end.outcome, web.steps(), web.end()) == ("finished", [1, 2], end)


def test_a_second_attempt_counts_on_from_the_seq_that_it_is_given(bench: Bench) -> None:
    lease = bench.lease(bench.recipe(GOOD), next_seq=1205, attempt=2)
    bench.web.last_seq = lambda: bench.web.reports[-1].seq if bench.web.reports else 1204  # type: ignore[method-assign]
    bench.run(lease)
    assert bench.web.reports[0].seq == 1205


def test_bobs_order_to_stop_kills_the_run_and_all_it_started(bench: Bench, meanwhile: Any) -> None:
    lease = bench.lease(bench.recipe(FOREVER))

    def stop_it() -> None:
        bench.web.until(bench.web.steps)
        wait_until(lambda: strays(bench), "a stray runs")
        bench.web.order = "stop"

    meanwhile(stop_it)
    end = bench.run(lease)
    assert end is not None
    assert bench.web.end().outcome == "cancelled"
    wait_until(lambda: not strays(bench), "no stray is left")


def test_an_order_to_stop_also_ends_the_scoring(bench: Bench, meanwhile: Any) -> None:
    def stop_it() -> None:
        bench.web.until(lambda: "scoring" in bench.web.phases())
        bench.web.order = "stop"

    meanwhile(stop_it)
    slow = (sys.executable, "-c", "import time; time.sleep(600)")
    end = bench.run(bench.lease(bench.recipe(GOOD)), scorer=slow)
    assert end is not None
    assert (end.outcome, end.num_steps, end.score) == ("cancelled", 3, None)
    wait_until(lambda: not processes_with(str(bench.folder / "home" / "runs")), "nobody of the run is left")


def test_the_deadline_kills_the_whole_tree(bench: Bench) -> None:
    end = bench.run(bench.lease(bench.recipe(FOREVER), deadline_s=1.5))
    assert end is not None
    assert end.outcome == "timed_out"
    assert end.failure is not None
    assert end.failure.kind == "deadline"
    assert bench.web.steps() == [1]
    wait_until(lambda: not strays(bench), "no stray is left")


def test_a_worker_that_must_leave_gives_the_run_back_within_five_seconds(bench: Bench, meanwhile: Any) -> None:
    lease = bench.lease(bench.recipe(FOREVER))
    told_at: list[float] = []

    def tell_it_to_leave() -> None:
        bench.web.until(bench.web.steps)
        told_at.append(time.monotonic())
        bench.leaving.set()

    meanwhile(tell_it_to_leave)
    end = bench.run(lease)
    assert time.monotonic() - told_at[0] < 5
    assert end is not None
    assert end.outcome == "lost"
    assert end.failure is not None
    assert end.failure.kind == "worker_stopped"
    assert bench.web.end() == end


def test_a_worker_that_hears_nothing_ends_its_own_run(bench: Bench, meanwhile: Any) -> None:
    lease, web = bench.lease(bench.recipe(FOREVER)), bench.web

    def pull_the_plug() -> None:
        web.until(web.steps)
        wait_until(lambda: strays(bench), "a stray runs")
        web.go_away()

    meanwhile(pull_the_plug)
    end = bench.run(lease, gives_up_s=2.0)
    assert end is not None
    assert end.outcome == "lost"
    assert end.failure is not None
    assert end.failure.kind == "lost_contact"
    wait_until(lambda: not strays(bench), "no stray is left")
    assert web.ends == []


def test_a_run_that_is_somebody_elses_by_now_is_dropped_without_a_word(bench: Bench, meanwhile: Any) -> None:
    lease, web = bench.lease(bench.recipe(FOREVER)), bench.web

    def requeue_it() -> None:
        web.until(web.steps)
        wait_until(lambda: strays(bench), "a stray runs")
        web.answer = {what: (409, {"error": "the fence is old"}) for what in ("report", "beat")}

    meanwhile(requeue_it)
    assert bench.run(lease) is None
    assert web.ends == []
    wait_until(lambda: not strays(bench), "no stray is left")


TAMPERED: dict[str, Any] = {
    "base_commit": "b" * 40,
    "patch": "something else",
    "overrides": {"width": 4096},
    "budget": contract.Budget(kind="seconds", amount=1e6),
    "seeds": contract.SeedPolicy(min_pairs=1, max_pairs=1, alpha=0.9, min_effect_bpb=0.005),
    "dataset_sha256": "0" * 64,
    "scorer_version": "0",
    "lock_sha256": "0" * 64,
    "sandbox_level": "none",
    "gate_version": "0",
    "environment_sha256": "0" * 64,
}


@pytest.mark.parametrize("field", contract.Approval.model_fields)
def test_no_field_of_what_was_signed_can_be_changed_on_the_way(bench: Bench, field: str) -> None:
    lease = bench.lease(bench.recipe(GOOD), tampered={field: TAMPERED[field]})
    end = bench.run(lease)
    assert end is not None and end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "digest_mismatch")
    assert f"countersigned was {lease.spec.digest[:12]}" in end.failure.message
    assert "Somebody changed the run after it was approved" in end.failure.todo
    assert "source" not in {what for what, _ in bench.web.tokens}


@pytest.mark.parametrize(
    ("over", "machine", "kind"),
    [
        ({"digest": "0" * 64}, {}, "digest_mismatch"),
        ({"signed": {"scorer_version": "0"}}, {}, "digest_mismatch"),
        ({"signed": {"dataset_sha256": "0" * 64}}, {}, "digest_mismatch"),
        ({}, {"lock_sha256": "2" * 64}, "digest_mismatch"),
        ({}, {"sandbox_level": "none"}, "sandbox_missing"),
        ({"dataset": "another"}, {}, "dataset_missing"),
        ({"dataset": "../datasets/tiny"}, {}, "dataset_missing"),
    ],
)
def test_what_was_not_countersigned_is_refused_before_any_of_it_is_fetched(
    bench: Bench, over: dict[str, Any], machine: dict[str, Any], kind: str
) -> None:
    end = bench.run(bench.lease(bench.recipe(GOOD), **over), **machine)
    assert end is not None
    assert end.outcome == "failed"
    assert end.failure is not None
    assert end.failure.kind == kind
    assert bench.web.end() == end
    assert "source" not in {what for what, _ in bench.web.tokens}
    assert bench.web.phases() == []


def test_a_dataset_whose_answers_lie_open_in_the_sandbox_is_not_trained_on(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    sha256 = make_dataset(bench.folder / "home" / "datasets", "Python standard library")  # without saying of what
    end = bench.run(make_lease(repository.commit, sha256))
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "dataset_missing")
    assert "a model could look its answers up" in end.failure.message
    assert "start new campaigns" in end.failure.message
    assert bench.web.phases() == []


def test_a_patch_that_does_not_apply_is_a_bad_patch(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    patch = repository.patch({"train.py": "something\n"}).replace("-import json", "-import yaml")
    end = bench.run(bench.lease(repository, patch=patch))
    assert end is not None
    assert end.failure is not None
    assert end.failure.kind == "bad_patch"
    assert "train.py" in end.failure.message


@pytest.mark.parametrize("target", ["/etc/passwd", "../../spec.json"])
def test_a_patch_may_not_make_links_that_the_trusted_side_would_follow(bench: Bench, target: str) -> None:
    repository = bench.recipe(GOOD)
    patch = f"""diff --git a/weights b/weights
new file mode 120000
--- /dev/null
+++ b/weights
@@ -0,0 +1 @@
+{target}
\\ No newline at end of file
"""
    end = bench.run(bench.lease(repository, patch=patch))
    assert end is not None
    assert end.failure is not None
    assert end.failure.kind == "bad_patch"
    assert "weights: is a link" in end.failure.message


@pytest.mark.parametrize(
    ("train", "kind", "message"),
    [
        ("finish('failed', {'kind': 'not_finite', 'message': 'step 3'}); sys.exit(1)", "not_finite", "step 3"),
        ("finish('failed', {'kind': 'worker_stopped', 'message': 'm'})", "recipe_error", "m"),
        ("raise RuntimeError('shapes do not fit')", "recipe_error", "shapes do not fit"),
        ("save(); finish(); sys.exit(3)", "recipe_error", "exit code 3"),
        ("finish()", "no_checkpoint", "no checkpoint"),
        ("os.symlink('/etc', OUT + '/checkpoint'); finish()", "no_checkpoint", "no checkpoint"),
    ],
)  # fmt: skip
def test_a_run_that_fails_says_why(bench: Bench, train: str, kind: str, message: str) -> None:
    end = bench.run(bench.lease(bench.recipe(train + "\n")))
    assert end is not None
    assert end.outcome == "failed"
    assert end.failure is not None
    assert (end.failure.kind, end.score) == (kind, None)
    assert message in end.failure.message


def test_a_scorer_that_fails_or_babbles_is_no_score(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    failed = {"val_bpb": None, "outcome": "failed", "reasons": ["frame of 3 bytes"], "provenance": {}, "seconds": 0.1}
    for scorer, kind, said in (
        (scorer_that_says(failed), "scorer_failed", "frame of 3 bytes"),
        (scorer_that_says({"val_bpb": 0}), "worker_error", "no score"),
    ):
        end = bench.run(bench.lease(repository), scorer=scorer)
        assert end is not None
        assert end.failure is not None
        assert end.failure.kind == kind
        assert said in end.failure.message


def test_a_disputed_score_is_still_delivered(bench: Bench) -> None:
    disputed = {"val_bpb": 0.2, "outcome": "disputed", "reasons": ["it looked ahead"], "provenance": {}, "seconds": 0.1}
    end = bench.run(bench.lease(bench.recipe(GOOD)), scorer=scorer_that_says(disputed))
    assert end is not None
    assert end.outcome == "finished"
    assert end.score is not None
    assert end.score.outcome == "disputed"


def test_the_sealed_text_is_asked_for_by_the_lease_alone_and_its_number_delivered(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    good = {"val_bpb": 1.5, "outcome": "ok", "reasons": [], "provenance": {}, "seconds": 0.1}
    program = f"import json, sys; s = {good!r}; s['sealed_bpb'] = 1.625 if '--sealed' in sys.argv else None"
    scorer = (sys.executable, "-c", f"{program}; print(json.dumps(s))")
    for splits, number in ((("val",), None), (("val", "sealed"), 1.625)):
        end = bench.run(bench.lease(repository, splits=splits, fence=len(splits)), scorer=scorer)
        assert end is not None
        assert end.score is not None
        assert (end.score.val_bpb, end.score.sealed_bpb) == (1.5, number)
    end = bench.run(bench.lease(repository, splits=("val", "sealed")), scorer=scorer_that_says(good))
    assert end is not None
    assert end.failure is not None
    assert "gave no number on it" in end.failure.message


def test_the_scorer_is_told_what_the_incumbent_takes_where_that_is_known(bench: Bench) -> None:
    repository, good = bench.recipe(GOOD), {"val_bpb": 1.5, "outcome": "ok", "provenance": {}, "seconds": 0.1}
    words = "sys.argv[sys.argv.index('--usual') + 1:][:1] if '--usual' in sys.argv else []"
    scorer = (sys.executable, "-c", f"import json, sys; print(json.dumps({good!r} | {{'reasons': {words}}}))")
    took = {"ready_s": 0.9, "load_s": 0.1, "first_s": 0.2, "later_s": 0.02, "total_s": 3.6}
    sizes = {"num_later": 46, "peak_memory_mib": 340.0, "num_threads": 5, "checkpoint_mib": 130.0, "other_mib": 0.0}
    effort = contract.Effort.model_validate({"clock": "processor", "num_processes": 2, **took, **sizes})
    for fence, usual in ((1, None), (2, effort)):
        end = bench.run(bench.lease(repository, usual_effort=usual, fence=fence), scorer=scorer)
        assert end is not None
        assert end.score is not None
        assert [contract.parse(contract.Effort, said.encode()) for said in end.score.reasons] == (
            [usual] if usual else []
        )


@pytest.mark.parametrize(("budget", "told"), [(Budget(kind="seconds", amount=60.0), ["60.0"]), (None, [])])
def test_the_scorer_is_told_how_long_was_trained_where_that_was_signed(
    bench: Bench, budget: Budget | None, told: list[str]
) -> None:
    repository, good = bench.recipe(GOOD), {"val_bpb": 1.5, "outcome": "ok", "provenance": {}, "seconds": 0.1}
    words = "sys.argv[sys.argv.index('--trained-s') + 1:][:1] if '--trained-s' in sys.argv else []"
    scorer = (sys.executable, "-c", f"import json, sys; print(json.dumps({good!r} | {{'reasons': {words}}}))")
    end = bench.run(bench.lease(repository, signed={"budget": budget} if budget else {}), scorer=scorer)
    assert end is not None
    assert end.score is not None
    assert end.score.reasons == told


def test_hostile_lines_are_told_and_stop_nothing(bench: Bench) -> None:
    hostile = r"""
write("not json\n[1, 2]\n" + "[" * 60000 + "\n" + "x" * 300000 + "\n")
write('{"kind": "point", "step": 1, "tokens": 1, "elapsed_s": 0.1, "metrics": {"train_loss": NaN, "ok": 1.0}}\n')
write('{"kind": "point", "step": 2, "tokens": 1, "elapsed_s": 0.1, "metrics": {"train_loss": 1e999, "BAD NAME": 1}}\n')
write('{"kind": "point", "step": -1, "tokens": 1, "elapsed_s": 0.1, "metrics": {}}\n')
write('{"kind": "launch missiles"}\n')
write('{"kind": "log", "level": "root", "text": "\\u001b[31mred\\u202e\\u0000 \\ud800text"}\n')
say(kind="started", **{"deep": {"a": {"b": 1}}, "text": "x" * 1000})
os.write(1, b"\x1b]0;title\x07plain\x1b[2J\xff\n")
save()
finish()
"""
    end = bench.run(bench.lease(bench.recipe(hostile)))
    web = bench.web
    assert end is not None
    assert end.outcome == "finished"
    assert web.steps() == [1, 2]
    assert web.column("train_loss") == [None, None]
    log = web.log()
    assert "red text" in log
    assert "plain\N{REPLACEMENT CHARACTER}" in log
    for said in (
        "no JSON object",
        "more than 65,536 bytes",
        "not a finite number",
        "without a step",
        "launch missiles",
    ):
        assert any(said in line for line in log), (said, log)
    (started,) = [r.started for r in web.reports if r.started]
    assert started == {"deep": {"a": None}, "text": "x" * 500}


def test_a_flood_is_cut_and_counted(bench: Bench) -> None:
    flood = """
for step in range(30_000):
    point(step, train_loss=1.0)
    print("flood", step)
save()
finish()
"""
    end = bench.run(bench.lease(bench.recipe(flood)))
    assert end is not None
    assert end.outcome == "finished"
    assert 4_000 <= len(bench.web.steps()) < 15_000
    assert len(bench.web.log()) < 3_000
    assert any("points came faster" in line for line in bench.web.log())
    assert any("log lines came faster" in line for line in bench.web.log())


def test_the_run_folder_stays_for_those_who_ask_for_it(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    for fence in (1, 2, 3):
        lease = bench.lease(repository, fence=fence)
        bench.run(lease, num_kept=2)
        os.utime(bench.out(lease).parent, (fence, fence))
    bench.run(bench.lease(repository, fence=4), num_kept=2)
    kept = sorted(folder.name for folder in (bench.folder / "home" / "runs").iterdir())
    assert kept == ["run-7-fence-3", "run-7-fence-4"]
    spec = json.loads(Path(bench.folder, "home", "runs", "run-7-fence-4", "spec.json").read_text())
    assert spec["dataset_dir"].endswith("/tiny/train")
