"""alice looks at what there is to train on: which workers have it, what is in it, and where two are called the same."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page

from research.models import Campaign, Worker
from tests import builders
from tests.web.chromium import HOST, Site, in_browser, rendered
from tests.web.people import browser_of, text_of

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def box(db: None) -> Worker:
    return builders.make_worker(seen_at=timezone.now())


@pytest.fixture
def alices_browser(alice: User) -> Client:
    return browser_of(alice)


def words_of(client: Client, address: str) -> str:
    return " ".join(text_of(client, address).split())


def test_alice_reads_what_is_in_a_dataset_and_who_has_it(alices_browser: Client, box: Worker) -> None:
    assert "No worker has a dataset yet" in text_of(alices_browser, "/datasets/")
    campaign = builders.make_campaign()
    builders.make_manifest(box, samples=[f"{HOSTILE} of the training text"])
    listed = words_of(alices_browser, "/datasets/")
    for said in ("9.66 M", "stdlib", "box", campaign.name, "1.01 M"):
        assert said in listed
    page = words_of(alices_browser, "/datasets/stdlib/")
    assert "0.7 % of val’s runs of 13 words stand in the training text, too (72 of 9,700)." in page
    assert "4.9 % of watch’s runs" in page
    assert "What repeats is cheap to predict" in page
    assert "None of sealed’s 9,700 runs of 13 words stands in the training text." in page
    assert "bytes, 256 tokens in uint8, 0 ends a document" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; of the training text" in page
    assert HOSTILE not in page
    assert "several are called the same" not in listed + page
    fragment = alices_browser.get("/datasets/stdlib/", headers={"HX-Request": "true"}).content.decode()
    assert fragment.lstrip().startswith('<div class="runpage" id="dataset"')


def test_two_workers_with_different_ones_of_one_name_are_said_loudly(alices_browser: Client, box: Worker) -> None:
    builders.make_campaign()
    builders.make_manifest(box)
    other = builders.make_worker(name="gpu-2", seen_at=timezone.now() - timedelta(hours=1))
    builders.make_manifest(other, sha256="e" * 64, is_scorable=False, tokenizer="unknown", samples=[])
    for address in ("/datasets/", "/datasets/stdlib/"):
        page = words_of(alices_browser, address)
        assert "several are called the same" in page
        assert "dddddddddddd on box, used by First campaign; eeeeeeeeeeee on gpu-2." in page
    assert "Runs on it cannot be scored" in page
    assert "so they cannot be shown as text" in page
    assert "not heard of for some minutes" in page


def test_a_dataset_that_only_a_campaign_names_says_that_no_worker_has_it(alices_browser: Client) -> None:
    campaign = builders.make_campaign()
    assert "No worker has this one" in text_of(alices_browser, "/datasets/stdlib/")
    assert "Not described yet" in text_of(alices_browser, "/datasets/stdlib/")
    Campaign.objects.filter(pk=campaign.pk).update(state="archived")
    assert "No worker has this one" not in text_of(alices_browser, "/datasets/stdlib/")
    Campaign.objects.filter(pk=campaign.pk).update(dataset="old/one <b>")
    assert "old/one &lt;b&gt;" in text_of(alices_browser, "/datasets/")
    assert "pinned by the hash" in text_of(alices_browser, "/datasets/old/one <b>/")
    assert alices_browser.get("/datasets/nothing/").status_code == 404


def test_charlie_sees_none_of_it(charlie: User, box: Worker) -> None:
    builders.make_manifest(box)
    for address in ("/datasets/", "/datasets/stdlib/"):
        answer = browser_of(charlie).get(address)
        assert answer.status_code == 403
        assert "numbers" not in answer.content.decode()


@pytest.mark.browser
def test_a_page_that_is_left_open_looks_again_by_itself(alices_browser: Client, box: Worker) -> None:
    builders.make_manifest(box)
    site = Site(rendered(alices_browser, "/datasets/"))

    def wait(page: Page) -> str:
        page.clock.install()
        page.goto(f"{HOST}/datasets/")
        with page.expect_request(lambda asked: asked.headers.get("hx-request") == "true") as found:
            page.clock.run_for(21_000)
        return found.value.url

    assert in_browser(site, wait) == f"{HOST}/datasets/"
