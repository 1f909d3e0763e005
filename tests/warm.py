"""Processes of torch's that are forked from one that has it, and not started: a second of processor time less for each.

Only what is started without a sandbox, or at level none; whatever else is asked for is started as ever. The sandbox's
steps are gone through in the child all the same, by its own program (tests/nursery.py).
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpu_runner.sandbox.cell import ENTER
from gpu_runner.scorer import model_process

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("gpu_runner.harness", "gpu_runner.harness.model_server")
TAKES_HOLD = ("keep", "read", "hide", "write", "device", "seccomp", "set:")  # steps of a sandbox that is a boundary
# What Python, torch and the C library read when they start, and never again.
AT_START = ("OMP_", "MKL_", "KMP_", "LD_", "CUDA_", "PYTHON", "TORCH", "MALLOC_")
PR_SET_CHILD_SUBREAPER = 36
MAX_ANSWER = 4_096
PATIENCE_S = 120.0


class Order(NamedTuple):
    steps: list[str] | None
    module: str
    arguments: list[str]


def order_of(argv: Sequence[object]) -> Order | None:
    """What a command line asks for, if it is one that can be forked."""
    words, steps = [os.fspath(word) for word in argv], None  # type: ignore[call-overload]
    entering = [sys.executable, "-I", "-S", str(ENTER)]
    if words[:4] == entering:
        cut = words.index("--")
        steps, words = words[4:cut], words[cut + 1 :]
        if any(step.startswith(TAKES_HOLD) for step in steps):
            return None
    if words[:2] != [sys.executable, "-m"] or words[2] not in MODULES:
        return None
    return Order(steps, words[2], words[3:])


class Nursery:
    """One process that has torch, with what of the environment is read at the start of a process."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.settimeout(PATIENCE_S)
        self._turn = threading.Lock()
        with theirs:
            command = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
            paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])}
            self._process = subprocess.Popen(
                command, env={**env, **paths}, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self.start_s: float = self._answer()["start_s"]

    def _answer(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._door.recv(MAX_ANSWER))
        return said

    def fork(self, request: Mapping[str, Any], fds: Sequence[int]) -> int:
        """The process id of a new child of ours."""
        with self._turn, adopting():
            socket.send_fds(self._door, [json.dumps(request).encode()], list(fds))
            return int(self._answer()["pid"])

    def close(self) -> None:
        self._door.close()
        self._process.wait(PATIENCE_S)


@contextmanager
def adopting() -> Iterator[None]:
    """Whoever below us loses its parent is ours meanwhile."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Nurseries:
    """One for each environment that torch was started with, made when it is first needed."""

    def __init__(self) -> None:
        self._made: dict[tuple[tuple[str, str], ...], Nursery] = {}

    def of(self, env: Mapping[str, str]) -> Nursery:
        key = tuple(sorted((name, value) for name, value in env.items() if name.startswith(AT_START)))
        if key not in self._made:
            self._made[key] = Nursery(env)
        return self._made[key]

    def close(self) -> None:
        while self._made:
            self._made.popitem()[1].close()


NURSERIES = Nurseries()
_cold = subprocess.Popen


class Popen(_cold):  # type: ignore[type-arg,valid-type,misc]
    """subprocess.Popen, but for where the child comes from."""

    start_s = 0.0  # of processor time, which it was spared

    def _execute_child(self, *given: Any, **named: Any) -> None:
        how = inspect.signature(_cold._execute_child).bind(self, *given, **named).arguments  # type: ignore[attr-defined]
        order = order_of(how["args"]) if isinstance(how["args"], list) and not how["preexec_fn"] else None
        if order is None or sys.platform != "linux":
            return super()._execute_child(*given, **named)
        env = dict(os.environ if how["env"] is None else how["env"])
        ends = [how[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        fds = [standard if end == -1 else end for standard, end in enumerate(ends)]
        request = {
            **order._asdict(),
            "env": env,
            "cwd": None if how["cwd"] is None else os.fspath(how["cwd"]),
            "new_session": how["start_new_session"],
            "places": [0, 1, 2, *how["pass_fds"]],
        }
        try:
            nursery = NURSERIES.of(env)
            self.pid, self.start_s = nursery.fork(request, [*fds, *how["pass_fds"]]), nursery.start_s
            self._child_created = True
        finally:
            self._close_pipe_fds(
                *(how[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
            )
        return None


@contextmanager
def starts() -> Iterator[None]:
    """Within it, whoever starts a process of torch's gets a forked one; what it was spared is counted as spent."""
    spent = model_process.ModelProcess._spent

    def with_start(model: model_process.ModelProcess) -> Any:
        said = spent(model)
        return said if said.cpu_s is None else said._replace(cpu_s=said.cpu_s + model._process.start_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        patch.setattr(model_process.ModelProcess, "_spent", with_start)
        yield
