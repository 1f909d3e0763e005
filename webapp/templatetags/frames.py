"""Frames that stand around many things on many pages: a card, a notice, a placeholder, a table."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from webapp.templatetags.shown import icon

register = template.Library()


@register.simple_block_tag
def card(
    content: SafeString,
    title: str,
    id: str,  # noqa: A002  # HTML's own name for it
    note: str = "",
    *,
    flush: bool = False,
) -> SafeString:
    """A section with its heading, whose id is ``id``; ``flush`` lets tables and lists reach its edges."""
    beside = format_html('<span class="dim small">{}</span>', note) if note else ""
    return format_html(
        '<section class="card{}" aria-labelledby="{}"><header><h2 id="{}">{}</h2>{}</header>'
        '<div class="body">{}</div></section>',
        " flush" if flush else "", id, id, title, beside, content,
    )  # fmt: skip


@register.simple_block_tag
def notice(content: SafeString, tone: str, image: str, title: str, role: str = "note") -> SafeString:
    """A prominent message with a heading of its own. ``tone``: good, warn, bad, or none."""
    return format_html(
        '<div class="notice {}" role="{}">{}<div><div class="h">{}</div>{}</div></div>',
        tone, role, icon(image), title, content,
    )  # fmt: skip


@register.simple_block_tag
def placeholder(content: SafeString, image: str, title: str, level: str = "h3", tone: str = "") -> SafeString:
    """What is shown where there is nothing yet: a picture, a heading of ``level``, and the body."""
    return format_html(
        '<div class="empty"><div class="pic {}">{}</div><{}>{}</{}>{}</div>',
        tone, icon(image), level, title, level, content,
    )  # fmt: skip


@register.simple_block_tag
def table(content: SafeString, label: str, classes: str = "") -> SafeString:
    """Head and body of a table, in a box that scrolls sideways where the table is wider than the page."""
    return format_html(
        '<div class="diffwrap" tabindex="0" role="region" aria-label="{}, table">'
        '<table class="tbl {}">{}</table></div>',
        label, classes, content,
    )  # fmt: skip
