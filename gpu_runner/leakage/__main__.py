"""``python -m gpu_runner.leakage --source DIR --base DIR --origin DIR --dataset DIR``: prints one ``Learned`` as JSON.

A process of its own, because it reads hostile files: it can be limited and killed without harm to the worker.
"""

from __future__ import annotations

import argparse
import stat
import sys
from pathlib import Path

from gpu_runner.leakage.compare import MAX_READ, compare


def files_below(folder: Path) -> dict[str, bytes]:
    """Path -> content of every regular file; of one that is too long to be compared, just enough to show that."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = file.read(MAX_READ + 1)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_runner.leakage", description=__doc__)
    for name in ("source", "base", "origin", "dataset"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    chosen = parser.parse_args(argv)
    try:
        learned = compare(
            chosen.dataset,
            origin=files_below(chosen.origin),
            base=files_below(chosen.base),
            source=files_below(chosen.source),
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(learned.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
