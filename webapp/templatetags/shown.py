"""Filters that write numbers, times, states and people on a page. A missing number is a dash that says why."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.contrib.auth.models import User
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from research import levels
from research.record import kinds
from research.runs import attempts
from webapp.drawing import figures

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86_400


@register.simple_tag
def icon(name: str, classes: str = "") -> SafeString:
    """An icon of the sprite; decoration only, so hidden from assistive technology."""
    return format_html(
        '<svg class="i {}" aria-hidden="true"><use href="{}#{}"/></svg>', classes, static("img/icons.svg"), name
    )


@register.simple_tag
def number(value: float | Decimal | str | None, kind: str, why: str = "not measured yet") -> SafeString:
    """``value`` written as ``kind`` (bpb, signed, percent, count, seconds, hours, usd), or a dash that says why.

    The empty string is what a template makes of a row that does not exist, such as the score of a live run.
    """
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return format_html('<span class="none" title="{}">–<span class="sr"> {}</span></span>', why, why)
    return format_html("{}", KINDS[kind](float(value)))


@register.filter
def bpb(value: float) -> str:
    """Bits per byte, four digits: 1.0291."""
    return figures.plain(value, 4)


@register.filter
def signed(value: float) -> str:
    """A difference of bpb: −0.0047."""
    return figures.signed(value, 4)


@register.filter
def reported(value: float) -> str:
    """Somebody else's number of any size, six digits of it: 0.970286, 59394."""
    return f"{value:.6g}".replace("-", figures.MINUS)


@register.filter
def gained(value: float) -> str:
    """A difference of two such numbers, three digits of it: +0.000265, −1230."""
    return f"{value:+.3g}".replace("-", figures.MINUS) if value else "0"


@register.filter
def times(value: float) -> str:
    """A factor: 1.05 ×."""
    return f"{figures.plain(value, 2)} ×"


@register.filter
def percent(value: float) -> str:
    """A share as a percentage: 0.714 is 71 %."""
    return f"{100 * value:.0f} %"


@register.filter
def hundred(value: float) -> str:
    """A share on a scale of a hundred, for custom properties: 68.2."""
    return f"{100 * value:.1f}"


@register.filter
def count(value: float) -> str:
    return figures.plain(value, 0)


@register.filter
def seconds(value: float) -> str:
    """A stretch of time in its two largest units: 31 s, 2 min 4 s, 1 h 12 min."""
    if value < 10:
        return f"{value:.1f} s"
    if value < MINUTE:
        return f"{value:.0f} s"
    if value < HOUR:
        return _two(value, MINUTE, "min", 1, "s")
    return _two(value, HOUR, "h", MINUTE, "min") if value < DAY else _two(value, DAY, "d", HOUR, "h")


def _two(value: float, large: int, large_name: str, small: int, small_name: str) -> str:
    whole, rest = divmod(round(value / small) * small, large)
    return f"{whole:.0f} {large_name}" + (f" {rest / small:.0f} {small_name}" if rest else "")


@register.filter
def minutes(value: float) -> str:
    """Seconds as minutes, for what a machine is held: 0.8, 3.2, 41."""
    return figures.plain(value / MINUTE, 0 if value >= 10 * MINUTE else 1)


@register.filter
def hours(value: float) -> str:
    """Seconds as hours: 0.04, 6.4, 58."""
    size = value / HOUR
    return figures.plain(size, 0 if size >= 100 else 1 if size >= 1 else 2)


@register.filter
def usd(value: float | Decimal) -> str:
    """Dollars, with cents below a thousand: $19.20, $0.0043, $1,214."""
    size = float(value)
    if size and abs(size) < 0.01:
        return f"${size:.4f}"
    return f"${size:,.0f}" if abs(size) >= 1_000 else f"${size:.2f}"


@register.filter
def big(value: float) -> str:
    """A large count in short: 750 k, 1.84 M."""
    for limit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {name}"
    return f"{value:.3g}"


@register.filter
def short(digest: str) -> str:
    """A hash short enough to compare by eye: 8c41…e07a."""
    return f"{digest[:4]}…{digest[-4:]}" if len(digest) > 12 else digest


@register.filter
def knob(value: object) -> str:
    """A knob's value as recipe.toml would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    return str(value)


@register.filter
def words(state: str) -> str:
    return state.replace("_", " ")


@register.filter
def headline(message: str) -> str:
    """The line of an error message that matters: the last one of a traceback, else the first."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    return lines[-1 if lines[0].startswith(("File ", "Traceback ")) else 0]


