"""``manage.py propose CAMPAIGN``: ask for proposals now; ``--dry-run`` prints what would be asked, and its price."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from research.arms.claude import prompt as prompts
from research.arms.claude.client import MAX_TOKENS
from research.arms.claude.prompt import Prompt
from research.arms.claude.proposer import DEFAULT_MODEL, ClaudeProposer, Quote
from research.arms.claude.reply import schema
from research.models import Campaign
from research.propose import briefing, drafting, turns

CHARS_PER_TOKEN = 3.5  # English and Python, roughly; said to be an estimate wherever it is used


class Command(BaseCommand):
    help = "Asks for the proposals that a campaign is missing; --dry-run prints the request instead of sending it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", help="its slug, as in the address of its page")
        parser.add_argument("--dry-run", action="store_true", help="print the request, its tokens and its price")
        parser.add_argument("--num", type=int, default=0, help="how many drafts a dry run asks for")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(slug=options["campaign"]).first()
        if campaign is None:
            known = ", ".join(Campaign.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"campaign: there is no {options['campaign']!r}; there are {known}")
        if options["num"] < 0:
            raise CommandError("--num: must be 1 or more")
        self.as_json = options["json"]
        if options["dry_run"]:
            self.show(campaign, options["num"] or drafting.num_missing(turns.of(campaign)) or 1)
        else:
            self.ask(campaign)

    def ask(self, campaign: Campaign) -> None:
        written = drafting.top_up(campaign)
        campaign.refresh_from_db()
        if self.as_json:
            problem = turns.of(campaign).problem if written else _why_none(campaign)
            said = {"proposals": [str(proposal) for proposal in written], "problem": problem}
            self.stdout.write(json.dumps(said, indent=2))
            return
        for proposal in written:
            self.stdout.write(str(proposal))
        if not written:
            self.stdout.write(_why_none(campaign))

    def show(self, campaign: Campaign, num_wanted: int) -> None:
        model = settings.ANTHROPIC_MODEL or DEFAULT_MODEL
        prompt = prompts.propose(briefing.brief(campaign, num_wanted))
        quote, note = self.quote(campaign, model, prompt)
        usd = None if quote is None or quote.usd_at_most is None else f"{quote.usd_at_most:.4f}"
        about = {
            "model": model,
            "prompt_sha256": prompt.sha256(),
            "templates_sha256": prompts.templates_sha256(),
            "input_tokens": None if quote is None else quote.num_tokens,
            "max_output_tokens": MAX_TOKENS,
            "usd_at_most": usd,
            "note": note,
        }
        if self.as_json:
            request = {"system": prompt.system, "messages": prompt.messages, "schema": schema()}
            self.stdout.write(json.dumps(about | {"request": request}, indent=2))
            return
        for block in _blocks(prompt):
            self.stdout.write(f"{block}\n")
        for name, value in about.items():
            if value is not None and value != "":
                self.stdout.write(f"{name}: {value}")

    def quote(self, campaign: Campaign, model: str, prompt: Prompt) -> tuple[Quote | None, str]:
        """Tokens and price by the API's own count, which is free; an estimate without a key."""
        if not settings.ANTHROPIC_CONFIGURED:
            num_chars = sum(map(len, _blocks(prompt)))
            guess = f"about {num_chars / CHARS_PER_TOKEN:,.0f} tokens, guessed from {num_chars:,} characters"
            return None, f"without ANTHROPIC_API_KEY nothing is counted and nothing would be sent: {guess}"
        source = turns.proposer(turns.of(campaign))
        assert isinstance(source, ClaudeProposer)
        quote = source.quote(model, prompt)
        return quote, quote.problem or "this request would be sent"


def _why_none(campaign: Campaign) -> str:
    if campaign.state != "active":
        return f"{campaign.name} is {campaign.state}: nothing is asked for until a person resumes it."
    turn = turns.of(campaign)
    return turn.batch_problem or turn.problem or "Nothing to ask for: enough proposals wait, or somebody is asking."


def _blocks(prompt: Prompt) -> list[str]:
    """The text of every block, in the model's reading order."""
    asked = prompt.messages[0]["content"]
    return [block["text"] for block in [*prompt.system, *asked]]
