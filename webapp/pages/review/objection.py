"""The failed gates of a proposal, and who has signed to override them."""

from __future__ import annotations

from functools import cached_property

from django.contrib.auth.models import User
from django.utils.text import capfirst

from research.gates import overridden
from research.models import Decision, Gate, Proposal, Revision
from research.record import approval, rights
from webapp.templatetags.shown import person, plural


class Objection:
    """The failed gates of one revision, read lazily; no queries where no gate failed."""

    def __init__(self, proposal: Proposal, revision: Revision, gates: list[Gate], decisions: list[Decision]) -> None:
        self.proposal, self.revision = proposal, revision
        self.failed = [gate for gate in gates if gate.outcome == "failed"]
        self.signed = [d for d in decisions if d.choice == "override" and d.revision_id == revision.pk]

    @cached_property
    def sha256(self) -> str:
        """The hash of the findings, on which a signature is made."""
        return overridden.sha256_of(self.failed)

    @cached_property
    def signatures(self) -> list[Decision]:
        """Signatures that override the present findings, first one first."""
        if not self.signed:
            return []
        mine = [decision for decision in self.signed if decision.gates_sha256 == self.sha256]
        return sorted(mine, key=lambda decision: decision.pk)

    @property
    def seen(self) -> str:
        """A mark that changes with the findings and the signatures."""
        return f"{self.sha256[:8]}{len(self.signatures)}"

    @property
    def is_overridden(self) -> bool:
        return len(self.signatures) >= overridden.NUM_PEOPLE

    @property
    def final_gate(self) -> str:
        """A failed gate that nobody can override; "" when there is none."""
        return next((gate.name for gate in self.failed if gate.name in overridden.FINAL), "")

    @cached_property
    def is_fresh(self) -> bool:
        """Whether the proposal's conditions are today's."""
        return not approval.is_stale(self.revision)

    @property
    def says(self) -> str:
        """Which gates block the proposal, in words."""
        gates = plural(len(self.failed), "gate")
        if not self.signatures:
            return f"Blocked by {gates}"
        return f"{person(self.signatures[0].by)} signed to override {gates}; a second person has to sign"

    @property
    def way_out(self) -> str:
        """What has to happen before it can go on, in words."""
        if self.final_gate:
            return f"“{capfirst(self.final_gate)}” cannot be overridden: what it says has to be mended first"
        if not self.is_fresh:
            return "Made under other conditions than today's: have it checked again before anybody overrides"
        people = "An override takes two reviewers, neither of them its author"
        if self.num_signers < overridden.NUM_PEOPLE:
            return f"{people}; here {'is one' if self.num_signers else 'is none'}. An administrator can add another"
        return f"{people}. A person still reviews it afterwards"

    @cached_property
    def authors(self) -> set[int]:
        """People who wrote any part of the proposal."""
        return rights.authors_of(self.proposal)

    @cached_property
    def num_signers(self) -> int:
        """How many reviewers could sign: all but those who wrote any part of the proposal."""
        return rights.num_deciders(without=self.authors)

    def may_sign(self, user: User) -> bool:
        """Whether ``user`` may sign now."""
        if self.proposal.state != "blocked" or self.final_gate or not self.is_fresh:
            return False
        signed = any(signature.by_id == user.pk for signature in self.signatures)
        return not signed and rights.may(user, rights.override, self.proposal)
