"""Ways that are easily forgotten: the same ends by another call, a number instead of a name, a file of /proc.

A part of ``attacks.py``; each returns what it got hold of or raises OSError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Targets

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
F_SETSIG, IPC_NOWAIT = 10, 0o4000
IOPRIO_WHO_USER, BEST_EFFORT_4 = 3, 2 << 13 | 4
RENAME_EXCHANGE = 2


def checked(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def syscall(on_x86: int, on_arm: int, *arguments: object) -> int:
    return checked(int(libc.syscall(on_x86 if X86 else on_arm, *arguments)))


# --- sockets and System V IPC without asking for one --------------------------------------------


def send_from_a_pair_to_a_socket_file(t: Targets) -> str:
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendto(b"mine", t.datagram_file)
    return "sent"


def send_from_a_raw_pair_to_a_socket_file(t: Targets) -> str:
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)
    ours.sendto(b"mine", t.datagram_file)
    return "sent"


def talk_from_a_pair_with_a_socket_file(t: Targets) -> str:
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    Path(t.out, "address").unlink(missing_ok=True)
    ours.bind(str(Path(t.out, "address")))
    ours.connect(t.datagram_file)
    ours.send(b"?")
    ours.settimeout(2)
    return ours.recv(64).decode()


def raise_a_semaphore_by_its_number(t: Targets) -> str:
    checked(libc.semop(t.semaphore, struct.pack("@HhH", 0, 1, 0), ctypes.c_size_t(1)))
    return "raised"


def raise_a_semaphore_in_time(t: Targets) -> str:
    syscall(220, 192, t.semaphore, struct.pack("@HhH", 0, 1, 0), ctypes.c_ulong(1), None)
    return "raised"


def ask_for_a_semaphores_value(t: Targets) -> str:
    return str(checked(libc.semctl(t.semaphore, 0, 12)))  # GETVAL


def take_a_message_by_its_queues_number(t: Targets) -> str:
    held = ctypes.create_string_buffer(128)
    checked(libc.msgrcv(t.queue, held, ctypes.c_size_t(100), ctypes.c_long(0), IPC_NOWAIT))
    return held.raw[8:].rstrip(b"\0").decode()


def put_a_message_by_its_queues_number(t: Targets) -> str:
    checked(libc.msgsnd(t.queue, struct.pack("@l", 1) + b"mine", ctypes.c_size_t(4), IPC_NOWAIT))
    return "put"


# --- other processes ----------------------------------------------------------------------------


def slow_down_all_of_this_account(t: Targets) -> str:
    os.getpriority(os.PRIO_PROCESS, t.pid)  # it is among them, or there is nothing to be had
    os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0))  # as it is: nobody is hurt when it works
    return "could"


def order_the_disk_of_all_of_this_account(t: Targets) -> str:
    os.getpriority(os.PRIO_PROCESS, t.pid)
    syscall(251, 30, IOPRIO_WHO_USER, 0, BEST_EFFORT_4)  # the default
    return "could"


def send_a_signal_through_a_pipe(t: Targets) -> str:
    """A file tells its owner that it can be read, by any signal that one chooses."""
    hearing, speaking = os.pipe()
    fcntl.fcntl(hearing, fcntl.F_SETOWN, t.pid)
    fcntl.fcntl(hearing, F_SETSIG, signal.SIGUSR1)
    fcntl.fcntl(hearing, fcntl.F_SETFL, os.O_ASYNC)
    before = _size(t.heard_file)
    os.write(speaking, b"x")
    return _until(lambda: "heard" if _size(t.heard_file) > before else "")


def take_anothers_descriptor(t: Targets) -> str:
    return str(syscall(438, 438, syscall(434, 434, t.pid, 0), 1, 0))


def open_anothers_memory(t: Targets) -> str:
    place = os.open(f"/proc/{t.pid}/mem", os.O_RDONLY)
    return os.pread(place, 64, t.address).rstrip(b"\0").decode()


def compare_with_another_process(t: Targets) -> str:
    return str(syscall(312, 272, os.getpid(), t.pid, 1, ctypes.c_ulong(0), ctypes.c_ulong(0)))


def find_anothers_locks(t: Targets) -> str:
    head, size = ctypes.c_ulong(), ctypes.c_ulong()
    syscall(274, 100, t.pid, ctypes.byref(head), ctypes.byref(size))
    return "found"


def call_the_kernel_in_32_bits(_t: Targets) -> str:
    """socket(AF_INET, SOCK_STREAM, 0) by int 0x80, whose numbers are others: a filter of 64-bit numbers is blind."""
    if not X86:
        raise OSError(errno.ENOSYS, "x86 only")
    call = bytes.fromhex("53 b867010000 bb02000000 b901000000 31d2 cd80 5b c3")
    if (pid := os.fork()) == 0:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(call)
        answer = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        os._exit(0 if answer >= 0 else 1)
    if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise OSError(errno.EPERM, f"it ended with {code}")
    return "a socket"


# --- files --------------------------------------------------------------------------------------


def read_a_secret_through_anothers_root(t: Targets) -> str:
    return Path(f"/proc/{t.pid}/root{t.secret_file}").read_text()


def read_a_mark_of_a_file(t: Targets) -> str:
    return os.getxattr(t.marked_file, "user.secret").decode()


def list_the_marks_of_a_file(t: Targets) -> str:
    return ",".join(os.listxattr(t.marked_file))


def watch_what_is_shown(_t: Targets) -> str:
    """/usr/bin is the host's at both levels: who watches it sees which programs are started outside."""
    watcher = checked(libc.inotify_init1(0))
    checked(libc.inotify_add_watch(watcher, b"/usr/bin", 0x20))
    return "watching"


