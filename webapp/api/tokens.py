"""Tokens of outside agents: made, shown once, counted and revoked."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from gpu_runner import contract
from research.models import Campaign
from research.record import events, kinds, rights, watch
from research.record.rights import Actor, Agent
from webapp.models import AgentToken

DAYS = 90
MAX_DAYS = 365
AN_HOUR = timedelta(hours=1)
PROPOSALS_AN_HOUR = 60
SEEN_EVERY = timedelta(minutes=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class TooMany(Exception):
    """The token has reached its number of proposals within an hour."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"{PROPOSALS_AN_HOUR} proposals were sent within an hour, as many as a token may send")
        self.wait_s = max(1, round((until - timezone.now()).total_seconds()))


def make(name: str, *, campaign: Campaign | None, by: Actor, scope: str = "propose", days: int = DAYS) -> str:
    """A token for agent ``name``, for all campaigns or one; an earlier token of that name stops working.

    Returns the token; only its hash is stored. Raises PermissionDenied, or ValueError that names the field.
    """
    rights.check(by, rights.keep_tokens, campaign)
    check_name(name)
    if scope not in dict(AgentToken.SCOPES):
        raise ValueError(f"scope: must be one of {', '.join(dict(AgentToken.SCOPES))}, not {scope!r}")
    if scope == "begin" and campaign is not None:
        raise ValueError("scope: begin is for a token of every campaign, since a new one is none of them yet")
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"days: must be 1 to {MAX_DAYS}, not {days}")
    token = f"csa_{secrets.token_urlsafe(32)}"
    fields = {
        "token_sha256": _hash(token),
        "scope": scope,
        "campaign": campaign,
        "expires_at": timezone.now() + timedelta(days=days),
        "revoked_at": None,
    }
    with transaction.atomic(), watch.told_by_a_verb():
        made, _ = AgentToken.objects.update_or_create(name=name, defaults=fields)
        where = campaign.name if campaign else "every campaign"
        sentence = f"Agent {name} may {scope} in {where} for {days} days"
        fact, who = kinds.AGENT_TOKEN_MADE(), rights.name_of(by)
        events.record(fact, sentence, by=who, campaign=campaign, rows=[made])
    return token


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: {name!r} must be letters, digits, dot, dash or underscore, 64 at most")


def revoke(token: AgentToken, *, by: Actor) -> None:
    """Revoke a token. Raises PermissionDenied, or ValueError when it was revoked before."""
    rights.check(by, rights.keep_tokens, token.campaign)
    with transaction.atomic():
        if not AgentToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            raise ValueError(f"The token of {token} is revoked already.")
        sentence = f"The token of agent {token} was revoked"
        fact, who = kinds.AGENT_TOKEN_REVOKED(), rights.name_of(by)
        events.record(fact, sentence, by=who, campaign=token.campaign, rows=[token])


def find(token: str) -> AgentToken | None:
    """The row of a token that is valid now; None for any other. Notes when it was last used, to the minute."""
    now = timezone.now()
    rows = AgentToken.objects.select_related("campaign")
    found = rows.filter(token_sha256=_hash(token), revoked_at=None, expires_at__gt=now).first()
    if found is not None:
        old = Q(last_used_at=None) | Q(last_used_at__lt=now - SEEN_EVERY)
        AgentToken.objects.filter(old, pk=found.pk).update(last_used_at=now)
    return found


def agent_of(token: AgentToken) -> Agent:
    """The actor that the token stands for."""
    return Agent(
        name=token.name,
        campaign=token.campaign_id,
        may_propose=token.scope in ("propose", "begin"),
        may_begin=token.scope == "begin",
    )


def count(token: AgentToken) -> None:
    """Count one request that proposes, whether valid or not. Raises TooMany."""
    now = timezone.now()
    mine = AgentToken.objects.filter(pk=token.pk)
    this_hour = mine.filter(hour_began_at__gt=now - AN_HOUR)
    if this_hour.filter(num_in_hour__lt=PROPOSALS_AN_HOUR).update(num_in_hour=F("num_in_hour") + 1):
        return
    began_at = this_hour.values_list("hour_began_at", flat=True).first()
    if began_at is not None:
        raise TooMany(began_at + AN_HOUR)
    mine.update(hour_began_at=now, num_in_hour=1)


def _hash(token: str) -> str:
    return contract.sha256(token.encode())
