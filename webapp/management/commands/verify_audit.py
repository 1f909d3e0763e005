"""``manage.py verify_audit``: verifies the record against the audit chain. Exit code 1 when it was changed."""

from __future__ import annotations

import getpass
import json
import re
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from research.models import AuditHead
from research.record import audit, chain
from research.record.rights import Part


class Command(BaseCommand):
    help = "Verifies the chain of events and all that they tell of; names what was changed, removed or added by hand."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--head", default="", help="the line of an earlier --export, or its hash: it has to be in the chain"
        )
        parser.add_argument("--export", action="store_true", help="print the signed head, to be kept somewhere else")
        parser.add_argument("--json", action="store_true", help="one JSON object")
        parser.add_argument(
            "--begin-anew",
            default="",
            metavar="REASON",
            help="hold what is there now as it is and sign it with the key of this home, after a restore or a lost key",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        head = self.given_head(options["head"].strip())
        if options["begin_anew"].strip():
            self.begin_anew(options["begin_anew"].strip())
        elif options["export"]:
            self.chained()
        found = audit.verify(head)
        if options["json"]:
            self.stdout.write(json.dumps(asdict(found) | {"at": timezone.now().isoformat()}, indent=2))
        else:
            self.tell(found, options["export"])
        if found.findings:
            sys.exit(1)

    def given_head(self, said: str) -> str:
        """The hash to look for. A whole line is refused unless our key signed it."""
        if not said or re.fullmatch("[0-9a-f]{64}", said.lower()):
            return said.lower()
        try:
            kept = chain.parse(said)
        except ValueError:
            self.refuse("--head: must be the line that --export printed, in quotes, or the 64 hexadecimal digits in it")
        if not kept.is_ours:
            self.refuse(
                chain.problem_with_key(kept.signature)
                or "--head: the signature does not fit: this line was changed, or the record's key did not sign it"
            )
        return kept.sha256

    def refuse(self, sentence: str) -> Any:
        self.stderr.write(sentence)
        sys.exit(2)

    def chained(self) -> None:
        """Append new events first; a broken chain is told among the findings."""
        try:
            chain.chain()
        except (chain.Broken, chain.Busy) as why:
            self.stderr.write(f"the last seconds are not in the chain: {why}")

    def begin_anew(self, reason: str) -> None:
        """Begin the record anew. What is wrong until now is told once more; from here on the present rows count."""
        findings = audit.verify().findings
        for finding in findings:
            self.stdout.write(self.style.WARNING(f"until now: {finding}"))
        who = getpass.getuser()
        sentence = f"The record was begun anew by {who}, at the command line: {reason}"
        try:
            chain.begin(sentence, by=Part(f"operator:{who}"), findings=findings)
        except chain.Busy as busy:
            self.refuse(f"--begin-anew: {busy}, or pause the campaigns and stop the control worker first")

    def tell(self, found: audit.Audit, export: bool) -> None:
        for finding in found.findings:
            self.stdout.write(self.style.ERROR(finding))
        if not found.findings:
            waiting = f", {found.num_unchained} of the last seconds not chained yet" if found.num_unchained else ""
            self.stdout.write(
                self.style.SUCCESS(
                    f"{found.num_events:,} events are what was written{waiting}, and so are {found.num_rows:,} rows."
                )
            )
            self.stdout.write(since_when(found))
        if export and (head := AuditHead.objects.first()):
            self.stdout.write(chain.as_head(head).line())


def since_when(found: audit.Audit) -> str:
    if not found.begun:
        return "Nobody has signed this record yet: the control worker does, with its next look."
    if found.begun == 1:
        return "All of them carry the seal of this home's key."
    return f"From position {found.begun:,} on they carry the seal of this home's key; those before are hashed only."
