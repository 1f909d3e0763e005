"""Bob reads a number only when it can be believed: honest models pass, models that cheat are named."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gpu_runner import sandbox
from gpu_runner.contract import Evidence, Score
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.harness import checkpoint, model_server
from gpu_runner.harness.loading import load_recipe
from gpu_runner.machine.faults import MachineFault
from gpu_runner.sandbox import cgroups, hidden, tally
from gpu_runner.scorer import __main__ as by_hand
from gpu_runner.scorer import examine, frames, identity, model_process, score, suspicion
from gpu_runner.scorer.challenge import Challenged, Gap, Plan, challenge
from gpu_runner.scorer.effort import Stages
from gpu_runner.scorer.suspicion import Nats
from tests.gpu_runner import zoo
from tests.gpu_runner.scoring import make_model, measure
from tests.gpu_runner.texts import tokens_of, write_llmc, write_rank_file, write_texts
from tests.gpu_runner.training import RECIPE, TINY, listen, make_run_dir
from tests.sandbox import trials

pytestmark = pytest.mark.usefixtures("warm_starts")


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the shipped recipe after five steps."""
    folder = make_run_dir(tmp_path_factory.mktemp("runs") / "7", dataset, overrides=TINY)
    heard = listen(folder)
    assert heard.code == 0, heard.stderr
    return folder


# --- honest models -------------------------------------------------------------------------------


def test_the_number_is_the_one_that_torch_computes_from_the_same_text(trained: Path, dataset: Path) -> None:
    measured = measure(trained, dataset)
    assert (measured.outcome, measured.reasons) == ("ok", [])
    saved = trained / "out" / "checkpoint"
    model = load_recipe(RECIPE).build_model(checkpoint.load_config(saved)).eval()
    checkpoint.load(saved, model)
    rows = score.cut_rows(score.open_held_out(dataset, "val"), seq_len=TINY["seq_len"], num_tokens=8_192)
    x, y = (torch.from_numpy(part.astype(np.int64)) for part in (rows.inputs, rows.targets))
    with torch.no_grad():
        nats = F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
    assert y.numel() == measured.provenance["num_tokens"] == 8_192
    assert measured.val_bpb == pytest.approx(nats / math.log(2), abs=2e-3)  # bfloat16 by another batch shape


def test_scoring_twice_gives_the_same_number_and_the_same_provenance(trained: Path, dataset: Path) -> None:
    first, second = measure(trained, dataset), measure(trained, dataset)
    assert first.val_bpb == second.val_bpb
    assert first.provenance == second.provenance
    assert first.provenance["num_challenges"] == 256
    assert first.provenance["recheck_max_nats"] == 0.0
    assert first.evidence is not None
    assert (first.evidence.num_asked, first.evidence.num_apart, first.evidence.places) == (256, 0, [])
    assert first.provenance["manifest_sha256"] == manifest_sha256(dataset)
    assert first.provenance["torch"] == torch.__version__
    assert len(str(first.provenance["parameters_sha256"])) == 64


def test_a_model_that_knows_nothing_costs_eight_bits_a_byte_in_the_best_sandbox(dataset: Path, tmp_path: Path) -> None:
    measured = measure(make_model(tmp_path / "run"), dataset, level=sandbox.probe())
    assert (measured.outcome, measured.reasons) == ("ok", [])
    assert measured.val_bpb == pytest.approx(8)


def test_what_the_recipe_prints_does_not_disturb_the_scorer(dataset: Path, tmp_path: Path) -> None:
    noisy = make_model(tmp_path / "run", forward="print('x' * 100_000); print('y', file=sys.stderr); return honest")
    assert measure(noisy, dataset).outcome == "ok"


def test_the_sealed_text_is_read_when_it_is_asked_for_and_measured_in_the_same_way(
    dataset: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "run", forward="return honest + 3.0 * hot(past(tokens, 1))")
    both, val, sealed = (
        measure(folder, dataset, **over) for over in ({"sealed": True}, {}, {"split": "sealed"})
    )  # fmt: skip
    assert (both.outcome, both.val_bpb, both.sealed_bpb) == ("ok", val.val_bpb, sealed.val_bpb)
    assert both.val_bpb != both.sealed_bpb
    assert val.sealed_bpb is None
    assert both.provenance["sealed_num_challenges"] == both.provenance["num_challenges"] == 256
    assert both.provenance["sealed_parameters_sha256"] == both.provenance["parameters_sha256"]
    assert both.evidence is not None
    assert both.evidence.split == "sealed"


def test_for_a_model_that_is_disputed_already_the_sealed_text_stays_closed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = score.open_held_out
    monkeypatch.setattr(score, "open_held_out", lambda folder, split: opened.append(split) or real(folder, split))
    forward = zoo.body(zoo.CHEATS["looks ahead"])
    measured = measure(make_model(tmp_path / "run", forward=forward), dataset, sealed=True)
    assert (measured.outcome, measured.sealed_bpb, opened) == ("disputed", None, ["val"])


