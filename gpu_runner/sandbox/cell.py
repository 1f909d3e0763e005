"""One sandboxed process tree: its command line, its limits, and its end.

with Cell(level="bubblewrap", read_only=(shards,), writable=out) as cell:
    process = Popen(cell.argv([sys.executable, "train.py"]), env=child_environment(), start_new_session=True)
    while process.poll() is None:
        if (excess := cell.excess(process.pid)) is not None: ...
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from gpu_runner.sandbox import bubblewrap, cgroups, hidden, view
from gpu_runner.sandbox.account import Account, Spent
from gpu_runner.sandbox.meter import Bounds, Excess, Meter

ENTER = Path(__file__).with_name("enter.py")


class Cell:
    """Context manager; leaving it kills what still runs inside and removes what was made for it.

    ``read_only`` and ``writable`` appear inside under their own absolute paths. At level bubblewrap nothing else of the
    host does; at level landlock everything else is there and cannot be opened. ``hides``: paths that are left out of
    what every run is shown, by default all modules that may be held out; only a test of the hiding passes fewer.
    """

    def __init__(
        self,
        *,
        level: str,
        read_only: Sequence[Path] = (),
        writable: Path | None = None,
        bounds: Bounds | None = None,
        hides: Sequence[Path] | None = None,
    ) -> None:
        self.level, self.read_only, self.writable = level, read_only, writable
        self._hides = hides
        self.bounds = bounds or Bounds()
        self.group: cgroups.ControlGroup | None = None
        self._meter = Meter(writable, self.bounds)
        self._account = Account()
        self._num_oom_kills = 0
        self._entered = ExitStack()

    def __enter__(self) -> Cell:
        self.group = cgroups.make(memory_bytes=self.bounds.memory, processes=self.bounds.processes)
        if self.group is not None:
            self._entered.callback(self.group.end)
        if self.level == "landlock":
            self._importable = self._entered.enter_context(tempfile.TemporaryDirectory(prefix="countersign-path-"))
            os.symlink(view.PACKAGE, os.path.join(self._importable, view.PACKAGE.name))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._num_oom_kills = self.num_oom_kills  # the group goes
        self._entered.close()

    def argv(self, command: Sequence[str]) -> list[str]:
        """The command line that runs ``command`` inside.

        Start it with ``env=child_environment()`` and ``start_new_session=True``, from a thread that outlives it: it is
        killed when that thread dies. Kill it by its process group.
        """
        limits = [*self._steps(), *(f"{name}={limit}" for name, limit in self._limits())]
        if self.level == "bubblewrap":
            inside = _entering([f"nproc={self.bounds.processes}", "seccomp=isolated"])
            shown = bubblewrap.command(self.read_only, self.writable, self.hidden)
            return [*_entering(limits), *shown, "--", *inside, *command]
        home = [f"home={os.path.abspath(self.writable)}"] if self.writable else ["cwd=/"]
        if self.level == "landlock":
            return [*_entering([*limits, *home, "keep=1", *self._landlock()]), *command]
        if self.level == "none":
            return [*_entering([*limits, *home]), *command]
        raise ValueError(f"sandbox level: {self.level!r} is not one of bubblewrap, landlock, none")

    @property
    def hidden(self) -> Sequence[Path]:
        """The paths that are not shown. Found when first asked for; level none never asks."""
        return hidden.places() if self._hides is None else self._hides

    def _steps(self) -> Iterator[str]:
        for folder in self.group.folders if self.group else ():
            yield f"cgroup={folder}"
        yield f"parent={os.getpid()}"
        yield "oom=1000"

    def _limits(self) -> Iterator[tuple[str, int]]:
        """RLIMITs by name.

        Address space has none, since CUDA and torch reserve far more than they use; data, without a GPU.
        """
        yield from (("core", 0), ("nofile", self.bounds.open_files), ("fsize", self.bounds.file_bytes))
        if sys.platform == "linux" and not view.gpu_nodes():
            # A MemoryError that the run can tell of comes before the machine runs out.
            yield "data", self.bounds.memory

    def _landlock(self) -> Iterator[str]:
        nodes = view.gpu_nodes()
        seen = [*view.SYSTEM, *view.SYSTEM_FILES, *view.PROC, *(view.GPU_FOLDERS if nodes else view.CPU_FOLDERS)]
        seen += [str(path) for path in (*view.python(), view.PACKAGE, *self.read_only)]
        yield f"set:PYTHONPATH={self._importable}"  # its own folder, which holds more than the package, stays shut
        yield from (f"read={os.path.abspath(path)}" for path in dict.fromkeys((*seen, self._importable)))
        yield from (f"hide={place}" for place in self.hidden)
        yield from (f"device={node}" for node in (*view.DEVICES, *nodes))
        if self.writable is not None:
            yield f"write={os.path.abspath(self.writable)}"
        yield "seccomp=bare"

    def excess(self, pid: int) -> Excess | None:
        """What the tree below ``pid`` used too much of, or None; called several times a second."""
        if self.group is not None and self.group.ran_out_of_memory():
            return Excess("memory", self.bounds.memory)
        return self._meter.excess(pid, weigh=self.group is None)

    @property
    def peak_bytes(self) -> int:
        """The most memory that the tree had at any call of ``spent``."""
        return self._account.peak_bytes

    @property
    def num_oom_kills(self) -> int:
        """Processes inside that the kernel killed for want of memory; 0 where no control group counts them."""
        return max(self._num_oom_kills, self.group.num_oom_kills if self.group is not None else 0)

    def spent(self, pid: int) -> Spent:
        """What ``pid`` and the tree below it have spent until now."""
        return self._account.look(pid, self.group, self.bounds.processes)


def _entering(steps: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(ENTER), *steps, "--"]
