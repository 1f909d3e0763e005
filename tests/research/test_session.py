"""A recorded session holds what the loop promises: people decide, everything is paid for, and it all adds up."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from research.models import Decision, Event, LedgerEntry, Proposal, Revision, Run, Verdict
from research.record import audit, ledger

from . import session as printed
from .played import IDEAS, Session, play, script

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session() -> Session:
    return play()


def test_a_session_of_twenty_proposals_keeps_what_the_loop_promises(session: Session) -> None:
    assert Proposal.objects.count() == 20
    assert set(Proposal.objects.values_list("state", flat=True)) == {"judged", "rejected", "withdrawn"}
    _nothing_is_approved_but_by_people()
    _every_attempt_is_in_the_ledger_and_the_bill_adds_up(session)
    _what_was_scripted_came_about(session)
    _the_record_is_whole()
    _the_table_tells_it(session)


def _nothing_is_approved_but_by_people() -> None:
    approved = Event.objects.filter(kind="proposal.approved")
    assert {event.by for event in approved} == {"user:bob"}
    for decision in Decision.objects.select_related("by", "revision__proposal"):
        wrote = decision.revision.proposal.revisions.exclude(author=None).values_list("author", flat=True)
        assert decision.by.has_perm("research.add_decision")
        assert decision.by_id not in wrote
    for run in Run.objects.filter(purpose="candidate").select_related("revision"):
        assert run.revision is not None
        assert run.revision.decisions.filter(choice="approve", digest=run.digest).exists(), run


def _every_attempt_is_in_the_ledger_and_the_bill_adds_up(session: Session) -> None:
    attempts = LedgerEntry.objects.filter(kind="claude")
    assert attempts.count() == len(session.server.asked) == len(script(session.till))
    account = ledger.account(session.campaign)
    assert account.usd == session.till.usd == sum(account.usd_by_purpose.values())
    assert account.usd == sum(account.usd_by_model.values())
    assert account.num_unpriced == 0
    assert account.usd_per_keep == account.usd / 3
    assert (account.num_refused, account.failures) == (1, {"http_529": 1, "max_tokens": 1})
    assert LedgerEntry.objects.filter(kind="gpu").count() == Run.objects.filter(attempt=1).count() == session.num_runs


def _what_was_scripted_came_about(session: Session) -> None:
    assert set(Proposal.objects.values_list("title", flat=True)) == IDEAS.keys() - {"A huge batch, again"}
    assert Verdict.objects.filter(outcome="keep").count() == 3
    assert set(Verdict.objects.values_list("outcome", flat=True)) == {"keep", "discard", "inconclusive", "disputed"}
    assert Verdict.objects.filter(crashed=True).get().revision.proposal.title == "Very high learning rate"
    assert {r.proposal.title for r in Revision.objects.filter(origin="edited")} == {"Deeper"}
    assert {r.answers for r in Revision.objects.filter(origin="answered")} == {"Half of that, please."}
    assert Proposal.objects.get(title="Starts a process").revision.gates.get(name="code").outcome == "failed"
    said = " ".join(printed.remarks(session))
    for sentence in ("frontier_llm", "cut off", "'A huge batch, again'"):
        assert sentence in said


def _the_record_is_whole() -> None:
    audit.chain()
    assert audit.verify().findings == []


def _the_table_tells_it(session: Session) -> None:
    out = io.StringIO()
    printed.told(session, Console(file=out, width=170))
    text = out.getvalue()
    lines: list[Any] = [line for line in text.splitlines() if line.lstrip().startswith("P-")]
    assert len(lines) == 20
    assert f"Dollars of Claude {session.till.usd:.6f}" in text
