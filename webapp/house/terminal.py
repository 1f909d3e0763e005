"""What `make run` shows while it runs: the address, the processes, and the campaigns' state."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from django.db import DatabaseError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from research.models import Campaign, Event, Proposal, Run
from webapp.house.supervisor import Place, Supervisor

REDRAW_S = 0.5
REREAD_S = 2.0  # the database is asked this often, and never by every frame
NUM_EVENTS = 5
BUSY = ("leased", "training", "scoring")


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A snapshot of the database for the screen."""

    campaigns: list[str]
    runs: list[str]
    events: list[str]


@dataclass(kw_only=True)
class Screen:
    """Draws the processes and the campaigns. ``draw`` is cheap enough to be called at every tick."""

    supervisor: Supervisor
    url: str
    link: str
    live: Live
    glance: Glance = field(default_factory=lambda: Glance(campaigns=[], runs=[], events=[]))
    _drawn_at: float = 0.0
    _read_at: float = 0.0

    def draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn_at < REDRAW_S:
            return
        if now - self._read_at >= REREAD_S:
            self.glance, self._read_at = look(), now
        self._drawn_at = now
        self.live.update(self.picture(), refresh=True)

    def picture(self) -> RenderableType:
        head = Text.assemble(("Countersign", "bold"), "  ", (self.url, "cyan"), "   Ctrl+C ends everything\n")
        head.append(f"Sign in once, within the hour: {self.link}\n", style="dim")
        parts: list[RenderableType] = [head, processes(self.supervisor.places)]
        lines = [*self.glance.campaigns, *self.glance.runs, *self.glance.events]
        parts.append(Text("\n".join(["", *lines]), overflow="ellipsis", no_wrap=True))
        if self.supervisor.said:
            parts.append(
                Text("\n" + "\n".join(self.supervisor.said), style="yellow", overflow="ellipsis", no_wrap=True)
            )
        return Group(*parts)


def processes(places: list[Place]) -> Table:
    """One row a process, with a mark and a word, not colour alone."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for place in places:
        mark = Text("●", "green") if place.runs else Text("○", "red")
        again = f"restarted {place.num_restarts} x" if place.num_restarts else ""
        table.add_row(mark, place.child.name, place.note, again, Text(str(place.log), "dim"))
    return table


def look() -> Glance:
    """The campaigns, the runs in progress and the newest events, in a few short queries."""
    try:
        return Glance(campaigns=campaigns(), runs=runs(), events=events())
    except DatabaseError as problem:
        return Glance(campaigns=[f"The database does not answer: {problem}"], runs=[], events=[])


def campaigns() -> list[str]:
    lines = []
    for campaign in Campaign.objects.exclude(state="halted").order_by("-pk")[:4]:
        counts = Counter(Proposal.objects.filter(campaign=campaign).values_list("state", flat=True))
        words = ", ".join(f"{counts[state]} {said}" for state, said in WORTH_SAYING.items() if counts[state])
        lines.append(f"{campaign.name} ({campaign.state}): {words or 'no proposals yet'}")
    return lines


WORTH_SAYING = {
    "drafted": "drafted",
    "checking": "in gates",
    "pending_review": "to review",
    "approved": "approved",
    "running": "running",
    "judged": "judged",
    "blocked": "blocked",
}


def runs() -> list[str]:
    busy = Run.objects.filter(state__in=BUSY).select_related("worker").order_by("pk")
    return [f"  R-{run.pk} {run.purpose}, seed {run.seed}: {run.state}{progress(run)}" for run in busy[:4]]


def progress(run: Run) -> str:
    """`` 42 %, 18 s left``, as far as the run has said."""
    said = run.progress or {}
    if said.get("fraction") is None:
        return ""
    left = f", {said['eta_s']:.0f} s left" if said.get("eta_s") is not None else ""
    return f" {said['fraction']:.0%}{left}"


def events() -> list[str]:
    newest = Event.objects.order_by("-pk")[:NUM_EVENTS]
    return [f"  {event.at:%H:%M:%S}  {event.sentence}" for event in reversed(newest)]


def is_a_screen(console: Console) -> bool:
    """Whether the output can be redrawn; a pipe or a log file gets plain lines instead."""
    return console.is_terminal and not console.is_dumb_terminal
