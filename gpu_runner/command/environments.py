"""The environments that an operator has declared on this worker: an interpreter, with its packages as they are.

``COUNTERSIGN_ENVIRONMENTS`` is ``name=/path/to/bin/python``, several apart by commas, or the path of a file with one a
line. Recipes name one; no run installs or downloads anything. What is installed is hashed when the worker starts: the
hash is part of what a reviewer countersigns, so another list of packages is another experiment.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.contract import canonical_json, sha256

VARIABLE = "COUNTERSIGN_ENVIRONMENTS"
MAX_ENVIRONMENTS = 20
ASK_S = 60.0  # a cold disk, and hundreds of packages
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
# Asked of the interpreter itself, isolated: what it is, where it lies, and its packages in order, as pip freeze would
# list them, without pip.
QUESTION = """
import importlib.metadata, json, sys
found = {str(d.metadata["Name"]).lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": sys.version, "prefixes": [sys.prefix, sys.base_prefix], "packages": sorted(found.items())}))
"""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A declared interpreter. ``shown`` are the folders that a sandbox has to show for it."""

    name: str
    python: Path
    sha256: str
    num_packages: int
    shown: tuple[Path, ...]


def declared(text: str) -> dict[str, Environment]:
    """Name -> environment, as the variable says. Raises ValueError that names variable, name and the way out."""
    lines = _lines(text.strip())
    if len(lines) > MAX_ENVIRONMENTS:
        raise ValueError(f"{VARIABLE}: {len(lines)} environments, at most {MAX_ENVIRONMENTS} can be declared")
    found: dict[str, Environment] = {}
    for line in lines:
        name, sign, python = (part.strip() for part in line.partition("="))
        if not sign or not _NAME.fullmatch(name):
            raise ValueError(f"{VARIABLE}: {line!r} is not name=/path/to/python, the name in small letters and digits")
        if name in found:
            raise ValueError(f"{VARIABLE}: {name} is declared twice")
        found[name] = asked(name, Path(python))
    return found


def _lines(text: str) -> list[str]:
    if text and "=" not in text:
        try:
            text = Path(text).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{VARIABLE}: {text!r} is neither name=path nor a file that can be read") from error
    parts = (part.strip() for line in text.splitlines() for part in line.split(","))
    return [part for part in parts if part and not part.startswith("#")]


def asked(name: str, python: Path) -> Environment:
    """The environment as it is now. Raises ValueError where the interpreter cannot be asked, or may not be shown."""
    if not python.is_absolute() or not os.access(python, os.X_OK):
        raise ValueError(f"{VARIABLE}: {name}: {python} is no interpreter that can be started; give its whole path")
    try:
        said = subprocess.run(
            [python, "-I", "-c", QUESTION], capture_output=True, timeout=ASK_S, stdin=subprocess.DEVNULL, check=True
        )
        about = json.loads(said.stdout)
        packages, prefixes = about["packages"], [Path(prefix) for prefix in about["prefixes"]]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{VARIABLE}: {name}: {python} does not say what is installed: {error}") from error
    frozen = canonical_json({"python": about["python"], "packages": packages})
    return Environment(
        name=name,
        python=python,
        sha256=sha256(frozen),
        num_packages=len(packages),
        shown=tuple(_shown(python, prefixes)),
    )


def _shown(python: Path, prefixes: list[Path]) -> list[Path]:
    """The folders of the interpreter, of what its links lead to, and its packages; /usr is shown to every run."""
    links, link = [python.parent.parent], python
    while link.is_symlink():
        link = link.parent / link.readlink()
        links.append(link.parent.parent)
    places = dict.fromkeys(Path(os.path.normpath(place)) for place in (*prefixes, *links))
    home = Path.home()
    for place in places:
        if home.is_relative_to(place) and place not in (Path("/usr"), Path("/")):
            raise ValueError(
                f"{VARIABLE}: {python} lies in {place}, which holds your home; a sandbox would show all of it"
            )
    return [place for place in places if place.is_dir() and not place.is_relative_to("/usr") and place != Path("/")]
