"""Runs the model in its sandboxed process, which is hostile, and asks it for logits over two pipes.

Every read and write has a deadline, every frame's size is known before it is read, and the whole
process group is killed however the scoring ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from gpu_runner import sandbox
from gpu_runner.contract.plain import plain, shortened
from gpu_runner.machine import hardware
from gpu_runner.machine.faults import SENT, cause_in, out_of_memory_kills, says_device_lost, signal_of
from gpu_runner.process.terminal import shown
from gpu_runner.sandbox import tally
from gpu_runner.scorer import frames
from gpu_runner.scorer.effort import Allowed, Stages
from gpu_runner.scorer.frames import Logits, Tokens

START_S = 120.0  # Python and torch, before any of the recipe: a cold disk is slow
LOAD_S = 120.0  # build, load
ANSWER_S = 120.0  # one batch
DIE_S = 60.0  # a killed process, which may have much memory to give back
LOOK_S = 0.5  # between two looks at what it uses up
STDERR_KEPT = 4_096  # bytes
MAX_PARAMS = 10**15  # more than any machine holds
WORDS_KEPT = 1_900  # characters of an error
PIECE_BYTES = 64 << 20  # of logits held at once, however long an answer is
ABOUT = {"torch": str, "device": str, "device_name": str, "vocab_size": int, "num_params": int}


class ModelFailed(Exception):
    """The model's process crashed, stalled or broke the protocol; ``str()`` is a sentence.

    ``withheld``: its own words are left out, since it had seen held-out text and could have quoted it.
    ``is_machines``: it was killed from outside, says that its machine failed, or ended before any of the recipe ran:
    another attempt may succeed.
    """

    def __init__(self, sentence: str, *, withheld: bool = False, is_machines: bool = False) -> None:
        super().__init__(sentence)
        self.withheld, self.is_machines = withheld, is_machines


class Deadline(NamedTuple):
    at: float  # monotonic
    late: str  # what is said when it passes

    @classmethod
    def to_start(cls) -> Deadline:
        return cls(time.monotonic() + START_S, f"Python and torch did not start in time (limit {START_S:g} s).")

    @classmethod
    def to_load(cls) -> Deadline:
        return cls(time.monotonic() + LOAD_S, f"The model could not be built and loaded in time (limit {LOAD_S:g} s).")

    @classmethod
    def to_answer(cls) -> Deadline:
        return cls(time.monotonic() + ANSWER_S, f"The model did not answer in time (limit {ANSWER_S:g} s a batch).")


NEVER = Deadline(float("inf"), "")


class Batch(NamedTuple):
    """One request: tokens [B, T], and for each row ``wanted`` positions from first [B] on."""

    tokens: Tokens
    first: npt.NDArray[np.int64]
    wanted: int

    def request(self) -> bytes:
        return frames.request(self.tokens, self.first, self.wanted)


class ModelProcess:
    """Context manager around one model's process. ``about`` is what it says of itself: shown, never trusted.

    ``last`` is the deadline for all processes together. ``stages`` say what this one had spent at each stage; it is
    ended when it spends far more than is ``allowed``.
    """

    def __init__(
        self,
        recipe: Path,
        checkpoint: Path,
        *,
        vocab: int,
        level: str,
        device: str,
        last: Deadline = NEVER,
        allowed: Allowed | None = None,
    ) -> None:
        recipe, checkpoint = recipe.resolve(), checkpoint.resolve()
        server = [sys.executable, "-m", "gpu_runner.harness.model_server", str(recipe), str(checkpoint)]
        self._command = [*server, "--device", device]
        self._cell = sandbox.Cell(level=level, read_only=(recipe, checkpoint))
        self._vocab, self._device, self._last = vocab, device, last
        self._allowed, self.stages = allowed, Stages()
        self.about: dict[str, str | int] = {}

    def __enter__(self) -> ModelProcess:
        self._cell.__enter__()
        self._process = subprocess.Popen(
            self._cell.argv(self._command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=sandbox.child_environment(),
            start_new_session=True,
            bufsize=0,
        )
        try:
            self._pipes = _Pipes(self._process, self._refuse_excess)
            self._await_ready()
            self.about = self._hello(min(Deadline.to_load(), self._last))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Returns when all of its processes are gone: a dying one still holds locks on files that the next may read."""
        with contextlib.ExitStack() as opened:
            watched: list[int] = []
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGSTOP)  # so that no process starts while we list them
                watched += self._watch(opened)
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._cell.__exit__(None, None, None)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
            _end(watched)

    def _watch(self, opened: contextlib.ExitStack) -> Iterator[int]:
        """A pidfd for each process below ours, where no control group waits for them (Cell).

        At level bubblewrap the first process of the namespace stands for all: the kernel lets it end last.
        """
        if self._cell.group is not None:
            return
        for pid in tally.descendants(self._process.pid, self._cell.bounds.processes)[0]:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                opened.callback(os.close, fd)
                yield fd

    def _spent(self) -> sandbox.Spent:
        return self._cell.spent(self._process.pid)

    def _refuse_excess(self) -> None:
        now = self._spent()
        if self._allowed is not None and (why := self._allowed.ended(self.stages, now)) is not None:
            raise ModelFailed(why)
        if (excess := self._cell.excess(self._process.pid)) is not None:
            raise ModelFailed(str(excess).replace("The run", "The model's process"))

    def ask(self, batches: Sequence[Batch], *, held_out: bool = True) -> Iterator[Logits]:
        """Logits of every wanted position in order, in pieces [n, V] float32.

        No piece spans two batches or is larger than PIECE_BYTES. Raises ModelFailed. Each next batch is sent before the
        present one is answered, so that caller and model work at once; but not behind a process's first batch, whose
        time is measured. So no batch may show what the batch before it must not know. After ``held_out`` text the
        model's own words are withheld from messages.
        """
        self._pipes.may_tell = self._pipes.may_tell and not held_out
        for i, batch in enumerate(batches):
            deadline = min(Deadline.to_answer(), self._last)
            is_first = self.stages.first is None
            if i == 0:
                self._pipes.write(batch.request(), deadline)
            if i + 1 < len(batches) and not is_first:
                self._pipes.write(batches[i + 1].request(), deadline)
            yield from self._answer(len(batch.tokens), batch.wanted, deadline)
            self.stages.note_answer(batch.tokens.size, self._spent)
            if i + 1 < len(batches) and is_first:
                self._pipes.write(batches[i + 1].request(), min(Deadline.to_answer(), self._last))
        self.stages.last = self._spent()

    def holdings_sha256(self) -> str:
        """Hash of its parameters and buffers, as its process says: shown and compared, never trusted. ModelFailed."""
        deadline = min(Deadline.to_answer(), self._last)
        self._pipes.write(frames.holds(), deadline)
        magic = self._pipes.read(4, deadline)
        if magic == frames.ERROR:
            raise self._pipes.failed("The model's process raised", self._text(deadline))
        said = self._text(deadline) if magic == frames.HOLDS else ""
        if not re.fullmatch("[0-9a-f]{64}", said):
            raise ModelFailed("The model's process answered with a malformed frame.")
        return said

    def _answer(self, rows: int, wanted: int, deadline: Deadline) -> Iterator[Logits]:
        expected = frames.answer_head(rows, wanted, self._vocab)
        magic = self._pipes.read(4, deadline)
        if magic == frames.ERROR:
            raise self._pipes.failed("The model's process raised", self._text(deadline))
        if magic + self._pipes.read(len(expected) - 4, deadline) != expected:
            raise ModelFailed("The model's process answered with a malformed frame.")
        per_piece = max(PIECE_BYTES // (4 * self._vocab), 1)
        for first in range(0, rows * wanted, per_piece):
            num = min(per_piece, rows * wanted - first)
            body = self._pipes.read(num * self._vocab * 4, deadline)
            yield np.frombuffer(body, dtype="<f4").reshape(num, self._vocab)

    def _await_ready(self) -> None:
        """Wait until Python and torch are loaded. No proposed code has run by then, so a failure is not the model's."""
        deadline = min(Deadline.to_start(), self._last)
        try:
            magic = self._pipes.read(4, deadline)
            if magic != frames.READY:
                said = f": {self._text(deadline)}" if magic == frames.ERROR else ""
                raise ModelFailed(f"The model's process could not start{said}")
            self._pipes.read(4, deadline)
        except ModelFailed as failed:
            if str(failed) == self._last.late:  # which others before it may have used up
                raise
            said = f"{str(failed).rstrip('.')}. None of the recipe had run."
            raise ModelFailed(said, is_machines=True) from failed
        self.stages.ready = self._spent()

    def _hello(self, deadline: Deadline) -> dict[str, str | int]:
        magic = self._pipes.read(4, deadline)
        if magic == frames.ERROR:
            raise self._pipes.failed("The model could not be loaded", self._text(deadline))
        if magic != frames.HELLO:
            raise ModelFailed("The model's process answered with a malformed frame.")
        about = _checked_about(self._text(deadline), self._vocab)
        if about["device"] == "cuda" and not self._may_have_gpu():
            raise ModelFailed("The model says that it runs on a GPU, but it was given none.")
        self.stages.loaded = self._spent()
        return about

    def _may_have_gpu(self) -> bool:
        """Whether it can have a GPU. Checked, since the tolerance for rounding is larger there."""
        return self._device != "cpu" and (bool(sandbox.gpu_nodes()) or hardware.usable_gpu() is not None)

    def _text(self, deadline: Deadline) -> str:
        length = int.from_bytes(self._pipes.read(4, deadline), "little")
        if length > frames.MAX_TEXT:
            raise ModelFailed("The model's process answered with a malformed frame.")
        return plain(self._pipes.read(length, deadline).decode(errors="replace"), keep="\n")


def _checked_about(text: str, vocab: int) -> dict[str, str | int]:
    """The hello's fields, their types, lengths and the vocabulary checked. ModelFailed otherwise."""
    try:
        about = json.loads(text)
        checked = {name: kind(about[name]) for name, kind in ABOUT.items() if type(about[name]) is kind}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFailed(f"The model's process introduced itself wrongly: {error}") from error
    if len(checked) != len(ABOUT) or checked["device"] not in ("cpu", "cuda"):
        raise ModelFailed("The model's process introduced itself wrongly.")
    if not 0 <= checked["num_params"] <= MAX_PARAMS:
        raise ModelFailed("The model's process introduced itself wrongly.")
    if checked["vocab_size"] != vocab:
        raise ModelFailed(f"The model's vocabulary is {checked['vocab_size']}, but the dataset's is {vocab}.")
    return {name: plain(value)[:200] if isinstance(value, str) else value for name, value in checked.items()}


def _end(watched: Sequence[int]) -> None:
    """Kill the processes behind these pidfds, in whatever session they are. ModelFailed when one does not end."""
    give_up_at = time.monotonic() + DIE_S
    for fd in watched:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(1_000 * max(give_up_at - time.monotonic(), 0)):
            raise ModelFailed("The model's process was killed and does not end.", is_machines=True)


def _machines_cause(said: str) -> str | None:
    """The machine's failure that a model's words speak of, in our own words, which quote nothing."""
    if says_device_lost(said):
        return "its GPU is gone, or does not answer"
    cause = cause_in(said)
    return cause.why if cause is not None and cause.kind == "machine_failed" else None


class _Pipes:
    """Non-blocking pipes to one process: exact reads and writes by a deadline, stderr drained on the way."""

    def __init__(self, process: subprocess.Popen[bytes], check: Callable[[], None]) -> None:
        """``check`` is called every LOOK_S while we wait; what it raises ends the wait."""
        assert process.stdin and process.stdout and process.stderr
        self._process, self._stdin, self._stdout, self._stderr = process, process.stdin, process.stdout, process.stderr
        self._check = check
        self._said = b""  # the end of stderr
        self._stderr_ended = False
        self._num_killed = out_of_memory_kills()
        self.may_tell = True  # whether the process's own words may be quoted
        self._look_at = time.monotonic() + LOOK_S
        for stream in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(stream.fileno(), False)

    def read(self, num_bytes: int, deadline: Deadline) -> bytearray:
        """Exactly ``num_bytes`` of stdout. ModelFailed at end of file or at the deadline."""
        buffer = bytearray(num_bytes)
        view, filled = memoryview(buffer), 0
        while filled < num_bytes:
            self._wait(self._stdout, selectors.EVENT_READ, deadline)
            try:
                got = os.readv(self._stdout.fileno(), [view[filled:]])
            except BlockingIOError:
                continue  # the process may read from its own pipe, and was faster
            if not got:
                raise self._death()
            filled += got
        return buffer

    def write(self, body: bytes, deadline: Deadline) -> None:
        """Write all of ``body`` to stdin; less when the process is gone, since its last words are still to be read.

        ModelFailed when it is not taken in time.
        """
        view = memoryview(body)
        while view:
            self._wait(self._stdin, selectors.EVENT_WRITE, deadline)
            try:
                view = view[os.write(self._stdin.fileno(), view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return

    def _wait(self, stream: IO[bytes], event: int, deadline: Deadline) -> None:
        """Wait until ``stream`` is ready; meanwhile stderr is read."""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, event)
            if not self._stderr_ended:
                selector.register(self._stderr, selectors.EVENT_READ)
            # Deadline and check come first every time, so that a process that never stops writing escapes neither.
            while (left := deadline.at - time.monotonic()) > 0:
                self._look()
                ready = {key.fileobj for key, _ in selector.select(min(left, LOOK_S))}
                if self._stderr in ready and not self._drain():
                    selector.unregister(self._stderr)
                    self._stderr_ended = True
                if stream in ready:
                    return
        raise ModelFailed(deadline.late)

    def _look(self) -> None:
        if time.monotonic() >= self._look_at:
            self._check()
            self._look_at = time.monotonic() + LOOK_S

    def _drain(self) -> bool:
        """Read what is on stderr now and keep its end. False at end of file."""
        try:
            said = os.read(self._stderr.fileno(), 65_536)
        except BlockingIOError:
            return True
        self._said = (self._said + said)[-STDERR_KEPT:]
        return bool(said)

    def failed(self, what: str, said: str) -> ModelFailed:
        if (cause := _machines_cause(said)) is not None:
            return ModelFailed(f"{what}, and says of its machine: {cause}.", is_machines=True)
        if not self.may_tell:
            return ModelFailed(f"{what}.", withheld=True)
        return ModelFailed(f"{what}: {shortened(said, WORDS_KEPT)}")

    def _death(self) -> ModelFailed:
        """The ModelFailed of a process that is gone."""
        for _ in range(16):  # a living process could go on for ever
            self._drain()
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return ModelFailed("The model's process closed its output.")
        self._check()  # its control group may know that it wanted too much memory
        what = f"The model's process ended with exit code {code}"
        if (number := signal_of(code)) in SENT:
            what = f"The model's process was killed by signal {number.value} ({number.name})"
            if (num := out_of_memory_kills() - self._num_killed) > 0:
                return ModelFailed(f"{what} when the kernel ended {num} for want of memory.", is_machines=True)
            return ModelFailed(f"{what} from outside; nothing says that memory ran out.", is_machines=True)
        if said := [line for line in map(plain, shown(self._said.decode(errors="replace"))) if line.strip()]:
            return self.failed(what, said[-1])
        return ModelFailed(f"{what}: it said nothing")
