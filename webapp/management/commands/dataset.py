"""``manage.py dataset list|show``: what there is to train on, and which workers have it.

Exit status: 0 done, 2 the arguments are wrong.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from research.begin import catalogue
from webapp.pages.datasets.dataset_page import Shown


class Command(BaseCommand):
    help = "Lists datasets by what workers say of them, and shows one: its splits, overlap, workers and campaigns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="all of them, a line for each manifest")
        verbs.add_parser("show", help="every manifest of a name").add_argument("name")
        for verb in verbs.choices.values():
            verb.add_argument("--json", action="store_true", help="one JSON value")

    def handle(self, *args: Any, **options: Any) -> None:
        shown = [Shown(one) for one in catalogue.entries(options.get("name"))]
        if options["verb"] == "show" and not shown:
            known = ", ".join(sorted({one.name for one in catalogue.entries()})) or "none"
            raise CommandError(f"name: there is no dataset {options['name']!r}; there are: {known}", returncode=2)
        if options["json"]:
            self.stdout.write(json.dumps([catalogue.as_json(one.entry) for one in shown], indent=2))
        elif options["verb"] == "list":
            self.stdout.write("\n".join(map(_line, shown)) or "No worker has one yet.")
        else:
            self.stdout.write("\n\n".join("\n".join(_block(one)) for one in shown))


def _line(shown: Shown) -> str:
    entry = shown.entry
    tokens = f"{shown.train.num_tokens:,} tokens" if shown.train else "not described"
    have = ", ".join(one.name for one in entry.workers) or "no worker"
    return f"{entry.name:<20} {entry.sha256[:12]}  {tokens:>22}  {have}" + (
        f"  ({entry.num_of_name} different ones)" if entry.num_of_name > 1 else ""
    )


def _block(shown: Shown) -> Iterator[str]:
    """Numbers and names; samples of text are for the page and for ``--json``."""
    entry = shown.entry
    yield f"{entry.name} {entry.sha256}"
    yield f"  workers: {', '.join(one.name for one in entry.workers) or 'none'}"
    yield f"  campaigns: {', '.join(one.slug for one in entry.campaigns) or 'none'}"
    if entry.summary is None:
        yield "  no worker has described it yet"
        return
    yield f"  tokenizer: {shown.tokenizer}"
    yield f"  source: {', '.join(f'{key} {value}' for key, value in entry.summary.source.items())}"
    for row in shown.splits:
        said = row.summary
        documents = "" if said.num_documents is None else f" in {said.num_documents:,} documents"
        num_bytes = "" if said.num_bytes is None else f", {said.num_bytes:,} bytes of text"
        yield f"  {row.name:<7}{said.num_tokens:>14,} tokens{num_bytes}{documents}"
    yield from (f"  {sentence.words}" for sentence in shown.overlap)
