"""Runs the gates that need no machine, in order; the same for a proposal's row and for a file from a shell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from gpu_runner import contract
from research.change import unified
from research.change.drafts import Precedent
from research.gates.checks import applies, code, credentials, novelty, overrides, paths, sandbox, size, text
from research.gates.outcome import Context, GateResult

PATCH_GATES: tuple[tuple[str, Callable[[Context], GateResult]], ...] = (
    (size.NAME, size.check),
    (applies.NAME, applies.check),
    (paths.NAME, paths.check),
    (code.NAME, code.check),
    (text.NAME, text.check),
    (credentials.NAME, credentials.check),
    (overrides.NAME, overrides.check),
    (novelty.NAME, novelty.check),
    (sandbox.NAME, sandbox.check),
)


def context_of(
    patch: str,
    wanted: contract.Knobs,
    files: dict[str, str],
    *,
    commit: str,
    sandbox_level: str,
    is_trusted: bool,
    precedents: tuple[Precedent, ...] = (),
    origin: dict[str, str] | None = None,
) -> Context:
    """The Context, read and applied once. A patch beyond every limit is not given to git."""
    after: dict[str, str] | None = dict(files)
    problem: str | None = None
    if len(patch) > size.MAX_BYTES:
        after, problem = None, "it is too large to be tried"
    elif patch:
        after, problem = applies.applied(files, patch)
    return Context(
        patch=patch,
        overrides=wanted,
        files=files,
        commit=commit,
        change=unified.read(patch),
        after=after,
        patch_problem=problem,
        sandbox_level=sandbox_level,
        is_trusted=is_trusted,
        precedents=precedents,
        origin=origin,
    )


def looked_at(context: Context) -> Iterator[tuple[str, GateResult, float]]:
    """(name, what was found, seconds) of every gate: a person wants all reasons at once, not the first."""
    for name, gate in PATCH_GATES:
        began = time.monotonic()
        found = gate(context)
        yield name, found, time.monotonic() - began
