"""``manage.py token NAME --campaign SLUG``: lets a program propose, or only read."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from research.models import Campaign
from research.record.rights import COMMAND_LINE
from webapp.api import tokens
from webapp.models import AgentToken


class Command(BaseCommand):
    help = "Makes a token for an outside agent and prints it, once. A second call replaces it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="letters, digits, dot, dash and underscore; at most 64")
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--campaign", metavar="SLUG", help="the one that it may see")
        where.add_argument("--all", action="store_true", help="every campaign, later ones too")
        where.add_argument("--revoke", action="store_true", help="its token opens nothing any more")
        parser.add_argument("--scope", choices=[scope for scope, _ in AgentToken.SCOPES], default="propose")
        parser.add_argument(
            "--days", type=int, default=tokens.DAYS, help=f"until it expires; at most {tokens.MAX_DAYS}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["revoke"]:
                self._revoke(options["name"])
            else:
                self._make(options)
        except ValueError as error:
            raise CommandError(str(error)) from error

    def _revoke(self, name: str) -> None:
        token = AgentToken.objects.filter(name=name).first()
        if token is None:
            raise ValueError(f"name: there is no token of an agent {name!r}")
        tokens.revoke(token, by=COMMAND_LINE)
        self.stdout.write(f"The token of {name} is revoked.")

    def _make(self, options: dict[str, Any]) -> None:
        campaign = _campaign(options["campaign"])
        token = tokens.make(
            options["name"], campaign=campaign, by=COMMAND_LINE, scope=options["scope"], days=options["days"]
        )
        self.stdout.write(f"export COUNTERSIGN_URL={settings.PUBLIC_URL}")
        self.stdout.write(f"export COUNTERSIGN_AGENT_TOKEN={token}")


def _campaign(slug: str | None) -> Campaign | None:
    if slug is None:
        return None
    campaign = Campaign.objects.filter(slug=slug).first()
    if campaign is None:
        known = ", ".join(Campaign.objects.values_list("slug", flat=True)) or "none"
        raise ValueError(f"campaign: there is no {slug!r}; there are: {known}")
    return campaign
