"""bob uploads a results.tsv, sees what it holds, changes a column, imports it and reads it; charlie is a stranger."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from research.models import Campaign, Import, PastExperiment, Verdict
from research.propose import histories
from research.record import learn
from tests import builders
from tests.history.tables import ROWS, make_reading, results_tsv
from tests.web.people import browser_of
from webapp.pages.history import upload
from webapp.pages.history.history_page import HistoryPage

pytestmark = pytest.mark.django_db
ADDRESS = "/campaigns/first/history/"


@pytest.fixture
def campaign(db: None) -> Campaign:
    return builders.make_campaign()


@pytest.fixture
def bobs_browser(bob: User) -> Client:
    return browser_of(bob)


def uploaded(client: Client, body: bytes, name: str = "results.tsv", kind: str = "autoresearch") -> tuple[int, str]:
    response = client.post(f"{ADDRESS}read/", {"kind": kind, "file": SimpleUploadedFile(name, body)})
    return response.status_code, response.content.decode()


def hidden(page: str) -> dict[str, str]:
    """What the preview's form carries."""
    fields = dict(re.findall(r'<input type="hidden" name="(kind|name|held)" value="([^"]*)"', page))
    assert fields.keys() == {"kind", "name", "held"}
    return fields


def test_bob_sees_what_a_table_holds_changes_it_and_imports_it(bobs_browser: Client, campaign: Campaign) -> None:
    rows = ("a1b2c3d\t1.5\t7\tkeep\tbaseline", "b1b2c3d\t1.4\t9\tkeep\twarm <b>up</b>", "prose")
    code, page = uploaded(bobs_browser, results_tsv(*rows, header="commit\tval_bpb\tpicks\tstatus\tdescription"))
    assert code == 200 and not Import.objects.exists()
    assert "3 rows read: 2 are experiments,\n        1 refused." in page and "1 cell where the header has 5" in page
    assert "warm &lt;b&gt;up&lt;/b&gt;" in page and "Import 2 experiments" in page
    chosen = {"column-1": "extra", "column-2": "metric", "direction": "higher"}
    again = bobs_browser.post(f"{ADDRESS}read/", hidden(page) | chosen).content.decode()
    assert "Its metric is picks, this campaign’s is val_bpb" in again
    wrong = bobs_browser.post(f"{ADDRESS}read/", hidden(page) | {"column-1": "metric", "column-2": "metric"})
    assert wrong.status_code == 422 and "val_bpb and picks are both metric" in wrong.content.decode()
    done = bobs_browser.post(f"{ADDRESS}import/", hidden(again) | chosen, follow=True).content.decode()
    assert "2 past experiments imported from results.tsv" in done
    made = Import.objects.get()
    assert (made.metric, made.direction, made.num_refused) == ("picks", "higher", 1)
    assert [row.extras for row in made.experiments.all()] == [{"val_bpb": "1.5"}, {"val_bpb": "1.4"}]
    twice = bobs_browser.post(f"{ADDRESS}import/", hidden(again) | chosen)
    assert twice.status_code == 422 and "was imported already" in twice.content.decode()
    assert Import.objects.count() == 1


def test_the_page_of_what_was_imported(bobs_browser: Client, campaign: Campaign, bob: User) -> None:
    empty = bobs_browser.get(ADDRESS).content.decode()
    assert "Nothing was imported yet" in empty and "Preview" in empty
    made = histories.bring(campaign, make_reading(), by=bob)
    page = bobs_browser.get(ADDRESS).content.decode()
    for said in ("self-reported", "kept there", "crashed there", "H-5", "1.47", "+0.01", "What stood on what"):
        assert said in page, said
    assert "is larger than the noise floor is not known yet" in page and "The largest gain is +0.02." in page
    assert "5 experiments of other loops" in bobs_browser.get("/campaigns/first/").content.decode()
    bobs_browser.post(f"{ADDRESS}imports/{made.pk}/archive/")
    assert "archived" in bobs_browser.get(ADDRESS).content.decode() and HistoryPage(campaign).experiments == []
    assert bobs_browser.post(f"{ADDRESS}imports/{made.pk}/archive/").status_code == 409


