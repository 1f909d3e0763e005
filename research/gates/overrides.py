"""Is every override declared, in bounds, and a change at all? Nothing is ever clamped."""

from __future__ import annotations

from gpu_runner import contract
from research.gates.found import Context, Found

NAME = "overrides in bounds"


def check(context: Context) -> Found:
    recipe = contract.parse_recipe(context.files["recipe.toml"])
    wanted = context.revision.knobs
    if problems := recipe.problems_with(wanted):
        return Found.bad("; ".join(problems), problems=problems)
    before, after = recipe.effective({}), recipe.effective(wanted)
    changed = {key: [before[key], after[key]] for key in wanted if before[key] != after[key]}
    if unchanged := wanted.keys() - changed.keys():
        return Found.bad(f"{', '.join(sorted(unchanged))}: already the incumbent's value, so nothing would change.")
    words = ", ".join(f"{key} {old} → {new}" for key, (old, new) in changed.items())
    return Found.ok(words or "no override", changed=changed)
