"""Every attack at every level, as root and as an ordinary account. ``python -m tests.sandbox.trials``: a table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gpu_runner import sandbox

VICTIMS = Path(__file__).with_name("victims.py")
PROJECT = Path(__file__).resolve().parent.parent.parent
NOBODY = 65_534
LEVELS = tuple(level for level in sandbox.LEVELS[:-1] if sandbox.problem_with(level) is None)
ACCOUNTS = ("root", "ordinary") if os.geteuid() == 0 else ("ordinary",)
ONLY_ROOT_CAN = {"set_the_core_pattern", "read_what_only_root_may"}


@cache
def trial(level: str, account: str) -> dict[str, str]:
    """attack -> what came of it; ``level`` may be *control*."""
    folder = Path(tempfile.mkdtemp(prefix="countersign-attacks-"))
    try:
        if account == "ordinary" and nobody()[0] == "setpriv":
            os.chown(folder, NOBODY, NOBODY)
        command = [sys.executable, "-P", str(VICTIMS), str(folder), level]
        if level == "control":
            command = [*private_namespaces(folder), *command]
        done = subprocess.run(
            as_account(account, command),
            env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        came: dict[str, str] = json.loads(done.stdout)
        return came
    finally:
        shutil.rmtree(folder)


def private_namespaces(folder: Path) -> list[str]:
    """The host's files, read-only but for ours, and no capability: without a sandbox, nothing else can be hurt."""
    own = ["--unshare-all", "--unshare-user", "--die-with-parent", "--cap-drop", "ALL"]
    files = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--bind", str(folder), str(folder)]
    return ["bwrap", *own, *files, "--"]


def as_account(account: str, command: Sequence[str]) -> list[str]:
    """``command`` under an account without rights when *ordinary* is asked for and we are root.

    The real uid of nobody where it may read the project; else, as where that lies in root's home, root's own without
    any capability, as seen from a user namespace.
    """
    return list(command) if account == "root" else [*nobody(), *command]


@cache
def nobody() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ("env",)
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    tries = ["sh", "-c", 'exec "$0" "$1" /dev/null', sys.executable, str(VICTIMS.with_name("attacks.py"))]
    reads = subprocess.run([*drop, *tries], capture_output=True)
    return drop if b"JSONDecodeError" in reads.stderr else ("unshare", "--user", "--map-user=1000", "--map-group=1000")


def table() -> Table:
    columns = [("control", ACCOUNTS[0]), *((level, account) for level in LEVELS for account in ACCOUNTS)]
    it = Table("attack", *(f"{level}, {account}" for level, account in columns))
    for attack in trial(*columns[0]):
        it.add_row(
            attack.replace("_", " "), *(trial(*column)[attack].split(":")[0].split(" ")[0] for column in columns)
        )
    return it


if __name__ == "__main__":
    Console(width=150).print(table())


def tried(
    code: str,
    *,
    level: str,
    read_only: tuple[Path, ...] = (),
    writable: Path | None = None,
    hides: tuple[Path, ...] | None = None,
    within_s: float = 30,
) -> str:
    """What ``code`` prints when it runs inside; it prints DENIED and the error when it raises an OSError."""
    guarded = "\n".join(
        [
            "try:",
            *(f"    {line}" for line in code.splitlines()),
            "except OSError as error:",
            "    print('DENIED', error)",
        ]
    )
    with sandbox.Cell(level=level, read_only=read_only, writable=writable, hides=hides) as cell:
        done = subprocess.run(
            cell.argv([sys.executable, "-c", guarded]),
            env=sandbox.child_environment(),
            capture_output=True,
            text=True,
            timeout=within_s,
            start_new_session=True,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
