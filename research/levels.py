"""The levels of intervals, in words: of the one that a proposer states, and of the one that is measured. Pure.

A proposer states an interval of ``STATED_PERCENT``. The judge's is a confidence sequence of 1 - alpha. Each campaign
sets its alpha, which a reviewer signs with the rest, so verdicts on one page may have different levels.
"""

from __future__ import annotations

from collections.abc import Iterable

STATED_PERCENT = 80
STATED_Z = 1.2816  # of a normal distribution: half its width in standard deviations
STATED = f"{STATED_PERCENT} %"
STATED_INTERVAL = f"{STATED} interval"


def percent(alpha: float) -> float:
    """1 - alpha in percent: 0.05 gives 95."""
    return round(100 * (1 - alpha), 10)


def measured(alpha: float) -> str:
    """The level as ``95 %``."""
    return f"{percent(alpha):.12g} %"


def measured_interval(alpha: float) -> str:
    return f"{measured(alpha)} interval"


def several(alphas: Iterable[float]) -> str:
    """The levels of several verdicts: ``95 %``, or ``90 % or 95 %`` where they differ; "" for none."""
    return " or ".join(measured(alpha) for alpha in sorted(set(alphas), reverse=True))
