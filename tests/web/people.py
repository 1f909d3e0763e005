"""What people do in these tests: open a browser, read a page, have proposals judged."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from research.models import Proposal, Verdict
from tests import builders


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client, address: str, **extra: Any) -> str:
    response = client.get(address, follow=True, **extra)
    assert response.status_code == 200, address
    return response.content.decode()


def judge_times(like: Proposal, count: int) -> None:
    """Rows as the judge leaves them; the arithmetic is tested where it lives."""
    for _ in range(count):
        proposal = builders.make_proposal(like.campaign)
        Proposal.objects.filter(pk=proposal.pk).update(state="judged")
        pairs = [{"seed": 1, "candidate_bpb": 1.59, "incumbent_bpb": 1.6, "difference_bpb": -0.01, "e_value": 2.0}]
        Verdict.objects.create(
            revision=proposal.revision, outcome="inconclusive", reason="spent", effect_bpb=-0.01, low_bpb=-0.05,
            high_bpb=0.03, e_value=2.0, num_pairs=1, pairs=pairs, candidate_bpb=1.59, incumbent_bpb=1.6,
        )  # fmt: skip
