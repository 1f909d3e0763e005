"""A control group for each run, where this account may make one: the kernel then limits memory and processes.

Version 2 beside the supervisor's own group (root, or a systemd user session with delegation), version 1 below it
(root). Where neither may be written, as in most containers, ``cell`` counts instead.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)
ROOT = Path("/sys/fs/cgroup")
PREFIX = "countersign-"
EMPTY_WITHIN_S = 30.0  # a killed process ends once its memory is freed, which on a busy machine took over 5
_numbers = itertools.count(1)


@dataclass(frozen=True)
class ControlGroup:
    """One group, in every hierarchy that has it.

    ``memory`` counts memory; ``cpu`` processor time, if it is not None.
    """

    folders: tuple[Path, ...]
    memory: Path
    cpu: Path | None = None

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process because the group was at its own limit.

        When the whole machine or its container runs out, the kernel kills runs first; then the group is not at its
        limit.
        """
        return self.num_oom_kills > 0 and self._told("memory.events", "oom") + self._told("memory.failcnt") > 0

    @property
    def num_oom_kills(self) -> int:
        """Processes of the group that the kernel killed for want of memory, at the group's limit or the machine's."""
        return self._told("memory.events", "oom_kill") + self._told("memory.oom_control", "oom_kill")

    def _told(self, file: str, name: str = "") -> int:
        """The number in a file of the group, or the one behind ``name`` there; 0 where the kernel has none."""
        found = [line.split() for line in _lines(self.memory / file)]
        return next((int(words[-1]) for words in found if words[:-1] == ([name] if name else [])), 0)

    def cpu_s(self) -> float | None:
        """Processor time of all that ever ran in the group, ended or not; None where the kernel does not say."""
        if self.cpu is None:
            return None
        if lines := _lines(self.cpu / "cpuacct.usage"):  # version 1: nanoseconds
            return int(lines[0]) / 1e9
        told = dict(line.split() for line in _lines(self.cpu / "cpu.stat"))
        return int(told["usage_usec"]) / 1e6 if "usage_usec" in told else None

    def end(self) -> None:
        """Kill what is left, and remove the group. Raises OSError when that takes longer than EMPTY_WITHIN_S.

        Groups below it go as well: a scorer makes one for its model, and may be killed before it removes it.
        """
        give_up_at = time.monotonic() + EMPTY_WITHIN_S
        for folder in itertools.chain.from_iterable(map(_deepest_first, self.folders)):
            while members := [int(pid) for pid in _lines(folder / "cgroup.procs")]:
                for pid in members:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if time.monotonic() > give_up_at:
                    raise OSError(errno.EBUSY, f"{len(members)} processes do not end", str(folder))
                time.sleep(0.005)
            _remove(folder, give_up_at)


def _deepest_first(folder: Path) -> list[Path]:
    """The group's folder and those of the groups below it, the deepest first."""
    below = [path for path in folder.rglob("*") if path.is_dir()]
    return [*sorted(below, key=lambda path: -len(path.parts)), folder]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:  # the group is gone already
        return []


def _remove(folder: Path, give_up_at: float) -> None:
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError:  # busy for as long as a killed process is not buried
            if time.monotonic() > give_up_at:
                raise
        time.sleep(0.005)


@cache
def memory_granted() -> int:
    """Bytes of main memory that this account's processes may have together: the machine's, or less in a container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits("memory", "memory.max", "memory.limit_in_bytes")])


def processes_granted() -> float:
    """Most processes and threads in this container together; inf where there is no limit."""
    return min([float("inf"), *_limits("pids", "pids.max")])


def _limits(controller: str, *names: str) -> Iterator[int]:
    """The limits of our own group and of all groups around it."""
    for held, folder in _own_groups().items():
        if held in (controller, ""):
            for group in (folder, *folder.parents):
                if group.is_relative_to(ROOT):
                    yield from (int(line) for name in names for line in _lines(group / name)[:1] if line.isdigit())


def make(*, memory_bytes: int, processes: int) -> ControlGroup | None:
    """A fresh group with these limits; None where this account may not make one (``problem`` says why)."""
    return None if problem() else _make(memory_bytes, processes)


@cache
def problem() -> str | None:
    """Why no control groups can be made here; None when they can. Tries it."""
    try:
        _make(1 << 30, 64).end()
    except OSError as error:
        return f"no control group can be made here ({error}): memory and processes are counted instead"
    return None


def _make(memory_bytes: int, processes: int) -> ControlGroup:
    name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
    own = _own_groups()
    if {"memory", "pids"} <= own.keys():
        times = own["cpuacct"] / name if "cpuacct" in own else None
        return _version_1(own["memory"] / name, own["pids"] / name, times, memory_bytes, processes)
    if "" in own:
        return _version_2(own[""].parent / name, memory_bytes, processes)
    raise OSError("this process is in no control group that can be seen")


def _own_groups() -> dict[str, Path]:
    """Controller -> the folder of this process's group; "" for version 2, where that is the only one."""
    groups: dict[str, Path] = {}
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            folder = ROOT / controller / path.lstrip("/")
            if folder.is_dir() and (controller or (folder / "cgroup.procs").exists()):
                groups[controller] = folder
    return groups


def _version_1(memory: Path, pids: Path, times: Path | None, memory_bytes: int, processes: int) -> ControlGroup:
    folders = (memory, pids, *([times] if times else []))
    group = ControlGroup(folders=folders, memory=memory, cpu=times)
    with _undone(group):
        for folder in folders:
            folder.mkdir()
        (memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
        (pids / "pids.max").write_text(str(processes))
    return group


def _version_2(folder: Path, memory_bytes: int, processes: int) -> ControlGroup:
    group = ControlGroup(folders=(folder,), memory=folder, cpu=folder)
    with _undone(group):
        folder.mkdir()
        (folder / "memory.max").write_text(str(memory_bytes))
        if (swap := folder / "memory.swap.max").exists():
            swap.write_text("0")
        (folder / "memory.oom.group").write_text("1")  # a run without half of its processes is no run
        (folder / "pids.max").write_text(str(processes))
    return group


@contextlib.contextmanager
def _undone(group: ControlGroup) -> Iterator[None]:
    """Removes a group that could not be made in full."""
    try:
        yield
    except OSError:
        group.end()
        raise


def sweep() -> None:
    """Remove the groups of supervisors that were killed; they are empty, since their processes died with them.

    One that cannot be removed, such as one that holds another's group, is logged and stays.
    """
    if problem():
        return
    for folder in _own_groups().values():
        for left in itertools.chain(folder.glob(f"{PREFIX}*"), folder.parent.glob(f"{PREFIX}*")):
            for group in (*_innermost_first(left), left):
                pid = group.name.removeprefix(PREFIX).split("-")[0]
                if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                    _end_or_tell(group)


def _innermost_first(group: Path) -> list[Path]:
    """The groups inside: a supervisor that ran in a run makes its groups in that run's."""
    return sorted(group.rglob(f"{PREFIX}*"), key=lambda inner: -len(inner.parts))


def _end_or_tell(group: Path) -> None:
    try:
        ControlGroup(folders=(group,), memory=group).end()
    except OSError as error:
        log.warning("a control group of an earlier worker stays behind: %s", error)
