"""Whether a GPU answers the same twice, and whether Bob can believe a score that was taken on one."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gpu_runner.contract import Score
from gpu_runner.scorer import score
from gpu_runner.scorer.model_process import Batch, ModelProcess
from tests.benchmarks.record import Record
from tests.gpu import cheats, inside
from tests.gpu.machine import DEVICE, DRY, FILES, IS_DRY_RUN, verdict
from tests.gpu.stages import steps
from tests.gpu_runner import zoo
from tests.sandbox import trials

pytestmark = pytest.mark.gpu

TRAIN_S = 3.0 if IS_DRY_RUN else 45.0
NUM_PROCESSES, NUM_TOKENS, AT_ONCE = (3, 8_192, 2) if IS_DRY_RUN else (8, 131_072, 4)
TIMES_OWN = 5  # the tolerance, in multiples of what the incumbent differs by from itself (facts: evaluation)
LEAST = 1e-4  # nats; what a CPU is allowed
SCORE_TOKENS, NUM_CHALLENGES = (8_192, 256) if IS_DRY_RUN else (131_072, 512)
SHARE_PERCENT = 5.0  # of a five-minute run
ZOO_AT_ONCE = 2 if IS_DRY_RUN else 6
CHEATS = dict(list(zoo.CHEATS.items())[:2]) if IS_DRY_RUN else zoo.CHEATS
HONEST = dict(list(zoo.HONEST.items())[:2]) if IS_DRY_RUN else zoo.HONEST
LEVEL = trials.LEVELS[0] if trials.LEVELS else "none"
Nats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What one model differs by from itself, in nats at one position, and the tolerance that follows."""

    same: list[float]  # the largest of each process: the same requests again
    asked_as_a_challenge: list[float]  # other company, other order, other text behind the prefix

    @property
    def tolerance(self) -> float:
        return max(TIMES_OWN * max(*self.same, *self.asked_as_a_challenge), LEAST)


