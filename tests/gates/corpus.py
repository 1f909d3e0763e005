"""The shipped recipe, and the benign edits of it that every gate has to let through."""

from __future__ import annotations

import tomllib
from pathlib import Path

from research.arms.offline.catalogue import catalogue

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "gpu_runner" / "recipes" / "gpt"
FILES = {path.name: path.read_text() for path in SHIPPED.iterdir() if path.suffix in (".py", ".toml")}
BENIGN = tomllib.loads((HERE / "benign.toml").read_text())["edit"]
CATALOGUE = {entry.slug: entry for entry in catalogue() if entry.edits}
