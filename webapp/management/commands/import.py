"""``manage.py import KIND PATH``: bring past experiments into a campaign; ``--dry-run`` only reads them."""  # noqa: N999

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from research.history import columns, commits, lineage, reader, stores
from research.history.past import KINDS, MAX_BYTES, Direction, Reading, Wanted
from research.models import Campaign, Import
from research.propose import histories
from research.record import campaigns
from research.record.rights import COMMAND_LINE
from webapp.templatetags.shown import plural

MAX_SHOWN = 20  # refused rows on a terminal; --json has all
# What --new takes over from the campaign that it is like.
ALIKE = (
    "recipe", "dataset", "dataset_sha256", "run_budget_kind", "run_budget_amount", "deadline_s", "smoke_steps",
    "score_tokens", "sandbox_level", "usd_per_gpu_hour", "metric", "metric_unit", "direction",
)  # fmt: skip


class Command(BaseCommand):
    help = "Imports past experiments: Claude reads them as precedents, self-reported and of one seed each."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=list(KINDS), help="what wrote them")
        parser.add_argument("path", type=Path, help="results.tsv, a table as CSV, or the tracker's own folder or file")
        parser.add_argument("--repository", type=Path, help="git repository of the loop: lineage, messages and diffs")
        into = parser.add_mutually_exclusive_group()
        into.add_argument("--campaign", help="slug of the campaign that they go into")
        into.add_argument("--new", metavar="SLUG", help="begin a campaign for them, set up like --like")
        parser.add_argument("--like", metavar="SLUG", help="the campaign that --new is set up like; the newest")
        parser.add_argument(
            "--map", action="append", default=[], metavar="THEIRS=OURS",
            help=f"their column is our field, one of {', '.join(columns.FIELDS)}; may be given again",
        )  # fmt: skip
        parser.add_argument("--metric", default="", help="their name of the number that counts")
        parser.add_argument("--direction", choices=get_args(Direction), default="", help="which way it is better")
        parser.add_argument("--dry-run", action="store_true", help="read and say what was read; import nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            reading = _read(options, Campaign.objects.filter(slug=options["campaign"] or options["like"]).first())
            made = None if options["dry_run"] else _bring(reading, options)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(reading, made), indent=2))
        else:
            self.say(reading, made)

    def say(self, reading: Reading, made: Import | None) -> None:
        """What was read on a terminal. Its text is others'; the readers have left no control character in it."""
        num = len(reading.experiments)
        self.stdout.write(
            f"{reading.name}: {plural(reading.num_read, 'row')} read, {plural(num, 'experiment')}, "
            f"{len(reading.refused)} refused"
        )
        self.stdout.write("columns: " + ", ".join(f"{c.theirs} -> {c.field}" for c in reading.columns))
        self.stdout.write(_outcomes(reading))
        for one in reading.refused[:MAX_SHOWN]:
            self.stdout.write(f"  line {one.line}: {one.reason}")
        if (more := len(reading.refused) - MAX_SHOWN) > 0:
            self.stdout.write(f"  and {more} more; --json lists them all")
        for note in reading.notes:
            self.stdout.write(note)
        self.stdout.write(_ending(made))


def _read(options: dict[str, Any], campaign: Campaign | None) -> Reading:
    kind, path = options["kind"], options["path"]
    ours: dict[str, Any] = {}
    if campaign is not None:
        ours = {"ours": campaign.metric, "our_direction": campaign.direction}
    mapping = _mapping(options["map"])
    wanted = Wanted(columns=mapping, metric=options["metric"], direction=options["direction"], **ours)
    repository = options["repository"]
    if kind == "autoresearch" and path.is_dir():
        repository = repository or (path if (path / ".git").exists() else None)
        path = path / "results.tsv"
    if stores.is_store(kind, path):
        return stores.read(kind, path, wanted)
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)  # one more than is taken, whatever the file's size
    except OSError as error:
        raise ValueError(f"path: {path} cannot be read: {error.strerror}") from error
    reading = reader.read(kind, body, path.name, wanted)
    return reading if repository is None else commits.looked_up(reading, repository)


def _mapping(given: list[str]) -> dict[str, str]:
    found = {}
    for pair in given:
        theirs, equals, ours = pair.rpartition("=")
        if not (theirs and equals and ours):
            raise ValueError(f"map: {pair!r} is not THEIRS=OURS, such as val_loss=metric")
        found[theirs] = ours
    return found


def _bring(reading: Reading, options: dict[str, Any]) -> Import:
    if options["new"]:
        histories.check(reading)  # before anything is begun
        with transaction.atomic():
            return histories.bring(_begun(options["new"], options["like"], reading), reading, by=COMMAND_LINE)
    return histories.bring(_campaign(options["campaign"]), reading, by=COMMAND_LINE)


def _campaign(slug: str | None) -> Campaign:
    found = Campaign.objects.filter(slug=slug).first()
    if found is None:
        known = ", ".join(Campaign.objects.values_list("slug", flat=True)) or "none yet"
        asked = f"there is no {slug!r}" if slug else "say --campaign SLUG or --new SLUG"
        raise ValueError(f"campaign: {asked}; there are {known}")
    return found


def _begun(slug: str, like: str | None, reading: Reading) -> Campaign:
    """A new campaign on the recipe, data and budget of another one."""
    model = _campaign(like) if like else Campaign.objects.order_by("-pk").first()
    if model is None:
        raise ValueError("new: there is no campaign whose recipe, data and budget it could have; begin one first")
    return campaigns.create(
        by=COMMAND_LINE,
        created_by=model.created_by,
        slug=slug,
        name=slug.replace("-", " ").capitalize(),
        goal=f"Go on where {KINDS[reading.kind]} stopped: {reading.name}.",
        **{name: getattr(model, name) for name in ALIKE},
    )


# --- what is said -----------------------------------------------------------------------------------


def _outcomes(reading: Reading) -> str:
    counts = Counter(one.outcome for one in reading.experiments)
    words = ", ".join(f"{word} {counts[word]}" for word in ("kept", "discarded", "crashed", "unsaid") if counts[word])
    best = next(
        (b for b in reversed(lineage.best_so_far(reading.experiments, reading.direction)) if b is not None), None
    )
    said = f"; best {reading.metric} {best:g}, {reading.direction} is better" if best is not None else ""
    return (words or "no experiment") + said


def _ending(made: Import | None) -> str:
    if made is None:
        return "Nothing was imported: this was a dry run."
    numbers = list(made.experiments.values_list("number", flat=True))
    slug = made.campaign.slug
    return f"Imported into {slug} as H-{numbers[0]} to H-{numbers[-1]}: /campaigns/{slug}/history/"


def _as_json(reading: Reading, made: Import | None) -> dict[str, Any]:
    return {
        "source": reading.name,
        "sha256": reading.sha256,
        "metric": reading.metric,
        "direction": reading.direction,
        "columns": {column.theirs: column.field for column in reading.columns},
        "num_read": reading.num_read,
        "num_mapped": len(reading.experiments),
        "refused": [{"line": one.line, "reason": one.reason, "text": one.text} for one in reading.refused],
        "outcomes": Counter(one.outcome for one in reading.experiments),
        "notes": reading.notes,
        "imported": None if made is None else {"id": made.pk, "campaign": made.campaign.slug, "num": made.num_mapped},
    }
