"""Bob reads numbers that nobody measured: on every page they have a colour of their own, their unit, and that word."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research.models import Run, Verdict
from research.record import withheld
from tests.builders import make_campaign
from tests.self_reported import ABOUT, make_running, train_all
from webapp.notify import outbox

from .people import text_of

pytestmark = pytest.mark.django_db(transaction=True)


def told_in(html: str) -> list[str]:
    """What stands in the colour of the self-reported, without tags."""
    parts = [part.split(">", 1)[1].split("</span>")[0] for part in html.split('class="told')[1:]]
    return [" ".join(part.replace("<small>", " ").replace("</small>", " ").split()) for part in parts]


def test_a_self_reported_number_is_called_so_on_every_page(bob: User, client: Client) -> None:
    campaign = make_campaign(judges_self_reported=True, **ABOUT)
    proposal = make_running(campaign, bob)
    train_all([2.0, 2.01, 1.99, 2.0], [3.0, 3.01, 3.0, 2.99])
    verdict = Verdict.objects.get()
    client.force_login(bob)

    page = text_of(client, f"/proposals/{proposal.pk}/")
    assert "Self-reported val_loss" in page and "Trusted val_bpb" not in page
    assert any(said.endswith("nats per token self-reported val_loss") for said in told_in(page))
    assert "−1.0033 nats per token self-reported val_loss" in told_in(page)
    assert "Self-reported, pair by pair" in page and "Nobody measured them" in page

    run = Run.objects.filter(purpose="candidate").earliest("pk")
    page = text_of(client, f"/runs/{run.pk}/")
    assert "2.0000 nats per token self-reported val_loss" in told_in(page)
    assert "The trainer’s own word" in page
    assert "2.0000 nats per token self-reported val_loss" in told_in(text_of(client, "/runs/"))

    page = text_of(client, f"/campaigns/{campaign.slug}/")
    assert "val_loss (nats per token, self-reported)" in told_in(page)
    assert "−1.0033 nats per token self-reported val_loss" in told_in(page)

    outside = withheld.verdict(verdict)
    assert outside["effect_bpb"] is None and outside["self_reported"]["metric"] == "val_loss"
    assert outbox._run(run)["val_bpb"] is None and outbox._run(run)["self_reported"]["value"] == 2.0
