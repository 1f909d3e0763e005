"""Every legal move of a campaign, a proposal, a run and a score, in one table each. Pure: no Django.

The tables are checked when this module is imported: a state that cannot be reached, or that cannot be left though it
is no final one, raises at once. ``research.record.moves`` writes states by compare-and-set.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

Table = Mapping[str, frozenset[str]]


class IllegalMove(ValueError):
    """The table has no such move: the caller has to ask for another one."""


class LostRace(Exception):
    """The row was no longer in the state that the caller saw, since somebody was first."""


def _table(text: str) -> Table:
    table: dict[str, frozenset[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        old, news = line.split("->")
        table[old.strip()] = frozenset(new.strip() for new in news.split("|"))
    targets = frozenset().union(*table.values())
    return table | {end: frozenset() for end in sorted(targets - table.keys())}


CAMPAIGN = _table("""
    planned  -> active | archived
    active   -> paused | halted | spent
    paused   -> active | halted | archived
    halted   -> active | paused | archived
    spent    -> active | paused | archived
    archived -> paused
""")

PROPOSAL = _table("""
    drafted           -> checking | withdrawn
    checking          -> pending_review | blocked | stale | withdrawn
    blocked           -> drafted | checking | pending_review | stale | withdrawn
    pending_review    -> drafted | approved | rejected | changes_requested | stale | withdrawn
    changes_requested -> drafted | withdrawn
    approved          -> running | stale | withdrawn
    stale             -> drafted | withdrawn
    running           -> judged | withdrawn
""")

RUN = _table("""
    queued   -> leased | cancelled
    leased   -> training | lost | cancelled | failed
    training -> scoring | lost | cancelled | failed | timed_out
    scoring  -> finished | lost | cancelled | failed
    lost     -> queued | failed
""")

SCORE = _table("quarantined -> ok | disputed")  # by a person; whatever else the scorer said stays said

PROPOSAL_EDITABLE = frozenset({"pending_review", "blocked", "changes_requested"})
PROPOSAL_OPEN = frozenset(PROPOSAL) - {"judged", "rejected", "withdrawn"}
PROPOSAL_WAITING = frozenset({"drafted", "checking", "pending_review", "changes_requested", "stale"})
RUN_LIVE = frozenset({"leased", "training", "scoring"})
RUN_OVER = frozenset({"finished", "cancelled", "failed", "timed_out"})


class Stop(StrEnum):
    """The kinds of stop that a run can be told."""

    PERSON = "person"
    HALTED = "halted"
    POSTPONED = "postponed"
    UNWANTED = "unwanted"


STOPPED_FOR_NOW = frozenset({Stop.HALTED, Stop.POSTPONED})  # nobody decided against it: it is run again


def check(table: Table, start: str, ends: frozenset[str]) -> None:
    """Refuse a table with an unreachable state, or with a dead end that is not declared final."""
    reached, frontier = {start}, [start]
    while frontier:
        for new in table[frontier.pop()]:
            if new not in reached:
                reached.add(new)
                frontier.append(new)
    if unreachable := table.keys() - reached:
        raise ValueError(f"no move leads to {', '.join(sorted(unreachable))}")
    if (dead := {state for state, news in table.items() if not news}) != ends:
        raise ValueError(f"ends are {', '.join(sorted(dead))}, meant are {', '.join(sorted(ends))}")


def allowed(table: Table, old: str, new: str) -> None:
    """Raise IllegalMove unless ``old -> new`` stands in ``table``."""
    if new not in table.get(old, frozenset()):
        ways = ", ".join(sorted(table.get(old, ()))) or "nowhere"
        raise IllegalMove(f"{old} cannot become {new}; from {old} it goes to {ways}")


check(CAMPAIGN, "planned", frozenset())
check(PROPOSAL, "drafted", frozenset({"judged", "rejected", "withdrawn"}))
check(RUN, "queued", RUN_OVER)
check(SCORE, "quarantined", frozenset({"ok", "disputed"}))
