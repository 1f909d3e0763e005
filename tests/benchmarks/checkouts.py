"""Where the peers' code lies on this machine: PEERS=FOLDER, a checkout of each in it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.benchmarks.peers import PEERS


def folder_of_peers(*names: str) -> Path:
    """The folder that holds these checkouts. Raises ValueError with the commands that fetch what is missing."""
    named = os.environ.get("PEERS", "").strip()
    folder = Path(named or "../peers").resolve()
    missing = [name for name in names if not is_there(name)]
    if missing:
        raise ValueError(
            f"PEERS: {', '.join(missing)} not found{f' in {folder}' if named else ''}; fetch what is missing and say"
            f" where it lies, with `make ... PEERS={folder}`:\n" + "\n".join(_commands(folder, missing))
        )
    return folder


def is_there(name: str) -> bool:
    """Whether PEERS is set and holds this one."""
    named = os.environ.get("PEERS", "").strip()
    return bool(named) and (Path(named) / name / PEERS[name].script).is_file()


def _commands(folder: Path, names: list[str]) -> list[str]:
    return [
        f"  git clone {PEERS[name].repository} {folder / name} && git -C {folder / name} checkout {PEERS[name].commit}"
        for name in names
    ]
