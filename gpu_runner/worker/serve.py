"""``python -m gpu_runner worker``: says hello, claims runs one at a time, carries them out.

The doorbell wakes it, and every LOOK_S it asks for work by itself: when the broker is down a run waits up to half a
minute longer. SIGTERM or SIGINT gives the present run back for another attempt, and leaves.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gpu_runner import contract, sandbox
from gpu_runner.command.environments import VARIABLE, declared
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.data.summary import summary_of
from gpu_runner.data.verify import refuse_open, refuse_shown
from gpu_runner.machine import hardware
from gpu_runner.machine.faults import disk_problem
from gpu_runner.sandbox import cgroups
from gpu_runner.worker import folders
from gpu_runner.worker.client import Front, Refused, Superseded, Unreachable, checked_url
from gpu_runner.worker.compile_cache import CompileCache
from gpu_runner.worker.doorbell import Doorbell
from gpu_runner.worker.inquest import MIN_FREE_BYTES
from gpu_runner.worker.launch import run_lease
from gpu_runner.worker.parts import Machine
from gpu_runner.worker.reporter import SLICE_S

log = logging.getLogger("gpu_runner.worker")

LOOK_S = 30.0
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 15.0
FIRST_REST_S = 1.0  # after a run that was lost here; twice as long after each further one, LOOK_S at most
PR_SET_DUMPABLE = 4
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
MAX_DATASETS = 200


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The worker's environment variables."""

    url: str
    token: str
    name: str
    broker_url: str
    home: Path
    datasets: Path
    num_kept: int
    environments: str = ""  # as declared

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """From the environment. Raises ValueError that names the variable and the way out."""
        home = Path(environ.get("COUNTERSIGN_HOME") or ".countersign").absolute()
        kept = environ.get("COUNTERSIGN_KEEP_RUNS") or "0"
        if not re.fullmatch("[0-9]{1,9}", kept):
            raise ValueError(f"COUNTERSIGN_KEEP_RUNS: {kept!r} is not a whole number of run folders")
        return cls(
            url=checked_url(_required(environ, "COUNTERSIGN_URL", "the address of the web side")),
            token=_required(environ, "COUNTERSIGN_WORKER_TOKEN", "a worker token from the admin"),
            name=environ.get("COUNTERSIGN_WORKER_NAME") or default_name(),
            broker_url=_required(environ, "COUNTERSIGN_BROKER_URL", "the address of Redis or RabbitMQ"),
            home=home,
            datasets=Path(environ.get("COUNTERSIGN_DATASETS") or home / "datasets").absolute(),
            num_kept=int(kept),
            environments=environ.get(VARIABLE) or "",
        )


def _required(environ: Mapping[str, str], name: str, what: str) -> str:
    if not (value := environ.get(name, "").strip()):
        raise ValueError(f"{name}: is not set; it must be {what}")
    return value


