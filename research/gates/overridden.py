"""Overrides of failed gates by two people. A signature holds for exactly what was found; other findings void it."""

from __future__ import annotations

from collections.abc import Iterable

from gpu_runner import contract
from research.gates.checks import applies, overrides, sandbox, size
from research.models import Decision, Gate, Revision

NUM_PEOPLE = 2
# Past these there is nothing that could be run, or nothing that a person could read; and whether code runs without a
# sandbox is its machine's operator's word, not a reviewer's.
FINAL = (size.NAME, applies.NAME, overrides.NAME, sandbox.NAME)


def failed(revision: Revision) -> list[Gate]:
    return list(revision.gates.filter(outcome="failed"))


def sha256_of(gates: Iterable[Gate]) -> str:
    """Hash of the gates' names and findings, in order."""
    found = [[gate.name, gate.sentence, gate.measured] for gate in gates]
    return contract.sha256(contract.canonical_json(found))


def signatures(revision: Revision, gates_sha256: str) -> list[Decision]:
    """Decisions that override exactly these findings, the first one first. One row a person, by constraint."""
    signed = revision.decisions.filter(choice="override", gates_sha256=gates_sha256, digest=revision.digest)
    return list(signed.select_related("by").order_by("pk"))


def by_two(revision: Revision) -> bool:
    """Whether two people have overridden all that the gates hold against ``revision`` now."""
    return len(signatures(revision, sha256_of(failed(revision)))) >= NUM_PEOPLE
