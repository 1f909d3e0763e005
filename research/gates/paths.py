"""Are only files touched that the recipe declares editable?"""

from __future__ import annotations

import re

from gpu_runner import contract
from research.gates.found import Context, Found

NAME = "paths allowed"
_HEADER = re.compile(r"^(?:---|\+\+\+) (?:[ab]/)?([^\t\n]+)", re.M)
_GIT_HEADER = re.compile(r"^diff --git a/(\S+) b/(\S+)", re.M)


def check(context: Context) -> Found:
    editable = contract.parse_recipe(context.files["recipe.toml"]).editable
    touched = touched_paths(context.revision.patch)
    for path in sorted(touched):
        if not contract.is_safe_path(path) or path not in editable:
            return Found.bad(f"It touches {path}; only {', '.join(editable)} may be edited.", touched=sorted(touched))
    return Found.ok(", ".join(sorted(touched)) or "no file is touched", touched=sorted(touched))


def touched_paths(patch: str) -> set[str]:
    """Every path that any header of ``patch`` names: git and patch must not be able to disagree."""
    names = set(_HEADER.findall(patch)) | {name for pair in _GIT_HEADER.findall(patch) for name in pair}
    return names - {"/dev/null"}
