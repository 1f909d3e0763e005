"""The doors: a link that works once, a password, and out again."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from research.models import Campaign, Event
from research.record import audit
from webapp.models import LoginLink, Tries
from webapp.pages.accounts import links, turnstile

SIGN = "correct horse battery"
FULLWIDTH_BOB = "\uff42ob"  # a form makes "bob" of it


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any, request: pytest.FixtureRequest) -> None:
    """These sentences are about counting, and make some hundred hashes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for name in {"alice", "bob"} & set(request.fixturenames):
        person = request.getfixturevalue(name)
        person.set_password(SIGN)
        person.save()


def tries(client: Client, name: str, password: str = "wrong", address: str = "203.0.113.7") -> Any:
    return client.post("/login/", {"username": name, "password": password}, REMOTE_ADDR=address)


def codes(client: Client, name: str, times: int, **over: Any) -> list[int]:
    return [tries(client, name, **over).status_code for _ in range(times)]


def test_a_login_link_works_once_and_then_says_how_to_get_another(bob: User) -> None:
    token = links.make_link(bob)
    browser = Client()
    assert "Sign in as bob" in browser.get(f"/login/{token}/").content.decode()
    assert browser.post(f"/login/{token}/")["Location"] == "/"
    assert browser.get("/review/").status_code == 200
    for again in (Client().get(f"/login/{token}/"), Client().post(f"/login/{token}/")):
        assert again.status_code == 410
        assert "make run" in again.content.decode()
    with CaptureQueriesContext(connection) as asked:
        assert [Client().get("/login/guess/").status_code, Client().post("/login/guess/").status_code] == [410, 410]
    assert not [query["sql"] for query in asked if not query["sql"].startswith("SELECT")], "a guess writes nothing"


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
    token = links.make_link(bob)
    preview = Client()
    answer = getattr(preview, method)(f"/login/{token}/", headers=told)
    assert answer.status_code in (200, 405)
    assert not answer.has_header("Location")
    assert "_auth_user_id" not in preview.session
    assert LoginLink.objects.get().used_at is None
    assert Client().post(f"/login/{token}/").status_code == 302


def test_another_sites_form_does_not_press_the_button(bob: User) -> None:
    token = links.make_link(bob)
    assert Client(enforce_csrf_checks=True).post(f"/login/{token}/").status_code == 403
    assert LoginLink.objects.get().used_at is None


def test_a_link_that_is_too_old_or_of_somebody_who_left_opens_nothing(bob: User) -> None:
    token = links.make_link(bob)
    LoginLink.objects.update(expires_at=timezone.now())
    assert [Client().get(f"/login/{token}/").status_code, Client().post(f"/login/{token}/").status_code] == [410, 410]
    token = links.make_link(bob)
    User.objects.update(is_active=False)
    assert [Client().get(f"/login/{token}/").status_code, Client().post(f"/login/{token}/").status_code] == [410, 410]


def test_no_cache_keeps_a_login_link(bob: User) -> None:
    assert "no-store" in Client().get(f"/login/{links.make_link(bob)}/")["Cache-Control"]


def test_bob_signs_in_goes_where_he_wanted_and_signs_out(bob: User, campaign: Campaign) -> None:
    client = Client()
    there = client.post("/login/", {"username": "bob", "password": SIGN, "next": "/campaigns/", "keep": "on"})
    assert there["Location"] == "/campaigns/"
    elsewhere = Client().post("/login/", {"username": "bob", "password": SIGN, "next": "//evil.example/"})
    assert elsewhere["Location"] == "/"
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/campaigns/").status_code == 302


# --- how often -------------------------------------------------------------------------------------


def test_eight_wrong_passwords_and_no_more_are_looked_at_in_whatever_letters_the_name_is_written(bob: User) -> None:
    stranger = Client()
    assert codes(stranger, "bob", 4) + codes(stranger, FULLWIDTH_BOB, 4) == [422] * 8
    for name in ("bob", FULLWIDTH_BOB, " bob "):
        assert tries(stranger, name, SIGN).status_code == 429
    assert not stranger.session.get("_auth_user_id")


