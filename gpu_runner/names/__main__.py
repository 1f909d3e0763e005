"""``python -m gpu_runner.names``: starts ``inside`` in the sandbox, with our pipes, and ends with it.

It imports installed packages and nothing that anybody proposed, and a boundary around it is one wall more: a package
that does at import what it should not finds no network, no secret and nothing to write. So where no level works, as on
macOS, it runs without one; nothing is hidden from it either, as it trains on nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from gpu_runner.sandbox import Cell, child_environment

TRIAL_S = 20.0
COMMAND = [sys.executable, "-m", "gpu_runner.names.inside"]


def levels() -> Iterator[str]:
    if sys.platform == "linux":
        yield from ("bubblewrap", "landlock")
    yield "none"


def works(level: str) -> bool:
    """Does Python start at ``level`` here? None is for where nothing else does."""
    if level == "none":
        return True
    try:
        with Cell(level=level, hides=()) as cell:
            tried = subprocess.run(
                cell.argv([sys.executable, "-c", "import gpu_runner"]),
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TRIAL_S,
                start_new_session=True,
            )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def main() -> int:
    level = next(filter(works, levels()))
    print(f"names: at sandbox level {level}", file=sys.stderr, flush=True)
    with Cell(level=level, hides=()) as cell:
        # Our own pipes: whoever asks speaks with the process inside, and its end is that one's end, too.
        return subprocess.run(
            cell.argv(COMMAND), env=child_environment(), start_new_session=True, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
