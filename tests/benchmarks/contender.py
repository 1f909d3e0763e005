"""``python -m tests.benchmarks.contender``: one trainer in a process of its own. See pace.py for what is said."""

from __future__ import annotations

import os
import sys

from tests.benchmarks import ours, peers
from tests.benchmarks.order import Order
from tests.benchmarks.pace import Pace


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # trainers print: what they say goes with the errors
    order = Order.load(sys.stdin.readline())
    pace = Pace(sys.stdin, answers, order.device)
    if order.who == "ours":
        ours.train(order, pace)
    else:
        peers.train(order, pace)


if __name__ == "__main__":
    main()
