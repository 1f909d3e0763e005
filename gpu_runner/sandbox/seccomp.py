"""Which system calls a sandboxed process may make: a classic BPF program, assembled here and given to the kernel.

Two strengths. *isolated* goes inside bubblewrap, whose namespaces already hide the host: it closes what namespaces
do not cover (AF_VSOCK, keyrings, io_uring, bpf, perf, userfaultfd, ptrace, watching files) and every way to new
namespaces or mounts. *bare* is for a process in the host's own namespaces (level landlock): it also closes every socket
that could be given an address, System V and POSIX message IPC, other processes' limits and scheduling, reading a file's
attributes, and changing its mode, owner, times or attributes, none of which Landlock governs. memfd_create stays open:
CUDA needs it.

The page cache outlives every process. A process that can see what lies in it, or drop pages, can leave a message for
another with which it shares no file: a model that is scored, for the fresh process that is asked again. Both strengths
close that.

When a parent ignores SIGCHLD, the kernel forgets its children's processor time, and without a control group nothing
else counts it. So SIGCHLD cannot be changed.

Unknown calls do not exist: those newer than ``NEWEST`` answer ENOSYS, so that libraries take the older way.
x86-64 and aarch64. Standard library only; see seccomp(2) and the kernel's Documentation/userspace-api/seccomp_filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # BPF_LD|W|ABS, JEQ|K, JGE|K, ALU|AND|K, RET|K
ANY_OF = 0x45  # BPF_JMP|JSET|K: has it one of these bits?
NUMBER_AT, ARCH_AT, ARGUMENT_AT = 0, 4, 16  # offsets in struct seccomp_data; the low half of a little-endian argument
NEWEST = 456  # futex_requeue
X32 = 0x40000000  # x86-64's second, 32-bit numbering

NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* that clone(2) knows
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
# Of a pair whose ends can never be given to somebody else. A datagram socket of a pair can send to any address, too.
SOCK_STREAM, SOCK_SEQPACKET, SOCK_NONBLOCK, SOCK_CLOEXEC = 1, 5, 0x800, 0x80000
CONNECTED = tuple(
    kind | flags
    for kind in (SOCK_STREAM, SOCK_SEQPACKET)
    for flags in (0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC)
)
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put words into the terminal's mouth

# name -> (number on x86-64, number on aarch64); None where that machine has no such call
EVERYWHERE: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "setns": (308, 268), "unshare": (272, 97),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "syslog": (103, 116), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58), "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "uselib": (134, None),
    "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None), "create_module": (174, None),
    "get_kernel_syms": (177, None), "query_module": (178, None), "inotify_add_watch": (254, 27),
    "mincore": (27, 232), "cachestat": (451, 451),
}  # fmt: skip
OF_THE_HOST: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
# Answered as by a file system without attributes, so that programs which copy files go on without them.
ATTRIBUTES: dict[str, tuple[int | None, int | None]] = {
    "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10), "listxattr": (194, 11),
    "llistxattr": (195, 12), "flistxattr": (196, 13),
}  # fmt: skip
# Of another process: the argument that names it must be 0, oneself, and not all that this account runs.
OF_OTHERS: dict[str, tuple[tuple[int, int], dict[int, tuple[int, ...]]]] = {
    "prlimit64": ((302, 261), {0: (0,)}), "sched_setaffinity": ((203, 122), {0: (0,)}),
    "sched_setscheduler": ((144, 119), {0: (0,)}), "sched_setparam": ((142, 118), {0: (0,)}),
    "sched_setattr": ((314, 274), {0: (0,)}), "setpriority": ((141, 140), {0: (PRIO_PROCESS,), 1: (0,)}),
    "ioprio_set": ((251, 30), {0: (IOPRIO_WHO_PROCESS,), 1: (0,)}), "migrate_pages": ((256, 238), {0: (0,)}),
    "move_pages": ((279, 239), {0: (0,)}),
}  # fmt: skip
STAY_IN_THE_GROUP = {"setsid": (112, 157), "setpgid": (109, 154)}
# A file that runs as its owner would stay behind, for others of the machine: which arguments hold flags and mode.
SET_ID, MAKES_A_FILE = 0o6000, 0o100 | 0o20000000  # S_ISUID | S_ISGID; O_CREAT | __O_TMPFILE
MODES: dict[str, tuple[tuple[int | None, int | None], dict[int, int]]] = {
    "open": ((2, None), {1: MAKES_A_FILE, 2: SET_ID}), "openat": ((257, 56), {2: MAKES_A_FILE, 3: SET_ID}),
    "creat": ((85, None), {1: SET_ID}), "mknod": ((133, None), {1: SET_ID}), "mknodat": ((259, 33), {2: SET_ID}),
    "chmod": ((90, None), {1: SET_ID}), "fchmod": ((91, 52), {1: SET_ID}), "fchmodat": ((268, 53), {2: SET_ID}),
    "fchmodat2": ((452, 452), {2: SET_ID}),
}  # fmt: skip
OPENAT2 = (437, 437)
CLONE, CLONE3, SOCKET, SOCKETPAIR, IOCTL = (56, 220), (435, 435), (41, 198), (53, 199), (16, 29)
PREADV2, FADVISE64, MADVISE = (327, 286), (221, 223), (28, 233)
MADV_COLD, MADV_PAGEOUT = 20, 21
RT_SIGACTION, SIGCHLD = (13, 134), 17


class Machine(NamedTuple):
    column: int  # of the tables above
    audit_arch: int


MACHINES = {"x86_64": Machine(0, 0xC000003E), "aarch64": Machine(1, 0xC00000B7)}


def this_machine() -> Machine:
    """This machine's column of call numbers. Raises OSError where they are not known."""
    if (machine := MACHINES.get(platform.machine())) is None:
        raise OSError(errno.ENOSYS, f"no system call numbers for {platform.machine()}")
    return machine


