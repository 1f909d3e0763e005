"""The exceptions that end a run before its score, as a tree.

EarlyEnd
 ├─ RunFailure     failed, timed_out or, where the machine is at fault, lost; with a Failure that a person reads
 ├─ Cancelled      a person ordered it
 ├─ GivenBack      lost: nothing is wrong with the run, another attempt may have it
 └─ Dropped        the lease is not ours any more, or our reports are refused: nothing more is said
"""

from __future__ import annotations

from gpu_runner.contract import Failure, FailureKind
from gpu_runner.worker.reporter import Stop

SEE_LOG = "See the worker's log."


class EarlyEnd(Exception):
    pass


class RunFailure(EarlyEnd):
    def __init__(self, kind: FailureKind, message: str, todo: str = "") -> None:
        super().__init__(message)
        self.failure = Failure(kind=kind, message=message[-4_000:], todo=todo[:1_000])


class Cancelled(EarlyEnd):
    pass


class GivenBack(EarlyEnd):
    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(kind=kind, message=message)


class Dropped(EarlyEnd):
    pass


def early_end(stop: Stop) -> EarlyEnd:
    """The EarlyEnd that follows from the Reporter's reason to stop."""
    if stop.why == "cancelled":
        return Cancelled(stop.reason)
    if stop.why == "lost_contact":
        return GivenBack("lost_contact", f"{stop.reason}: the worker ended its run before the lease could run out.")
    if stop.why == "broken":
        return RunFailure("worker_error", f"The worker could not report: {stop.reason}", "See the worker's log.")
    return Dropped(stop.reason)
