"""A supervisor of stand-in children, a process of its own: ``python -m tests.house.standin HOME [NAME=CODE ...]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from webapp.house.supervisor import Child, Supervisor, only_one


def child(name: str, code: str) -> Child:
    command = [sys.executable, "-S", "-c", code]
    return Child(name=name, command=command, environment=dict(os.environ), stop_within_s=5.0)


def main(home: Path, *children: str) -> None:
    with only_one(home / "run") as lock:
        made = [child(*text.split("=", 1)) for text in children]
        house = Supervisor(children=made, logs=home / "logs", inherited=lock, say=lambda line: print(line, flush=True))
        house.listen()
        try:
            house.start_all()
            print("up", flush=True)
            house.run()
        finally:
            house.end_all()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except ValueError as problem:
        sys.exit(str(problem))