def default_name() -> str:
    """The host's name, with "-" for characters that a worker's name may not have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()).strip("-_.")[:64] or "worker"


class Worker:
    """One process, one run at a time. ``work`` returns the exit code."""

    def __init__(self, settings: Settings, machine: Machine) -> None:
        self.settings = settings
        self.machine = machine
        self.front = Front(settings.url, settings.token)
        self.doorbell = Doorbell(settings.broker_url)
        self.num_lost = 0  # in a row
        self.said: dict[str, str] = {}  # the datasets of which the web side was told
        self.described: set[str] = set()  # the manifests of which it has a summary, by their hash
        self.rests_until = time.monotonic()  # by the Retry-After of the web side, or of a proxy before it
        self.leaving = False  # a plain flag: a signal handler may interrupt the holder of any lock

    def leave(self, _signum: int, _frame: FrameType | None) -> None:
        self.leaving = True

    def work(self) -> int:
        """Carry out runs until a signal comes (returns 0) or the web side refuses this worker (returns 1)."""
        try:
            self.say_hello()
            self.drain()
            look_at = time.monotonic() + LOOK_S
            while not self.leaving:
                if self.doorbell.wait(SLICE_S):
                    look_at = self.rests_until
                if time.monotonic() >= look_at:
                    self.tell_of_new_datasets()
                    self.drain()
                    look_at = max(time.monotonic() + LOOK_S, self.rests_until)
        except Refused as error:
            log.error("the web side refuses this worker: %s", error)
            return 1
        finally:
            self.doorbell.close()
        return 0

    def tell_of_new_datasets(self) -> None:
        """Say hello again when a dataset came or went since: the web side lists what workers said."""
        before = self.said
        if (now := self.machine_datasets()) != before or not self.described.issuperset(now.values()):
            self.say_hello()

    def say_hello(self) -> None:
        """Say hello until the web side answers. Raises Refused, except while the worker is only disabled."""
        datasets_here = self.machine_datasets()
        hello = contract.Hello(
            name=self.settings.name,
            hardware_class=self.machine.hardware_class,
            hardware=hardware.facts(),
            sandbox_level=self.machine.sandbox_level,
            lock_sha256=self.machine.lock_sha256,
            datasets=datasets_here,
            summaries=self.summaries(datasets_here),
            environments={name: found.sha256 for name, found in self.machine.environments.items()},
        )
        retry_s, asked_for_s, said = FIRST_RETRY_S, 0.0, ""
        while not self.leaving:
            try:
                datasets = self.front.hello(hello)
            except Unreachable as error:
                problem, asked_for_s = str(error), error.retry_after_s
            except Refused as error:
                if error.code != 403:
                    raise
                problem, asked_for_s = str(error), 0.0
            else:
                log.info("%s works for %s (%s)", hello.name, self.settings.url, hello.hardware_class)
                self.described.update(one.sha256 for one in hello.summaries)
                self.compare(datasets)
                return
            if problem != said:
                log.warning("%s; this worker keeps asking", problem)
            said = problem
            self.rest(max(retry_s, asked_for_s))
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    def machine_datasets(self) -> dict[str, str]:
        """Every dataset here whose manifest can be read: name -> hash. A campaign may begin on these."""
        found: dict[str, str] = {}
        names = sorted(path.parent.name for path in self.machine.datasets.glob("*/manifest.json"))
        for name in filter(DATASET.fullmatch, names[:MAX_DATASETS]):
            with suppress(ValueError, OSError):  # half copied: nobody can begin on it yet
                found[name] = manifest_sha256(self.machine.datasets / name)
        self.said = found
        return found

    def summaries(self, here: Mapping[str, str]) -> list[contract.DatasetSummary]:
        """Of the datasets that the web side was not told of yet, at most MAX_SUMMARIES; the next hello has more.

        What cannot be read is not tried again before its manifest changes: runs say what is wrong with it.
        """
        self.described &= set(here.values())
        found: dict[str, contract.DatasetSummary] = {}
        for name, sha256 in here.items():
            if len(found) == contract.MAX_SUMMARIES or sha256 in self.described or sha256 in found:
                continue
            try:
                said = summary_of(self.machine.datasets / name, name)
            except (ValueError, OSError) as error:
                log.warning("dataset %s is not described: %s", name, error)
                self.described.add(sha256)
                continue
            if said.sha256 == sha256:  # else it was made anew meanwhile: the next hello names what is there then
                found[sha256] = said
        return list(found.values())

    def compare(self, datasets: Mapping[str, str]) -> None:
        """Warn of datasets that are missing here or differ from the campaigns': every run on them would fail."""
        for name, wanted in datasets.items():
            try:
                here = manifest_sha256(self.machine.datasets / name)
                refuse_open(self.machine.datasets / name)
            except ValueError as error:
                log.warning("%s", error)
                continue
            if here != wanted:
                log.warning("dataset %s: campaigns use %s, this worker has %s", name, wanted[:12], here[:12])

    def drain(self) -> None:
        """Claim and carry out runs until there is none, the web side is away, or the worker was told to leave."""
        while not self.leaving:
            if (why := no_room(self.settings.home)) is not None:
                log.error("no claim: %s; asking again within %g s", why, LOOK_S)
                return
            try:
                lease = self.front.claim(self.claim())
            except (Unreachable, Superseded) as error:
                wait_s = error.retry_after_s if isinstance(error, Unreachable) else 0.0
                self.rests_until = time.monotonic() + wait_s
                log.warning("no claim: %s; asking again within %g s", error, max(LOOK_S, wait_s))
                return
            except Refused as error:
                if error.code == 401:
                    raise
                log.error("no claim: %s; asking again within %g s", error, LOOK_S)
                return
            if lease is None:
                return
            self.carry_out(lease)
            self.tell_of_new_datasets()  # a queue may not be empty for hours

    def claim(self) -> contract.Claim:
        return contract.Claim(
            hardware_class=self.machine.hardware_class,
            sandbox_level=self.machine.sandbox_level,
            lock_sha256=self.machine.lock_sha256,
            environments=sorted(found.sha256 for found in self.machine.environments.values()),
        )

    def carry_out(self, lease: contract.Lease) -> None:
        spec = lease.spec
        log.info("run %d (%s, seed %d, attempt %d): %s", spec.run_id, spec.purpose, spec.seed, spec.attempt, spec.title)
        end = run_lease(lease, machine=self.machine, front=self.front, is_leaving=lambda: self.leaving)
        if end is None:
            log.warning("run %d: no longer ours", spec.run_id)
        else:
            why = f": {end.failure.message}" if end.failure else ""
            log.info("run %d: %s after %.1f s%s", spec.run_id, end.outcome, end.device_s, why)
        self.num_lost = self.num_lost + 1 if end is not None and end.outcome == "lost" else 0
        if self.num_lost:  # what ails this machine may pass, and another one may take the run meanwhile
            self.rest(min(FIRST_REST_S * 2 ** (self.num_lost - 1), LOOK_S))

    def rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.leaving and time.monotonic() < until:
            time.sleep(SLICE_S)


