"""``manage.py doctor``: what this machine has, what a lack costs, what to do. Exit code 1 when nothing can run."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from webapp.house import doctor


class Command(BaseCommand):
    help = "Looks at this machine: one line a part, with what a lack costs and what to do about it."
    requires_system_checks = []  # it has to answer where little works

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON array instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        checks = [check() for check in doctor.ALL]
        if options["json"]:
            self.stdout.write(json.dumps([check.as_json() for check in checks], indent=2))
        else:
            for check in checks:
                self.tell(check)
        if any(check.essential and not check.ok for check in checks):
            sys.exit(1)

    def tell(self, check: doctor.Check) -> None:
        mark = self.style.SUCCESS("ok     ") if check.ok else self.style.WARNING("missing")
        self.stdout.write(f"{mark} {check.name:<14} {check.found}")
        for said in () if check.ok else (check.costs, check.todo):
            if said:
                self.stdout.write(f"{'':22} {said}")
