"""Landlock: the kernel lets an unprivileged process open only what is named, of the host's own file system.

Named folders may be read and executed, one may be written, nothing else can be opened; TCP is closed, and neither
abstract sockets nor signals reach processes outside. Needs ABI 6 (Linux 6.12): before it a process could signal
all processes of its account, its supervisor too. ``seccomp`` closes what Landlock leaves open.
Standard library only; see landlock(7) and the kernel's Documentation/userspace-api/landlock.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every machine
VERSION, PATH_BENEATH = 1, 1
NEEDED_ABI = 6

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK, TRUNCATE, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
EVERY_FILE_RIGHT = (1 << 16) - 1
EVERY_TCP_RIGHT = EVERY_SCOPE = 0b11
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # the rest only a folder can have
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = EVERY_FILE_RIGHT & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, NUM_CAPABILITIES = 38, 24, 64
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock version; 0 when it has none, or when it is switched off."""
    return max(int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)), 0)


def restrict(*, read: Iterable[str], hide: Iterable[str], write: Iterable[str], devices: Iterable[str]) -> None:
    """Restrict this process and all that it starts, for good. Raises OSError; a path that is not there is skipped.

    ``hide`` are real paths below ``read``. A path below a hidden one that is named in ``read`` itself can be read.
    """
    if abi() < NEEDED_ABI:
        raise OSError(f"Landlock ABI {abi()} is below {NEEDED_ABI}, which came with Linux 6.12")
    handled = struct.pack("<QQQ", EVERY_FILE_RIGHT, EVERY_TCP_RIGHT, EVERY_SCOPE)
    ruleset = _called("landlock_create_ruleset", CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    hidden = frozenset(hide)
    on_the_way = frozenset(folder for place in hidden for folder in _above(place))
    for path in read:
        for part, rights in _around(path, hidden, on_the_way):
            _allow(ruleset, part, rights)
    for paths, rights in ((write, WRITE), (devices, DEVICE)):
        for path in paths:
            _allow(ruleset, path, rights)
    drop_capabilities()
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # without it the next call is refused
    _called("landlock_restrict_self", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _above(place: str) -> Iterator[str]:
    while (place := os.path.dirname(place)) != "/":
        yield place


def _around(path: str, hidden: frozenset[str], on_the_way: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Rules (path, rights) for ``path``, or for its parts where something below it is hidden.

    A rule holds for all that lies below. Folders above a hidden path may be listed, as imports need. A link gets no
    rule: its target has its own, or none.
    """
    real = os.path.realpath(path)
    if real not in on_the_way:
        if real not in hidden:
            yield path, READ
        return
    yield real, READ_DIR
    for entry in os.scandir(real):
        if not entry.is_symlink():
            yield from _around(entry.path, hidden, on_the_way)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= OF_A_FILE
    rule = struct.pack("<Qi", rights, place)
    _called(f"landlock_add_rule {path}", ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
    if path.startswith("/proc/"):
        os.set_inheritable(place, True)  # a folder of /proc that nobody holds is made anew, and has no rule then
    else:
        os.close(place)


def drop_capabilities() -> None:
    """Drop all capabilities, for good. Only root has any."""
    for capability in range(NUM_CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # "not permitted" without CAP_SETPCAP, "invalid" past the last
    head = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    if libc.capset(head, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset: " + os.strerror(ctypes.get_errno()))


def _called(what: str, *arguments: object) -> int:
    if (answer := int(libc.syscall(*arguments))) < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return answer