def test_a_leak_that_shows_on_the_sealed_text_only_is_told_as_such() -> None:
    def part(split: str, outcome: str, reasons: list[str], sha256: str = "a") -> score.Measured:
        found = Evidence.model_validate(
            {"num_asked": 1, "num_apart": 0, "tolerance_nats": 0.1, "largest_nats": 0.0, "places": [], "split": split}
        )
        about: dict[str, Any] = {"parameters_sha256": sha256, "num_tokens": 7}
        return score.Measured(bpb=1.5, outcome=outcome, reasons=reasons, evidence=found, about=about)  # type: ignore[arg-type]

    val = part("val", "ok", [])
    leaks = score.scored([val, part("sealed", "disputed", ["It looks ahead."])], None, {}, 1.0)
    assert (leaks.outcome, leaks.reasons) == ("disputed", ["On the sealed text: It looks ahead."])
    assert (leaks.provenance["num_tokens"], leaks.provenance["sealed_num_tokens"]) == (7, 7)
    swapped = score.scored([val, part("sealed", "ok", [], sha256="b")], None, {}, 1.0)
    assert (swapped.outcome, len(swapped.reasons)) == ("disputed", 1)
    moved = score.scored([val], "The checkpoint changed while it was scored.", {}, 1.0)
    assert (moved.outcome, moved.val_bpb) == ("disputed", 1.5)


# --- other tokens than bytes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text in 301 tokens, of which the last ends a document."""
    folder = tmp_path_factory.mktemp("ranks")
    origin = Origin(path=write_texts(folder / "texts"), tokenizer=str(write_rank_file(folder)))
    return prepare(folder, "mine", origin)


def of_vocab(folder: Path, vocab: int, forward: str = "return honest") -> Path:
    """``make_model`` with another vocabulary."""
    made = make_model(folder, forward=forward)
    train = folder / "source" / "train.py"
    train.write_text(train.read_text().replace("256, 256", f"{vocab}, {vocab}"))
    model = torch.nn.Module()
    model.register_parameter("table", torch.nn.Parameter(torch.zeros(vocab, vocab)))
    checkpoint.save(folder / "out", model, {"seq_len": 32, "vocab_size": vocab})
    return made


def test_bits_are_counted_per_byte_of_text_and_not_per_token(
    in_ranks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "BATCH_TOKENS", 128)
    monkeypatch.setattr(model_process, "PIECE_BYTES", 5 * 301 * 4)  # answers are read five positions at a time
    measured = measure(of_vocab(tmp_path / "run", 301), in_ranks, num_tokens=1_024)
    assert (measured.outcome, measured.reasons) == ("ok", [])
    held_out = score.open_held_out(in_ranks, "val")
    targets = score.cut_rows(held_out, seq_len=32, num_tokens=1_024).targets
    assert held_out.token_bytes is not None
    num_counted, num_bytes = int((targets != 300).sum()), int(held_out.token_bytes[targets].sum())
    assert num_counted < targets.size, "the end of a document is among them"
    assert measured.val_bpb == pytest.approx(num_counted * math.log2(301) / num_bytes)
    assert measured.provenance["tokenizer_sha256"] == held_out.manifest.tokenizer.sha256


def test_a_model_of_another_vocabulary_is_no_model_of_this_dataset(in_ranks: Path, tmp_path: Path) -> None:
    measured = measure(make_model(tmp_path / "run"), in_ranks, num_tokens=1_024)
    assert (measured.outcome, measured.val_bpb) == ("failed", None)
    assert measured.reasons == ["The model's vocabulary is 256, but the dataset's is 301."]


def test_tokens_whose_bytes_nobody_knows_give_no_score(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "train.bin", tokens_of(100))
    write_llmc(tmp_path / "bin" / "val.bin", tokens_of(400))
    unknown = prepare(tmp_path, "unknown", Origin(path=tmp_path / "bin"))
    measured = measure(make_model(tmp_path / "run"), unknown)
    assert (measured.outcome, measured.val_bpb) == ("failed", None)
    assert "prepare it again with --tokenizer" in measured.reasons[0]


def test_a_large_vocabulary_is_asked_for_in_small_batches() -> None:
    shapes = {(256, 128): 32, (256, 4_096): 1, (50_257, 128): 2, (50_257, 1_024): 1}
    assert {shape: score.rows_at_once(*shape) for shape in shapes} == shapes


def test_tied_weights_are_saved_and_come_back_tied(tmp_path: Path) -> None:
    def tied() -> torch.nn.Module:
        model = torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)])
        model[0].weight = model[1].weight
        return model

    model, again = tied(), tied()
    checkpoint.load(checkpoint.save(tmp_path, model, {"seq_len": 32}), again)
    assert torch.equal(again[0].weight, model[1].weight)
    assert again[0].weight is again[1].weight


# --- models that cheat -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.CHEATS)
def test_no_cheat_passes(dataset: Path, tmp_path: Path, name: str) -> None:
    measured = measure(make_model(tmp_path / "run", forward=zoo.body(zoo.CHEATS[name])), dataset, num_challenges=512)
    assert measured.outcome == "disputed", measured
    assert measured.val_bpb is not None
    assert measured.provenance["num_mismatches"] > 0
    assert "nats at first" in measured.reasons[1]
    assert measured.evidence is not None
    assert measured.evidence.num_apart == measured.provenance["num_mismatches"]
    apart = [place.nats for place in measured.evidence.places]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] == measured.evidence.largest_nats > measured.evidence.tolerance_nats
    assert 0 < len(apart) <= 20


@pytest.mark.parametrize("name", zoo.RESTLESS)
def test_a_model_that_changes_while_it_answers_is_disputed(dataset: Path, tmp_path: Path, name: str) -> None:
    measured = measure(make_model(tmp_path / "run", forward=zoo.body(zoo.RESTLESS[name])), dataset)
    assert measured.outcome == "disputed", measured
    assert "parameters or buffers were others after the last batch" in measured.reasons[-1]


