"""Trainers side by side: each in a process of its own, a round at a time, A B A B.

One round after the other, so that what the machine does meanwhile falls on all alike; a ratio is taken
within each turn and its median and range reported. Between its rounds a process is stopped (SIGSTOP): an
OpenMP thread that spins while it waits would be measured in the others.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.order import Order

ROOT = Path(__file__).resolve().parents[2]
LAST_WORDS = 3_000  # characters of what a dead process printed


class Contender:
    """One trainer's process. ``environment`` is added to ours."""

    def __init__(self, name: str, order: Order, **environment: str) -> None:
        self.name, self.folder = name, Path(order.folder)
        self.folder.mkdir(parents=True)
        self.printed = self.folder / "printed.txt"
        with self.printed.open("w") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.contender"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                cwd=ROOT,
                text=True,
            )
        self.order = order
        self.built: dict[str, Any] = {}

    def build(self) -> None:
        """Wait until its model stands. Raises RuntimeError with what it printed when it never does."""
        self._say(self.order.dump())
        self.built = self._answer()

    def round(self, *, seconds: float, num_steps: int | None = None, profile: str = "") -> dict[str, Any]:
        """Train for ``seconds``, or ``num_steps``; what it measured. The process stands still afterwards."""
        self.process.send_signal(signal.SIGCONT)
        before = cpu_seconds(self.process.pid)
        self._say(json.dumps({"seconds": seconds, "num_steps": num_steps, "profile": profile}))
        measured = self._answer()
        after = cpu_seconds(self.process.pid)
        self.process.send_signal(signal.SIGSTOP)
        others_s = (after[0] - before[0]) - (after[1] - before[1])
        tokens = measured["num_steps"] * self.built["tokens_per_step"]
        return measured | {
            "tokens_per_s": tokens / measured["seconds"],
            "others_cores": max(others_s, 0.0) / measured["seconds"],
        }

    def last_word(self) -> dict[str, Any]:
        """Of one that trains at one go: what it says when it has done."""
        return self._answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended without an answer:\n{self.printed.read_text()[-LAST_WORDS:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def cpu_seconds(pid: int) -> tuple[float, float]:
    """What all processes and what ``pid`` have used of the CPUs so far; (nan, nan) where there is no /proc."""
    machine, own = Path("/proc/stat"), Path(f"/proc/{pid}/stat")
    if not machine.exists():
        return math.nan, math.nan
    user, nice, system, _, _, irq, softirq = map(int, machine.read_text().split()[1:8])
    user_own, system_own = own.read_text().rpartition(") ")[2].split()[11:13]
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, (int(user_own) + int(system_own)) / tick


@contextmanager
def contest(
    orders: Mapping[str, Order], *, warm_up_s: float, environments: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[list[Contender]]:
    """Start all of them, one after the other, each with a round that is not counted: it pays for compiling."""
    contenders: list[Contender] = []
    try:
        for name, order in orders.items():
            contenders.append(Contender(name, order, **(environments or {}).get(name, {})))
            contenders[-1].build()
            contenders[-1].round(seconds=warm_up_s)
        yield contenders
    finally:
        for contender in contenders:
            contender.end()


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of a few measurements."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({min(self.values):{spec}} to {max(self.values):{spec}})"


@dataclass(frozen=True)
class Rounds:
    """All turns of one contender."""

    name: str
    built: dict[str, Any]
    turns: tuple[dict[str, Any], ...]

    def of(self, what: str) -> Spread:
        return Spread(tuple(turn[what] for turn in self.turns))


def interleave(contenders: Sequence[Contender], *, num_turns: int, seconds: float) -> dict[str, Rounds]:
    """``num_turns`` times a round of each. Raises RuntimeError when one of them dies."""
    turns: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
    for _ in range(num_turns):
        for contender in contenders:
            turns[contender.name].append(contender.round(seconds=seconds))
    return {c.name: Rounds(c.name, c.built, tuple(turns[c.name])) for c in contenders}


def disturbance(rounds: Mapping[str, Rounds]) -> str:
    """A sentence for under the table: how much of the machine was not ours to measure."""
    if not Path("/proc/stat").exists():
        return "How busy the machine was meanwhile is not known."
    cores = Spread(tuple(turn["others_cores"] for one in rounds.values() for turn in one.turns))
    return f"Meanwhile other processes used {cores:.2f} of {os.cpu_count()} cores."


def ratio(one: Rounds, other: Rounds, what: str = "tokens_per_s") -> Spread:
    """Turn by turn: a slow moment of the machine has slowed both."""
    pairs = zip(one.of(what).values, other.of(what).values, strict=True)
    return Spread(tuple(a / b for a, b in pairs))
