"""``manage.py worker NAME``: enrols another GPU machine and prints its token."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from research.record.rights import COMMAND_LINE
from research.runs import workers


class Command(BaseCommand):
    help = "Makes a token for a worker and prints what its machine needs. A second call replaces the token."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="letters, digits, dot, dash and underscore; at most 64")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            token = workers.enrol(options["name"], by=COMMAND_LINE)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"export COUNTERSIGN_URL={settings.PUBLIC_URL}")
        self.stdout.write(f"export COUNTERSIGN_WORKER_NAME={options['name']}")
        self.stdout.write(f"export COUNTERSIGN_WORKER_TOKEN={token}")
        self.stdout.write("export COUNTERSIGN_BROKER_URL=...   # a Redis that both machines reach")