def no_room(home: Path) -> str | None:
    """Why a run could not be carried out here (the disk is full or cannot be written to); None: it can be."""
    if not home.exists():
        return None
    try:
        free = shutil.disk_usage(home).free
    except OSError as error:
        return f"the disk of {home} does not answer: {error.strerror}"
    if free < MIN_FREE_BYTES:
        return f"less than {MIN_FREE_BYTES >> 20} MiB are left on the disk of {home}"
    problem = disk_problem(home)
    return f"nothing can be written to {home}: {problem}" if problem is not None else None


def this_machine(settings: Settings) -> Machine:
    """Finds out what this machine is.

    Raises ValueError when the sandbox or the driver does not work, or when a sandbox would show the home folder.
    """
    level = sandbox.probe()
    if level == "none":
        log.warning(
            "sandbox level none, as COUNTERSIGN_SANDBOX says: proposed code runs with your rights and can read what is"
            " held out"
        )
    else:
        refuse_shown(f"COUNTERSIGN_HOME: {settings.home}", settings.home)
    cgroups.sweep()
    lock = hardware.lock_sha256()
    if not lock:
        log.warning("constraints.txt is missing: runs are not pinned to what is installed here")
    return Machine(
        runs=settings.home / "runs",
        datasets=settings.datasets,
        hardware_class=hardware.hardware_class(),
        sandbox_level=level,
        lock_sha256=lock,
        num_kept=settings.num_kept,
        environments=declared(settings.environments),
        # Without a boundary any run could write there by itself, and so into the next run.
        kernels=None if level == "none" else CompileCache(settings.home / "compile-cache", lock_sha256=lock),
    )


def hide_environment() -> None:
    """Close /proc/PID/environ and ptrace to other processes of this user: the environment holds the worker's token."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def main() -> int:
    """What ``python -m gpu_runner worker`` runs; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = Settings.read(os.environ)
        hide_environment()
        machine = this_machine(settings)
    except ValueError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    folders.sweep(machine.runs, num_kept=machine.num_kept)
    worker = Worker(settings, machine)
    signal.signal(signal.SIGTERM, worker.leave)
    signal.signal(signal.SIGINT, worker.leave)
    return worker.work()
