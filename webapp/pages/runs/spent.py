"""The effort of scoring a model, in words."""

from __future__ import annotations

from gpu_runner.contract import Effort
from webapp.drawing import figures

CLOCKS = {"processor": "Processor time", "wall": "Wall clock"}


def in_words(effort: Effort) -> str:
    """One or two sentences: time to load, for the first answer and each later one, memory, and what was stored."""
    told = (
        f"{CLOCKS[effort.clock]} of the model: {_s(effort.load_s)} loading, {_s(effort.first_s)} until its first answer"
        f"{_later(effort)}, beside {_s(effort.ready_s)} for Python and torch; {_mib(effort.peak_memory_mib)} of memory,"
        f" a checkpoint of {_mib(effort.checkpoint_mib)}."
    )
    if effort.other_mib >= 1:
        told += f" {_mib(effort.other_mib)} of the checkpoint are no floating-point numbers."
    return told


def _later(effort: Effort) -> str:
    if effort.later_s is None:
        return ""
    return f", {_s(effort.later_s)} each of {figures.plain(effort.num_later, 0)} later ones"


def _s(value: float) -> str:
    """Seconds with two digits, since they are short: 0.025 s, 0.14 s, 1.1 s, 41 s."""
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def _mib(value: float) -> str:
    return f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value:.0f} MiB"
