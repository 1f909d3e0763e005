"""What may be set of a campaign is set on its settings page: by whom, within which bounds, and on record."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from research.loop import reconcile
from research.models import Campaign, Event, Proposal
from research.propose import notes
from research.review import decisions
from tests import builders
from tests.web.people import browser_of

pytestmark = pytest.mark.django_db
SETTINGS = "/campaigns/first/settings/"


@pytest.fixture
def campaign(db: None) -> Campaign:
    return builders.make_campaign()


@pytest.fixture
def danas_browser(db: None) -> Client:
    """Of an administrator."""
    return browser_of(User.objects.create_superuser("dana"))


def posted(answer: Any) -> dict[str, Any]:
    """What a browser would post back from the page, unchanged."""
    values = {field.name: field.value() for field in answer.context["form"]}
    return {name: value for name, value in values.items() if value is not None}


SCIENCE = {
    "alpha": 0.9, "min_effect_bpb": 1.0, "min_pairs": 1, "max_pairs": 1, "budget_usd": "1", "budget_gpu_hours": 1.0,
    "goal": "Anything.", "program": "Win.", "target_bpb": 9.0, "approval_ttl_h": 1.0, "deadline_s": 5.0,
}  # fmt: skip


def test_a_campaigns_policy_can_be_set_and_that_is_on_record(campaign: Campaign, danas_browser: Client) -> None:
    form = posted(danas_browser.get(SETTINGS))
    assert "state" not in form
    assert "slug" not in form
    Campaign.objects.filter(pk=campaign.pk).update(state="paused")  # meanwhile bob pauses it
    changed = form | {"max_pairs": 9, "program": "Look at the learning rate first.", "state": "spent"}
    assert danas_browser.post(SETTINGS, changed).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.max_pairs, campaign.program, campaign.state) == (9, "Look at the learning rate first.", "paused")
    event = Event.objects.get(kind="campaign.changed")
    assert (event.by, event.payload["changes"]["max_pairs"]) == ("user:dana", [6, 9])
    assert event.sentence.startswith("campaign first was changed: ")
    assert "max_pairs 6 -> 9" in event.sentence


def test_text_that_a_browser_only_carried_to_and_fro_was_changed_by_nobody(
    campaign: Campaign, danas_browser: Client
) -> None:
    """Every browser sends CRLF for the end of a line, and Django takes a last one off."""
    campaign.program = "Learning rates first.\nThen attention.\n"
    campaign.save()
    form = posted(danas_browser.get(SETTINGS))
    sent = form | {"program": form["program"].replace("\n", "\r\n"), "alpha": 0.2}
    assert danas_browser.post(SETTINGS, sent).status_code == 302
    assert [*Event.objects.filter(kind="campaign.changed").latest("pk").payload["changes"]] == ["alpha"]
    danas_browser.post(SETTINGS, sent | {"program": "Attention.\r\nThen heads.\r\n"})
    campaign.refresh_from_db()
    assert campaign.program == "Attention.\nThen heads."


def test_a_policy_that_no_run_could_follow_is_refused(campaign: Campaign, danas_browser: Client) -> None:
    form = posted(danas_browser.get(SETTINGS)) | {"min_pairs": 7, "max_pairs": 2}
    answer = danas_browser.post(SETTINGS, form)
    assert answer.status_code == 422
    assert "max_pairs 2 is below min_pairs 7" in answer.content.decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline_s", "0"),  # no worker could be given such a run
        ("deadline_s", "1e300"),
        ("approval_ttl_h", "1e12"),  # no calendar goes so far back: nothing of the campaign would go on
        ("approval_ttl_h", "-1"),
        ("budget_gpu_hours", "-1"),
        ("budget_usd", "-0.01"),
        ("usd_per_gpu_hour", "-1"),
        ("max_pairs", "999"),  # the sealed pair's seed; a further one would be the next incumbent's
        ("num_waiting", "32767"),
    ],
)
def test_a_number_that_the_loop_could_not_live_with_is_refused_beside_its_field(
    campaign: Campaign, danas_browser: Client, name: str, value: str
) -> None:
    form = posted(danas_browser.get(SETTINGS)) | {name: value}
    answer = danas_browser.post(SETTINGS, form)
    assert answer.status_code == 422
    assert [*answer.context["form"].errors] == [name]


def test_claude_is_asked_in_batches_when_dana_ticks_that(campaign: Campaign, danas_browser: Client) -> None:
    form = posted(danas_browser.get(SETTINGS))
    danas_browser.post(SETTINGS, form | {"in_batches": "True"})
    campaign.refresh_from_db()
    assert campaign.in_batches


def test_bob_steers_and_sets_how_much_waits_but_not_what_a_result_means(
    campaign: Campaign, bobs_browser: Client, bob: User
) -> None:
    before = Campaign.objects.values(*SCIENCE).get()
    shown = bobs_browser.get(SETTINGS)
    form = posted(shown)
    assert not SCIENCE.keys() & form.keys()
    changed = form | SCIENCE | {"num_waiting": 7}
    assert bobs_browser.post(SETTINGS, changed).status_code == 302
    assert Campaign.objects.values(*SCIENCE).get() == before
    assert Campaign.objects.get().num_waiting == 7
    event = Event.objects.get(kind="campaign.changed")
    assert (event.by, event.payload["changes"]) == ("user:bob", {"num_waiting": [3, 7]})


def test_whoever_sets_alpha_is_named_with_what_it_was_and_is(campaign: Campaign, alice: User, client: Client) -> None:
    """She has the right to the science, and none to steer."""
    alice.user_permissions.add(Permission.objects.get(codename="change_campaign"))
    client.force_login(User.objects.get(pk=alice.pk))
    form = posted(client.get(SETTINGS)) | {"alpha": 0.2}
    assert client.post(SETTINGS, form).status_code == 302
    event = Event.objects.get(kind="campaign.changed")
    assert (event.by, event.payload["changes"]) == ("user:alice", {"alpha": [0.05, 0.2]})
    assert event.sentence == "campaign first was changed: alpha 0.05 -> 0.2"
    with pytest.raises(PermissionDenied):
        notes.note(campaign, "Now.", by=User.objects.get(pk=alice.pk))
    assert client.post(reverse("campaign-state", args=[campaign.slug]), {"state": "paused"}).status_code == 403


def test_an_approval_is_stale_once_the_science_has_changed(
    campaign: Campaign, bob: User, danas_browser: Client
) -> None:
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    form = posted(danas_browser.get(SETTINGS)) | {"alpha": 0.2}
    assert danas_browser.post(SETTINGS, form).status_code == 409, "asked once more"
    danas_browser.post(SETTINGS, form | {"knowingly": "1"})
    reconcile.reconcile()
    assert Proposal.objects.get(pk=proposal.pk).state == "stale"
