"""What hostile code tries from inside. A script: ``python attacks.py TARGETS.json`` prints {attack: what came of it}.

Each attack returns what it got hold of, or raises OSError. Standard library only, and nothing of ours: it runs where
our package may not be. TARGETS names what ``victims.py`` set up outside. The attacks on held-out text are in
``lookups.py``, those by ways that are easily forgotten in ``byways.py``.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import mmap
import os
import platform
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace as Targets

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
NEW_USER, NEW_NET = 0x10000000, 0x40000000


def syscall(on_x86: int, on_arm: int, *arguments: object) -> int:
    answer = int(libc.syscall(on_x86 if X86 else on_arm, *arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def checked(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


# --- network --------------------------------------------------------------------------------


def connect_to_loopback(t: Targets) -> str:
    with socket.create_connection(("127.0.0.1", t.tcp_port), 2) as line:
        return line.recv(64).decode()


def ask_over_udp(t: Targets) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(0.5)
        line.sendto(b"?", ("127.0.0.1", t.udp_port))
        return line.recv(64).decode()


def connect_to_an_abstract_socket(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect("\0" + t.abstract)
        return line.recv(64).decode()


def connect_to_a_socket_file(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(t.socket_file)
        return line.recv(64).decode()


def open_a_socket_to_the_hypervisor(_t: Targets) -> str:
    with socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM):
        return "a vsock socket"


# --- other processes ------------------------------------------------------------------------


def signal_another_process(t: Targets) -> str:
    os.kill(t.pid, signal.SIGUSR1)
    return "sent"


def read_anothers_environment(t: Targets) -> str:
    return _with_secret(Path(f"/proc/{t.pid}/environ").read_bytes(), t)


def read_anothers_command_line(t: Targets) -> str:
    return _with_secret(Path(f"/proc/{t.pid}/cmdline").read_bytes(), t)


def read_anothers_memory(t: Targets) -> str:
    held = ctypes.create_string_buffer(64)
    here = struct.pack("@PN", ctypes.addressof(held), 64)
    there = struct.pack("@PN", t.address, 64)
    syscall(310, 270, t.pid, here, ctypes.c_ulong(1), there, ctypes.c_ulong(1), ctypes.c_ulong(0))
    return _with_secret(held.raw, t)


def trace_another_process(t: Targets) -> str:
    checked(libc.ptrace(0x4206, t.pid, None, None))  # PTRACE_SEIZE
    libc.ptrace(17, t.pid, None, None)
    return "seized"


def lower_anothers_limits(t: Targets) -> str:
    import resource

    resource.prlimit(t.pid, resource.RLIMIT_CORE, (0, 0))
    return "lowered"


def slow_another_process_down(t: Targets) -> str:
    os.setpriority(os.PRIO_PROCESS, t.pid, 19)
    return "niced"


def list_processes(t: Targets) -> str:
    return _something(str(t.pid) if str(t.pid) in os.listdir("/proc") else "")


# --- files ----------------------------------------------------------------------------------


def read_a_secret(t: Targets) -> str:
    return Path(t.secret_file).read_text()


def read_held_out_text(t: Targets) -> str:
    return Path(t.heldout_file).read_text()


def list_the_home_folder(t: Targets) -> str:
    return _something(",".join(name for name in os.listdir(t.home) if name == Path(t.secret_file).name))


def read_the_accounts(_t: Targets) -> str:
    return Path("/etc/passwd").read_text()[:20]


def overwrite_a_secret(t: Targets) -> str:
    with open(t.secret_file, "r+") as file:
        file.write("mine")
    return "written"


def truncate_a_secret(t: Targets) -> str:
    os.truncate(t.spare_file, 0)
    return "truncated"


def write_beside_the_output(t: Targets) -> str:
    (Path(t.home) / "left-behind").write_text("mine")
    return "written"


def write_the_training_text(t: Targets) -> str:
    with open(t.train_file, "a") as file:
        file.write("mine")
    return "written"


def delete_the_training_text(t: Targets) -> str:
    os.rename(t.train_file, t.train_file + ".gone")
    os.rename(t.train_file + ".gone", t.train_file)
    return "moved"


def write_to_a_shared_folder(t: Targets) -> str:
    (Path(t.shared) / f"countersign-left-{os.getpid()}").write_text("mine")
    return "written" if os.stat(t.shared).st_ino == t.shared_inode else _denied()  # a private one is allowed


def change_a_files_mode(t: Targets) -> str:
    os.chmod(t.spare_file, 0o666)
    return oct(stat.S_IMODE(os.stat(t.spare_file).st_mode))


def change_a_files_owner(t: Targets) -> str:
    about = os.stat(t.spare_file)
    os.chown(t.spare_file, about.st_uid, about.st_gid)
    return "chowned"


def change_a_files_times(t: Targets) -> str:
    os.utime(t.spare_file, (1, 1))
    return "touched"


def mark_a_file(t: Targets) -> str:
    os.setxattr(t.spare_file, "user.mine", b"1")
    return "marked"


def watch_a_folder(t: Targets) -> str:
    watcher = checked(libc.inotify_init1(0))
    checked(libc.inotify_add_watch(watcher, os.fsencode(t.home), 0x100))
    return "watching"


def follow_a_link_out(t: Targets) -> str:
    link = Path(t.out) / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(t.secret_file)
    return link.read_text()


def link_a_secret_in(t: Targets) -> str:
    link = Path(t.out) / "hard-link"
    link.unlink(missing_ok=True)
    os.link(t.spare_file, link)
    return "linked"


def climb_out_of_the_output(t: Targets) -> str:
    os.chdir(t.out)
    return Path(os.path.relpath(t.secret_file, t.out)).read_text()


# --- environment and shared memory ----------------------------------------------------------


def read_the_environment(t: Targets) -> str:
    return _with_secret("\n".join(f"{k}={v}" for k, v in os.environ.items()).encode(), t)


def read_shared_memory(t: Targets) -> str:
    libc.shmat.restype = ctypes.c_void_p
    segment = checked(libc.shmget(t.shm_key, 64, 0o600))
    address = libc.shmat(segment, None, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return _with_secret(ctypes.string_at(address, 64), t)


def read_dev_shm(t: Targets) -> str:
    return Path("/dev/shm", t.shm_name).read_text()


def ask_what_lies_in_the_page_cache(_t: Targets) -> str:
    with open(os.__file__, "rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as pages:
        first = ctypes.c_char.from_buffer(pages)
        there = ctypes.create_string_buffer(-(-len(pages) // mmap.PAGESIZE))
        try:
            syscall(27, 232, ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(pages)), there)
        finally:
            del first
    return "told"


def read_only_what_lies_in_the_page_cache(_t: Targets) -> str:
    with open(os.__file__, "rb") as file:
        file.read()
        os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
    return "told"


def open_a_message_queue(t: Targets) -> str:
    checked(libc.msgget(t.shm_key, 0))
    return "opened"


def take_a_key_from_the_keyring(_t: Targets) -> str:
    return str(syscall(248, 217, b"user", b"countersign-test", b"x", ctypes.c_ulong(1), ctypes.c_int(-3)))


# --- more rights ----------------------------------------------------------------------------


def make_a_user_namespace(_t: Targets) -> str:
    return _in_a_child(lambda: checked(libc.unshare(NEW_USER)))


def clone_into_a_namespace(_t: Targets) -> str:
    pid = syscall(56, 220, ctypes.c_ulong(NEW_USER | NEW_NET | signal.SIGCHLD), None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned"


def mount_a_file_system(t: Targets) -> str:
    def mount() -> None:
        checked(libc.unshare(NEW_USER | 0x20000))
        checked(libc.mount(b"none", os.fsencode(t.out), b"tmpfs", ctypes.c_ulong(0), None))

    return _in_a_child(mount)


def catch_page_faults(_t: Targets) -> str:
    return str(syscall(323, 282, 1))  # UFFD_USER_MODE_ONLY


def open_a_ring(_t: Targets) -> str:
    return str(syscall(425, 425, 4, ctypes.create_string_buffer(256)))


def set_the_core_pattern(_t: Targets) -> str:
    with open("/proc/sys/kernel/core_pattern", "a"):
        return "opened for writing"


def _in_a_child(act: Callable[[], object]) -> str:
    """Some things cannot be undone by the process that did them."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except OSError as problem:
            os._exit(problem.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))
    return "done"


