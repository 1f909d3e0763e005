"""Gate: is every override declared, in bounds, and a change? Nothing is ever clamped."""

from __future__ import annotations

from research.gates.outcome import Context, GateResult, Remark

NAME = "overrides in bounds"


def check(context: Context) -> GateResult:
    recipe, wanted = context.recipe, context.overrides
    if problems := recipe.problems_with(wanted):
        remarks = [_block("bounds", f"{problem}.", key="recipe.toml") for problem in problems]
        return GateResult.of(remarks, "", problems=problems)
    before, after = recipe.effective({}), recipe.effective(wanted)
    changed = {key: [before[key], after[key]] for key in wanted if before[key] != after[key]}
    unchanged = sorted(wanted.keys() - changed.keys())
    remarks = [
        _block("no-change", f"{key}: already the incumbent's value, so nothing would change; leave it out.", key=key)
        for key in unchanged
    ]
    words = ", ".join(f"{key} {old} → {new}" for key, (old, new) in changed.items())
    return GateResult.of(remarks, words or "no override", changed=changed)


def _block(rule: str, sentence: str, key: str) -> Remark:
    return Remark(severity="block", rule=rule, sentence=sentence, snippet=key)