_NAMED = re.compile(r"\b([RP])-(\d{1,9})\b")


@register.filter
def linked(sentence: str) -> SafeString:
    """A sentence of ours with every run and proposal linked to its page."""
    pages = {"R": "run", "P": "proposal"}

    def link(found: re.Match[str]) -> str:
        return f'<a class="link" href="{reverse(pages[found[1]], args=[int(found[2])])}">{found[0]}</a>'

    return mark_safe(_NAMED.sub(link, escape(sentence)))  # noqa: S308  # escaped; the links hold letters and digits


BLAME = {
    "proposal": "the recipe’s doing",
    "machine": "the machine’s doing; nothing is held against the recipe",
    "operator": "somebody has to set this right first; nothing is held against the recipe",
    "nobody": "nobody can tell whether it was the machine or the recipe",
}


@register.filter
def blame(failure: dict[str, Any]) -> str:
    """Whose fault a run's failure is, and what follows."""
    return BLAME[attempts.fault_of(failure)]


@register.filter
def who(by: str) -> str:
    """The actor for people: ``user:mira`` as mira; ``judge``, a part of ours, as it is."""
    return by.partition(":")[2] or by


@register.filter
def coloured(parts: Iterable[tuple[str, str]]) -> SafeString:
    """Pieces of one line of code, each in the colour of its kind."""
    pieces = (format_html('<span class="{}">{}</span>', kind, text) if kind else escape(text) for kind, text in parts)
    return mark_safe("".join(pieces))  # noqa: S308  # every piece is escaped


@register.filter
def person(user: User | None) -> str:
    """A person's full name, else username; "" for None."""
    return "" if user is None else user.get_full_name() or user.get_username()


@register.filter
def plural(value: int, noun: str) -> str:
    """``3|plural:"run"`` is 3 runs."""
    return f"{value:,} {noun}" + ("" if value == 1 else "s")


@register.filter
def level(alpha: float) -> str:
    """The level of a measured interval: alpha 0.05 is 95 %."""
    return levels.measured(alpha)


@register.simple_tag
def stated() -> str:
    """The level of an interval that a proposer states."""
    return levels.STATED


@register.filter
def get(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.simple_tag
def when(moment: datetime | None, why: str = "not yet") -> SafeString:
    """A relative time whose title is the instant in UTC. The page's clock keeps it current."""
    if moment is None:
        return number(None, "count", why)
    utc = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC" data-ago>{}</time>',
        utc.isoformat(timespec="seconds"),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        ago((timezone.now() - moment).total_seconds()),
    )


def ago(seconds_: float) -> str:
    """A relative time, in the same words as ``ago`` in app.js: "5 min ago", "in 5 min"."""
    if seconds_ <= -45:
        return "in " + ago(-seconds_).removesuffix(" ago")
    if seconds_ < 45:
        return "just now" if seconds_ >= 0 else "in a moment"
    for size, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds_ >= size * 0.75:
            return f"{max(1, round(seconds_ / size))} {name} ago"
    return "just now"


FAILURES = {
    "http_529": "overloaded", "http_429": "rate-limited", "http_401": "with a wrong key", "max_tokens": "cut off",
    "timeout": "timed out", "connection": "lost their connection", "unreadable": "unreadable",
    "lost": "lost by a restart", "batch_lost": "batch lost",
}  # fmt: skip


@register.filter
def failure(stop_reason: str) -> str:
    """Why a request gave no answer, in words: http_529 is overloaded."""
    return FAILURES.get(stop_reason, stop_reason.replace("_", " "))