def test_one_experiment_with_its_diff(bobs_browser: Client, campaign: Campaign, bob: User) -> None:
    reading = make_reading()
    patch = "diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-lr = 1\n+lr = '<i>'\n"
    changed = replace(reading.experiments[1], patch=patch, message="Why <u>not</u>", extras={"mfu": "41"})
    histories.bring(campaign, replace(reading, experiments=(reading.experiments[0], changed)), by=bob)
    page = bobs_browser.get(f"{ADDRESS}2/").content.decode()
    for said in (
        "&lt;i&gt;",
        "Why &lt;u&gt;not&lt;/u&gt;",
        "mfu",
        "H-1",
        "no verdict of ours",
        "the last that was kept",
    ):
        assert said in page, said
    assert "No diff" in bobs_browser.get(f"{ADDRESS}1/").content.decode()
    assert bobs_browser.get(f"{ADDRESS}99/").status_code == 404


def test_the_share_of_gains_above_our_noise_once_that_is_known(campaign: Campaign, bob: User) -> None:
    histories.bring(campaign, make_reading(*ROWS, "f607182\t1.4695\t1\tkeep\ta hair better"), by=bob)
    assert HistoryPage(campaign).floor is None
    pairs = [{"difference_bpb": value} for value in (-0.008, 0.0, 0.008)]
    revision = builders.make_proposal(campaign).revision
    Verdict.objects.create(revision=revision, outcome="discard", reason="", num_pairs=3, pairs=pairs)
    sd = learn.noise(campaign).sd_bpb
    floor = HistoryPage(campaign).floor
    assert floor is not None and floor.sd == sd == pytest.approx(0.008)
    assert (floor.num_gains, floor.num_above, floor.num_clear) == (3, 2, 1)  # gains of 0.02, 0.01 and 0.0005


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "file: it is empty"),
        (b"\x89PNG\0", "file: it is no text"),
        (b"x" * (upload.MAX_BYTES + 1), "It has 2.0 MiB; at most 2 MiB are taken here."),
    ],
)
def test_what_is_no_table_goes_back_with_one_sentence(
    bobs_browser: Client, campaign: Campaign, body: bytes, sentence: str
) -> None:
    code, page = uploaded(bobs_browser, body)
    assert code == 422 and sentence in page
    assert bobs_browser.post(f"{ADDRESS}read/", {"kind": "autoresearch"}).status_code == 422


def test_a_name_is_only_a_name_and_a_damaged_form_is_refused(bobs_browser: Client, campaign: Campaign) -> None:
    _, page = uploaded(bobs_browser, results_tsv(), name="../../etc/<b>.tsv")
    assert "&lt;b&gt;.tsv" in page and "../" not in hidden(page)["name"]
    bomb = upload.packed(b"\n" * (upload.MAX_BYTES + 1))
    for held in ("nonsense", bomb, upload.packed(b"x")[:8]):
        for address in ("read", "import"):
            response = bobs_browser.post(f"{ADDRESS}{address}/", hidden(page) | {"held": held})
            assert response.status_code == 422 and "The form is damaged" in response.content.decode()
    assert not Import.objects.exists() and not PastExperiment.objects.exists()


def test_alice_reads_and_may_not_import_and_charlie_sees_nothing(
    campaign: Campaign, alice: User, charlie: User
) -> None:
    made = histories.bring(campaign, make_reading(), by=User.objects.create_superuser("root"))
    alices = browser_of(alice)
    page = alices.get(ADDRESS).content.decode()
    assert "H-5" in page and "Archive" not in page and 'type="file"' not in page
    assert uploaded(alices, results_tsv())[0] == 403
    assert alices.post(f"{ADDRESS}imports/{made.pk}/archive/").status_code == 403
    assert alices.post(
        f"{ADDRESS}import/", {"kind": "autoresearch", "name": "x", "held": upload.packed(b"x")}
    ).status_code in (403, 422)
    for address in (ADDRESS, f"{ADDRESS}1/"):
        assert browser_of(charlie).get(address).status_code == 403
    assert Import.objects.get().archived_at is None
