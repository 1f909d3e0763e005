"""alice's past experiments become precedents of her campaign: told to Claude apart from the ledger, counted nowhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from research.arms.claude import imported, prompt
from research.arms.claude.memory import Level
from research.history import reader, stores
from research.lifecycle import LostRace
from research.models import Campaign, Event, Import, PastExperiment
from research.propose import briefing, histories
from research.record import audit, learn
from research.record.rights import COMMAND_LINE
from tests import builders
from tests.history import trackers
from tests.history.tables import ROWS, make_reading, results_tsv
from tests.research.briefs import make_imported
from tests.research.prompts import written_out

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign(db: None) -> Campaign:
    return builders.make_campaign()


def numbered(campaign: Campaign) -> list[tuple[int, str, int | None]]:
    """(number, title, what it stands on) of all that was ever imported."""
    rows = PastExperiment.objects.filter(imported__campaign=campaign).order_by("number")
    return list(rows.values_list("number", "title", "parent__number"))


def test_bob_imports_a_history_and_the_record_holds_it(campaign: Campaign, bob: User) -> None:
    made = histories.bring(campaign, make_reading(*ROWS, "all that follows is at depth 6"), by=bob)
    assert (made.num_read, made.num_mapped, made.num_refused, made.by) == (6, 5, 1, bob)
    assert made.refused[0]["reason"] == "1 cell where the header has 5: no status"
    assert ["val_bpb", "metric"] in made.columns
    assert numbered(campaign) == [
        (1, "baseline", None), (2, "warm up for longer", 1), (3, "deeper by two", 2), (4, "wider (out of memory)", 2),
        (5, "half the batch", 2),
    ]  # fmt: skip
    told = Event.objects.get(kind="history.imported")
    assert told.sentence == "Bob imported 5 past experiments from results.tsv" and told.by == "user:bob"
    audit.chain()
    assert audit._verify("").findings == []
    PastExperiment.objects.filter(number=2).update(value=1.0)
    assert [f for f in audit._verify("").findings if "the experiments of import" in f]


def test_the_same_file_again_changes_nothing_and_a_longer_one_brings_what_is_new(campaign: Campaign, bob: User) -> None:
    histories.bring(campaign, make_reading(*ROWS[:3]), by=bob)
    for again in (make_reading(*ROWS[:3]), make_reading(*ROWS[:3], name="copy.tsv"), make_reading(*ROWS[1:3])):
        with pytest.raises(ValueError, match=r"^file: .*was imported already.*nothing was changed"):
            histories.bring(campaign, again, by=bob)
    assert (Import.objects.count(), PastExperiment.objects.count()) == (1, 3)
    more = histories.bring(campaign, make_reading(), by=bob)
    assert (more.num_read, more.num_mapped) == (5, 2)
    assert [one["reason"] for one in more.refused] == [f"imported already, as H-{n}" for n in (1, 2, 3)]
    assert numbered(campaign)[3:] == [(4, "wider (out of memory)", 2), (5, "half the batch", 2)]
    other = builders.make_campaign(slug="second")
    assert histories.bring(other, make_reading(), by=bob).num_mapped == 5


def test_an_archived_import_is_told_to_nobody_and_may_come_again(campaign: Campaign, bob: User) -> None:
    made = histories.bring(campaign, make_reading(), by=bob)
    assert len(briefing.brief(campaign, 1).imported) == 5
    histories.archive(campaign, made.pk, by=bob)
    assert briefing.brief(campaign, 1).imported == ()
    with pytest.raises(LostRace, match="archived already"):
        histories.archive(campaign, made.pk, by=bob)
    again = histories.bring(campaign, make_reading(), by=COMMAND_LINE)
    assert (again.num_mapped, again.by, numbered(campaign)[-1][0]) == (5, None, 10)
    assert Event.objects.filter(kind="history.archived").count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        Import.objects.create(**histories._about(make_reading()), campaign=campaign)


def test_what_holds_no_experiment_leaves_nothing_behind(campaign: Campaign, bob: User) -> None:
    for row, why in (("prose alone", "line 2: 1 cell where"), ("# nothing", "line 2: a comment")):
        with pytest.raises(ValueError, match=f"^file: none of 1 rows is an experiment; {why}"):
            histories.bring(campaign, make_reading(row), by=bob)
    with pytest.raises(ValueError, match="has a header and no row"):
        histories.bring(campaign, replace(make_reading(), experiments=(), refused=()), by=bob)
    assert not Import.objects.exists() and not Event.objects.filter(kind="history.imported").exists()


def test_imported_numbers_count_nowhere_as_ours(campaign: Campaign, bob: User) -> None:
    before = (learn.noise(campaign), learn.incumbent_bpb(campaign.incumbent), learn.precedents(campaign))
    histories.bring(campaign, make_reading(), by=bob)
    assert (learn.noise(campaign), learn.incumbent_bpb(campaign.incumbent), learn.precedents(campaign)) == before
    brief = briefing.brief(campaign, 1)
    assert brief.precedents == () and brief.num_since_keep == 0
    text = written_out(prompt.propose(brief))
    assert '{"imported": "H-2", "label": "imported, self-reported, one seed", "title": "warm up for longer"' in text
    assert '"value": 1.48, "gain": 0.02, "stands_on": "H-1"' in text and "Nothing has been tried yet." in text


def test_of_a_trackers_settings_only_those_that_differ_are_told(campaign: Campaign, bob: User, tmp_path: Path) -> None:
    rows = [{"val_bpb": 2.0}, {"val_bpb": 1.5}]
    trackers.trackio_project(tmp_path / "demo.db", {"one": rows, "two": rows[:1]})
    histories.bring(campaign, stores.read("trackio", tmp_path), by=bob)
    assert [one.parameters for one in histories.told(campaign)] == [{"lr": "2"}, {"lr": "1"}]
    assert PastExperiment.objects.filter(parameters__has_key="nested.depth").count() == 2


def test_where_and_by_whom_it_was_run_is_kept_and_told_to_nobody(campaign: Campaign, bob: User) -> None:
    header = "commit\tval_bpb\tuser\thostname\tmfu\tartifact_uri\tstatus\tdescription"
    row = "a1b2c3d\t1.5\tmallory\tbox-7\t41\tfile:///home/mallory\tkeep\tbaseline"
    histories.bring(campaign, reader.read("autoresearch", results_tsv(row, header=header), "mine.tsv"), by=bob)
    assert set(PastExperiment.objects.get().extras) == {"user", "hostname", "mfu", "artifact_uri"}
    assert [one.extras for one in histories.told(campaign)] == [{"mfu": "41"}]


def test_a_key_in_a_diff_is_in_no_record_and_no_prompt(campaign: Campaign, bob: User) -> None:
    key = "sk-ant-" + "a1B2" * 10
    reading = make_reading()
    evil = replace(reading.experiments[0], patch=f"+lr = 1\n+key = {key}\n", message=key, description=f"with {key}")
    histories.bring(campaign, replace(reading, experiments=(evil, *reading.experiments[1:])), by=bob)
    first = PastExperiment.objects.get(number=1)
    assert first.patch == "+lr = 1\n+(left out: an Anthropic key)\n"
    assert key not in str(list(PastExperiment.objects.values()))


# --- what Claude is told when there is much of it ------------------------------------------------


def test_a_long_history_shrinks_to_what_was_kept() -> None:
    rows = [
        make_imported(
            number=i, outcome="kept" if i % 10 == 0 else "discarded", description="why " * 100, patch="+" * 2_000
        )
        for i in range(1, 1_001)
    ]
    text = imported.remember(rows)
    assert sum(len(imported.row(one, Level.LINE)) for one in rows) > imported.MAX_CHARS
    assert len(text) <= imported.MAX_CHARS + 1_200  # line ends, and the count
    assert text.count('"became": "kept"') == 100
    assert text.splitlines()[-1].startswith(
        '{"label": "imported, self-reported, one seed", "only_counted": {"discarded":'
    )
    assert imported.remember(rows[:3]).count("+" * 2_000) == 0 and imported.remember([rows[9]]).count("+" * 2_000) == 1


def test_parameters_and_extras_of_a_row_are_bounded() -> None:
    row = imported.row(make_imported(extras={f"name {i}": "x" * 90 for i in range(40)}), Level.FULL)
    assert len(row) < 2_000 and '"(more)": "28 left out"' in row
