"""The Python standard library's own source text: real, about 12 MB, and at hand on every machine.

It differs between Python versions, so two machines agree only when the manifest's hash does.
"""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

from gpu_runner.data.sources.source import Document, TextSource

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# encodings/ is one template filled in eighty times: on both sides of a split it would measure memory.
LEFT_OUT |= {"encodings"}


def open_source() -> TextSource:
    """Every module, sorted by path; without tests and installed packages."""
    base = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for path in base.rglob("*.py") if _is_wanted(path.relative_to(base))]
    paths.sort(key=lambda path: path.relative_to(base).as_posix())
    return TextSource(
        facts={"text": "Python standard library", "python": platform.python_version(), "num_files": len(paths)},
        num_bytes=sum(path.stat().st_size for path in paths),
        documents=lambda: (Document(name=path.name, text=path.read_bytes()) for path in paths),
    )


def _is_wanted(relative: Path) -> bool:
    # _sysconfigdata*.py is written by the build and names the machine it was built on.
    return not LEFT_OUT & set(relative.parts) and not relative.name.startswith("_sysconfigdata")