def test_names_that_sign_in_nobody_are_counted_as_what_they_are(bob: User) -> None:
    """Bob and bob are two names to the database, so they are two to us."""
    assert codes(Client(), "Bob", 9) == [422] * 8 + [429]
    assert tries(Client(), "bob", SIGN).status_code == 302


def test_what_rests_says_for_how_long_and_how_to_get_in_by_link(bob: User) -> None:
    codes(Client(), "bob", 8)
    answer = tries(Client(), "bob", SIGN)
    words = " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())
    assert "Sign-in as bob rests here for 15 more minutes: no password is looked at" in words
    assert "manage.py loginlink bob" in words
    assert 880 < int(answer["Retry-After"]) <= 900
    link = links.make_link(bob)
    assert Client().post(f"/login/{link}/", REMOTE_ADDR="203.0.113.7")["Location"] == "/"


def test_when_the_time_is_over_bob_gets_in_and_nothing_is_kept(bob: User) -> None:
    codes(Client(), "bob", 9)
    Tries.objects.update(until=timezone.now() - timedelta(seconds=1))
    assert tries(Client(), "bob", SIGN).status_code == 302
    assert not Tries.objects.filter(num__gt=0).exists()


def test_the_right_password_gives_back_what_was_counted(bob: User) -> None:
    for _ in range(turnstile.FROM_ADDRESS):
        assert tries(Client(), "bob", SIGN).status_code == 302
    assert codes(Client(), "bob", 7) == [422] * 7
    assert tries(Client(), "bob", SIGN).status_code == 302
    assert codes(Client(), "bob", 9) == [422] * 8 + [429]


def test_charlie_cannot_lock_bob_out_from_elsewhere(bob: User) -> None:
    codes(Client(), "bob", 20, address="198.51.100.9")
    assert tries(Client(), "bob", SIGN, address="203.0.113.7").status_code == 302


def test_many_addresses_that_guess_one_name_let_it_rest_but_not_for_bobs_own_browser(bob: User) -> None:
    bobs = Client()
    assert tries(bobs, "bob", SIGN).status_code == 302
    bobs.post("/logout/")
    seen = [tries(Client(), "bob", address=f"198.51.100.{n}").status_code for n in range(turnstile.FOR_NAME + 1)]
    assert seen == [422] * turnstile.FOR_NAME + [429]
    assert tries(Client(), "bob", SIGN, address="192.0.2.1").status_code == 429
    assert "rests in browsers that are new to us" in tries(Client(), "bob", SIGN, address="192.0.2.1").content.decode()
    assert tries(bobs, "bob", SIGN).status_code == 302
    bobs.post("/logout/")
    assert codes(bobs, "bob", 9) == [422] * 8 + [429], "what bob's browser may try is counted, too"


def test_an_address_that_tries_many_names_rests_for_new_browsers_only(bob: User) -> None:
    bobs = Client()
    assert bobs.post(f"/login/{links.make_link(bob)}/").status_code == 302, "a link makes a browser known as well"
    bobs.post("/logout/")
    seen = [tries(Client(), f"nobody-{n}").status_code for n in range(turnstile.FROM_ADDRESS + 1)]
    assert seen == [422] * turnstile.FROM_ADDRESS + [429]
    refused = tries(Client(), "bob", SIGN)
    assert refused.status_code == 429
    assert "from your network, 203.0.113.7, rests" in refused.content.decode()
    assert tries(bobs, "bob", SIGN).status_code == 302


def test_what_rests_already_costs_the_database_no_write(bob: User) -> None:
    for n in range(turnstile.FROM_ADDRESS + 1):
        tries(Client(), f"nobody-{n}")
    kept = Tries.objects.count()
    browser = Client()
    with CaptureQueriesContext(connection) as asked:
        assert codes(browser, "yet-another", 3) == [429] * 3
    assert not [query["sql"] for query in asked if not query["sql"].startswith("SELECT")]
    assert Tries.objects.count() == kept


