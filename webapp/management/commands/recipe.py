"""``manage.py recipe new|check PATH``: ``python -m gpu_runner recipe``, with the folders of this home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Writes a first recipe.toml for a training repository (new), or trains five steps of one (check)."
    requires_system_checks = []  # it asks neither the database nor the pages

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=("new", "check"), help="`recipe new --help` tells the rest")
        parser.add_argument("words", nargs=REMAINDER, metavar="...", help="as `python -m gpu_runner recipe` takes them")

    def run_from_argv(self, argv: list[str]) -> None:
        """Words that begin with a dash are the other program's, --help of an act among them."""
        if argv[2:3] and argv[2] in ("new", "check"):
            sys.exit(passed_on(argv[2:]))
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        if code := passed_on([options["act"], *options["words"]]):
            sys.exit(code)


def passed_on(words: list[str]) -> int:
    """The exit code of ``gpu_runner recipe``. A Ctrl+C reaches both, and only the other one answers it."""
    env = os.environ | {"COUNTERSIGN_HOME": str(settings.HOME), "COUNTERSIGN_DATASETS": str(settings.DATASETS)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(settings.BASE_DIR), os.environ.get("PYTHONPATH"))))
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # a handler, since "ignored" would be inherited
    try:
        return subprocess.run([sys.executable, "-m", "gpu_runner", "recipe", *words], env=env).returncode
    finally:
        signal.signal(signal.SIGINT, before)
