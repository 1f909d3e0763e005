"""Does the patch apply to the incumbent that it names, by git's own word?"""

from __future__ import annotations

from research.gates.found import Context, Found

NAME = "patch applies"


def check(context: Context) -> Found:
    commit = context.revision.incumbent.commit
    if not context.revision.patch:
        return Found.ok("no patch", commit=commit)
    if context.patch_problem:
        return Found.bad(f"It does not apply to {commit[:7]}: {context.patch_problem}", commit=commit)
    return Found.ok(f"applies cleanly to {commit[:7]}", commit=commit)
