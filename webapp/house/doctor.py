"""The doctor: what this machine has, what a lack costs, what to do. ``up`` does not start without the essential.

One function a check, all with one interface: no arguments, a ``Check`` back. Keys and passwords are never shown.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from research.models import Worker
from webapp.house import redis_server, supervisor

NEEDED_BYTES = 500 * 2**20  # a campaign's first day: database, repositories, a few checkpoints, logs
PROBE_WITHIN_S = 180.0
BETTER_SANDBOX = (
    "Install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Ubuntu 24.04 also needs an AppArmor profile for it, "
    "docs/security.md has one). macOS: let a Linux machine run proposals."
)
SANDBOX_HOLDS = {
    "bubblewrap": "own namespaces, no network, one writable folder, and a filter of system calls",
    "landlock": "no socket, one writable folder, no signal or trace out; names and sizes of host files can be seen",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor. ``costs`` and ``todo`` are shown only when ``ok`` is false."""

    name: str
    ok: bool
    found: str
    costs: str = ""
    todo: str = ""
    essential: bool = False

    @property
    def sentence(self) -> str:
        return " ".join(filter(None, (self.found, self.todo)))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(
        name="Python",
        ok=(3, 11) <= sys.version_info < (3, 14),
        found=f"Python {version} at {sys.executable}.",
        costs="Nothing runs.",
        todo="Install Python 3.11, 3.12 or 3.13 and remove the folder .venv.",
        essential=True,
    )


def disk(needed_bytes: int = NEEDED_BYTES) -> Check:
    home: Path = settings.HOME
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    return Check(
        name="Home folder",
        ok=writable and free >= needed_bytes,
        found=f"{home} {'has' if writable else 'cannot be written; it has'} {free / 2**30:,.1f} GiB free.",
        costs="Nothing can be recorded.",
        todo=f"Free {needed_bytes / 2**20:,.0f} MiB there, or set COUNTERSIGN_HOME to a folder on another disk.",
        essential=True,
    )


def git() -> Check:
    found = shutil.which("git")
    return Check(
        name="git",
        ok=found is not None,
        found=f"git is at {found}." if found else "There is no git in PATH.",
        costs="Campaigns keep their recipes in git: nothing can be proposed or run.",
        todo="Install git (Debian, Ubuntu: apt install git; macOS: xcode-select --install).",
        essential=True,
    )


def redis_found() -> Check:
    if settings.REDIS_URL:
        return _redis_elsewhere()
    try:
        binary = redis_server.find()
        path = redis_server.socket_path(settings.HOME)
    except ValueError as problem:
        return Check(name="Redis", ok=False, found=str(problem), costs="No live pages, no runs.", essential=True)
    return Check(name="Redis", ok=True, found=f"{binary} on {path}.", essential=True)


def _redis_elsewhere() -> Check:
    """A Redis at an address, which is not shown, since it may contain a password."""
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, socket_timeout=3)
        version = client.info("server")["redis_version"]
    except (redis.RedisError, ValueError) as problem:
        found = f"The Redis of COUNTERSIGN_REDIS_URL does not answer ({type(problem).__name__})."
        todo = "Start it, or unset the variable: a private one is then started here."
        return Check(name="Redis", ok=False, found=found, costs="No live pages, no runs.", todo=todo, essential=True)
    return Check(name="Redis", ok=True, found=f"Redis {version}, set by COUNTERSIGN_REDIS_URL.", essential=True)


def port() -> Check:
    """Whether the port is free."""
    address = f"{settings.BIND}:{settings.PORT}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.BIND, settings.PORT))
        except (OSError, OverflowError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "not a port"
            other = f"COUNTERSIGN_PORT={settings.PORT % 60_000 + 1} make run"
            todo = f"Stop the program that holds it, or choose another: {other}."
            return Check(
                name="Port", ok=False, found=f"{address}: {reason}.", costs="No pages.", todo=todo, essential=True
            )
    return Check(name="Port", ok=True, found=f"{address} is free.", essential=True)


def port_or_ours() -> Check:
    """Whether the port is free, or held by Countersign, which may run while the doctor is called."""
    if pid := supervisor.holder(settings.HOME / "run"):
        return Check(name="Port", ok=True, found=f"{settings.PUBLIC_URL} is served by this home's process {pid}.")
    return port()


def database() -> Check:
    engine = connection.vendor
    try:
        executor = MigrationExecutor(connection)
        pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseError as problem:
        return Check(
            name="Database",
            ok=False,
            found=f"{engine} does not answer: {str(problem).splitlines()[0]}.",
            costs="Nothing can be recorded.",
            todo="See COUNTERSIGN_DATABASE_URL, and whether the server runs.",
            essential=True,
        )
    found = f"{engine}, {f'{pending} migrations to apply (make run does)' if pending else 'up to date'}."
    return Check(name="Database", ok=True, found=found, essential=True)


def anthropic_key() -> Check:
    return Check(
        name="Anthropic key",
        ok=settings.ANTHROPIC_CONFIGURED,
        found="ANTHROPIC_API_KEY is set." if settings.ANTHROPIC_CONFIGURED else "ANTHROPIC_API_KEY is not set.",
        costs="Proposals come from a catalogue of known ablations, not from Claude.",
        todo="export ANTHROPIC_API_KEY=... and start again.",
    )


@cache
def machine() -> dict[str, Any]:
    """What ``gpu_runner.machine.probe`` says; {"problem": sentence} when it cannot."""
    command = [sys.executable, "-m", "gpu_runner.machine.probe"]
    try:
        asked = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=PROBE_WITHIN_S)
    except subprocess.TimeoutExpired:
        return {"problem": f"The probe did not answer within {PROBE_WITHIN_S:.0f} s."}
    if asked.returncode:
        return {"problem": (asked.stderr.strip().splitlines() or ["The probe failed without a word."])[-1]}
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def _unprobed(name: str) -> Check | None:
    if (problem := machine().get("problem")) is None:
        return None
    return Check(name=name, ok=False, found=problem, costs="This machine trains nothing.", todo="See the line above.")


