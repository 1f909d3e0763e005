"""``manage.py bootstrap``: makes everything that a new home folder needs. A second call changes nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from research.models import Campaign
from research.propose import drafting
from research.record import chain
from research.record.rights import Part
from webapp.beginning.form import BeginForm, filled
from webapp.house import doctor

CORPUS = "stdlib"
CORPUS_WITHIN_S = 300.0
GOAL = "Fewer bits per byte of the Python standard library's source text, at the same number of training tokens."
PROGRAM = """\
Look first for what changes how much a short run learns from each token: learning rates and their schedule, batch size,
initialisation, what the attention sees, where the parameters are. Prefer changes that should still help a larger model.

One change a proposal, so that the verdict is about that change. Say what would refute it.
"""


class Command(BaseCommand):
    help = "Prepares the database, static files, the corpus, an administrator and the first campaign."

    def handle(self, *args: Any, **options: Any) -> None:
        self.step("Preparing the database", lambda: call_command("migrate", interactive=False, verbosity=0))
        self.signed()
        if static_is_stale():
            self.step("Collecting static files", collect_static)
        administrator()
        if not Campaign.objects.exists():
            self.step("Starting a first campaign, on the Python standard library's own source text", first_campaign)
            if not settings.ANTHROPIC_CONFIGURED:  # Claude takes a minute and money: the control worker asks it
                self.step("Drawing the first proposals from the offline catalogue", first_proposals)

    def signed(self) -> None:
        """Sign the record while nobody else writes, where nobody has: a new one, or one of an earlier version."""
        try:
            chain.chain()
            chain.begin_where_the_version_changed()
        except chain.Broken as broken:  # for people to look into; nothing that runs needs the chain
            self.stderr.write(f"The record is not what this home has signed: {broken}.")
        except chain.Busy as busy:
            self.stderr.write(f"The record was not begun: {busy}, with `manage.py bootstrap`.")

    def step(self, sentence: str, act: Any) -> None:
        self.stdout.write(f"{sentence} ...")
        self.stdout.flush()
        act()


def static_stamp() -> str:
    """Changes when a static file of ours, or Django, does."""
    digest = hashlib.sha256(django.get_version().encode())
    for path in sorted((settings.BASE_DIR / "static").rglob("*")):
        digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def static_is_stale() -> bool:
    stamp = Path(settings.STATIC_ROOT) / "collected"
    return not stamp.exists() or stamp.read_text() != static_stamp()


def collect_static() -> None:
    call_command("collectstatic", interactive=False, verbosity=0)
    (Path(settings.STATIC_ROOT) / "collected").write_text(static_stamp())


def administrator() -> User:
    """The first account, without a password: login links sign its person in, and the admin panel sets a password."""
    if found := User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first():
        return found
    return User.objects.create_superuser("admin", password=None)


def prepare_corpus() -> str:
    """Writes the corpus and returns its manifest's sha256. Raises CommandError with the reason."""
    command = [
        sys.executable,
        "-m",
        "gpu_runner",
        "data",
        "prepare",
        "--name",
        CORPUS,
        "--root",
        str(settings.DATASETS),
    ]
    try:
        made = subprocess.run(
            command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=CORPUS_WITHIN_S, check=True
        )
    except subprocess.CalledProcessError as failed:
        raise CommandError((failed.stderr.strip().splitlines() or ["The corpus could not be written."])[-1]) from failed
    except subprocess.TimeoutExpired as late:
        raise CommandError(f"The corpus was not written within {CORPUS_WITHIN_S:.0f} s: is the disk busy?") from late
    return made.stdout.splitlines()[0].rpartition(": ")[2]


def first_proposals() -> None:
    """Ask for the first proposals now, so that their smoke runs are queued before any long run."""
    drafting.top_up(Campaign.objects.get())


def first_campaign() -> Campaign:
    """A campaign that every machine can run: a small recipe, the corpus above, runs of half a minute on two cores."""
    form = BeginForm(
        filled(
            {
                "slug": "standard-library",
                "name": "Standard library",
                "goal": GOAL,
                "program": PROGRAM,
                "recipe": "gpt",
                "dataset": CORPUS,
                "dataset_sha256": prepare_corpus(),
                "budget_gpu_hours": 8.0,  # a night; the campaign's page says when it is spent, its settings raise it
                "sandbox_level": doctor.machine().get("sandbox") or "bubblewrap",
            }
        )
    )
    begun = form.begin(by=Part("bootstrap"), created_by=administrator()) if form.is_valid() else None
    if begun is None:
        raise CommandError(form.in_one_sentence)
    return begun