PILLS = {
    # state or outcome: (tone, icon, words)
    "drafted": ("", "sparkles", "Drafted"),
    "checking": ("run", "list-checks", "In gates"),
    "blocked": ("bad", "shield-alert", "Blocked"),
    "pending_review": ("acc", "circle-dot", "Ready for review"),
    "approved": ("good", "check", "Approved"),
    "rejected": ("bad", "x", "Rejected"),
    "changes_requested": ("warn", "pencil", "Changes requested"),
    "stale": ("warn", "history", "Stale"),
    "withdrawn": ("", "minus", "Withdrawn"),
    "running": ("run", "activity", "Running"),
    "judged": ("good", "scale", "Judged"),
    "keep": ("good", "check", "Kept"),
    "discard": ("", "x", "Discarded"),
    "inconclusive": ("", "minus", "Within noise"),
    "disputed": ("bad", "octagon-x", "Disputed"),
    "quarantined": ("warn", "shield-alert", "Quarantined"),
    "crashed": ("bad", "triangle-alert", "Crashed"),
    "queued": ("", "clock", "Queued"),
    "leased": ("run", "server", "Starting"),
    "training": ("run", "activity", "Training"),
    "scoring": ("run", "scale", "Scoring"),
    "finished": ("good", "circle-check", "Finished"),
    "failed": ("bad", "circle-x", "Failed"),
    "timed_out": ("bad", "clock", "Timed out"),
    "cancelled": ("", "minus", "Cancelled"),
    "lost": ("warn", "server-off", "Lost"),
    "planned": ("", "list-checks", "Planned"),
    "archived": ("", "bookmark", "Archived"),
    "active": ("run", "activity", "Active"),
    "paused": ("warn", "pause", "Paused"),
    "halted": ("bad", "octagon-x", "Halted"),
    "spent": ("warn", "circle-dollar-sign", "Budget spent"),
}


@register.simple_tag
def pill(state: str) -> SafeString:
    """A state as an icon, a colour and a word, never one of them alone."""
    tone, name, text = PILLS[state]
    return format_html('<span class="pill {}" data-state="{}">{}{}</span>', tone, state, icon(name), text)


ARMS = {
    "claude": ("claude", "sparkles", "Proposed by Claude"),
    "offline": ("line", "cloud-off", "Offline proposer"),
    "human": ("line", "pencil", "Proposed by a person"),
    "agent": ("line", "terminal", "Proposed by an agent"),
    "random": ("line", "zap", "Random"),
    "tpe": ("line", "gauge", "TPE"),
}


@register.simple_tag
def arm(name: str) -> SafeString:
    tone, image, text = ARMS[name]
    return format_html('<span class="pill {}">{}{}</span>', tone, icon(image), text)


EVENT_ICONS = {
    "incumbent": ("trophy", "good"),
    "verdict": ("scale", "runc"),
    "finding": ("lightbulb", "cl"),
    "proposer": ("cloud-off", "warn"),
    "worker": ("server", "dim"),
    "campaign": ("flask-conical", "dim"),
    "history": ("history", "dim"),
    "repair": ("triangle-alert", "warn"),
    kinds.PROPOSAL["drafted"]: ("sparkles", "cl"),
    kinds.PROPOSAL["checking"]: ("list-checks", "dim"),
    kinds.PROPOSAL["pending_review"]: ("inbox", "runc"),
    kinds.PROPOSAL["approved"]: ("check", "good"),
    kinds.PROPOSAL["rejected"]: ("x", "bad"),
    kinds.PROPOSAL["changes_requested"]: ("message-square", "warn"),
    kinds.PROPOSAL["blocked"]: ("shield-alert", "bad"),
    kinds.OVERRIDE_SIGNED: ("key-round", "warn"),
    kinds.PROPOSAL["withdrawn"]: ("minus", "dim"),
    kinds.UNANSWERED: ("triangle-alert", "warn"),
    kinds.PROPOSAL["stale"]: ("history", "warn"),
    kinds.PROPOSAL["judged"]: ("scale", "runc"),
    kinds.RUN["finished"]: ("circle-check", "good"),
    kinds.SCORE["ok"]: ("shield-check", "good"),
    kinds.SCORE["disputed"]: ("octagon-x", "bad"),
    kinds.RUN["failed"]: ("circle-x", "bad"),
    kinds.RUN["timed_out"]: ("clock", "bad"),
    kinds.RUN["lost"]: ("server-off", "warn"),
}


@register.simple_tag
def event_icon(kind: str) -> SafeString:
    """The icon of an event kind, of its family, or a dot."""
    name, tone = EVENT_ICONS.get(kind) or EVENT_ICONS.get(kind.partition(".")[0]) or ("circle-dot", "dim")
    return icon(name, tone)


@register.simple_tag
def cross(x: float, y: float) -> SafeString:
    """SVG path of a small x around a point."""
    return mark_safe(f"M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6")  # noqa: S308  # two numbers


KINDS = {
    "bpb": bpb,
    "signed": signed,
    "percent": percent,
    "count": count,
    "seconds": seconds,
    "minutes": minutes,
    "hours": hours,
    "usd": usd,
    "big": big,
}