def test_where_too_many_come_at_once_nothing_is_looked_at_or_counted(
    bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "WAITS_S", 0.05)
    with turnstile.room(), turnstile.room():
        refused = Client().post("/login/", {"username": "bob", "password": SIGN, "next": "/runs/"})
        assert Client().get("/login/").status_code == 200
    assert (refused.status_code, refused["Retry-After"]) == (503, "0")
    assert "Too many sign in at once" in refused.content.decode()
    assert 'name="next" value="/runs/"' in refused.content.decode()
    assert not Tries.objects.exists()
    assert tries(Client(), "bob", SIGN).status_code == 302


def test_of_ipv6_a_whole_household_is_one_address(bob: User) -> None:
    seen = [tries(Client(), "bob", address=f"2001:db8:1:2::{n:x}").status_code for n in range(1, 10)]
    assert seen == [422] * 8 + [429]
    assert tries(Client(), "bob", SIGN, address="2001:db8:1:3::1").status_code == 302
    assert tries(Client(), "bob", SIGN, address="::ffff:203.0.113.7").status_code == 302


@pytest.mark.parametrize("forged", ["nonsense", "a:b:c", "eyJhIjoxfQ:1tGZ5q:x"])
def test_a_device_cookie_that_we_did_not_sign_helps_nobody(bob: User, forged: str) -> None:
    stranger = Client()
    stranger.cookies[settings.DEVICE_COOKIE_NAME] = forged
    assert codes(stranger, "bob", 9) == [422] * 8 + [429]


def test_a_browser_is_known_for_whom_it_was_and_until_the_password_changes(bob: User, alice: User) -> None:
    browser = Client()
    assert tries(browser, "bob", SIGN).status_code == 302
    browser.post("/logout/")
    codes(Client(), "alice", 8)
    assert tries(browser, "alice", SIGN).status_code == 429, "bob's browser is new to alice"
    codes(Client(), "bob", 8)
    bob.set_password("another correct horse")
    bob.save()
    assert tries(browser, "bob", "another correct horse").status_code == 429


def test_the_admin_panel_has_no_door_of_its_own(bob: User, charlie: User) -> None:
    stranger = Client()
    assert stranger.get("/admin/", follow=True).redirect_chain[-1][0] == "/login/?next=/admin/"
    assert stranger.post("/admin/login/", {"username": "bob", "password": SIGN}).status_code == 302
    assert not stranger.session.get("_auth_user_id")
    codes(stranger, "bob", 8)
    assert stranger.post("/login/?next=/admin/", {"username": "bob", "password": SIGN}).status_code == 302, "elsewhere"
    stranger.force_login(charlie)
    assert stranger.get("/admin/", follow=True).status_code == 403, "and not in a circle"


def test_whoever_finds_bobs_browser_open_has_eight_guesses_at_his_old_password(bobs_browser: Client, bob: User) -> None:
    def change(old: str) -> Any:
        form = {"old_password": old, "new_password1": "a new horse battery", "new_password2": "a new horse battery"}
        return bobs_browser.post("/admin/password_change/", form)

    assert "Old password" in bobs_browser.get("/admin/password_change/").content.decode()
    assert all("entered incorrectly" in change("wrong").content.decode() for _ in range(8))
    assert "wait 15 minutes" in change(SIGN).content.decode()
    bob.refresh_from_db()
    assert bob.check_password(SIGN)
    Tries.objects.all().delete()
    assert change(SIGN)["Location"] == "/admin/password_change/done/"
    bob.refresh_from_db()
    assert bob.check_password("a new horse battery")
    assert tries(bobs_browser, "bob", "a new horse battery").status_code == 302


@pytest.mark.django_db(transaction=True)
def test_the_record_tells_once_whose_sign_in_rests_and_never_what_was_typed(bob: User) -> None:
    codes(Client(), "bob", 12)
    codes(Client(), "my-secret-typed-as-a-name", 12)
    told = list(Event.objects.filter(kind="sign_in.rests").values_list("sentence", "by"))
    assert told == [("Sign-in as bob rests for 15 minutes from 203.0.113.7: 8 wrong passwords", "turnstile")]
    assert not Event.objects.filter(sentence__contains="my-secret").exists()
    audit.chain()
    assert audit.verify().findings == []
