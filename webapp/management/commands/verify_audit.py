"""``manage.py verify_audit``: is the record what was written? Exit code 1 when it is not."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from research import audit


class Command(BaseCommand):
    help = "Verifies the chain of events; names what was changed, removed or added by hand."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--head", default="", help="a hash kept from an earlier --export: it has to be in the chain"
        )
        parser.add_argument("--export", action="store_true", help="print the head, to be kept somewhere else")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        head = options["head"].strip().lower()
        if head and not re.fullmatch("[0-9a-f]{64}", head):
            self.stderr.write("--head: must be the 64 hexadecimal digits that --export printed")
            sys.exit(2)
        if options["export"]:
            audit.chain()
        found = audit.verify(head)
        if options["json"]:
            self.stdout.write(json.dumps(asdict(found) | {"at": timezone.now().isoformat()}, indent=2))
        else:
            self.tell(found, options["export"])
        if found.findings:
            sys.exit(1)

    def tell(self, found: audit.Audit, export: bool) -> None:
        for finding in found.findings:
            self.stdout.write(self.style.ERROR(finding))
        if not found.findings:
            waiting = f", {found.num_unchained} of the last seconds not chained yet" if found.num_unchained else ""
            self.stdout.write(self.style.SUCCESS(f"{found.num_events:,} events are what was written{waiting}."))
        if export:
            self.stdout.write(f"{timezone.now():%Y-%m-%dT%H:%M:%SZ} {found.num_events} {found.sha256}")