def _something(found: str) -> str:
    return found or _denied()


def _with_secret(found: bytes, t: Targets) -> str:
    return t.secret if t.secret.encode() in found else _denied()


def _denied() -> str:
    raise OSError(errno.ENOENT, "there is nothing of the host")


ATTACKS: dict[str, Callable[[Targets], str]] = {
    attack.__name__: attack
    for attack in (
        *(connect_to_loopback, ask_over_udp, connect_to_an_abstract_socket),
        *(connect_to_a_socket_file, open_a_socket_to_the_hypervisor),
        *(signal_another_process, read_anothers_environment, read_anothers_command_line, read_anothers_memory),
        *(trace_another_process, lower_anothers_limits, slow_another_process_down, list_processes),
        *(read_a_secret, read_held_out_text, list_the_home_folder, read_the_accounts, overwrite_a_secret),
        *(truncate_a_secret, write_beside_the_output, write_the_training_text, delete_the_training_text),
        *(write_to_a_shared_folder, change_a_files_mode, change_a_files_owner, change_a_files_times, mark_a_file),
        *(watch_a_folder, follow_a_link_out, link_a_secret_in, climb_out_of_the_output),
        *(read_the_environment, read_shared_memory, read_dev_shm, open_a_message_queue, take_a_key_from_the_keyring),
        *(ask_what_lies_in_the_page_cache, read_only_what_lies_in_the_page_cache),
        *(make_a_user_namespace, clone_into_a_namespace, mount_a_file_system, catch_page_faults, open_a_ring),
        set_the_core_pattern,
    )
}


def main(path: str, attacks: dict[str, Callable[[Targets], str]]) -> None:
    targets = Targets(**json.loads(Path(path).read_text()))
    came: dict[str, str] = {}
    for name, attack in attacks.items():
        try:
            came[name] = f"GOT {attack(targets)}"
        except (OSError, ImportError) as problem:  # at level bubblewrap a hidden module says why it cannot be imported
            came[name] = f"denied: {problem}"
    print(json.dumps(came))


def beside(name: str) -> ModuleType:
    """The file beside this one, by its path: its folder cannot be listed, so no import finds it by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    # Some of ATTACKS leave a victim behind that is traced, and slow to hear.
    main(sys.argv[1], beside("byways").BYWAYS | ATTACKS | beside("lookups").LOOKUPS)