def program(*, bare: bool, machine: Machine) -> bytes:
    """The filter as an array of ``struct sock_filter``."""
    column = machine.column
    code = [_op(LOAD, ARCH_AT), _op(EQUAL, machine.audit_arch, 1, 0), _op(RETURN, KILL_PROCESS), _op(LOAD, NUMBER_AT)]
    code += _when(AT_LEAST, X32 if column == 0 else 0x80000000, errno.ENOSYS)
    code += _when(EQUAL, CLONE3[column], errno.ENOSYS)  # its flags are in memory: glibc falls back to clone
    code += _when(EQUAL, OPENAT2[column], errno.ENOSYS)  # and so is its mode
    for numbers in (EVERYWHERE | (OF_THE_HOST if bare else {})).values():
        if (number := numbers[column]) is not None:
            code += _when(EQUAL, number, errno.EPERM)
    code += _when(AT_LEAST, NEWEST + 1, errno.ENOSYS)
    if bare:
        code += _stay_among_ours(column)
    else:
        code += _only(SOCKET[column], {0: (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)}, errno.EAFNOSUPPORT)
        code += _only(SOCKETPAIR[column], {0: (AF_UNIX,)}, errno.EAFNOSUPPORT)
    for numbers, bits in MODES.values():
        if (number := numbers[column]) is not None:
            code += _never_with(number, bits, errno.EPERM)
    code += _never(IOCTL[column], 1, (TIOCSTI, TIOCLINUX), errno.EPERM)
    code += _leave_the_page_cache(column)
    code += _never(RT_SIGACTION[column], 0, (SIGCHLD,), 0)  # "done": what the handler would be lies in memory
    code += [_op(EQUAL, CLONE[column], 0, 4), _op(LOAD, ARGUMENT_AT), _op(AND, NEW_NAMESPACES)]
    code += [_op(EQUAL, 0, 1, 0), _op(RETURN, ERRNO | errno.EPERM), _op(RETURN, ALLOW)]
    return b"".join(code)


def _leave_the_page_cache(column: int) -> list[bytes]:
    """Close what tells which pages are in the page cache (preadv2's flags), and what drops pages from it."""
    code = _only(PREADV2[column], {5: (0,)}, errno.EOPNOTSUPP)
    code += _when(EQUAL, FADVISE64[column], 0)  # "done": it is advice
    return code + _never(MADVISE[column], 2, (MADV_COLD, MADV_PAGEOUT), errno.EINVAL)


def _stay_among_ours(column: int) -> list[bytes]:
    code: list[bytes] = []
    for numbers in ATTRIBUTES.values():
        if (number := numbers[column]) is not None:
            code += _when(EQUAL, number, errno.EOPNOTSUPP)
    for others, oneself in OF_OTHERS.values():
        code += _only(others[column], oneself, errno.EPERM)
    code += _only(SOCKETPAIR[column], {0: (AF_UNIX,), 1: CONNECTED}, errno.EAFNOSUPPORT)
    for group in STAY_IN_THE_GROUP.values():
        code += _when(EQUAL, group[column], 0)  # "done", and nothing is: the whole group can be killed at once
    return code


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _when(test: int, number: int, error: int) -> list[bytes]:
    """Answer a call whose number passes ``test`` with ``error``."""
    return [_op(test, number, 0, 1), _op(RETURN, ERRNO | error)]


def _only(number: int, allowed: Mapping[int, Sequence[int]], error: int) -> list[bytes]:
    """Allow the call where each of the named arguments has one of its allowed values; ``error`` otherwise."""
    inside: list[bytes] = []
    for argument, values in allowed.items():
        inside.append(_op(LOAD, ARGUMENT_AT + 8 * argument))
        inside += [_op(EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
        inside.append(_op(RETURN, ERRNO | error))
    inside.append(_op(RETURN, ALLOW))
    return [_op(EQUAL, number, 0, len(inside)), *inside]


def _never(number: int, argument: int, denied: Sequence[int], error: int) -> list[bytes]:
    """Allow the call unless its ``argument``-th argument has one of these values."""
    inside = [_op(LOAD, ARGUMENT_AT + 8 * argument)]
    inside += [_op(EQUAL, value, len(denied) - i, 0) for i, value in enumerate(denied)]
    inside += [_op(RETURN, ALLOW), _op(RETURN, ERRNO | error)]
    return [_op(EQUAL, number, 0, len(inside)), *inside]


def _never_with(number: int, bits: Mapping[int, int], error: int) -> list[bytes]:
    """Allow the call unless each of these arguments has one of its bits."""
    inside: list[bytes] = []
    for left, (argument, some) in zip(reversed(range(len(bits))), bits.items(), strict=True):
        inside += [_op(LOAD, ARGUMENT_AT + 8 * argument), _op(ANY_OF, some, 0, 2 * left + 1)]
    inside += [_op(RETURN, ERRNO | error), _op(RETURN, ALLOW)]
    return [_op(EQUAL, number, 0, len(inside)), *inside]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def apply(*, bare: bool) -> None:
    """Apply the filter to this thread and all that it starts, for good. Raises OSError where the kernel refuses."""
    body = program(bare=bare, machine=this_machine())
    held = ctypes.create_string_buffer(body, len(body))
    filter_ = _Program(len(body) // 8, ctypes.cast(held, ctypes.c_void_p))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(filter_))


def prctl(option: int, value: int, more: int = 0) -> None:
    """prctl(2). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        problem = ctypes.get_errno()
        raise OSError(problem, f"prctl({option}): {os.strerror(problem)}")
