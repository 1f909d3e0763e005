"""The doors: a link that works once, a password, and out again."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from research.models import Campaign
from webapp import accounts
from webapp.models import LoginLink

SIGN = "correct horse battery"


def test_a_login_link_works_once_and_then_says_how_to_get_another(bob: User) -> None:
    token = accounts.make_link(bob)
    browser = Client()
    assert "Sign in as bob" in browser.get(f"/login/{token}/").content.decode()
    assert browser.post(f"/login/{token}/")["Location"] == "/"
    assert browser.get("/review/").status_code == 200
    for again in (Client().get(f"/login/{token}/"), Client().post(f"/login/{token}/")):
        assert again.status_code == 410
        assert "make run" in again.content.decode()


@pytest.mark.parametrize("method", ["get", "head", "options", "put", "patch", "delete", "trace"])
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"sec-purpose": "prefetch;prerender"},
        {"user-agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"},
    ],
)
def test_whatever_only_looks_at_a_login_link_leaves_it_as_it_was(bob: User, method: str, told: dict[str, str]) -> None:
    token = accounts.make_link(bob)
    preview = Client()
    answer = getattr(preview, method)(f"/login/{token}/", headers=told)
    assert answer.status_code in (200, 405)
    assert not answer.has_header("Location")
    assert "_auth_user_id" not in preview.session
    assert LoginLink.objects.get().used_at is None
    assert Client().post(f"/login/{token}/").status_code == 302


def test_another_sites_form_does_not_press_the_button(bob: User) -> None:
    token = accounts.make_link(bob)
    assert Client(enforce_csrf_checks=True).post(f"/login/{token}/").status_code == 403
    assert LoginLink.objects.get().used_at is None


def test_a_link_that_is_too_old_or_of_somebody_who_left_opens_nothing(bob: User) -> None:
    token = accounts.make_link(bob)
    LoginLink.objects.update(expires_at=timezone.now())
    assert [Client().get(f"/login/{token}/").status_code, Client().post(f"/login/{token}/").status_code] == [410, 410]
    token = accounts.make_link(bob)
    User.objects.update(is_active=False)
    assert [Client().get(f"/login/{token}/").status_code, Client().post(f"/login/{token}/").status_code] == [410, 410]


def test_no_cache_keeps_a_login_link(bob: User) -> None:
    assert "no-store" in Client().get(f"/login/{accounts.make_link(bob)}/")["Cache-Control"]


def test_a_wrong_password_is_refused_and_after_eight_the_name_rests(bob: User) -> None:
    form = {"username": "Bob", "password": "wrong"}
    client = Client()
    assert [client.post("/login/", form).status_code for _ in range(8)] == [422] * 8
    assert client.post("/login/", {"username": "bob", "password": SIGN}).status_code == 429


def test_bob_signs_in_goes_where_he_wanted_and_signs_out(bob: User, campaign: Campaign) -> None:
    client = Client()
    there = client.post("/login/", {"username": "bob", "password": SIGN, "next": "/campaigns/", "keep": "on"})
    assert there["Location"] == "/campaigns/"
    elsewhere = Client().post("/login/", {"username": "bob", "password": SIGN, "next": "//evil.example/"})
    assert elsewhere["Location"] == "/"
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/campaigns/").status_code == 302
