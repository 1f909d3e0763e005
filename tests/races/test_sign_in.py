"""Strangers try many passwords at the same moment, from one address and from many."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from webapp.pages.accounts import turnstile

from .town import PATIENCE_S, Town, at_once


class Whence(HTTPAdapter):
    """Connects from one of the many addresses of this machine's loopback."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self.address, 0), **kwargs)


class Stranger:
    """A browser with a sign-in page on its screen."""

    def __init__(self, town: Town) -> None:
        self.url = f"{town.url}/login/"
        with requests.Session() as browser:
            page = browser.get(self.url, timeout=PATIENCE_S).text
            self.cookies = browser.cookies.get_dict()
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert found
        self.token = found[1]

    def guess(self, name: str, address: str) -> int:
        form = {"username": name, "password": "wrong", "csrfmiddlewaretoken": self.token}
        with requests.Session() as line:
            line.mount("http://", Whence(address))
            return line.post(self.url, data=form, cookies=self.cookies, timeout=PATIENCE_S).status_code


def test_of_a_hundred_guesses_at_once_eight_are_looked_at_and_forty_of_an_address(town: Town) -> None:
    guess = partial(Stranger(town).guess, address="127.0.1.1")
    seen = Counter(at_once([partial(guess, "nobody")] * 100))
    assert seen.keys() <= {422, 429, 503}
    while (code := guess("nobody")) != 429:
        seen[code] += 1
    assert seen[422] == turnstile.HERE, "and whoever was sent away for the crowd was not counted"
    crowds = [[partial(guess, f"nobody-{n}-{m}") for m in range(20)] for n in range(3)]
    others = Counter(code for crowd in crowds for code in at_once(crowd))
    while (code := guess("nobody-else")) != 429:
        others[code] += 1
    assert others.keys() <= {422, 429, 503}
    assert others[422] == turnstile.FROM_ADDRESS - turnstile.HERE


def test_while_a_crowd_from_many_addresses_guesses_bobs_pages_come(town: Town) -> None:
    """None of them rests, and each guess costs a core and holds a connection to the database."""
    stranger = Stranger(town)
    with ThreadPoolExecutor(60) as crowd:
        guesses = [crowd.submit(stranger.guess, f"somebody-{n}", f"127.0.2.{n + 1}") for n in range(60)]
        pages = [town.browsers["bob"].get(f"{town.url}/review/", timeout=PATIENCE_S).status_code for _ in range(5)]
        seen = Counter(guess.result() for guess in guesses)
    assert pages == [200] * 5
    assert seen.keys() <= {422, 503} and seen[422] >= turnstile.AT_ONCE, seen
