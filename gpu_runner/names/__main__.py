"""``python -m gpu_runner.names``: runs ``inside`` in the sandbox, on its own standard input and output.

It imports installed packages and nothing proposed; the sandbox is one wall more: a package that misbehaves at import
finds no network, no secret and nothing to write. So where no level works, as on macOS, it runs without one. No
held-out text is hidden from it, as it trains nothing.
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
    """Whether Python starts at ``level`` here. Level none always does."""
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
