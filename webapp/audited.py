"""Puts accounts, groups, tokens and login links under the audit chain, and writes an event for each change of one."""

from __future__ import annotations

from django.contrib.auth.models import Group, User

from research.record import kinds, watch
from research.record.held import Table, cover
from webapp.models import AgentToken, LoginLink

_COUNTED = "counts what the token was used for; what it may is held"
_RIGHTS = "content_type__app_label codename"  # by name: another name in the database must not give another right


def connect() -> None:
    """Register the tables. Called once, when the app is ready."""
    for table in (
        Table(
            model=User,
            name="the account {username}",
            by_column=True,
            apart={"last_login": "changes with every login"},
            secret=frozenset({"password"}),
            many={"groups": "pk", "user_permissions": _RIGHTS},
        ),
        Table(model=Group, name="the group {name}", by_column=True, many={"permissions": _RIGHTS}),
        Table(
            model=AgentToken,
            name="the token of agent {name}",
            by_column=True,
            rewrites={
                kinds.AGENT_TOKEN_MADE: frozenset({"token_sha256", "scope", "campaign_id", "expires_at", "revoked_at"}),
                kinds.AGENT_TOKEN_REVOKED: frozenset({"revoked_at"}),
            },
            apart=dict.fromkeys(("last_used_at", "hour_began_at", "num_in_hour"), _COUNTED),
            secret=frozenset({"token_sha256"}),
        ),
        Table(
            model=LoginLink,
            name="login link {id}, of {user__username}",
            moving=frozenset({"used_at"}),
            secret=frozenset({"token_sha256"}),
        ),
    ):
        watch.over(cover(table))
