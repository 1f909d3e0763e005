"""A process that has torch and forks: each child becomes what it is told to, as if it had been started.

    python -m tests.nursery FD

FD is a socket that tests/warm.py holds the other end of. A child belongs to whoever asked: it is forked twice, and goes
on once it has lost its parent to the one above it that adopts (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import random
import runpy
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_runner import harness

ENTER = Path(harness.__file__).parent.parent / "sandbox" / "enter.py"
MAX_REQUEST, MAX_FDS = 1 << 17, 16
ABOVE = 200  # where descriptors are put aside while their places are made free


class _Becomes(Exception):
    """What enter.py would exec."""


def main(fd: int) -> None:
    """Serves until the other end is closed. In a child it ends as the child's module does."""
    for module in pkgutil.iter_modules(harness.__path__, "gpu_runner.harness."):
        if module.name.rpartition(".")[2] not in ("__main__", "model_server"):
            importlib.import_module(module.name)
    gc.freeze()  # what is collected is written to, and so no longer shared
    with socket.socket(fileno=fd) as door:
        door.send(json.dumps({"start_s": time.process_time()}).encode())
        while (asked := _next(door)) is not None:
            request, fds = asked
            child = _fork()
            if child == 0:
                door.detach()
                _become(request, fds)
                return
            for held in fds:
                os.close(held)
            door.send(json.dumps({"pid": child}).encode())


def _next(door: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    body, fds, _, _ = socket.recv_fds(door, MAX_REQUEST, MAX_FDS)
    return (json.loads(body), fds) if body else None


def _fork() -> int:
    """0 in the child, whose parent is no longer ours; its process id here."""
    reads, writes = os.pipe()
    between = os.fork()
    if between == 0:
        us, child = os.getpid(), os.fork()
        if child != 0:
            os.write(writes, child.to_bytes(4, "little"))
            os._exit(0)
        while os.getppid() == us:
            time.sleep(0.0005)
        return 0
    pid = int.from_bytes(os.read(reads, 4), "little")
    os.close(reads)
    os.close(writes)
    os.waitpid(between, 0)
    return pid


def _become(request: dict[str, Any], fds: list[int]) -> None:
    if request["new_session"]:
        os.setsid()
    _take_places(fds, request["places"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["cwd"] is not None:
        os.chdir(request["cwd"])
    torch.seed()  # as a fresh process does
    np.random.seed()
    random.seed()
    if request["steps"] is not None:
        _enter(request["steps"])
    sys.argv = ["", *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _take_places(fds: list[int], places: list[int]) -> None:
    """Each descriptor at its place, and no other one open."""
    assert max(places) < ABOVE
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, ABOVE) for fd in fds]
    os.closerange(3, ABOVE)
    for fd, place in zip(aside, places, strict=True):
        os.dup2(fd, place)
        os.close(fd)


def _enter(steps: list[str]) -> None:
    """The steps of the sandbox's own program, up to where it would exec."""
    spec = importlib.util.spec_from_file_location("enter", ENTER)
    assert spec is not None and spec.loader is not None
    enter, path, execvpe = importlib.util.module_from_spec(spec), list(sys.path), os.execvpe

    def becomes(*_: object) -> None:
        raise _Becomes

    os.execvpe = becomes  # type: ignore[assignment]
    try:
        spec.loader.exec_module(enter)
        enter.main([*steps, "--", "this"])
    except _Becomes:
        pass
    finally:
        os.execvpe, sys.path[:] = execvpe, path


if __name__ == "__main__":
    main(int(sys.argv[1]))
