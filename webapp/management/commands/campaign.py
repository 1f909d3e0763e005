"""``manage.py campaign create|list|show|check|clone|start|pause|resume|halt|archive``: campaigns from a shell.

Exit status: 0 done, 1 refused or, of ``check``, not green, 2 the arguments are wrong.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from research.begin import checklist, forecast
from research.lifecycle import IllegalMove, LostRace
from research.models import Campaign
from research.record import campaigns
from research.record.rights import COMMAND_LINE
from webapp.beginning import shown
from webapp.beginning.form import BeginForm, filled, refuse_unknown
from webapp.beginning.steering import PAST, steer

TO = {"start": "active", "pause": "paused", "resume": "active", "halt": "halted", "archive": "archived"}
DEFAULT_WAIT_S = 600.0
LOOK_S = 1.0
LIGHTS = {"green": "ok  ", "amber": "note", "red": "BAD ", "running": "... ", "waiting": "-   "}


class _Kept(Exception):
    """Undoes a dry run's transaction."""


class Command(BaseCommand):
    help = "Begins, lists, shows, checks, clones, pauses, resumes, halts and archives campaigns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="begin a campaign; what is left out comes from recipe and workers")
        for name, field in BeginForm.base_fields.items():
            about = str(field.help_text or field.label or "").replace("%", "%%")
            create.add_argument(f"--{name.replace('_', '-')}", dest=f"field_{name}", metavar="VALUE", help=about)
        create.add_argument("--program-file", type=Path, metavar="FILE", help="the Program, from a file")
        create.add_argument("--planned", action="store_true", help="do not start it: check it first")
        for name, about in (("show", "every setting"), ("check", "can it run? tries a few steps"), ("clone", "anew")):
            verbs.add_parser(name, help=about).add_argument("slug")
        verbs.choices["clone"].add_argument("new_slug")
        verbs.choices["clone"].add_argument("--name", help="as people call it")
        verbs.choices["check"].add_argument("--no-try", action="store_true", help="only what the record says")
        verbs.choices["check"].add_argument("--within", type=float, default=DEFAULT_WAIT_S, metavar="SECONDS")
        verbs.add_parser("list", help="all of them").add_argument("--archived", action="store_true", help="those, too")
        for name, new in TO.items():
            one = verbs.add_parser(name, help=f"the campaign {PAST[new]}")
            one.add_argument("slug")
            one.add_argument("--reason", default="asked for at the command line")
        for verb in verbs.choices.values():
            verb.add_argument("--json", action="store_true", help="one JSON value")
            verb.add_argument("--dry-run", action="store_true", help="look at everything, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        verb: str = options["verb"]
        try:
            getattr(self, f"_{verb}", self._move)(options)
        except (PermissionDenied, LostRace, IllegalMove) as refused:
            raise CommandError(str(refused), returncode=1) from refused
        except ValidationError as error:
            raise CommandError("; ".join(error.messages), returncode=2) from error
        except ValueError as error:
            raise CommandError(str(error), returncode=2) from error

    # --- verbs

    def _create(self, options: dict[str, Any]) -> None:
        form = BeginForm(filled(_given(options)))
        if not form.is_valid():
            raise ValueError(form.in_one_sentence)
        if options["dry_run"]:
            self._would_create(form, options)
            return
        campaign = form.begin(by=COMMAND_LINE, starts=not options["planned"])
        if campaign is None:
            raise ValueError(form.in_one_sentence)
        self._say(options, shown.whole(campaign), f"{campaign.name} is {campaign.state}: {shown.page_of(campaign)}")

    def _would_create(self, form: BeginForm, options: dict[str, Any]) -> None:
        source = form.dry_run(by=COMMAND_LINE)
        if source is None:
            raise ValueError(form.in_one_sentence)
        said = forecast.sentences(Campaign(recipe=source.name, **_saved(form.cleaned_data)))
        asked = {name: value for name, value in form.cleaned_data.items() if value is not None}
        told = {"would": "create", "settings": asked, "commit": source.commit, "forecast": said}
        lines = [f"Nothing was made. {form.cleaned_data['slug']} would begin on {source.name} ({source.origin}).",
                 *source.remarks, *said.values()]  # fmt: skip
        self._say(options, told, "\n".join(lines))

    def _list(self, options: dict[str, Any]) -> None:
        rows = Campaign.objects.order_by("-pk")
        rows = rows if options["archived"] else rows.exclude(state="archived")
        lines = [f"{one.slug:<24} {one.state:<9} {one.recipe:<16} {one.name}" for one in rows]
        self._say(options, [shown.listed(one) for one in rows], "\n".join(lines) or "There is none yet.")

    def _show(self, options: dict[str, Any]) -> None:
        said = shown.whole(found(options["slug"]))
        self._say(options, said, "\n".join(f"{name}: {value}" for name, value in said.items()))

    def _check(self, options: dict[str, Any]) -> None:
        campaign = found(options["slug"])
        if not (options["no_try"] or options["dry_run"]):
            checklist.try_out(campaign, by=COMMAND_LINE)
            _wait(campaign, options["within"])
        lines = checklist.lines(campaign)
        words = [f"{LIGHTS[one.light]} {one.name}: {one.found}" + (f" {one.todo}" if one.todo else "") for one in lines]
        is_green = checklist.is_green(lines)
        self._say(options, {"green": is_green, "lines": [one.as_json() for one in lines]}, "\n".join(words))
        if not is_green:
            sys.exit(1)

    def _clone(self, options: dict[str, Any]) -> None:
        wanted = {"name": options["name"]} if options["name"] else {}
        campaign, slug = found(options["slug"]), options["new_slug"]
        if options["dry_run"]:
            if Campaign.objects.filter(slug=slug).exists():
                raise ValueError(f"slug: there is a campaign {slug!r} already")
            self._say(options, {"would": "clone", "slug": slug}, f"Nothing was made. {slug} would be a clone.")
            return
        made = campaigns.clone(campaign, by=COMMAND_LINE, slug=slug, created_by=campaign.created_by, **wanted)
        self._say(options, shown.whole(made), f"{made.name} is planned: {shown.page_of(made)}")

    def _move(self, options: dict[str, Any]) -> None:
        campaign, new = found(options["slug"]), TO[options["verb"]]
        try:
            with transaction.atomic():
                steer(campaign, new, by=COMMAND_LINE, reason=options["reason"])
                if options["dry_run"]:
                    raise _Kept
        except _Kept:
            self._say(options, {"would": new}, f"Nothing was changed. {campaign.name} would be {new}.")
            return
        self._say(options, shown.whole(campaign), f"{campaign.name} {PAST[new]}")

    def _say(self, options: dict[str, Any], value: Any, words: str) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=str) if options["json"] else words)


