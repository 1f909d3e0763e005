"""Twenty proposals of a scripted Claude, decided on by scripted people and run by a worker that is played.

Claude is the local Messages API server: its answers, its bad days and its bill are written down in ``script``. All the
rest is the loop as it is: gates, revisions, decisions, runs, verdicts, ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any
from unittest import mock

from django.contrib.auth.models import Permission, User
from django.test import override_settings

from gpu_runner import contract
from research.change.drafts import Override
from research.loop import driver
from research.loop.driver import Driver
from research.models import Campaign, Proposal, Turn
from research.propose import briefing, drafting
from research.review import decisions, edit, override
from research.runs import dispatch
from tests import builders

from .anthropic_server import Script, Server, error, message, serving, text
from .test_claude_in_the_loop import make_answer

USD_PER_MTOK = {"input": 4, "output": 20, "read": Decimal("0.2"), "written_5m": 5, "written_1h": 8}  # Opus 5.5
IMPORTS = "from __future__ import annotations"
MAX_ROUNDS = 60


# --- what Claude says, and what becomes of it ---------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Idea:
    """One of Claude's, what people make of it, and its true effect (bpb, negative is better)."""

    title: str
    key: str
    value: contract.KnobValue
    people: str = "approve"  # approve | reject | changes | edit | withdraw
    effect_bpb: float = 0.0
    ends: str = "scored"  # scored | crashed | disputed
    code: str = ""  # a line put among the imports of train.py


WAVES = (
    (
        Idea(title="Warm up", key="warmup_fraction", value=0.05, effect_bpb=-0.08),
        Idea(title="Warm up for ever", key="warmup_fraction", value=0.5, effect_bpb=0.08),
        Idea(title="Other betas", key="adam_beta1", value=0.85),
        Idea(title="A huge batch", key="batch_size", value=64, people="reject"),
        Idea(title="Softer cap", key="softcap", value=60.0, people="changes", effect_bpb=-0.06),
    ),
    (
        Idea(title="A huge batch, again", key="batch_size", value=64),  # the rejected one: dropped before it is a row
        Idea(title="Deeper", key="depth", value=6, people="edit", effect_bpb=-0.07),
        Idea(title="Very high learning rate", key="matrix_lr", value=0.2, ends="crashed"),
        Idea(title="Starts a process", key="embed_lr", value=0.2, code="import subprocess", people="withdraw"),
        Idea(title="Longer rows", key="seq_len", value=512, effect_bpb=0.05),
    ),
    (
        Idea(title="No cool-down", key="cooldown_fraction", value=0.0, effect_bpb=0.09),
        Idea(title="Sharper n-grams", key="ngram_order", value=6),
        Idea(title="Clip", key="grad_clip", value=1.0, people="reject"),
        Idea(title="Too good", key="z_loss", value=0.001, effect_bpb=-0.9, ends="disputed"),
        Idea(title="Tied head", key="tied_head", value=True, effect_bpb=0.06),
    ),
    (
        Idea(title="Wider heads", key="head_dim", value=128),
        Idea(title="Plain Adam", key="matrix_optimizer", value="adamw", effect_bpb=0.1),
        Idea(title="Decay", key="weight_decay", value=0.1, people="reject"),
        Idea(title="Slow head", key="head_lr", value=0.008, effect_bpb=0.04),
        Idea(title="Rotary base", key="rotary_base", value=50_000.0, effect_bpb=-0.007),
    ),
    (Idea(title="Cosine", key="cooldown_shape", value="cosine", people="reject"),),
)
IDEAS = {idea.title: idea for wave in WAVES for idea in wave}
SOFTER = replace(IDEAS["Softer cap"], value=30.0)  # the revision that answers bob


def as_said(idea: Idea) -> dict[str, Any]:
    draft: dict[str, Any] = make_answer(0.1)["drafts"][0]
    overrides = [{"key": idea.key, "value": idea.value, "reason": "to find out"}]
    edits = []
    if idea.code:
        edits = [{"path": "train.py", "search": IMPORTS, "replace": f"{IMPORTS}\n{idea.code}"}]
    if idea.code:
        draft |= {"why_together": "The one is for the other."}
    return draft | {"title": idea.title, "overrides": overrides, "edits": edits}


# --- the server's side: answers, bad days, and the bill -----------------------------------------


@dataclass
class Till:
    """What the server bills, by its own arithmetic."""

    usd: Decimal = Decimal(0)

    def says(self, *ideas: Idea, read: int, written: int, stop_reason: str = "end_turn", **over: Any) -> Script:
        said = json.dumps(make_answer(0.1) | {"drafts": [as_said(idea) for idea in ideas]})
        shown = text(said if stop_reason == "end_turn" else said[:200])
        usage = {
            "input_tokens": 900,
            "output_tokens": 2_000,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": written},
        }
        answer = message(shown, stop_reason=stop_reason, usage=usage, **over)
        tokens = {"input": 900, "output": 2_000, "read": read, "written_1h": written}

        def script(handler: BaseHTTPRequestHandler) -> None:
            self.usd += sum((USD_PER_MTOK[kind] * n / Decimal(1_000_000) for kind, n in tokens.items()), Decimal(0))
            answer(handler)

        return script


