"""A stranger tries a hundred passwords at the same moment."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial

import requests

from webapp import turnstile

from .town import PATIENCE_S, Town, at_once


def test_of_a_hundred_guesses_at_once_eight_are_looked_at_and_forty_of_an_address(town: Town) -> None:
    with requests.Session() as stranger:
        page = stranger.get(f"{town.url}/login/", timeout=PATIENCE_S).text
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert found
        token, cookies = found[1], stranger.cookies.get_dict()

    def guess(name: str) -> int:
        form = {"username": name, "password": "wrong", "csrfmiddlewaretoken": token}
        return requests.post(f"{town.url}/login/", data=form, cookies=cookies, timeout=PATIENCE_S).status_code

    assert Counter(at_once([partial(guess, "nobody")] * 100)) == {422: turnstile.HERE, 429: 100 - turnstile.HERE}
    others = Counter(at_once([partial(guess, f"nobody-{n}") for n in range(60)]))
    assert others == {422: turnstile.FROM_ADDRESS - turnstile.HERE, 429: 60 - turnstile.FROM_ADDRESS + turnstile.HERE}