def read_what_only_root_may(_t: Targets) -> str:
    """Of the whole kernel, such as /proc/timer_list, and without any capability: root's own files are root's."""
    for entry in sorted(os.scandir("/proc"), key=lambda entry: entry.name):
        if entry.is_file() and not stat.S_IMODE(entry.stat().st_mode) & 0o077 and entry.name != "kmsg":
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                return _something(entry.name if file.read(64) else "")
    raise OSError(errno.ENOENT, "there is none")


def make_a_file_that_runs_as_us(t: Targets) -> str:
    """Set-user-ID: it stays behind in the output folder, and whoever else is on the machine becomes who we are."""
    place = Path(t.out, "runs-as-us-1")
    place.unlink(missing_ok=True)
    return _set_id(os.open(place, os.O_CREAT | os.O_RDWR, 0o4755))


def turn_a_file_into_one_that_runs_as_us(t: Targets) -> str:
    file = os.open(Path(t.out, "runs-as-us-2"), os.O_CREAT | os.O_RDWR, 0o755)
    os.fchmod(file, 0o4755)
    return _set_id(file)


def make_a_file_that_runs_as_us_by_a_newer_call(t: Targets) -> str:
    place, how = Path(t.out, "runs-as-us-3"), struct.pack("@QQQ", os.O_CREAT | os.O_RDWR, 0o4755, 0)
    place.unlink(missing_ok=True)
    return _set_id(syscall(437, 437, -100, os.fsencode(place), how, ctypes.c_size_t(len(how))))


def _set_id(file: int) -> str:
    return _something(oct(mode) if (mode := stat.S_IMODE(os.fstat(file).st_mode)) & stat.S_ISUID else "")


def empty_the_training_text_by_reading_it(t: Targets) -> str:
    os.close(os.open(t.train_file, os.O_RDONLY | os.O_TRUNC))
    return "emptied"


def change_places_with_the_output(t: Targets) -> str:
    for _ in range(2):
        checked(libc.renameat2(-100, os.fsencode(t.out), -100, os.fsencode(t.home), RENAME_EXCHANGE))
    return "changed, and back"


def _something(found: str) -> str:
    if not found:
        raise OSError(errno.ENOENT, "there is none")
    return found


def _size(path: str) -> int:
    return os.stat(path).st_size if os.path.exists(path) else 0


def _until(look: Callable[[], str]) -> str:
    for _ in range(50):
        if found := look():
            return found
        time.sleep(0.02)
    raise OSError(errno.ENOENT, "nothing happened")


BYWAYS: dict[str, Callable[[Targets], str]] = {
    attack.__name__: attack
    for attack in (
        *(send_from_a_pair_to_a_socket_file, send_from_a_raw_pair_to_a_socket_file),
        *(talk_from_a_pair_with_a_socket_file, raise_a_semaphore_by_its_number, raise_a_semaphore_in_time),
        *(ask_for_a_semaphores_value, take_a_message_by_its_queues_number, put_a_message_by_its_queues_number),
        *(slow_down_all_of_this_account, order_the_disk_of_all_of_this_account, send_a_signal_through_a_pipe),
        *(take_anothers_descriptor, open_anothers_memory, compare_with_another_process, find_anothers_locks),
        *(call_the_kernel_in_32_bits, read_a_secret_through_anothers_root, read_a_mark_of_a_file),
        *(list_the_marks_of_a_file, watch_what_is_shown, read_what_only_root_may),
        *(make_a_file_that_runs_as_us, turn_a_file_into_one_that_runs_as_us),
        make_a_file_that_runs_as_us_by_a_newer_call,
        *(empty_the_training_text_by_reading_it, change_places_with_the_output),
    )
}
