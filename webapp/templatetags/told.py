"""Numbers that foreign trainers report themselves: in a colour of their own, and never without that word."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from research.models import Campaign, Run
from webapp.drawing import figures
from webapp.templatetags.shown import number

register = template.Library()
TITLE = "Self-reported: the trainer’s own word. Nobody measured it."


@register.simple_tag
def told(words: dict[str, Any] | str | None, part: str = "value", why: str = "it said none") -> SafeString:
    """One number of a Score's or Verdict's self_reported, with its unit and that word; a dash where there is none.

    ``part``: value, effect, candidate, incumbent. The empty string is what a template makes of a missing row.
    """
    if not isinstance(words, dict) or words.get(part) is None:
        return number(None, "bpb", why)
    write = figures.signed if part == "effect" else figures.plain
    return format_html(
        '<span class="told num" title="{}">{}<small> {} self-reported {}</small></span>',
        TITLE, write(float(words[part]), 4), words["unit"], words["metric"],
    )  # fmt: skip


@register.simple_tag
def live(run: Run) -> SafeString:
    """What a run says of itself while it trains: bits per byte of the watched text, or its trainer's own metric."""
    campaign, why = run.campaign, "not evaluated yet"
    if not campaign.is_self_reported:
        value = number(run.latest.get("watch_bpb", [None])[0], "bpb", why)
        return format_html('{} <span class="small dim">live val bpb</span>', value)
    value = run.latest.get(campaign.metric, [None])[0]
    return told({"value": value, "unit": campaign.metric_unit, "metric": campaign.metric}, "value", why)


@register.simple_tag
def told_interval(words: dict[str, Any]) -> str:
    """The interval of an effect, in the metric's unit."""
    if words["low"] is None or words["high"] is None:
        return "no interval"
    return f"{figures.signed(words['low'], 4)} to {figures.signed(words['high'], 4)} {words['unit']}".rstrip()


@register.filter
def metric_of(campaign: Campaign) -> str:
    """What the campaign's runs are compared by: "val_bpb", or "accuracy (percent, self-reported)"."""
    if not campaign.is_self_reported:
        return campaign.metric
    return f"{campaign.metric} ({', '.join(filter(None, (campaign.metric_unit, 'self-reported')))})"
