"""The process that imports the packages: answers questions, one a line, until standard input ends or IDLE_S pass."""

from __future__ import annotations

import importlib.metadata
import json
import os
import select
import sys
import warnings
from typing import IO, Any

from gpu_runner.names.lookup import Step, steps

# What a gate may ask about. Importing some others of Python's own opens a browser or prints a poem.
PACKAGES = ("torch", "numpy", "triton", "typing_extensions")
ROOTS = frozenset({*PACKAGES, "random", "warnings", "types"})
IDLE_S = 600.0  # several hundred MiB of main memory are not kept for nobody
MAX_NAME = 400  # characters


def hello() -> dict[str, Any]:
    """The first line: which versions of Python and the packages are asked, since names differ between them."""
    return {"packages": {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def answer(names: list[str]) -> dict[str, Any]:
    """What each name leads to, and which packages are absent. Raises ValueError for a name that no gate asks about."""
    leads: dict[str, list[Step]] = {}
    absent: dict[str, str] = {}
    for name in names:
        root = _checked(name)
        if root in absent:
            continue
        try:
            leads[name] = steps(name)
        except Exception as error:  # noqa: BLE001  a package that fails at import may fail in any way
            absent[root] = f"{type(error).__name__}: {error}"[:300]
    return {"leads": leads, "absent": absent}


def _checked(name: str) -> str:
    parts = name.split(".")
    if len(name) > MAX_NAME or not all(part.isidentifier() for part in parts) or parts[0] not in ROOTS:
        raise ValueError(f"{name[:80]!r} is not a name of a package that may be asked about")
    return parts[0]


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    _say(answers, hello())
    # Whoever asks waits for the answer: there is never a second line behind the first.
    while select.select([questions], [], [], IDLE_S)[0] and (line := questions.readline()):
        _say(answers, answer(json.loads(line)["names"]))


def _say(answers: IO[bytes], said: dict[str, Any]) -> None:
    answers.write(json.dumps(said).encode() + b"\n")
    answers.flush()


def main() -> None:
    warnings.simplefilter("ignore")  # what packages deprecate is nobody's business here
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a package prints at import is no answer
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