def test_a_buffer_that_is_another_one_in_every_process_is_disputed(dataset: Path, tmp_path: Path) -> None:
    measured = measure(make_model(tmp_path / "run", zeros="rand"), dataset)
    assert measured.outcome == "disputed", measured
    assert "Fresh processes held other parameters" in measured.reasons[0]
    assert measured.evidence is not None
    assert measured.evidence.num_apart == 0, "its answers agree all the same"


def test_the_hash_covers_every_name_type_shape_and_value() -> None:
    def model_with(**buffers: torch.Tensor) -> torch.nn.Module:
        model = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(model.weight)
        torch.nn.init.zeros_(model.bias)
        for name, tensor in buffers.items():
            model.register_buffer(name, tensor, persistent=False)
        return model

    zero = torch.zeros(4)
    several = [
        {}, {"a": zero}, {"b": zero}, {"a": zero.reshape(2, 2)}, {"a": zero.int()}, {"a": zero.bfloat16()},
        {"a": torch.tensor([0.0, 0.0, 0.0, 1e-30])}, {"a": torch.tensor(0.0)}, {"a": torch.ones(4).to_sparse()},
        {"a": torch.zeros(4, dtype=torch.complex64)},
    ]  # fmt: skip
    hashes = [model_server.holdings_sha256(model_with(**buffers)) for buffers in several]
    assert len(set(hashes)) == len(several)
    assert hashes[1] == model_server.holdings_sha256(model_with(a=torch.zeros(8)[::2]))


ONE_BATCH: dict[str, Any] = {"num_tokens": 4_096, "num_challenges": 8}  # searching a library takes its time


def looks_up(folder: Path) -> Path:
    """A run folder whose model answers out of whatever library of Python it can read."""
    made = make_model(folder, forward="return looked_up(tokens, honest)")
    train = made / "source" / "train.py"
    train.write_text(train.read_text() + zoo.LOOKS_UP)
    config = made / "out" / "checkpoint" / "config.json"
    config.write_text(json.dumps({"seq_len": 512, "vocab_size": 256}))
    return made


@pytest.mark.parametrize("level", trials.LEVELS)
def test_a_model_that_looks_its_answers_up_finds_nothing(dataset: Path, tmp_path: Path, level: str) -> None:
    """No challenge can see it: the same prefix has the same answer. So the text must not be there."""
    measured = measure(looks_up(tmp_path / "run"), dataset, level=level, **ONE_BATCH)
    assert measured.outcome == "ok", measured.reasons
    assert measured.val_bpb is not None
    assert measured.val_bpb > 7.8, "eight bits a byte is what it knows; some boilerplate stands everywhere"


