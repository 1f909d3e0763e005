"""Asks before training whether a run's source holds held-out text. A shipped recipe without a patch is not asked."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpu_runner import contract, sandbox
from gpu_runner.contract import LogLine, RunSpec
from gpu_runner.contract.plain import plain
from gpu_runner.leakage.compare import HeldOutPlace, Learned
from gpu_runner.machine.faults import SENT, are_machines, signal_of
from gpu_runner.process.child import Child, Lines
from gpu_runner.worker.compile_cache import is_shipped
from gpu_runner.worker.endings import RunFailure
from gpu_runner.worker.source import EARLIER

log = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "gpu_runner.leakage")
# Letters and digits. 300 bytes of the standard library have 94 or more of them in 99 places of 100, which are 56 to 64
# as they are counted; less than 48 are some 70 in a row, or two idioms that everybody writes.
MOST = 48
LIMIT_S = 120.0  # of a machine that is busy; 100 million held-out tokens take 5 s of CPU
MEMORY_BYTES = 4 << 30
MAX_SAID_BYTES = 1 << 20
TODO = (
    "Take the text out: a model that reads what it is asked measures memory, not learning. If it is a coincidence (a"
    " licence, a function that many copy), say it in words of your own."
)
TODO_OF_THE_INCUMBENT = (
    "It came with changes that were kept: read the places, then start a campaign from a commit without them."
)


def refuse_held_out_text(
    spec: RunSpec, recipe: Path, dataset: Path, check: Callable[[], None], say: Callable[[LogLine], None]
) -> None:
    """Raises RunFailure where ``recipe``, or what the campaign kept before it, holds held-out text.

    Removes the folder EARLIER beside ``recipe``, which no run may see. ``check`` raises what ends the run meanwhile.
    """
    earlier = recipe.parent / EARLIER
    try:
        if spec.approval.patch or not is_shipped(recipe):
            learned = _asked(recipe, earlier, dataset, check)
            for sentence in _warnings(learned):
                say(LogLine(at_s=0.0, level="warning", text=sentence[: contract.MAX_LOG_CHARS]))
            _judge(learned, spec)
    finally:
        shutil.rmtree(earlier, ignore_errors=True)


def _judge(learned: Learned, spec: RunSpec) -> None:
    """Raises RunFailure for MOST letters and digits of held-out text since the campaign's first commit.

    That is, where the patch adds any of them, or in a baseline run; and for a patch that is too long to read. A
    candidate that adds none is not blamed for its incumbent's: the baseline's failure pauses the campaign.
    """
    if learned.unread and spec.approval.patch:
        raise RunFailure(
            "held_out_text",
            f"Whether the change brings held-out text cannot be told: it is too long to read, {_said(learned.unread)}.",
            "Bring less with the change.",
        )
    if learned.num_gained < MOST:
        return
    if learned.num_new:
        before = learned.num_gained - learned.num_new
        more = f", and {before:,} that came with changes before it" if before else ""
        brought = f"{learned.num_new:,} letters and digits of held-out text{more}"
        raise RunFailure("held_out_text", f"The change brings {brought}: {_where(learned.places)}.", TODO)
    if spec.purpose == "baseline":
        raise RunFailure(
            "held_out_text",
            f"The incumbent's source has {learned.num_gained:,} letters and digits of held-out text that the campaign's"
            f" first commit has not: {_where(learned.places)}.",
            TODO_OF_THE_INCUMBENT,
        )


def _warnings(learned: Learned) -> list[str]:
    said = [f"not compared with held-out text: {plain(one)}" for one in (*learned.unread, *learned.notes)]
    if learned.num_in_all:
        said.append(
            f"the source holds {learned.num_in_all:,} letters and digits of held-out text, {learned.num_gained:,} of"
            f" them since the campaign's first commit and {learned.num_new:,} by this change:"
            f" {_where(learned.places)}"
        )
    return said


def _said(unread: list[str]) -> str:
    return plain(", ".join(unread))[:400]


def _where(places: list[HeldOutPlace]) -> str:
    """The places in the source, for a message. Paths are hostile text."""
    return "; ".join(f"{plain(p.path)[:100]}:{p.line} ({p.form})" for p in places) or "nowhere in particular"


def _asked(recipe: Path, earlier: Path, dataset: Path, check: Callable[[], None]) -> Learned:
    began_at = time.monotonic()
    said, complaints = bytearray(), bytearray()

    def look() -> None:
        check()
        if time.monotonic() - began_at > LIMIT_S:
            raise RunFailure(
                "machine_failed",
                f"Comparing the source with the held-out text did not end within {LIMIT_S:g} s.",
                "See how busy the worker is, and how large the dataset's val, watch and sealed are.",
            )

    where = [
        "--source",
        recipe,
        "--base",
        earlier / "base",
        "--origin",
        earlier / "origin",
        "--dataset",
        dataset.resolve(),
    ]
    with (
        sandbox.Cell(level="none", bounds=sandbox.Bounds(memory_bytes=MEMORY_BYTES)) as cell,
        Child(
            cell.argv([*COMMAND, *map(str, where)]),
            env=sandbox.child_environment(),
            cwd=Path("/"),
            stdout=Lines(lambda line: said.extend(line or b""), MAX_SAID_BYTES),
            stderr=Lines(lambda line: complaints.extend((line or b"") + b"\n"), MAX_SAID_BYTES),
        ) as child,
    ):
        exit_code = child.follow(look)
    try:
        return contract.parse(Learned, bytes(said))
    except ValueError as error:
        # Its complaints may quote what it read: they are for the worker's own log, not for a page.
        log.warning("comparing with the held-out text: %s", plain(complaints.decode(errors="replace"))[:2_000])
        number, is_machines = signal_of(exit_code), are_machines(complaints.decode(errors="replace"))
        raise RunFailure(
            "killed" if number in SENT else "machine_failed" if is_machines else "worker_error",
            f"Comparing the source with the held-out text ended with exit code {exit_code} and without an answer.",
            "See the worker's log.",
        ) from error
