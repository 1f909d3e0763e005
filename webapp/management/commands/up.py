"""``manage.py up``: the whole of Countersign on this machine, until Ctrl+C. What ``make run`` calls."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from rich.console import Console
from rich.live import Live

from webapp.house import doctor, processes, supervisor, terminal
from webapp.house.supervisor import Supervisor
from webapp.management.commands.bootstrap import administrator
from webapp.pages.accounts import links


class Command(BaseCommand):
    help = "Starts Redis, the web process, the control worker and a GPU (or CPU) worker, and keeps them running."
    requires_system_checks = []  # `make check` runs them; here they only cost time

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--without",
            action="append",
            default=[],
            choices=["worker", "control"],
            help="leave a process to other machines",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Start everything. What is missing is told in one sentence, with exit code 1."""
        try:
            self.up(set(options["without"]))
        except (ValueError, CommandError, DatabaseError) as problem:
            self.stderr.write(f"Countersign cannot run: {problem}")
            sys.exit(1)
        except OSError as problem:  # a full disk, a folder that is not ours
            place = f"{problem.filename}: " if problem.filename else ""
            self.stderr.write(f"Countersign cannot run: {place}{problem.strerror}")
            sys.exit(1)

    def up(self, without: set[str]) -> None:
        os.umask(0o077)
        with supervisor.only_one(settings.HOME / "run") as lock:
            doctor.refuse_to_start_without()
            call_command("bootstrap", stdout=self.stdout)
            if "worker" not in without and (lack := doctor.lack_of_a_sandbox()) is not None:
                self.stdout.write(self.style.WARNING(lack))
                without = without | {"worker"}
            house = Supervisor(
                children=processes.children(without=without),
                logs=processes.log_dir(),
                inherited=lock,
                say=self.stdout.write,
            )
            house.listen()
            try:
                house.start_all()
                if not house.ends:
                    self.watch(house)
            finally:
                self.stdout.write("Ending ... (Ctrl+C again: at once)")
                house.end_all()
        self.stdout.write("All ended.")

    def watch(self, house: Supervisor) -> None:
        """Run until somebody ends it: a live view on a terminal, plain lines elsewhere."""
        link = f"{settings.PUBLIC_URL}/login/{links.make_link(administrator())}/"
        console = Console()
        if not terminal.is_a_screen(console):
            self.stdout.write(f"Countersign is up: {settings.PUBLIC_URL}\nSign in once, within the hour: {link}")
            self.stdout.flush()
            house.run()
            return
        house.say = lambda _: None  # the screen shows what was said
        with Live(console=console, auto_refresh=False) as live:
            screen = terminal.Screen(supervisor=house, url=settings.PUBLIC_URL, link=link, live=live)
            house.run(between=screen.draw)