def sandbox() -> Check:
    if failed := _unprobed("Sandbox"):
        return failed
    level, problem = machine()["sandbox"], machine()["sandbox_problem"]
    if level is None:
        return Check(name="Sandbox", ok=False, found=f"{problem}.", costs="No worker starts here.", todo=BETTER_SANDBOX)
    if level == "none":
        costs = "Proposed code runs with this account's rights: its files, held-out text, network. Every run says so."
        return Check(name="Sandbox", ok=False, found="none, as you said.", costs=costs, todo=BETTER_SANDBOX)
    better = f" Bubblewrap would be better: {problem}." if level != "bubblewrap" else ""
    return Check(name="Sandbox", ok=True, found=f"{level}: {SANDBOX_HOLDS[level]}.{better}")


def limits() -> Check:
    if failed := _unprobed("Limits"):
        return failed
    problem = machine()["limits_problem"]
    return Check(
        name="Limits",
        ok=problem is None,
        found=f"{problem or 'the kernel holds the memory and the processes of every run (control groups)'}.",
        costs="A run that grows within a tenth of a second can press on the machine's memory before it is killed.",
        todo="Start Countersign in a systemd user session (systemd-run --user --scope -p Delegate=yes make run).",
    )


def lack_of_a_sandbox() -> str | None:
    """Why no worker would start here for want of a sandbox, as a sentence; None when that is no hindrance."""
    found = machine()
    if found.get("problem") or found["sandbox"] is not None:
        return None
    return f"No worker is started: {found['sandbox_problem']}. Pages, proposals and decisions work."


def cpu() -> Check:
    if failed := _unprobed("CPU"):
        return failed
    facts, fast = machine()["facts"], machine()["has_bf16"]
    words = {True: "multiplies bfloat16 itself", False: "has no bfloat16 instructions", None: "bfloat16 unknown"}
    return Check(
        name="CPU",
        ok=fast is not False,
        found=f"{facts['num_cores']} cores, {facts['memory_mib'] / 1024:,.0f} GiB, {words[fast]}.",
        costs="Runs on the CPU use float32: about half as fast.",
        todo="Nothing to do; a GPU helps more.",
    )


def gpu() -> Check:
    if failed := _unprobed("GPU"):
        return failed
    facts, problem = machine()["facts"], machine()["gpu_problem"]
    found = "There is no NVIDIA driver here."
    if facts["gpu"]:
        found = f"{facts['num_gpus']} x {facts['gpu']}, driver {facts['gpu_driver']}, torch {facts['torch']}."
    return Check(
        name="GPU",
        ok=bool(facts["gpu"]) and problem is None,
        found=f"{found[:-1]}: {problem}." if problem else found,
        costs="Runs train on the CPU: right for learning the loop, too small for research.",
        todo="Give it one here, or connect a machine that has one (README)."
        if not facts["gpu"]
        else "Install a torch that fits the driver: remove .venv and start again, without a CPU index.",
    )


def compiler() -> Check:
    if failed := _unprobed("C compiler"):
        return failed
    found, needed = machine()["compiler"], bool(machine()["facts"]["gpu"])
    return Check(
        name="C compiler",
        ok=found is not None or not needed,
        found=f"{found}." if found else f"None{'' if needed else '; only torch.compile on a GPU needs one'}.",
        costs="torch.compile cannot be used: GPU runs are slower.",
        todo="Install one (Debian, Ubuntu: apt install gcc python3-dev).",
    )


def workers() -> Check:
    """When a worker was last seen: more than a minute ago is not ok."""
    try:
        newest = Worker.objects.exclude(seen_at=None).order_by("-seen_at").first()
    except DatabaseError:
        newest = None  # the database has its own line
    if newest is None or newest.seen_at is None:
        found, ok = "None has ever said hello.", False
    else:
        age = timezone.now() - newest.seen_at
        found, ok = f"{newest.name} ({newest.hardware_class}) was seen {_ago(age)} ago.", age < timedelta(minutes=1)
    costs = "Approved proposals wait."
    return Check(
        name="Worker", ok=ok, found=found, costs=costs, todo="Run `make run` here, or `make worker` on a GPU machine."
    )


def _ago(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


BEFORE_START: tuple[Callable[[], Check], ...] = (python, disk, git, redis_found, port)
ALL: tuple[Callable[[], Check], ...] = (
    python,
    disk,
    git,
    redis_found,
    port_or_ours,
    database,
    sandbox,
    limits,
    cpu,
    gpu,
    compiler,
    anthropic_key,
    workers,
)


def refuse_to_start_without() -> None:
    """Raises ValueError with one sentence for the first essential lack."""
    for check in BEFORE_START:
        if not (outcome := check()).ok:
            raise ValueError(outcome.sentence)