def test_where_the_library_lies_open_it_would_get_away_with_it(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the hole that hiding closes."""
    monkeypatch.setattr(hidden, "places", tuple)
    measured = measure(looks_up(tmp_path / "run"), dataset, level=trials.LEVELS[0], **ONE_BATCH)
    assert measured.outcome == "ok", measured.reasons
    assert measured.val_bpb is not None
    assert 0.3 < measured.val_bpb < 1


@pytest.mark.parametrize("name", zoo.HONEST)
def test_unusual_but_honest_models_pass(dataset: Path, tmp_path: Path, name: str) -> None:
    measured = measure(make_model(tmp_path / "run", forward=zoo.body(zoo.HONEST[name])), dataset)
    assert (measured.outcome, measured.reasons) == ("ok", [])


def test_no_request_shows_what_stood_behind_a_prefix_that_is_still_to_be_answered(dataset: Path) -> None:
    held_out = score.open_held_out(dataset, "val")
    rows = score.cut_rows(held_out, seq_len=32, num_tokens=8_192)
    rng, weights = np.random.default_rng(), np.ones(rows.targets.shape)
    plan = challenge(rows.inputs, rows.per_batch, 10_000, held_out.foreign, weights, rng)
    num = len(rows.inputs)
    assert (plan.num_rounds, len(plan.rows)) == (16, 16 * num)
    longest = np.zeros(num, int)  # of each row's prefixes, in the rounds before
    for shown in np.split(np.arange(len(plan.rows)), plan.num_rounds):
        assert sorted(plan.rows[shown]) == list(range(num))  # each once a round: no batch tells what its neighbour asks
        assert (plan.kept[shown] > longest[plan.rows[shown]]).all()
        longest[plan.rows[shown]] = plan.kept[shown]
    for row, kept, asked in zip(plan.rows, plan.kept, plan.inputs, strict=True):
        assert (asked[:kept] == rows.inputs[row][:kept]).all()
    cut = plan.kept < 32
    assert 0.1 < np.mean(longest == 32) < 0.45
    changed = [(a[k:] != rows.inputs[r][k:]).any() for r, k, a in zip(plan.rows, plan.kept, plan.inputs, strict=True)]
    assert np.mean(np.array(changed)[cut]) > 0.9
    again = challenge(rows.inputs, rows.per_batch, 10_000, held_out.foreign, weights, rng)
    assert (again.rows != plan.rows).any()


def test_answers_are_compared_up_to_the_cut_and_no_further(dataset: Path) -> None:
    held_out = score.open_held_out(dataset, "val")
    rows = score.cut_rows(held_out, seq_len=256, num_tokens=131_072)
    weights = np.ones(rows.targets.shape)
    plan = challenge(rows.inputs, rows.per_batch, 256, held_out.foreign, weights, np.random.default_rng(3))
    assert plan.positions.shape == (256, 64)
    assert plan.positions.min() >= 0 and plan.positions.max() <= 255
    assert (plan.kept == 256).any(), "no prefix that is cut reaches a row's last place"
    assert (plan.positions == plan.kept[:, None] - 1).any(axis=1).all()
    found, committed = Challenged(), np.zeros(rows.targets.shape)
    again = np.where(plan.positions < plan.kept[:, None], 0.0, 9.0)  # what comes behind a cut is another text's loss
    found.compare(plan, committed, again)
    assert found.largest_nats == 0.0
    found.compare(plan, committed, again + (plan.positions == plan.kept[:, None] - 1))
    assert len(found.apart(0.5)) == 256


def test_whoever_peeks_only_where_it_pays_is_met_although_it_is_three_places_in_ten_thousand(dataset: Path) -> None:
    held_out = score.open_held_out(dataset, "val")
    rows, rng = score.cut_rows(held_out, seq_len=256, num_tokens=131_072), np.random.default_rng(7)
    honest = suspicion.expected(held_out.foreign, rows.inputs, rows.targets, 256, np.random.default_rng(1))
    largest = np.argsort(-honest[:, :-1].ravel())[: int(0.0003 * honest.size)]
    peeked = np.zeros((len(honest), honest.shape[1] - 1), bool)
    peeked.ravel()[largest] = True
    nats = honest.copy()
    nats[:, :-1][peeked] = 0.0
    gain = (honest - nats).sum() / honest.size / math.log(2)
    assert 0.002 < gain < 0.02, "as much as a real idea gains"

    def met(weights: Nats) -> bool:
        plan = challenge(rows.inputs, rows.per_batch, 256, held_out.foreign, weights, rng)
        cut = plan.kept < rows.inputs.shape[1]
        return bool(peeked[plan.rows[cut], plan.kept[cut] - 1].any())

    aimed = [
        met(suspicion.weigh(nats, suspicion.expected(held_out.foreign, rows.inputs, rows.targets, 256, rng)))
        for _ in range(20)
    ]
    evenly = [met(np.zeros_like(nats)) for _ in range(20)]
    assert sum(aimed) >= 18
    assert sum(evenly) <= 6


def test_an_honest_model_that_knows_more_than_its_neighbours_is_weighed_and_passes() -> None:
    nats, expected = np.array([[1.0, 3.0, 0.5]]), np.array([[2.0, 1.0, 0.5]])
    assert suspicion.weigh(nats, expected).tolist() == [[1.0, 0.0, 0.0]]


def test_more_challenges_than_rows_are_asked_in_further_rounds(dataset: Path, tmp_path: Path) -> None:
    measured = measure(make_model(tmp_path / "run"), dataset, num_challenges=600)
    assert measured.provenance["num_challenges"] == 768  # 256 rows, three times
    assert measured.outcome == "ok"


def test_text_that_is_known_too_well_waits_for_a_person() -> None:
    same = Challenged([Gap(nats=0.0, row=0, position=3, cut=4, first=1.0, again=1.0)])
    outcome, reasons = score.judge(0.29, same, "cpu")
    assert outcome == "quarantined"
    assert "0.29" in reasons[0]


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"forward": "return honest * float('nan')"}, "not finite"),
        ({"forward": "return honest[:, :-1]"}, "logits (128, 31, 256)"),
        ({"forward": "raise KeyError('lost')"}, "raised: File \"train.py\", line 29, in forward"),
        ({"forward": "return honest, None"}, "the model gave tuple and not logits"),
        ({"forward": "return honest.to('meta')"}, "NotImplementedError"),
        ({"forward": "return honest.to_sparse()"}, "raised: NotImplementedError: Could not run"),
        ({"forward": "return honest * 1j"}, "and not logits, a real tensor"),
        ({"forward": "return 3.3e38 * (2 * hot(tokens) - 1)"}, "so far apart that a loss is infinite"),
        ({"forward": r"raise ValueError('\ud800 bad')"}, "ValueError: ? bad"),
        ({"forward": "os._exit(3)"}, "exit code 3"),
        ({"forward": "forge(); return honest"}, "malformed"),
        ({"build": "return nn.Linear(2, 2)"}, "could not be loaded: RuntimeError: Error(s) in loading state_dict"),
        ({"build": "'\0'"}, "could not be loaded: SyntaxError"),
        ({"build": "raise SystemExit('no')"}, "exit code 1"),
    ],
    ids=[
        *("nan", "shape", "raises", "tuple", "meta", "sparse", "complex", "far apart", "surrogate", "exits", "forges"),
        *("other weights", "no Python"),
        "leaves",
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_measured_has_no_number(
    dataset: Path, tmp_path: Path, over: dict[str, str], said: str
) -> None:
    measured = measure(make_model(tmp_path / "run", **over), dataset)
    assert (measured.outcome, measured.val_bpb) == ("failed", None)
    assert said in measured.reasons[0]
    assert "Traceback" not in measured.reasons[0]


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        ("os.kill(os.getpid(), 9)", r"killed by signal 9 \(SIGKILL\) from outside; nothing says that memory ran out"),
        ("raise OSError(28, os.strerror(28))", "says of its machine: its disk is full"),
        (
            "raise RuntimeError('CUDA error: uncorrectable ECC error encountered')",
            "says of its machine: its GPU is gone",
        ),
    ],
    ids=["killed", "full disk", "gpu"],
)
def test_a_models_process_that_its_machine_failed_says_nothing_of_the_model(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], forward: str, said: str
) -> None:
    folder = make_model(tmp_path / "run", forward=forward)
    with pytest.raises(MachineFault, match=said):
        measure(folder, dataset, level=sandbox.probe())
    argv = ["--recipe", folder / "source", "--checkpoint", folder / "out" / "checkpoint", "--dataset", dataset]
    how = ["--num-tokens", 8_192, "--challenges", 256, "--sandbox", "none", "--device", "cpu", "--json"]
    assert by_hand.main(list(map(str, [*argv, *how]))) == by_hand.EX_TEMPFAIL
    told = Score.model_validate_json(capsys.readouterr().out)
    assert (told.outcome, told.val_bpb) == ("failed", None)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (["-c", "import os; os._exit(127)"], "ended with exit code 127"),
        (["-c", "import time; time.sleep(600)"], r"did not start in time \(limit 0.5 s\)"),
        (["-m", "gpu_runner.harness.model_server", "nowhere", "nowhere", "--device", "cuda"], "torch sees no GPU"),
    ],
    ids=["no bwrap", "cold disk", "no gpu"],
)
def test_a_models_process_that_never_came_to_the_model_says_nothing_of_it(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: list[str], said: str
) -> None:
    if torch.cuda.is_available() and "cuda" in server:
        pytest.skip("this machine has a GPU")
    if "time" in said:
        monkeypatch.setattr(model_process, "START_S", 0.5)
    monkeypatch.setattr(sandbox.Cell, "argv", lambda *_: [sys.executable, *server])
    with pytest.raises(MachineFault, match=f"{said}.*None of the recipe had run"):
        measure(make_model(tmp_path / "run"), dataset)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("can't start new thread"), OSError(24, "Too many open files"), OSError(11, "again")],
    ids=repr,
)
def test_a_scorer_that_its_machine_fails_asks_for_another_attempt(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(score, "open_held_out", fails)
    folder = make_model(tmp_path / "run")
    argv = ["--recipe", folder / "source", "--checkpoint", folder / "out" / "checkpoint", "--dataset", dataset]
    assert by_hand.main([*map(str, argv), "--sandbox", "none", "--json"]) == by_hand.EX_TEMPFAIL


SAYS = "import __main__ as server; about = server._about; server._about = lambda *a: about(*a) | "


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("{'device': 'cuda'}", "it was given none"),
        ("{'num_params': -1}", "wrongly"),
        ("{'num_params': 10**99}", "wrongly"),
    ],
    ids=["a gpu", "fewer than no parameters", "more than there can be"],
)
def test_what_a_model_cannot_truly_say_of_itself_is_not_believed(
    dataset: Path, tmp_path: Path, claim: str, said: str
) -> None:
    """A GPU would excuse small differences: a model that peeks by less than that only had to call itself one."""
    measured = measure(make_model(tmp_path / "run", build=SAYS + claim), dataset)
    assert measured.outcome == "failed"
    assert said in measured.reasons[0]


def test_a_name_that_no_record_can_keep_is_kept_in_plain_text(dataset: Path, tmp_path: Path) -> None:
    build = SAYS + r"{'device_name': 'a\ud800b\0c\x1b[2Jd'}"
    measured = measure(make_model(tmp_path / "run", build=build), dataset, num_challenges=1)
    assert (measured.outcome, measured.provenance["device_name"]) == ("ok", "abcd")
    assert Score.model_validate_json(measured.model_dump_json()) == measured


@pytest.mark.parametrize(
    "forward",
    [
        r"raise ValueError('x' * 5_000 + ' a\0b\x1b[2J\u202ec')",
        r"os.write(2, b'first\n' + b'x' * 90 + b' a\0b\x1b[2Jc\n'); os._exit(5)",
    ],
    ids=["raised", "printed"],
)
def test_a_dying_models_last_words_are_plain_text_and_their_end_is_kept(
    dataset: Path, tmp_path: Path, forward: str
) -> None:
    (reason,) = measure(make_model(tmp_path / "run", forward=forward), dataset).reasons
    assert reason.rstrip().endswith(" abc")
    assert reason.startswith("The model's process ")
    assert reason.replace("\n", "").isprintable()


TELLS = "text = ' '.join(map(str, tokens[0].tolist())); "


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (TELLS + "raise ValueError(text)", "ValueError: "),
        (TELLS + "os.write(2, text.encode()); os._exit(5)", "ended with exit code 5: "),
        (TELLS + "assert self.num_calls < 3, text; return honest", "The model's process raised. What it said could"),
    ],
    ids=["raised", "printed", "raised later"],
)
def test_what_a_model_says_of_held_out_text_is_told_to_nobody(
    dataset: Path, tmp_path: Path, forward: str, said: str
) -> None:
    """Reasons stand on pages and in prompts. A fresh process that sees training text alone is quoted instead."""
    measured = measure(make_model(tmp_path / "run", forward=zoo.body(forward)), dataset, num_tokens=16_384)
    assert measured.outcome == "failed"
    assert said in measured.reasons[0]
    rows = score.cut_rows(score.open_held_out(dataset, "val"), seq_len=32, num_tokens=16_384)
    told = {" ".join(map(str, row.tolist())) for row in rows.inputs}
    assert not any(text[:40] in measured.reasons[0] for text in told)


def test_a_model_that_is_never_ready_is_told_from_one_that_never_answers(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_process, "LOAD_S", 0.5)
    measured = measure(make_model(tmp_path / "run", build="time.sleep(600)"), dataset)
    assert measured.reasons == ["The model could not be built and loaded in time (limit 0.5 s)."]


def test_a_model_that_is_never_too_late_but_always_slow_has_an_end(dataset: Path, tmp_path: Path) -> None:
    slow = make_model(tmp_path / "run", forward="time.sleep(2); return honest")
    measured = measure(slow, dataset, num_tokens=131_072, limit_s=8)
    assert measured.reasons == ["Scoring did not end in time (limit 8 s a split)."]
    assert 7 < measured.seconds < 15


def test_a_model_that_never_answers_is_killed_with_all_its_children(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_process, "ANSWER_S", 0.5)
    pids = tmp_path / "pids"
    forward = f"child = os.fork(); open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)"
    measured = measure(make_model(tmp_path / "run", forward=forward), dataset)
    assert measured.outcome == "failed"
    assert "did not answer in time" in measured.reasons[0]
    numbers = pids.read_text().split()
    assert numbers
    give_up_at = time.monotonic() + 5  # SIGKILL is sent; on a busy machine a process takes a moment to die of it
    while not all(is_gone(int(pid)) for pid in numbers):
        assert time.monotonic() < give_up_at, "a child outlived the model"
        time.sleep(0.02)


@pytest.mark.parametrize("noise", ["os.write(2, b'x' * 65_536)", "os.write(2, b'.'); time.sleep(0.01)"])
def test_a_model_that_never_rests_is_looked_at_all_the_same(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str
) -> None:
    monkeypatch.setattr(model_process, "LOOK_S", 0.1)
    monkeypatch.setattr(model_process, "ANSWER_S", 10.0)
    used = {"loading": None, "answering": sandbox.Excess("memory", 1 << 30)}
    answering = tmp_path / "answering"
    monkeypatch.setattr(sandbox.Cell, "excess", lambda *_: used["answering" if answering.exists() else "loading"])
    forward = f"open({str(answering)!r}, 'w')\n        while True: {noise}"
    (reason,) = measure(make_model(tmp_path / "run", forward=forward), dataset).reasons
    assert reason == "The model's process used more than its limit of 1,024 MiB of memory and was killed."


def test_a_model_that_reads_its_own_pipes_first_only_loses_time(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can open its end of a pipe for reading: what was ready is gone when we come for it."""
    turns = iter(range(10**9))

    def in_vain(call: Any) -> Any:
        def every_other_time(*given: Any) -> Any:
            if not next(turns) % 2:
                raise BlockingIOError
            return call(*given)

        return every_other_time

    stolen = {name: in_vain(getattr(os, name)) for name in ("readv", "read", "write")}
    monkeypatch.setattr(model_process, "os", SimpleNamespace(**{**vars(os), **stolen}))
    measured = measure(make_model(tmp_path / "run", forward="print('x' * 1_000); return honest"), dataset)
    assert (measured.outcome, measured.reasons) == ("ok", [])


@pytest.mark.parametrize("level", trials.LEVELS)
def test_no_process_begins_while_the_one_before_it_is_still_dying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Who holds much memory dies slowly, and its locks on files that all may read would tell the next one thousands of
    bits. A control group waits for it; where there is none, we do."""
    monkeypatch.setattr(cgroups, "make", lambda **_: None)
    made = make_model(tmp_path / "run", build="Model.held = torch.ones(1 << 28)")
    start = {"vocab": 256, "level": level, "device": "cpu"}
    with model_process.ModelProcess(made / "source", made / "out" / "checkpoint", **start) as model:  # type: ignore[arg-type]
        pids, _ = tally.descendants(model._process.pid, 4096)
    assert pids
    assert all(is_gone(pid) for pid in pids)


def is_gone(pid: int) -> bool:
    """No such process, or a zombie that waits for its reaper."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# --- checkpoints and arguments ---------------------------------------------------------------------


def test_a_checkpoint_that_leads_elsewhere_is_not_followed(dataset: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "run")
    weights = folder / "out" / "checkpoint" / "model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    measured = measure(folder, dataset)
    assert measured.outcome == "failed"
    assert "symbolic link" in measured.reasons[0]
    shutil.rmtree(folder / "out" / "checkpoint")
    assert "missing" in measure(folder, dataset).reasons[0]


def test_a_recipe_is_hashed_as_it_lies_there_and_no_link_is_followed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link can lead to what never ends (/proc/kmsg) or cannot be read; Python also runs what lies in __pycache__."""
    folder = make_model(tmp_path / "run")
    source, saved = folder / "source", folder / "out" / "checkpoint"
    os.mkfifo(source / "fifo")
    (source / "memory").symlink_to("/proc/self/mem")
    (source / "loop").symlink_to("loop")
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.txt")).write_text("a name that is no UTF-8")
    hashes = [identity.of_model(source, saved)["recipe_sha256"]]
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"other code")
    hashes.append(identity.of_model(source, saved)["recipe_sha256"])
    (source / "loop").unlink()
    (source / "loop").symlink_to("elsewhere")
    hashes.append(identity.of_model(source, saved)["recipe_sha256"])
    assert len(set(hashes)) == 3
    monkeypatch.setattr(identity, "MAX_RECIPE_BYTES", 100)
    assert measure(folder, dataset).reasons == ["The recipe's folder: larger than 100 bytes."]
    monkeypatch.setattr(identity, "MAX_WEIGHTS_BYTES", 100)
    assert measure(folder, dataset).reasons == ["model.safetensors: larger than 100 bytes."]


@pytest.mark.parametrize("config", ["[" * 60_000, "[]", '{"seq_len": 1000000}', '{"seq_len": true}', "x" * 70_000])
def test_a_config_that_makes_no_sense_is_a_failure_of_the_run(dataset: Path, tmp_path: Path, config: str) -> None:
    folder = make_model(tmp_path / "run")
    (folder / "out" / "checkpoint" / "config.json").write_text(config)
    measured = measure(folder, dataset)
    assert measured.outcome == "failed"
    assert measured.reasons[0].startswith("config.json")


def test_a_split_that_was_changed_is_never_read(trained: Path, tmp_path: Path) -> None:
    home = prepare(tmp_path)
    (home / "val" / "val-00000.bin").write_bytes(b"easy" * 10_000)
    with pytest.raises(ValueError, match="not what the manifest says"):
        measure(trained, home)
    with pytest.raises(ValueError, match="'test' is not one of"):
        measure(trained, home, split="test")


def test_a_dataset_in_a_folder_that_the_model_is_shown_is_not_read(dataset: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "run")
    for shown in (folder / "source", folder / "out" / "checkpoint"):
        with pytest.raises(ValueError, match="which the model is shown: it could read what is held out"):
            measure(folder, shutil.copytree(dataset, shown / "data"))


def test_the_scorer_imports_neither_torch_nor_the_recipe() -> None:
    program = "import sys, gpu_runner.scorer.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=RECIPE.parents[2], timeout=60).returncode == 0


def test_text_that_is_too_short_to_measure_or_to_challenge_is_said_to_be(dataset: Path) -> None:
    held_out = score.open_held_out(dataset, "val")
    with pytest.raises(ValueError, match="held-out tokens are too few for rows of 1000000"):
        score.cut_rows(held_out, seq_len=1_000_000, num_tokens=1)
    with pytest.raises(ValueError, match="100 training tokens are too few to challenge rows of 256"):
        score.cut_rows(replace(held_out, foreign=range(100)), seq_len=256, num_tokens=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--dataset", "nosuch", "nosuch"),
        ("--dataset", "x" * 5_000, "too long"),
        ("--split", "nonsense", "is not one of watch, val, sealed"),
        ("--split", "train", "is not one of watch, val, sealed"),
        ("--sandbox", "nonsense", "is not one of auto"),
        ("--recipe", "x" * 5_000, "too long"),
        ("--checkpoint", "nowhere", "model.safetensors: missing"),
    ],
)  # fmt: skip
def test_whatever_is_asked_the_answer_is_one_score(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    folder = make_model(tmp_path / "run")
    asked = {"--recipe": folder / "source", "--checkpoint": folder / "out" / "checkpoint", "--dataset": dataset}
    argv = [str(word) for words in (asked | {"--sandbox": "none", option: value}).items() for word in words]
    code = by_hand.main([*argv, "--json"])
    measured = Score.model_validate_json(capsys.readouterr().out)
    assert (code, measured.outcome, measured.val_bpb) == (1 if option == "--checkpoint" else 2, "failed", None)
    assert said in measured.reasons[0]


def test_at_the_command_line_only_ok_is_success(trained: Path, dataset: Path, tmp_path: Path) -> None:
    def at_the_command_line(folder: Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "gpu_runner.scorer", "--recipe", str(folder / "source"), "--json"]
        argv += ["--checkpoint", str(folder / "out" / "checkpoint"), "--dataset", str(dataset)]
        argv += ["--num-tokens", "8192", "--sandbox", "none", "--device", "cpu"]
        environment = os.environ | {"PYTHONPATH": str(RECIPE.parents[2])}
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)

    good = at_the_command_line(trained)
    assert good.returncode == 0, good.stderr
    assert Score.model_validate_json(good.stdout).outcome == "ok"
    bad = at_the_command_line(make_model(tmp_path / "run", forward="raise KeyError('lost')"))
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["val_bpb"] is None


class Played:
    """A model's process in one of its moods: ``shift`` moves one logit everywhere; ``peeks`` sees the next token."""

    def __init__(self, shift: float, *, peeks: float, device: str, noise: float) -> None:
        self.shift, self.peeks, self.noise = shift, peeks, noise
        self.about = {"device": device, "torch": "2"}
        self.stages = Stages()
        self.rng = np.random.default_rng()

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def holdings_sha256(self) -> str:
        return "a" * 64

    def ask(self, batches: Sequence[model_process.Batch]) -> Iterator[Any]:
        for tokens, first, wanted in batches:
            logits = self.rng.normal(0.0, self.noise, (*tokens.shape, 256)).astype(np.float32)
            logits[..., 0] += self.shift
            ahead = np.take_along_axis(logits[:, :-1], tokens[:, 1:, None], axis=-1) + self.peeks
            np.put_along_axis(logits[:, :-1], tokens[:, 1:, None], ahead, axis=-1)
            yield np.stack([row[start : start + wanted] for row, start in zip(logits, first, strict=True)]).reshape(
                -1, 256
            )


def asked_of(
    dataset: Path, moods: Sequence[float], *, peeks: float = 0.0, device: str = "cpu", noise: float = 0.0, num: int = 64
) -> examine.Examination:
    """All challenges to processes in these moods, one after another and from the start again."""
    rng, coming = np.random.default_rng(1), cycle(moods)
    text = rng.integers(0, 256, size=(16, 33)).astype(np.int32)
    rows = examine.Rows(inputs=text[:, :-1], targets=text[:, 1:], per_batch=8)
    foreign = score.open_held_out(dataset, "val").foreign

    def start() -> Any:
        return Played(next(coming), peeks=peeks, device=device, noise=noise)

    asked = examine.Examination(start, rows, foreign, 256)
    asked.challenge(num)
    return asked


def test_an_honest_model_whose_machine_rounds_otherwise_now_and_then_is_not_accused(dataset: Path) -> None:
    """Seen on a CPU with bfloat16: one process in fifty. Both the challenged and the committing one can be it."""
    steady = asked_of(dataset, [0.0])
    assert (steady.num_repeats, steady.num_commitments, steady.found.largest_nats) == (0, 1, 0.0)
    odd_answer = asked_of(dataset, [0.0, 0.1, *[0.0] * 9])
    assert (odd_answer.num_repeats, odd_answer.num_commitments, odd_answer.found.largest_nats) == (2, 1, 0.0)
    odd_commitment = asked_of(dataset, [0.1, *[0.0] * 99])
    assert (odd_commitment.num_repeats, odd_commitment.num_commitments) == (1, 2)
    assert (len(odd_commitment.found), odd_commitment.found.largest_nats) == (64, 0.0)


def test_a_model_that_peeks_is_accused_however_often_it_is_asked(dataset: Path) -> None:
    cheat = asked_of(dataset, [0.0], peeks=3.0)
    assert cheat.num_commitments == 2
    assert len(cheat.found.apart(1e-4)) > 40


def test_what_one_commitment_fell_by_is_asked_of_the_next(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever peeks at few places and was met at one of them would go free where the next questions miss them."""
    drawn: list[Plan] = []

    def harmless_but_for_the_first(inputs: frames.Tokens, *how: Any) -> Plan:
        drawn.append(plan := challenge(inputs, *how))
        last = inputs.shape[1]
        whole = replace(plan, kept=np.full_like(plan.kept, last), inputs=inputs[plan.rows], first=plan.first * 0)
        return whole if len(drawn) > 1 else plan

    monkeypatch.setattr(examine, "challenge", harmless_but_for_the_first)
    cheat = asked_of(dataset, [0.0], peeks=3.0)
    assert cheat.num_commitments == 2
    assert cheat.found.apart(1e-4)


def test_a_cheat_that_guesses_what_is_withheld_and_is_right_now_and_then_is_accused(dataset: Path) -> None:
    lucky_every_other_time = asked_of(dataset, [0.0, 0.1])
    assert (lucky_every_other_time.num_repeats, lucky_every_other_time.num_commitments) == (4, 2)
    assert lucky_every_other_time.found.apart(1e-4)


def test_an_honest_model_that_only_rounds_by_what_stands_behind_is_told_what_to_do(dataset: Path) -> None:
    rounds = asked_of(dataset, [0.0], noise=0.005, num=256)
    assert "compute that in float32" in rounds.found.reasons(1e-4)[-1]
    peeks = asked_of(dataset, [0.0], noise=0.005, peeks=0.03, num=256)
    assert "looks ahead a little" in peeks.found.reasons(1e-4)[-1]


def test_on_a_gpu_a_look_ahead_that_is_smaller_than_its_rounding_shows_in_the_mean(dataset: Path) -> None:
    tolerance = examine.TOLERANCE_NATS["cuda"]
    honest = asked_of(dataset, [0.0], device="cuda", noise=0.005, num=256)
    assert honest.found.reasons(tolerance) == []
    cheat = asked_of(dataset, [0.0], device="cuda", noise=0.002, peeks=0.03, num=256)
    assert not cheat.found.apart(tolerance)
    (reason,) = cheat.found.reasons(tolerance)
    assert reason.endswith("the model looks ahead a little, everywhere.")
    assert score.judge(1.5, cheat.found, "cuda")[0] == "disputed"


def test_a_model_that_is_never_the_same_twice_is_accused(dataset: Path) -> None:
    restless = asked_of(dataset, [n / 10 for n in range(1, 98)])
    assert restless.found.apart(1e-4)


def test_whoever_changes_any_file_of_the_scorer_has_another_scorer(tmp_path: Path) -> None:
    folder = shutil.copytree(identity.HERE, tmp_path / "scorer", ignore=shutil.ignore_patterns("__pycache__"))
    assert identity.scorer_sha256(folder) == identity.scorer_sha256()
    known = {identity.scorer_sha256()}
    for path in sorted(folder.glob("*.py")):
        path.write_text(path.read_text() + "# a word\n")
        known.add(identity.scorer_sha256(folder))
    (folder / "new.py").touch()
    known.add(identity.scorer_sha256(folder))
    assert len(known) == 2 + len(list(identity.HERE.glob("*.py")))
