"""``python -m gpu_runner.sandbox [--level L] -- CMD ...``: runs any command exactly as a run would be.

Prints its level on stderr and passes output and exit code through. 124: the deadline; 125: more than a limit
allows; 121: the sandbox could not be entered; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from gpu_runner.sandbox import LEVELS, Bounds, Cell, cgroups, child_environment, probe, problem_with

TICK_S = 0.05
LAST_BYTES_S = 2.0  # how long whoever reads us may take for what was said last
DEADLINE_EXIT, EXCESS_EXIT = 124, 125
MIB = 1 << 20


def parser() -> argparse.ArgumentParser:
    it = argparse.ArgumentParser(
        prog="python -m gpu_runner.sandbox",
        usage="%(prog)s [options] -- CMD ...",
        description="Run a command as Countersign runs proposed code: no network, no secrets, one writable folder.",
    )
    it.add_argument("--level", choices=("auto", *LEVELS), help="default: COUNTERSIGN_SANDBOX, or the best that works")
    it.add_argument("--read-only", action="append", default=[], metavar="PATH", help="may be read inside; repeatable")
    it.add_argument("--writable", metavar="DIR", help="the one folder that may be written, and the working directory")
    it.add_argument("--seconds", type=_positive, metavar="N", help="wall clock, then the whole tree is killed")
    it.add_argument("--memory-mib", type=_positive, metavar="N", help="of main memory (default: 7/8 of the machine's)")
    it.add_argument("--processes", type=_positive, metavar="N", default=Bounds.processes)
    it.add_argument("--output-mib", type=_positive, metavar="N", default=Bounds.output_bytes // MIB)
    it.add_argument("--output-files", type=_positive, metavar="N", default=Bounds.output_files)
    it.add_argument("--probe", action="store_true", help="say of each level whether it works here, and why not")
    it.add_argument("--json", action="store_true", help="with --probe: one JSON object")
    it.add_argument("command", nargs="*", metavar="CMD")
    return it


def _positive(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def existing(option: str, path: str) -> Path:
    """Raises ValueError when there is nothing at ``path``."""
    if not Path(path).exists():
        raise ValueError(f"{option}: there is nothing at {path}")
    return Path(path).absolute()


def tell_levels(*, as_json: bool) -> int:
    problems = {level: problem_with(level) for level in LEVELS}
    groups = cgroups.problem()
    if as_json:
        print(json.dumps({"levels": problems, "control_groups": groups}))
        return 0
    for level, problem in problems.items():
        print(f"{level:11}{problem or 'works here'}{'; it is no boundary' if level == 'none' else ''}")
    print(f"{'limits':11}{groups or 'memory and processes are held by control groups'}")
    return 0


def run(level: str, options: argparse.Namespace) -> int:
    """The command's exit code, 128 + N when signal N ended it. Raises ValueError for a path that is not there."""
    bounds = Bounds(
        memory_bytes=options.memory_mib and options.memory_mib * MIB,
        processes=options.processes,
        output_bytes=options.output_mib * MIB,
        output_files=options.output_files,
    )
    writable = existing("--writable", options.writable) if options.writable else None
    read_only = [existing("--read-only", path) for path in options.read_only]
    with Cell(level=level, read_only=read_only, writable=writable, bounds=bounds) as cell:
        process = subprocess.Popen(
            cell.argv(options.command),
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        relays = [relay(process.stdout, sys.stdout.fileno()), relay(process.stderr, sys.stderr.fileno())]
        try:
            return follow(process, cell, options.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for thread in relays:
                thread.join(LAST_BYTES_S)


def relay(said: IO[bytes], sink: int) -> threading.Thread:
    """Copy ``said`` to ``sink`` until its end. The command never gets our terminal: it could read its keys."""

    def copy() -> None:
        with said, contextlib.suppress(BrokenPipeError):  # nobody reads on: then whoever speaks is told so, too
            while block := os.read(said.fileno(), 65_536):
                while block:
                    block = block[os.write(sink, block) :]

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def follow(process: subprocess.Popen[bytes], cell: Cell, seconds: int | None) -> int:
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(TICK_S)
            if (excess := cell.excess(process.pid)) is not None:  # the kernel was quicker than we
                print(f"sandbox: {excess}", file=sys.stderr)
            return code if code >= 0 else 128 - code
        if (excess := cell.excess(process.pid)) is not None:
            print(f"sandbox: {excess}", file=sys.stderr)
            return EXCESS_EXIT
        if until is not None and time.monotonic() > until:
            print(f"sandbox: the command did not end within {seconds} s of wall clock and was killed", file=sys.stderr)
            return DEADLINE_EXIT


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    if options.probe:
        return tell_levels(as_json=options.json)
    if not options.command:
        parser().error("name a command after --")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        level = probe(options.level)
        print(f"sandbox: level {level}", file=sys.stderr)
        return run(level, options)
    except ValueError as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
