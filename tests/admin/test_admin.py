"""An administrator looks at everything and can rewrite nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from research.models import (
    Campaign,
    Decision,
    Event,
    Gate,
    LedgerEntry,
    Note,
    Proposal,
    ReportBatch,
    Revision,
    Score,
    Turn,
    Verdict,
    Wave,
    Worker,
)
from research.propose import histories, notes, turns
from research.record import audit
from research.record.rights import COMMAND_LINE
from research.review import decisions
from research.runs import dispatch
from tests import builders
from tests.history.tables import make_reading
from webapp.api import tokens
from webapp.models import AgentToken
from webapp.notify.models import KINDS, Delivery, Endpoint
from webapp.pages.accounts import links

pytestmark = pytest.mark.django_db
AUDIT = [Event, Decision, Verdict, Gate, Revision, Score, ReportBatch, LedgerEntry, Note, Wave]
STATIC = Path(__file__).resolve().parents[2] / "static" / "css"


@pytest.fixture
def dana(db: None) -> User:
    """Administers."""
    rights = {"is_staff": True, "is_superuser": True}
    return User.objects.create(username="dana", email="dana@lab.example", password=builders.password_hash(), **rights)


@pytest.fixture
def danas_browser(dana: User, client: Client) -> Client:
    client.force_login(dana)
    return client


@pytest.fixture
def endpoint(db: None) -> Endpoint:
    return Endpoint.objects.create(description="Experiment tracker", url="https://t.example/in", kinds=list(KINDS))


@pytest.fixture
def world(endpoint: Endpoint, campaign: Campaign, bob: User, dana: User) -> Campaign:
    """At least one row of everything that has a page."""
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    dispatch.advance(campaign)
    while Proposal.objects.get(pk=proposal.pk).state != "judged":
        lease = builders.claim(builders.make_worker())
        assert lease is not None
        effect = -0.1 if lease.spec.purpose == "candidate" else 0.0
        builders.finish(lease, val_bpb=1.6 + 0.001 * (lease.spec.seed % 7) + effect)
    builders.make_wave(campaign, builders.make_draft(title="Of a wave"))
    assert turns.begin(campaign)
    audit.chain()
    notes.note(campaign, "Look at attention.", by=dana)
    histories.bring(campaign, make_reading(), by=dana)
    links.make_link(dana)
    tokens.make("scout", campaign=campaign, by=COMMAND_LINE)
    Group.objects.create(name="Reviewers")
    return campaign


def page(model: type[Model], which: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{which}", args=args)


def posted(answer: Any) -> dict[str, Any]:
    """What a browser would post back from a change page, unchanged."""
    form = answer.context["adminform"].form
    values = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    return {name: value for name, value in values.items() if value is not None}


def test_a_campaign_is_read_here_and_set_on_its_own_page(campaign: Campaign, danas_browser: Client) -> None:
    answer = danas_browser.get(page(Campaign, "change", campaign.pk))
    assert "/campaigns/first/settings/" in answer.content.decode()
    assert posted(answer) == {}
    assert danas_browser.post(page(Campaign, "change", campaign.pk), {"alpha": 0.2}).status_code == 403


def test_what_claude_sent_back_is_shown_as_it_came_and_does_nothing(campaign: Campaign, danas_browser: Client) -> None:
    answer = "<script>alert(1)</script> \N{RIGHT-TO-LEFT OVERRIDE}evil"
    entry = LedgerEntry.objects.create(campaign=campaign, kind="claude", answer=answer)
    html = danas_browser.get(page(LedgerEntry, "change", entry.pk)).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &lt;U+202E&gt;evil</div>" in html


def test_every_list_and_every_page_opens(world: Campaign, danas_browser: Client) -> None:
    assert danas_browser.get(reverse("admin:index")).status_code == 200
    for model in admin.site._registry:
        row = model._default_manager.first()
        assert row is not None, f"the world lacks a {model.__name__}"
        with CaptureQueriesContext(connection) as queries:
            assert danas_browser.get(page(model, "changelist")).status_code == 200, model
        assert len(queries) <= 14, f"{model.__name__}: a query for each row?"
        assert danas_browser.get(page(model, "changelist"), {"q": "1"}).status_code == 200, model
        assert danas_browser.get(page(model, "change", row.pk)).status_code == 200, model


def test_pages_hold_no_inline_script_and_no_token(world: Campaign, endpoint: Endpoint, danas_browser: Client) -> None:
    worker = Worker.objects.get()
    for model in admin.site._registry:
        row = model._default_manager.first()
        assert row is not None
        html = danas_browser.get(page(model, "change", row.pk)).content.decode()
        assert not re.search(r"<script(?![^>]*\b(src|type=\"application/json\"))|<style|\son\w+=", html), model
        for secret in (endpoint.secret, worker.token_sha256):
            assert secret not in html, model


def test_audit_rows_cannot_be_added_changed_or_deleted(world: Campaign, danas_browser: Client) -> None:
    for model in AUDIT:
        before = list(model._default_manager.values())
        pk = before[0]["id"]
        assert danas_browser.get(page(model, "add")).status_code == 403
        assert danas_browser.post(page(model, "add"), {}).status_code == 403
        forged = {"sentence": "It never happened.", "outcome": "keep", "choice": "approve"}
        assert danas_browser.post(page(model, "change", pk), forged).status_code == 403
        assert danas_browser.post(page(model, "delete", pk), {"post": "yes"}).status_code == 403
        selected = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
        danas_browser.post(page(model, "changelist"), selected)
        assert list(model._default_manager.values()) == before, model


def test_whoever_is_no_administrator_sees_none_of_it(
    campaign: Campaign, alice: User, charlie: User, client: Client
) -> None:
    for person in (alice, charlie):
        client.force_login(person)
        assert client.get(page(Event, "changelist")).status_code in (302, 403)
    alice.user_permissions.add(Permission.objects.get(codename="view_event"))
    client.force_login(User.objects.get(pk=alice.pk))
    assert client.get(page(Event, "changelist")).status_code == 200


def test_dana_reads_beside_a_campaigns_settings_what_is_wrong_with_its_proposer(
    campaign: Campaign, danas_browser: Client
) -> None:
    address = page(Campaign, "change", campaign.pk)
    assert "not JSON" not in danas_browser.get(address).content.decode()
    assert not Turn.objects.exists(), "looking writes nothing"
    broken = {"problem": "The answer is not JSON.", "batch_problem": "It answers 529."}
    Turn.objects.create(campaign=campaign, arm="offline", retry_at=campaign.created_at, **broken)
    text = danas_browser.get(address).content.decode()
    assert all(sentence in text for sentence in broken.values())
    assert f"{campaign.created_at:%b. %-d, %Y}" in text or f"{campaign.created_at:%B %-d, %Y}" in text


def test_a_worker_can_be_switched_off_but_not_renamed(danas_browser: Client) -> None:
    worker = builders.make_worker()
    assert danas_browser.post(page(Worker, "change", worker.pk), {"name": "other"}).status_code == 302
    worker.refresh_from_db()
    assert (worker.name, worker.enabled) == ("box", False)
    assert Event.objects.get(kind="worker.switched_off").by == "user:dana"


def test_a_secret_is_shown_once_when_the_endpoint_is_made(danas_browser: Client) -> None:
    fields = {"description": "Paper bot", "url": "https://bot.example/in", "kinds": ["verdict"]}
    answer = danas_browser.post(page(Endpoint, "add"), fields)
    endpoint = Endpoint.objects.get(description="Paper bot")
    assert endpoint.secret in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    for url in (
        page(Endpoint, "changelist"),
        page(Endpoint, "change", endpoint.pk),
        page(Endpoint, "history", endpoint.pk),
    ):
        assert endpoint.secret not in danas_browser.get(url).content.decode()
    assert endpoint.kinds == ["verdict"]


def test_an_endpoint_that_could_never_be_sent_to_is_not_made(danas_browser: Client) -> None:
    fields = {"description": "Inwards", "url": "http://tracker.example/", "kinds": ["verdict"]}
    answer = danas_browser.post(page(Endpoint, "add"), fields)
    assert "must start with https://" in answer.content.decode()
    assert not Endpoint.objects.exists()


def act(danas_browser: Client, name: str, *rows: Model) -> Any:
    chosen = {"action": name, "_selected_action": [row.pk for row in rows]}
    return danas_browser.post(page(type(rows[0]), "changelist"), chosen, follow=True)


def test_rotating_shows_the_new_secret_once_and_signs_with_both(endpoint: Endpoint, danas_browser: Client) -> None:
    answer = act(danas_browser, "rotate_secret", endpoint)
    rotated = Endpoint.objects.get()
    assert rotated.secret != endpoint.secret
    assert rotated.old_secret == endpoint.secret
    assert rotated.secret in answer.content.decode()
    assert endpoint.secret not in answer.content.decode()


def test_send_test_replay_and_switching_off_and_on(endpoint: Endpoint, danas_browser: Client) -> None:
    act(danas_browser, "send_test", endpoint)
    test = Delivery.objects.get(kind="test")
    assert "is still under way" in act(danas_browser, "replay", test).content.decode()
    act(danas_browser, "switch_off", endpoint)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"failed"}
    assert "switch it on to replay" in act(danas_browser, "replay", test).content.decode()
    assert "switch it on to send it a test" in act(danas_browser, "send_test", endpoint).content.decode()
    act(danas_browser, "switch_on", endpoint)
    act(danas_browser, "replay", test)
    again = Delivery.objects.get(kind="test")
    assert (again.state, again.num_attempts, again.webhook_id) == ("pending", 0, test.webhook_id)
    told = Event.objects.filter(kind__startswith="endpoint.").exclude(kind="endpoint.added").order_by("pk")
    assert list(told.values_list("by", flat=True)) == ["user:dana"] * 2


def test_the_admins_colours_are_the_products() -> None:
    ours = dict(re.findall(r"--([\w-]+):\s*(light-dark\(oklch[^;]+\));", (STATIC / "app.css").read_text()))
    theirs = dict(re.findall(r"--cs-([\w-]+):\s*(light-dark\(oklch[^;]+\));", (STATIC / "admin.css").read_text()))
    assert len(theirs) > 10
    for name, value in theirs.items():
        assert value.split() == ours[name].split(), name


def token_in(answer: Any) -> str:
    found = re.search(r'value="(csa_[^"]+)"', answer.content.decode())
    assert found is not None
    return found[1]


def test_an_agents_token_is_shown_once_replaced_and_revoked(campaign: Campaign, danas_browser: Client) -> None:
    fields = {"name": "scout", "scope": "propose", "campaign": campaign.pk, "days": 30}
    answer = danas_browser.post(page(AgentToken, "add"), fields)
    first, row = token_in(answer), AgentToken.objects.get()
    assert "no-store" in answer["Cache-Control"]
    assert tokens.find(first) == row
    for url in (page(AgentToken, "changelist"), page(AgentToken, "change", row.pk)):
        assert first not in danas_browser.get(url).content.decode()
        assert row.token_sha256 not in danas_browser.get(url).content.decode()
    second = token_in(act(danas_browser, "replace", row))
    assert (tokens.find(first), tokens.find(second)) == (None, row)
    act(danas_browser, "revoke", row)
    assert tokens.find(second) is None
    assert "revoked already" in act(danas_browser, "revoke", row).content.decode()
    assert set(Event.objects.filter(kind__startswith="agent.").values_list("by", flat=True)) == {"user:dana"}


@pytest.mark.parametrize("wrong", [{"name": "a b"}, {"days": 366}, {"scope": "approve"}])
def test_a_token_that_cannot_be_is_not_made(campaign: Campaign, danas_browser: Client, wrong: dict[str, Any]) -> None:
    fields = {"name": "scout", "scope": "propose", "campaign": campaign.pk, "days": 30} | wrong
    assert danas_browser.post(page(AgentToken, "add"), fields).status_code == 200
    assert not AgentToken.objects.exists()


def test_alice_makes_no_token(alice: User, campaign: Campaign, client: Client) -> None:
    client.force_login(alice)
    assert client.post(page(AgentToken, "add"), {"name": "scout", "scope": "propose", "days": 3}).status_code == 403


# --- who may set what, and who did ---------------------------------------------------------------


def test_alice_who_has_neither_right_does_not_see_the_form(campaign: Campaign, alice: User, client: Client) -> None:
    client.force_login(alice)
    assert client.get(page(Campaign, "change", campaign.pk)).status_code == 403


def told(kind: str) -> Event:
    return Event.objects.filter(kind=kind).latest("pk")


def test_whoever_gives_rights_is_named_with_the_rights(dana: User, alice: User, danas_browser: Client) -> None:
    decide = Permission.objects.get(codename="add_decision")
    form = posted(danas_browser.get(page(User, "change", alice.pk)))
    form |= {"user_permissions": [decide.pk], "groups": [], "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    assert danas_browser.post(page(User, "change", alice.pk), form).status_code == 302
    event = told("user.changed")
    assert event.by == "user:dana"
    assert event.payload["changes"]["user_permissions"] == [[], ["research.add_decision"]]
    assert event.sentence == "the account alice was changed: user_permissions +research.add_decision"
    assert audit_findings() == []


def test_a_new_password_is_on_record_and_nothing_of_it(alice: User, danas_browser: Client) -> None:
    was = alice.password
    new = {"usable_password": "true", "password1": "correct horse staple", "password2": "correct horse staple"}
    url = reverse("admin:auth_user_password_change", args=[alice.pk])
    assert danas_browser.post(url, new).status_code == 302
    event = told("user.changed")
    assert (event.by, event.payload["changes"]) == ("user:dana", {"password": ["secret", "another secret"]})
    alice.refresh_from_db()
    assert was not in str(event.payload)
    assert alice.password not in str(event.payload) + event.sentence


def test_groups_are_on_record_also_when_they_are_deleted_with_members_in_them(
    alice: User, danas_browser: Client
) -> None:
    decide = Permission.objects.get(codename="add_decision")
    danas_browser.post(page(Group, "add"), {"name": "Reviewers", "permissions": [decide.pk]})
    group = Group.objects.get()
    assert (told("group.added").by, told("group.changed").payload["changes"]["permissions"]) == (
        "user:dana",
        [[], ["research.add_decision"]],
    )
    alice.groups.add(group)
    danas_browser.post(page(Group, "delete", group.pk), {"post": "yes"})
    assert told("group.removed").by == told("user.changed").by == "user:dana"
    assert told("user.changed").payload["changes"] == {"groups": [[group.pk], []]}
    assert audit_findings() == []


def test_whoever_moves_a_webhook_is_named_with_both_addresses_and_no_secret(
    endpoint: Endpoint, danas_browser: Client
) -> None:
    form = {"description": endpoint.description, "url": "https://evil.example/in", "kinds": ["verdict"]}
    assert danas_browser.post(page(Endpoint, "change", endpoint.pk), form).status_code == 302
    event = told("endpoint.changed")
    assert event.by == "user:dana"
    assert event.payload["changes"]["url"] == ["https://t.example/in", "https://evil.example/in"]
    danas_browser.post(page(Endpoint, "delete", endpoint.pk), {"post": "yes"})
    assert told("endpoint.removed").by == "user:dana"
    for event in Event.objects.filter(kind__startswith="endpoint."):
        assert endpoint.secret not in str(event.payload) + event.sentence
    assert audit_findings() == []


def test_an_account_that_wrote_something_is_switched_off_not_deleted(
    campaign: Campaign, alice: User, danas_browser: Client
) -> None:
    builders.make_proposal(campaign, arm="human", author=alice)
    danas_browser.post(page(User, "delete", alice.pk), {"post": "yes"})
    assert User.objects.filter(pk=alice.pk).exists()


def test_a_save_in_a_shell_is_on_record_with_the_program_and_an_update_is_found(campaign: Campaign) -> None:
    audit.chain()
    campaign.alpha = 0.9
    campaign.save()
    event = told("campaign.changed")
    assert event.by.startswith("process:")
    assert event.payload["changes"] == {"alpha": [0.05, 0.9]}
    assert audit_findings() == []
    Campaign.objects.update(alpha=0.8)
    assert audit_findings() == ["campaign first is not what the events tell of it: see alpha"]


def audit_findings() -> list[str]:
    """Of the record as it is, within the test's own transaction."""
    return audit._verify("").findings