@pytest.fixture(scope="module")
def incumbent(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the shipped recipe, trained in the sandbox."""
    folder = inside.run_dir(tmp_path_factory.mktemp("scored") / "run", corpus, seconds=TRAIN_S)
    heard = inside.train_at(LEVEL, folder, corpus)
    assert heard.code == 0, heard.stderr[-3_000:]
    return folder


@pytest.fixture(scope="module")
def calibration(incumbent: Path, corpus: Path) -> Calibration:
    """Published once; what the tests below go by."""
    held_out = score.open_held_out(corpus, "val")
    rows = score.cut_rows(held_out, seq_len=inside.SMALL["seq_len"], num_tokens=NUM_TOKENS)

    def ask(inputs: Any, targets: Any) -> Nats:
        vocab = held_out.manifest.tokenizer.vocab
        checkpoint = incumbent / "out" / "checkpoint"
        with ModelProcess(incumbent / "source", checkpoint, vocab=vocab, level=LEVEL, device=DEVICE) as model:
            parts = np.split(inputs, len(inputs) // rows.per_batch)
            batches = [Batch(part, np.zeros(len(part), np.int64), part.shape[1]) for part in parts]
            logits = np.concatenate([piece.astype(np.float64) for piece in model.ask(batches)])
        return nats_of(logits, targets)

    first = ask(rows.inputs, rows.targets)

    def again() -> Nats:
        return np.abs(ask(rows.inputs, rows.targets) - first)

    def challenged() -> Nats:
        rng = np.random.default_rng()  # one for each thread
        order, cuts = rng.permutation(len(first)), rng.integers(1, first.shape[1], size=len(first))
        asked = rows.inputs[order].copy()
        for row, cut in zip(asked, cuts, strict=True):
            start = int(rng.integers(0, len(held_out.foreign) - len(row)))
            row[cut:] = held_out.foreign.span(start, start + len(row) - int(cut))
        apart = np.abs(ask(asked, rows.targets[order]) - first[order])
        return np.where(np.arange(first.shape[1]) < cuts[:, None], apart, 0.0)

    apart = [*_several(again), *_several(challenged)]
    found = Calibration(
        same=[float(one.max()) for one in apart[:NUM_PROCESSES]],
        asked_as_a_challenge=[float(one.max()) for one in apart[NUM_PROCESSES:]],
    )
    _publish(found, apart)
    return found


def nats_of(logits: Nats, targets: Any) -> Nats:
    """Negative log-likelihood of every target, [N, T], by a log-softmax in float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(shifted, targets.reshape(-1, 1), axis=-1)[:, 0]
    nats: Nats = (np.log(np.exp(shifted).sum(axis=-1)) - picked).reshape(targets.shape)
    return nats


def _several(ask: Callable[[], Nats]) -> list[Nats]:
    """From so many fresh processes, a few of them at a time."""
    with steps(f"calibration: {ask.__name__}", NUM_PROCESSES) as bar, ThreadPoolExecutor(AT_ONCE) as pool:

        def one(number: int) -> Nats:
            apart = ask()
            bar.done(f"process {number}, {apart.max():.2g} nats")
            return apart

        return list(pool.map(one, range(1, NUM_PROCESSES + 1)))


def _publish(found: Calibration, apart: list[Nats]) -> None:
    now = score.TOLERANCE_NATS[DEVICE]
    rows = []
    for name, largest, here in (
        ("the same requests", found.same, apart[:NUM_PROCESSES]),
        ("as a challenge asks", found.asked_as_a_challenge, apart[NUM_PROCESSES:]),
    ):
        every = np.concatenate([one.ravel() for one in here])
        half, most = np.quantile(every, [0.5, 0.999])
        shown = " ".join(f"{value:.2g}" for value in sorted(largest))
        rows.append(
            (
                name,
                f"{len(largest)}",
                f"{max(largest):.3g}",
                f"{half:.2g}",
                f"{most:.2g}",
                f"{(every == 0).mean():.4%}",
                shown,
            )
        )
    Record(
        name=f"{FILES}-scorer-tolerance",
        title="What a trained model's answers differ by between fresh processes, in nats at one position",
        columns=("asked", "n", "largest", "median", "99.9 %", "equal", "the largest of each process"),
        rows=rows,
        notes=[
            f"The tolerance that follows is {found.tolerance:.3g}: {TIMES_OWN} times the largest, {LEAST:g} at least."
            f" TOLERANCE_NATS[{DEVICE!r}] in the scorer is {now:g}.",
            f"Target: no larger than that: {verdict(-found.tolerance, -now)}.{DRY}",
        ],
        raw={"same": found.same, "challenged": found.asked_as_a_challenge, "overrides": inside.SMALL},
    ).publish()


def measure(folder: Path, dataset: Path, **over: Any) -> Score:
    how: dict[str, Any] = {"num_tokens": 8_192, "num_challenges": 256, "level": LEVEL, "device": DEVICE} | over
    return score.score(folder / "source", folder / "out" / "checkpoint", dataset, **how)


def test_an_honest_model_passes_at_the_tolerance_that_is_set(
    incumbent: Path, corpus: Path, calibration: Calibration
) -> None:
    measured = measure(incumbent, corpus, num_tokens=SCORE_TOKENS, num_challenges=NUM_CHALLENGES)
    assert (measured.outcome, measured.reasons) == ("ok", [])
    assert max(*calibration.same, *calibration.asked_as_a_challenge) <= score.TOLERANCE_NATS[DEVICE]


@pytest.mark.parametrize("only_where_it_pays", [False, True])
def test_the_same_model_is_disputed_when_it_peeks(
    only_where_it_pays: bool, incumbent: Path, corpus: Path, tmp_path: Path
) -> None:
    cheat = cheats.trained(incumbent, tmp_path / "run", only_where_it_pays=only_where_it_pays)
    measured = measure(cheat, corpus, num_tokens=SCORE_TOKENS, num_challenges=NUM_CHALLENGES)
    assert measured.outcome == "disputed", measured
    assert measured.val_bpb is not None


def test_cheats_are_disputed_and_honest_models_are_not_at_the_calibrated_tolerance(
    dataset: Path, tmp_path: Path, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_present = score.TOLERANCE_NATS[DEVICE]
    monkeypatch.setitem(score.TOLERANCE_NATS, DEVICE, calibration.tolerance)
    models = {("cheat", name): line for name, line in CHEATS.items()} | {
        ("honest", n): line for n, line in HONEST.items()
    }
    with steps("zoo", len(models)) as bar, ThreadPoolExecutor(ZOO_AT_ONCE) as pool:

        def one(kind: str, name: str) -> Score:
            folder = cheats.in_a_line(tmp_path / kind / name.replace(" ", "-"), models[kind, name])
            measured = measure(folder, dataset, num_challenges=512 if kind == "cheat" else 256)
            bar.done(f"{name}: {measured.outcome}")
            return measured

        scores = dict(zip(models, pool.map(lambda key: one(*key), models), strict=True))
    _publish_zoo(scores, calibration, at_present)
    unseen = {name for name, lead in cheats.FAINT.items() if lead <= 2 * calibration.tolerance}
    outcomes = {(kind, name): measured.outcome for (kind, name), measured in scores.items() if name not in unseen}
    assert outcomes == {(kind, name): "disputed" if kind == "cheat" else "ok" for kind, name in outcomes}


def _publish_zoo(scores: dict[tuple[str, str], Score], calibration: Calibration, at_present: float) -> None:
    apart = {
        key: float(measured.provenance.get("recheck_max_nats", math.nan) or 0.0) for key, measured in scores.items()
    }
    Record(
        name=f"{FILES}-scorer-zoo",
        title=f"Cheats and unusual models at a tolerance of {calibration.tolerance:.3g} nats",
        columns=("model", "outcome", "largest difference, nats", f"above {at_present:g}", "seconds"),
        rows=[
            (
                f"{kind}: {name}",
                measured.outcome,
                f"{apart[kind, name]:.3g}",
                "yes" if apart[kind, name] > at_present else "no",
                f"{measured.seconds:.1f}",
            )
            for (kind, name), measured in scores.items()
        ],
        notes=[
            f"{ZOO_AT_ONCE} at a time; n = 1 each. Fourth column: whether the tolerance that is set meets it, too.{DRY}"
        ],
        raw={
            "tolerance": calibration.tolerance,
            "set": at_present,
            "apart": {f"{k}: {n}": v for (k, n), v in apart.items()},
        },
    ).publish()


def test_its_share_of_a_five_minute_run(incumbent: Path, corpus: Path) -> None:
    """As a five-minute run's is taken, and of eight times the text."""
    plan = [(8_192, 256)] if IS_DRY_RUN else [(131_072, 2_048), (1_048_576, 2_048)]
    rows, raw = [], []
    with steps("share", len(plan)) as bar:
        for num_tokens, num_challenges in plan:
            measured = measure(incumbent, corpus, num_tokens=num_tokens, num_challenges=num_challenges)
            assert (measured.outcome, measured.reasons) == ("ok", [])
            share = 100 * measured.seconds / 300
            took = measured.effort
            assert took is not None
            rows.append(
                (
                    f"{num_tokens:,}",
                    f"{num_challenges:,}",
                    f"{measured.seconds:.1f}",
                    f"{share:.1f} %",
                    verdict(-share, -SHARE_PERCENT),
                    f"{took.load_s:.2f}",
                    f"{took.first_s:.2f}",
                    "" if took.later_s is None else f"{took.later_s:.3f}",
                )
            )
            raw.append(measured.model_dump(mode="json"))
            bar.done(f"{num_tokens:,} tokens, {measured.seconds:.1f} s")
    Record(
        name=f"{FILES}-scorer-share",
        title=f"The scorer's time on a trained model, rows of {inside.SMALL['seq_len']} tokens",
        columns=(
            *("tokens", "challenges", "seconds", "of five minutes", f"target: {SHARE_PERCENT:g} %"),
            *("loading, s", "first answer, s", "a later one, s"),
        ),
        rows=rows,
        notes=[
            f"Nothing else on the machine; n = 1 each, at level {LEVEL}. A run of five minutes is asked 2,048. The last"
            f" three say what gpu_runner/scorer/effort.py may allow on such a machine, by the same clock as there.{DRY}"
        ],
        raw={"scores": raw},
    ).publish()
