"""How fast a newcomer's two cores train: our recipe beside nanoGPT, at equal shape, in the same minutes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.benchmarks.checkouts import folder_of_peers
from tests.benchmarks.measuring import Rounds, contest, disturbance, interleave, ratio
from tests.benchmarks.order import Order, Shape
from tests.benchmarks.record import Record
from tests.benchmarks.shapes import SHAPES, learns

pytestmark = pytest.mark.benchmark

NUM_TURNS, ROUND_S, WARM_UP_S = 7, 2.0, 1.0
BASE = "nanoGPT eager"
EQUALLY, EQUAL = ", no n-grams", {"ngram_order": 1}  # nanoGPT has no such tables
SANDBOXED = {"OMP_WAIT_POLICY": "passive"}  # as gpu_runner/sandbox.py sets it


def orders(shape: Shape, dataset: Path, folder: Path) -> dict[str, Order]:
    def order(who: str, how: str, note: str = "") -> Order:
        own = folder / f"{who}-{how}{note}"
        return Order(
            who=who,
            shape=shape,
            folder=str(own),
            dataset=str(dataset),
            compile=how == "compiled",
            peers=str(folder_of_peers("nanoGPT")),
            knobs=EQUAL if note == EQUALLY else {},
        )

    contenders = {f"{who} {how}": order(who, how) for who in ("nanoGPT", "ours") for how in ("eager", "compiled")}
    contenders |= {f"ours {how}{EQUALLY}": order("ours", how, EQUALLY) for how in ("eager", "compiled")}
    return contenders | {"ours eager, sandboxed": order("ours", "eager", ", sandboxed")}


@pytest.mark.parametrize("name", SHAPES)
def test_tokens_per_second_beside_nanogpt(name: str, dataset: Path, tmp_path: Path) -> None:
    shape = SHAPES[name]
    with contest(
        orders(shape, dataset, tmp_path), warm_up_s=WARM_UP_S, environments={"ours eager, sandboxed": SANDBOXED}
    ) as contenders:
        rounds = interleave(contenders, num_turns=NUM_TURNS, seconds=ROUND_S)
    for one in rounds.values():
        assert one.built["flops_per_token"] == pytest.approx(rounds[BASE].built["flops_per_token"], rel=0.03)
        assert learns(one), one
    _publish(name, shape, rounds)


def _publish(name: str, shape: Shape, rounds: dict[str, Rounds]) -> None:
    Record(
        name=f"cpu-speed-{name}",
        title=f"Tokens/s on a CPU, {shape.depth} layers, {shape.width} wide, T {shape.seq_len}, B {shape.batch_rows}",
        columns=("trainer", "tokens/s", f"x {BASE}", "parameters", "what it does"),
        rows=list(_rows(rounds)),
        notes=[
            f"{NUM_TURNS} turns of {ROUND_S:g} s each, interleaved: median (lowest to highest). Each turn's ratio is to"
            " that turn's nanoGPT.",
            disturbance(rounds),
            "Ours runs under the harness (batches, reports, telemetry); nanoGPT's own train.py runs as it is.",
        ],
        raw={"shape": asdict(shape), "rounds": {one.name: asdict(one) for one in rounds.values()}},
    ).publish()


def _rows(rounds: dict[str, Rounds]) -> Iterator[tuple[str, ...]]:
    for one in rounds.values():
        speed, built = one.of("tokens_per_s"), one.built
        times = ratio(one, rounds[BASE])
        yield one.name, f"{speed:,.0f}", f"{times:.2f}", f"{built['num_params']:,}", built["about"]
