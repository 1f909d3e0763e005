"""Who may do what with a proposal: every verb that a person calls asks here first."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from research.models import Proposal


def locked(proposal_id: int) -> Proposal:
    """The proposal, which nobody else moves until this transaction ends."""
    rows = Proposal.objects.select_for_update(of=("self",), no_key=True)
    return rows.select_related("campaign").get(pk=proposal_id)


def check_right(proposal: Proposal, by: User) -> None:
    """Raises PermissionDenied unless ``by`` may decide on ``proposal``: a reviewer, and no author of any part of it."""
    if not by.has_perm("research.add_decision"):
        raise PermissionDenied("Decisions need the reviewer role.")
    if proposal.author_id == by.pk or proposal.revisions.filter(author=by).exists():
        raise PermissionDenied("Nobody decides on their own proposal.")
