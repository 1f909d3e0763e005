"""Registers the loop's tables with the audit chain: how findings name rows, and why some fields are in no event."""

from __future__ import annotations

from research import lifecycle
from research.models import (
    Campaign,
    Decision,
    Finding,
    Gate,
    Import,
    Incumbent,
    LedgerEntry,
    Note,
    PastExperiment,
    Program,
    Proposal,
    ReportBatch,
    Revision,
    Run,
    Score,
    Verdict,
    Wave,
    Worker,
)
from research.record import kinds
from research.record.held import Row, Table, cover

_LIVE = "changes with every report; held from the run's end on"
_HELLO = "what the machine said last; a run holds what it ran on"
# Of tables that are not covered at all, why.
APART = {
    "research.event": "is the chain itself",
    "research.audithead": "is signed",
    "research.manifest": "what a machine says of its files, for people; approvals hold the hashes",
    "research.turn": "paces the proposers; no number and no prompt depends on it, and the ledger holds what came of it",
    "webapp.submission": "answers an agent's retries; what was proposed is held",
    "webapp.tries": "counts tried passwords until they are forgotten; what rests is an event",
    "notify.delivery": "what is owed to other people's machines; nothing here reads it back",
    "admin.logentry": "the panel's own list for people; events tell the same, and more",
    "auth.permission": "held by the name of each right that somebody holds",
    "contenttypes.contenttype": "held by the name of each right that somebody holds",
    "sessions.session": "signed with the secret key",
}


def _is_over(run: Row) -> bool:
    return run["state"] in lifecycle.RUN_OVER


def _is_over_for_all(report: Row) -> bool:
    return report["run__state"] in lifecycle.RUN_OVER


def _have_looked(gate: Row) -> bool:
    """Whether the gates are done. A withdrawn proposal's may still be writing, so its rows are not held."""
    return gate["revision__proposal__state"] not in ("drafted", "checking", "withdrawn")


cover(
    Table(
        model=Campaign,
        name="campaign {slug}",
        by_column=True,
        moving=frozenset({"state", "state_reason", "hardware_class"}),
    )
)
cover(Table(model=Program, name="program {number} of {campaign__name}"))
cover(Table(model=Incumbent, name="incumbent {number} of {campaign__name}"))
cover(Table(model=Wave, name="wave {id}"))
cover(
    Table(
        model=Proposal,
        name="P-{id}",
        by_column=True,
        moving=frozenset({"state", "state_at"}),
        many={"precedents": "pk"},
        rewrites={
            kinds.PROPOSAL["drafted"]: frozenset({"title"}),
            kinds.BETTER_ON_VAL: frozenset({"kept_on_val"}),
        },
    )
)
cover(Table(model=Revision, name="revision {number} of P-{proposal_id}"))
cover(
    Table(
        model=Gate,
        name="the gates of revision {revision__number} of P-{revision__proposal_id}",
        apart={
            "id": "a second look writes over the first",
            "seconds": "a second look that came late writes its own",
        },
        grouped_by="revision_id",
        needs=("revision__proposal__state",),
        is_settled=_have_looked,
        may_be_untold=True,  # of what went stale in the gates nobody decides
    )
)
cover(Table(model=Decision, name="decision {id}"))
cover(
    Table(
        model=Worker,
        name="worker {name}",
        by_column=True,
        rewrites={
            kinds.WORKER_ENROLLED: frozenset({"token_sha256"}),
            kinds.WORKER_SWITCHED_ON: frozenset({"enabled"}),
            kinds.WORKER_SWITCHED_OFF: frozenset({"enabled"}),
        },
        secret=frozenset({"token_sha256"}),
        apart=dict.fromkeys(
            ("hardware_class", "hardware", "sandbox_level", "lock_sha256", "environments", "datasets", "seen_at"),
            _HELLO,
        ),
    )
)
cover(
    Table(
        model=Run,
        name="R-{id}",
        moving=frozenset(
            {
                "state",
                "state_at",
                "set_aside",
                "worker_id",
                "hardware_class",
                "sandbox_level",
                "attempt",
                "fence",
                "token_sha256",
                "leased_at",
                "ended_at",
                "failure",
                "device_s",
                "train_s",
                "peak_memory_mib",
                "spent",
            }
        ),
        apart={
            "lease_until": "prolonged with every report; over with the lease",
            "rung_at": "when a doorbell was last rung; it decides nothing",
        },
        until=dict.fromkeys(
            ("stop_kind", "stop_reason", "last_seq", "progress", "latest", "started", "num_steps", "num_tokens"), _LIVE
        ),
        is_settled=_is_over,
    )
)
cover(
    Table(
        model=ReportBatch,
        name="the reports of R-{run_id}",
        grouped_by="run_id",
        needs=("run__state",),
        is_settled=_is_over_for_all,
    )
)
_SETTLED = frozenset({"outcome", "settled_by_id", "settled_reason", "settled_at"})
cover(Table(model=Score, name="the score of R-{run_id}", moving=_SETTLED))
cover(Table(model=Verdict, name="the verdict on P-{revision__proposal_id}"))
cover(Table(model=Finding, name="the finding of P-{proposal_id}", moving=frozenset({"kind", "text"})))
cover(Table(model=Note, name="note {id}", moving=frozenset({"retired_at"})))
cover(Table(model=Import, name="import {id}", moving=frozenset({"archived_at", "archived_by_id"})))
cover(Table(model=PastExperiment, name="the experiments of import {imported_id}", grouped_by="imported_id"))
_ANSWERED = frozenset({"usd", "usage", "answer"})
cover(Table(model=LedgerEntry, name="ledger entry {id}", moving=_ANSWERED, removes=kinds.LEDGER_NOT_SENT))