def script(till: Till) -> list[Script]:
    """One answer a request, in the order in which the loop asks."""
    overloaded = error(529, "overloaded_error", "Overloaded", retry_after_ms="5")
    details = {"type": "refusal", "category": "frontier_llm"}
    return [
        till.says(*WAVES[0], read=0, written=20_000),
        till.says(SOFTER, read=14_000, written=6_000),
        overloaded,
        till.says(*WAVES[1], read=14_000, written=7_000),
        till.says(read=14_000, written=7_500, stop_reason="refusal", stop_details=details),
        till.says(*WAVES[2], read=20_000, written=1_500, stop_reason="max_tokens"),
        till.says(*WAVES[2], read=20_000, written=1_500),
        till.says(*WAVES[3], read=14_000, written=9_000),
        till.says(*WAVES[4], read=21_000, written=2_000),
    ]


# --- the people and the worker -------------------------------------------------------------------


def person(name: str, *permissions: str) -> User:
    user = User.objects.create_user(name, is_staff=True, first_name=name.title())
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@dataclass
class House:
    """alice looks, bob and carol decide, and a worker with one GPU runs what they approve."""

    campaign: Campaign
    bob: User
    carol: User
    loop: Driver
    num_runs: int = 0

    # the control worker

    def ask(self) -> None:
        """As much later as it takes: pauses between calls are the clock's."""
        self.campaign.refresh_from_db()
        if not self.campaign.proposals.filter(state__in=("drafted", "checking", "pending_review")).exists():
            Turn.objects.filter(campaign=self.campaign).update(retry_at=None)
            self.campaign.refresh_from_db()
            drafting.top_up(self.campaign)

    # the worker

    def work(self) -> None:
        worker = builders.make_worker()
        while (lease := builders.claim(worker)) is not None:
            self.num_runs += 1
            self._play(lease)
            self.loop.to_the_end()

    def _play(self, lease: contract.Lease) -> None:
        spec = lease.spec
        if spec.purpose == "smoke":
            builders.finish(lease, val_bpb=5.0)
            return
        level = 1.6 + 0.001 * (spec.seed % 7) + self._level(spec.approval.base_commit)
        if spec.purpose == "baseline":
            builders.finish(lease, val_bpb=level, device_s=40.0)
            return
        idea = IDEAS[spec.title]
        if idea.ends == "crashed":
            builders.fail(lease)
        else:
            outcome = "disputed" if idea.ends == "disputed" else "ok"
            luck = 0.004 * (spec.seed * 7 % 5 - 2)
            builders.finish(lease, val_bpb=level + idea.effect_bpb + luck, device_s=42.0, outcome=outcome)

    def _level(self, commit: str) -> float:
        """What the keeps before this commit have gained."""
        number = self.campaign.incumbents.get(commit=commit).number
        kept = self.campaign.incumbents.filter(number__lte=number, proposal__isnull=False)
        return sum(IDEAS[incumbent.proposal.title].effect_bpb for incumbent in kept if incumbent.proposal)

    # the people

    def decide(self) -> None:
        open_ = self.campaign.proposals.filter(state__in=("pending_review", "blocked"))
        for proposal in open_.select_related("campaign").order_by("pk"):
            self._decide_on(proposal, IDEAS[proposal.title])
            self.loop.to_the_end()

    def _decide_on(self, proposal: Proposal, idea: Idea) -> None:
        revision = proposal.revision
        said: dict[str, Any] = {"digest": revision.digest, "number": revision.number, "by": self.bob}
        is_new = not proposal.revisions.filter(origin__in=("answered", "edited")).exists()
        if idea.people == "withdraw":
            override.withdraw(proposal.pk, reason="The gate is right.", by=self.bob)
        elif idea.people == "reject":
            decisions.decide(proposal.pk, choice="reject", category="not_worth_it", reason="Too dear.", **said)
        elif idea.people == "changes" and is_new:
            decisions.decide(proposal.pk, choice="request_changes", reason="Half of that, please.", **said)
        elif idea.people == "edit" and is_new:
            draft = replace(
                briefing.draft_of(revision), overrides=(Override(key=idea.key, value=4, reason="carol: less"),)
            )
            edit.edit(proposal.pk, draft, number=revision.number, digest=revision.digest, by=self.carol)
        else:
            decisions.decide(proposal.pk, choice="approve", **said)


@dataclass(frozen=True, kw_only=True)
class Session:
    campaign: Campaign
    server: Server
    till: Till
    num_runs: int


def play() -> Session:
    """The whole story on the database that there is; ``MAX_ROUNDS`` bounds it."""
    campaign = builders.make_campaign(slug="session", name="Session", num_waiting=5, usd_per_gpu_hour=Decimal("2.5"))
    till = Till()
    scripts = script(till)
    answers = {bell: answer for bell, answer in driver.CONTROL.items() if bell != "control.propose"}  # asked by hand
    with serving(*scripts) as server, _claude_is(server), driver.driving(answers) as loop:
        house = House(
            campaign=campaign,
            bob=person("bob", "add_decision", "steer_campaign"),
            carol=person("carol", "add_decision", "add_proposal"),
            loop=loop,
        )
        for _ in range(MAX_ROUNDS):
            if len(server.asked) < len(scripts):
                house.ask()
            loop.to_the_end()
            house.work()
            house.decide()
            if len(server.asked) == len(scripts) and not _num_open(campaign):
                break
            dispatch.advance(campaign)
            house.work()
        campaign.refresh_from_db()
        return Session(campaign=campaign, server=server, till=till, num_runs=house.num_runs)


def _num_open(campaign: Campaign) -> int:
    return campaign.proposals.exclude(state__in=("judged", "rejected", "withdrawn")).count()


@contextmanager
def _claude_is(server: Server) -> Iterator[None]:
    """The local server, with a made-up key."""
    env = {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": server.url}
    with mock.patch.dict("os.environ", env), override_settings(ANTHROPIC_CONFIGURED=True):
        yield
