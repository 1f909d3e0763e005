"""``python -m tests.research.session``: plays a recorded session in a home of its own and prints what it came to."""

from __future__ import annotations

from tests import home  # isort: skip  # before Django's settings

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import django
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from research.models import Proposal
    from tests.research.played import Session

assert home.HOME


def proposals(session: Session) -> Table:
    table = Table(
        "Proposal", "Title", "Arm", "Revisions", "Gates", "Decision", "Verdict", "Effect, bpb", box=box.SIMPLE
    )
    for proposal in session.campaign.proposals.order_by("pk"):
        table.add_row(*row(proposal))
    return table


def row(proposal: Proposal) -> tuple[str, ...]:
    revision = proposal.revision
    gates = list(revision.gates.values_list("outcome", flat=True))
    verdict = getattr(revision, "verdict", None)
    effect = None if verdict is None else verdict.effect_bpb
    return (
        f"P-{proposal.pk}",
        proposal.title,
        proposal.arm,
        ", ".join(proposal.revisions.order_by("number").values_list("origin", flat=True)),
        f"{sum(outcome in ('passed', 'warned') for outcome in gates)} of {len(gates)}",
        decided(proposal),
        proposal.state if verdict is None else "crashed" if verdict.crashed else verdict.outcome,
        "–" if effect is None else f"{effect:+.4f}",
    )


def decided(proposal: Proposal) -> str:
    """Every decision, oldest first, with who took it."""
    from research.models import Decision

    taken = Decision.objects.filter(revision__proposal=proposal).order_by("pk").select_related("by")
    return ", ".join(f"{decision.get_choice_display()} ({decision.by.get_username()})" for decision in taken) or "none"


def accounts(session: Session) -> Iterator[str]:
    from research.record import ledger

    spent, account = ledger.spent(session.campaign), ledger.account(session.campaign)
    yield f"Attempts {account.num_attempts}, requests at the server {len(session.server.asked)}"
    yield f"Dollars of Claude {account.usd}, billed by the server {session.till.usd}"
    yield f"  by purpose: {_by(account.usd_by_purpose)}"
    yield f"  by model:   {_by(account.usd_by_model)}"
    yield f"  for a kept proposal: {'none was kept' if account.usd_per_keep is None else f'{account.usd_per_keep:.6f}'}"
    yield f"Read from the cache {'–' if account.cache_share is None else f'{account.cache_share:.1%}'}"
    failures = ", ".join(f"{n} {why}" for why, n in account.failures.items()) or "none"
    yield f"Without an answer: {account.num_refused} refused, {failures}"
    yield f"GPU {spent.gpu_hours:.3f} h in {session.num_runs} runs, all together ${spent.usd:.4f}"


def remarks(session: Session) -> Iterator[str]:
    """What the campaign's page said of the proposer, in its order."""
    from research.models import Event

    told = Event.objects.filter(campaign=session.campaign, kind="proposer.problem").order_by("pk")
    yield from told.values_list("sentence", flat=True)


def _by(sums: dict[str, object]) -> str:
    return ", ".join(f"{name} {usd}" for name, usd in sums.items())


def told(session: Session, console: Console) -> None:
    console.print(proposals(session))
    for line in accounts(session):
        console.print(line, highlight=False)
    console.print("Said of the proposer:")
    for line in remarks(session):
        console.print(f"  {line}", highlight=False)


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from tests.research.played import play

    told(play(), Console(width=None if sys.stdout.isatty() else 160))


if __name__ == "__main__":
    main()
