"""What there is outside to be attacked: listeners, another process, files, shared memory, an environment.

A script, too: ``python victims.py FOLDER LEVEL`` stands there and lets the attacks loose inside a sandbox, or, with
LEVEL *control*, without any. That is the negative control: the caller puts it into private namespaces (``trials.py``).
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import smtplib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ATTACKS, LOOKUPS, BYWAYS = (Path(__file__).with_name(f"{name}.py") for name in ("attacks", "lookups", "byways"))
SECRET = "the-secret-of-the-host"
VICTIM = """
import ctypes, signal, sys, time
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER: whoever may, may
signal.signal(signal.SIGUSR1, lambda *_: open(sys.argv[2], "a").write("a signal"))
held = ctypes.create_string_buffer(sys.argv[1].encode(), 64)
print(ctypes.addressof(held), flush=True)
while True:
    time.sleep(60)
"""
libc = ctypes.CDLL(None, use_errno=True)


def answer_tcp(server: socket.socket) -> None:
    while True:
        try:
            line, _ = server.accept()
        except OSError:
            return
        with line:
            line.sendall(SECRET.encode())


def answer_datagrams(server: socket.socket) -> None:
    while True:
        try:
            _, whom = server.recvfrom(64)
        except OSError:
            return
        if whom:  # a sender without an address hears nothing
            server.sendto(SECRET.encode(), whom)


def listening(stack: ExitStack, server: socket.socket, answer: Any) -> socket.socket:
    stack.callback(server.close)
    stack.callback(server.shutdown, socket.SHUT_RDWR) if server.type == socket.SOCK_STREAM else None
    threading.Thread(target=answer, args=(server,), daemon=True).start()
    return server


@contextmanager
def victims(folder: Path) -> Iterator[dict[str, Any]]:
    """Everything up; yields the targets. ``folder`` is fresh, and this account's."""
    home, out, dataset = folder / "home", folder / "out", folder / "dataset"
    for place in (home, out, dataset / "train", dataset / "val", folder / "shared"):
        place.mkdir(parents=True)
    for path in (
        home / "secret",
        home / "spare",
        home / "marked",
        dataset / "val" / "0.bin",
        dataset / "train" / "0.bin",
    ):
        path.write_text(SECRET)
    os.setxattr(home / "marked", "user.secret", SECRET.encode())
    with ExitStack() as stack:
        tcp = listening(stack, socket.create_server(("127.0.0.1", 0)), answer_tcp)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        listening(stack, udp, answer_datagrams)
        name = f"countersign-test-{os.getpid()}"
        for address in ("\0" + name, str(home / "socket")):
            unix = socket.socket(socket.AF_UNIX)
            unix.bind(address)
            unix.listen()
            listening(stack, unix, answer_tcp)
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind(str(home / "datagrams"))
        listening(stack, datagrams, answer_datagrams)
        shm_key = 0x5EC0000 + os.getpid() % 0xFFFF
        semaphore, queue = _share_memory(stack, shm_key)
        shm_file = Path("/dev/shm") / name
        shm_file.write_text(SECRET)
        stack.callback(shm_file.unlink)
        victim = _victim(stack, folder / "shared" / "heard")
        assert victim.stdout is not None
        yield {
            "secret": SECRET,
            "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "abstract": name,
            "socket_file": str(home / "socket"),
            "datagram_file": str(home / "datagrams"),
            "pid": victim.pid,
            "address": int(victim.stdout.readline()),
            "home": str(home),
            "out": str(out),
            "secret_file": str(home / "secret"),
            "spare_file": str(home / "spare"),
            "heldout_file": str(dataset / "val" / "0.bin"),
            "train_file": str(dataset / "train" / "0.bin"),
            "shared": str(folder / "shared"),
            "shared_inode": (folder / "shared").stat().st_ino,
            "shm_key": shm_key,
            "semaphore": semaphore,
            "queue": queue,
            "marked_file": str(home / "marked"),
            "heard_file": str(folder / "shared" / "heard"),
            "shm_name": name,
        } | held_out_of_the_library()


def held_out_of_the_library() -> dict[str, str]:
    """Where the text of a module and of a package lies that may be held out, and a line that stands in each."""
    library = Path(smtplib.__file__)
    others = [path for path in Path("/usr").glob("lib*/python3*/smtplib.py") if not path.samefile(library)]
    bytecode = Path(importlib.util.cache_from_source(smtplib.__file__))
    return {
        "module_file": str(library),
        "bytecode_file": str(bytecode if bytecode.exists() else library),
        "other_file": str(next(iter(others), library)),
        "module_line": "This should follow RFC 821 (SMTP)",  # of its docstring, so it is in the bytecode, too
        "package_line": "An XML-RPC client interface for Python.",
    }


def _victim(stack: ExitStack, hears: Path) -> subprocess.Popen[str]:
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, SECRET, str(hears)],
        env=os.environ | {"ANTHROPIC_API_KEY": SECRET},
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(victim.wait)
    stack.callback(victim.kill)
    return victim


def _share_memory(stack: ExitStack, key: int) -> tuple[int, int]:
    """System V memory, a semaphore and a queue with a message in it; the numbers of the last two."""
    libc.shmat.restype = ctypes.c_void_p
    segment, semaphore, queue = libc.shmget(key, 64, 0o1600), libc.semget(key, 1, 0o1600), libc.msgget(key, 0o1600)
    assert min(segment, semaphore, queue) >= 0
    stack.callback(libc.shmctl, segment, 0, None)
    stack.callback(libc.semctl, semaphore, 0, 0)
    stack.callback(libc.msgctl, queue, 0, None)
    ctypes.memmove(libc.shmat(segment, None, 0), SECRET.encode(), len(SECRET))
    libc.msgsnd(queue, struct.pack("@l", 1) + SECRET.encode(), len(SECRET), 0)
    return semaphore, queue


def main(folder: Path, level: str) -> None:
    env = os.environ | {"ANTHROPIC_API_KEY": SECRET}
    with victims(folder) as targets, ExitStack() as stack:
        told = folder / "targets.json"
        told.write_text(json.dumps(targets))
        command = [sys.executable, str(ATTACKS), str(told)]
        if level != "control":
            from gpu_runner import sandbox

            read_only = (ATTACKS, LOOKUPS, BYWAYS, told, folder / "dataset" / "train")
            cell = stack.enter_context(sandbox.Cell(level=level, read_only=read_only, writable=folder / "out"))
            command, env = cell.argv(command), sandbox.child_environment()
        subprocess.run(command, env=env, check=True, timeout=60, start_new_session=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
