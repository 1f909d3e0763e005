"""Gate: may edited code run at this campaign's sandbox level?"""

from __future__ import annotations

from django.conf import settings

from research.gates.outcome import Context, GateResult

NAME = "sandbox"


def check(context: Context) -> GateResult:
    level = context.sandbox_level
    if level == "none" and not context.is_trusted and not settings.ALLOW_UNSANDBOXED:
        return GateResult.bad(
            "Edited code would run on the worker without a sandbox, with your rights. Install bubblewrap there and "
            "set the campaign's sandbox level, or take the risk with COUNTERSIGN_ALLOW_UNSANDBOXED=1.",
            level=level,
        )
    return GateResult.ok(f"level {level}", level=level)
