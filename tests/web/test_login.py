"""The doors: a link that works once, a password, and out again."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.test import Client

from research.models import Campaign
from webapp import accounts

SIGN = "correct horse battery"


def test_a_login_link_works_once_and_then_says_how_to_get_another(bob: User) -> None:
    token = accounts.make_link(bob)
    assert Client().get(f"/login/{token}/")["Location"] == "/"
    again = Client().get(f"/login/{token}/")
    assert again.status_code == 410
    assert "make run" in again.content.decode()


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
