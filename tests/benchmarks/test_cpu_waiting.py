"""How long a thread of OpenMP should spin before it sleeps: alone on the machine, and with a busy neighbour."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.benchmarks.measuring import Contender, Rounds, contest, disturbance, interleave, ratio
from tests.benchmarks.order import Order
from tests.benchmarks.record import Record
from tests.benchmarks.shapes import SHAPES, learns

pytestmark = pytest.mark.benchmark

NUM_TURNS, ROUND_S, WARM_UP_S = 5, 1.5, 1.0
BASE = "passive"
# libgomp, which PyTorch's Linux builds ship, counts turns of a loop; 10,000 are some 0.1 ms.
ONE_THREAD = "one thread"
WAYS: dict[str, dict[str, str]] = {
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin 0": {"GOMP_SPINCOUNT": "0"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin 3,000": {"GOMP_SPINCOUNT": "3000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
    "nothing set": {},
    "active": {"OMP_WAIT_POLICY": "active"},
    ONE_THREAD: {},
}


@contextmanager
def busy_core() -> Iterator[None]:
    """Somebody else's process that never waits."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def test_tokens_per_second_by_how_threads_wait(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    shape = SHAPES["T128-B16"]
    orders = {
        way: Order(
            who="ours",
            shape=shape,
            folder=str(tmp_path / str(i)),
            dataset=str(dataset),
            compile=False,
            threads=1 if way == ONE_THREAD else None,
        )
        for i, way in enumerate(WAYS)
    }
    with contest(orders, warm_up_s=WARM_UP_S, environments=WAYS) as contenders:
        alone, beside = (_measure(contenders, condition) for condition in (nullcontext(), busy_core()))
    assert all(learns(one) for one in beside.values())
    _publish(alone, beside)


def _measure(contenders: list[Contender], condition: AbstractContextManager[None]) -> dict[str, Rounds]:
    with condition:
        return interleave(contenders, num_turns=NUM_TURNS, seconds=ROUND_S)


def _publish(alone: dict[str, Rounds], beside: dict[str, Rounds]) -> None:
    Record(
        name="cpu-waiting",
        title="Ours eager, T 128, B 16: how OpenMP's threads wait for each other",
        columns=("threads wait", "alone, tokens/s", f"x {BASE}", "beside a busy process", f"x {BASE}"),
        rows=[
            (
                way,
                f"{alone[way].of('tokens_per_s'):,.0f}",
                f"{ratio(alone[way], alone[BASE]):.2f}",
                f"{beside[way].of('tokens_per_s'):,.0f}",
                f"{ratio(beside[way], beside[BASE]):.2f}",
            )
            for way in WAYS
        ],
        notes=[
            f"{NUM_TURNS} turns of {ROUND_S:g} s each, interleaved: median (lowest to highest).",
            f"Alone: {disturbance(alone)} Beside a busy process, that one included: {disturbance(beside)}",
        ],
        raw={
            name: {one.name: asdict(one) for one in found.values()}
            for name, found in (("alone", alone), ("beside", beside))
        },
    ).publish()
