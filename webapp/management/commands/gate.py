"""``manage.py gate PATCHFILE``: run the gates on a patch, without a campaign or a database.

Exit status: 0 all passed, 1 blocked, 2 the arguments are wrong.
"""

from __future__ import annotations

import codecs
import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpu_runner import contract
from research.change.drafts import Precedent
from research.change.pasted import as_git_writes
from research.change.pasted.envelope import MAX_CHARS
from research.gates import trial
from research.gates.order import context_of, looked_at
from research.gates.outcome import Context, GateResult
from research.models import Campaign
from research.record import learn, recipe_source, repository

MAX_READ = 4 * MAX_CHARS + 4  # bytes, of which UTF-8 needs four for a character: what is longer is seen to be
UNREAD = "can be read"  # the row of a patch that cannot
TONES = {"passed": "green", "warned": "yellow", "failed": "red", "pending": "dim"}
Row = tuple[str, GateResult, float]


class Command(BaseCommand):
    help = "Runs the gates on a unified diff (git diff, diff -u, git format-patch) against a recipe."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("patchfile", help="a unified diff, or - to read it from standard input")
        parser.add_argument("--recipe", default="gpt", help="a recipe's name, or a folder with its recipe.toml")
        parser.add_argument("--campaign", default="", help="its slug: its incumbent's files and what was tried before")
        parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
        parser.add_argument("--smoke", action="store_true", help="when all pass, train a few steps in the sandbox here")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> NoReturn:
        try:
            context, unread = _context(options)
        except (OSError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
        rows = [*unread, *_rows(context, with_smoke=options["smoke"] and not unread)]
        passed = all(found.passed for _, found, _ in rows)
        if options["json"]:
            self.stdout.write(json.dumps({"passed": passed, "gates": [_shown(row) for row in rows]}, indent=2))
        else:
            _draw(rows, passed=passed)
        sys.exit(0 if passed else 1)


# --- what is looked at -------------------------------------------------------------------------


def _context(options: dict[str, Any]) -> tuple[Context, list[Row]]:
    """The gates' Context, and one more row where the patch cannot be parsed; then the gates read it as it is.

    Raises ValueError or OSError that names the argument.
    """
    precedents: tuple[Precedent, ...] = ()
    origin: dict[str, str] | None = None
    level = "bubblewrap"
    if options["campaign"]:
        campaign = Campaign.objects.filter(slug=options["campaign"]).first()
        if campaign is None:
            raise ValueError(f"--campaign: there is no {options['campaign']!r}")
        commit, level = campaign.incumbent.commit, campaign.sandbox_level
        files, precedents = repository.files_at(campaign, commit), learn.precedents(campaign)
        origin = repository.files_at(campaign, campaign.incumbents.get(number=0).commit)
    else:
        files, commit = _files(options["recipe"]), Path(options["recipe"]).name
    recipe = contract.parse_recipe(files["recipe.toml"])
    wanted = dict(_override(recipe, text) for text in options["override"])
    patch, unread = _as_one_change(_read(options["patchfile"]), files)
    context = context_of(
        patch,
        wanted,
        files,
        commit=commit,
        sandbox_level=level,
        is_trusted=False,
        precedents=precedents,
        origin=origin,
    )
    return context, unread


def _as_one_change(patch: str, files: dict[str, str]) -> tuple[str, list[Row]]:
    """The diff that would be signed, as the form makes it from the same text."""
    began = time.monotonic()
    try:
        return as_git_writes(patch, files), []
    except ValueError as error:
        return patch[:MAX_CHARS], [(UNREAD, GateResult.bad(f"{error}."), time.monotonic() - began)]


def _read(name: str) -> str:
    """The patch as text.

    Bytes that are not UTF-8 become lone surrogates, which the first gate refuses; UTF-16 (PowerShell's ``>``) is read.
    """
    if name == "-":
        raw = sys.stdin.buffer.read(MAX_READ)
    else:
        try:
            with Path(name).open("rb") as file:
                raw = file.read(MAX_READ)
        except OSError as error:
            raise ValueError(f"PATCHFILE: {name} cannot be read: {error.strerror}; name a file, or -") from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    return raw.decode(errors="surrogateescape")


def _files(recipe: str) -> dict[str, str]:
    """The recipe's text files by name, from a folder or a shipped recipe."""
    folder = Path(recipe)
    if not (folder / "recipe.toml").is_file():
        folder = recipe_source.shipped(recipe)
    wanted = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml") and path.is_file())
    return {path.relative_to(folder).as_posix(): _text(path) for path in wanted}


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()  # with the ends of lines that it has
    except UnicodeDecodeError as error:
        raise ValueError(f"--recipe: {path} is not UTF-8 from byte {error.start:,} on") from error


def _override(recipe: contract.Recipe, text: str) -> tuple[str, contract.KnobValue]:
    """Parse an override by its knob's type; a value that does not fit stays text, and the gate says what is wrong."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--override: {text!r} is not KEY=VALUE")
    knob = recipe.knob(key)
    if knob is None or knob.type == "choice":
        return key, value
    if knob.type == "bool":
        return key, {"true": True, "false": False}.get(value.lower(), value)
    try:
        return key, int(value) if knob.type == "int" else float(value)
    except ValueError:
        return key, value


def _rows(context: Context, *, with_smoke: bool) -> Iterator[Row]:
    passed = True
    for row in looked_at(context):
        passed = passed and row[1].passed
        yield row
    if with_smoke and passed:
        began = time.monotonic()
        found = trial.smoke(context)
        yield trial.NAME, found, time.monotonic() - began


# --- how it is shown ---------------------------------------------------------------------------


def _shown(row: Row) -> dict[str, Any]:
    name, found, seconds = row
    measured = {key: value for key, value in found.measured.items() if key != "findings"}
    return {
        "name": name,
        "outcome": found.outcome,
        "sentence": found.sentence,
        "measured": measured,
        "seconds": round(seconds, 4),
        "findings": found.remarks,
    }


def _where(remark: Mapping[str, Any]) -> str:
    """The place of a remark. Remarks on overrides and smoke runs have none."""
    if remark["path"]:
        return f"{remark['path']}:{remark['line']}:{remark['column']}"
    return f"line {remark['line']}" if remark["line"] else ""


def _draw(rows: list[Row], *, passed: bool) -> None:
    console = Console()
    table = Table("gate", "outcome", "what it found", box=None, pad_edge=False)
    for name, found, _ in rows:
        table.add_row(name, f"[{TONES[found.outcome]}]{found.outcome}[/]", escape(found.sentence))
        for remark in found.remarks:
            tone = "red" if remark["severity"] == "block" else "yellow"
            table.add_row("", f"[{tone}]{remark['rule']}[/]", escape(f"{_where(remark)}  {remark['snippet']}".strip()))
            table.add_row("", "", f"[dim]{escape(remark['sentence'])}[/]")
    console.print(table)
    console.print("[green]passed[/]" if passed else "[red]blocked[/]")