# --- what the arguments mean -----------------------------------------------------------------------


def found(slug: str) -> Campaign:
    """The campaign. Raises ValueError that lists those there are."""
    campaign = Campaign.objects.filter(slug=slug).first()
    if campaign is None:
        known = ", ".join(Campaign.objects.values_list("slug", flat=True)) or "none"
        raise ValueError(f"slug: there is no campaign {slug!r}; there are: {known}")
    return campaign


def _given(options: dict[str, Any]) -> dict[str, Any]:
    given = {
        name.removeprefix("field_"): value
        for name, value in options.items()
        if name.startswith("field_") and value is not None
    }
    if options["program_file"] is not None:
        try:
            given["program"] = options["program_file"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"program_file: {options['program_file']} cannot be read as UTF-8 text: {error}"
            ) from error
    if given.get("recipe", "").startswith((".", "~")):  # a shell's user means their own folder
        given["recipe"] = str(Path(given["recipe"]).expanduser().resolve())
    refuse_unknown(given)
    return given


def _saved(values: dict[str, Any]) -> dict[str, Any]:
    names: Iterable[str] = {field.name for field in Campaign._meta.concrete_fields} - {"recipe"}
    return {name: value for name, value in values.items() if name in names}


def _wait(campaign: Campaign, within_s: float) -> None:
    until = time.monotonic() + within_s
    while any(line.light == "running" for line in checklist.lines(campaign)):
        if time.monotonic() > until:
            raise ValueError(f"within: the few steps were not over within {within_s:g} s; look again later")
        time.sleep(LOOK_S)
