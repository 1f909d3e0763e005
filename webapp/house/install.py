"""Makes the virtual environment and installs what constraints.txt pins.

    python3 webapp/house/install.py FOLDER [EXTRA ...]
    python3 webapp/house/install.py --lock                writes constraints.txt anew

Standard library only: it runs before anything is installed. Nothing of ours is built, so neither a
compiler nor a build backend is needed: the dependencies are read from pyproject.toml and handed to pip.
A second call with the same files returns at once (FOLDER/installed.json says what was installed).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS_FOR_PIP = 3_600.0
LOCK_HEAD = """\
# What is installed, to the version. pyproject.toml says what the code needs; `make lock` writes this file anew.
# PyTorch pins its own CUDA packages, which only its Linux builds have; they are not repeated here.
"""
NOT_OURS = ("nvidia-", "cuda-", "pip=", "wheel=")
SPACE_BYTES = 1_500_000_000  # installed with a CPU build of PyTorch: measured 1.1 GB with the test extra


def requirements(extras: set[str]) -> list[str]:
    """Requirement lines of the project and of ``extras``. Raises ValueError on an unknown extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    if unknown := extras - known.keys():
        raise ValueError(f"extra: {', '.join(sorted(unknown))} is not one of {', '.join(known)}")
    lines = list(project["dependencies"])
    for extra in sorted(extras):
        for line in known[extra]:
            lines += requirements_of(line, known)
    return lines


def requirements_of(line: str, known: dict[str, list[str]]) -> list[str]:
    """The lines of an extra ``countersign[test,postgres]``; any other line by itself."""
    if not line.startswith("countersign["):
        return [line]
    extras = line[len("countersign[") : -1].split(",")
    return [deep for extra in extras for inner in known[extra] for deep in requirements_of(inner, known)]


def fingerprint() -> str:
    """Changes when another install is needed: other pins, ranges or Python."""
    digest = hashlib.sha256(f"{sys.version} {platform.machine()}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def what_is_installed(folder: Path) -> set[str] | None:
    """The installed extras; None when no environment with this fingerprint is there."""
    stamp = folder / "installed.json"
    if not stamp.is_file() or not (folder / "bin" / "python").exists():
        return None
    said = json.loads(stamp.read_text())
    return set(said["extras"]) if said["fingerprint"] == fingerprint() else None


def make_environment(folder: Path) -> None:
    """A virtual environment with pip. Raises ValueError where Debian's python3-venv is missing."""
    if find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ValueError(
            f"This Python has no venv module: install it (Debian, Ubuntu: apt install python{version}-venv)."
        )
    python = getattr(sys, "_base_executable", sys.executable)  # we may be running in the folder that is cleared
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True, timeout=300)


def is_usable(folder: Path) -> bool:
    """False for a folder whose Python has moved away, has another version or has no pip."""
    python = folder / "bin" / "python"
    if not python.exists():
        return False
    want = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    return subprocess.run([str(python), "-c", want], capture_output=True, timeout=60).returncode == 0


def announce(folder: Path) -> None:
    """Says how much is about to be downloaded, before it is."""
    size = "about 0.3 GB"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        size = "about 3 GB (PyTorch with its CUDA libraries), or 0.3 GB where pip's index offers PyTorch's CPU build"
    print(f"Installing into {folder.name}/: {size}. Later starts skip this.", flush=True)


def require_space(folder: Path, needed_bytes: int = SPACE_BYTES) -> None:
    """Raises ValueError where not even the small build would fit."""
    free = shutil.disk_usage(folder.parent).free
    if free < needed_bytes:
        raise ValueError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, and {needed_bytes / 1e9:.1f} GB are needed. Free some, "
            "or put the environment on another disk: make run VENV=/path/to/folder."
        )


def pip_install(folder: Path, extras: set[str], constraints: Path = ROOT / "constraints.txt") -> None:
    """Run pip. Raises ValueError with one sentence; pip's own output stands above it."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(requirements(extras)) + "\n")
        wanted.flush()
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        command += ["--prefer-binary", "--constraint", str(constraints), "--requirement", wanted.name]
        code = subprocess.run(command, timeout=SECONDS_FOR_PIP).returncode
    if code and shutil.disk_usage(folder).free < 200_000_000:
        raise ValueError(f"The disk of {folder} is full (pip's words are above). Free some space and run it again.")
    if code:
        raise ValueError(
            "pip could not install the packages (its words are above): is the package index reachable? "
            "pip's usual settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, a proxy) are honoured."
        )


def install(folder: Path, extras: set[str]) -> None:
    """Brings ``folder`` up to date. Raises ValueError with a sentence for the person at the terminal."""
    if os.environ.get("COUNTERSIGN_DATABASE_URL"):
        extras = extras | {"postgres"}
    with open(ROOT / "pyproject.toml") as turnstile:
        fcntl.flock(turnstile, fcntl.LOCK_EX)  # a second `make` in the same checkout waits here
        installed = what_is_installed(folder)
        if installed is not None and extras <= installed:
            return
        if is_usable(folder):
            print(f"Bringing {folder.name}/ up to date.", flush=True)
        else:
            announce(folder)
            require_space(folder)
            make_environment(folder)
        wanted = extras | (installed or set())
        pip_install(folder, wanted)
        (folder / "installed.json").write_text(json.dumps({"fingerprint": fingerprint(), "extras": sorted(wanted)}))


def lock() -> None:
    """Resolves every extra in a fresh environment and writes what came out as constraints.txt."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "venv"
        make_environment(folder)
        pip_install(folder, {"dev"}, constraints=Path("/dev/null"))
        freeze = [str(folder / "bin" / "python"), "-m", "pip", "freeze", "--all"]
        said = subprocess.run(freeze, capture_output=True, text=True, check=True, timeout=120).stdout
    (ROOT / "constraints.txt").write_text(LOCK_HEAD + "".join(f"{line}\n" for line in pins(said)))


def pins(freeze: str) -> list[str]:
    """``name==version`` lines, without local versions and without PyTorch's own CUDA packages."""
    lines = [line.partition("+")[0] for line in freeze.splitlines() if "==" in line]
    return [line for line in lines if not line.lower().startswith(NOT_OURS)]


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if arguments == ["--lock"]:
            lock()
            return 0
        install(Path(arguments[0]).absolute(), set(arguments[1:]))
    except (ValueError, OSError, subprocess.SubprocessError) as problem:
        print(f"Countersign is not installed: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInstallation stopped. The next start takes it up again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
