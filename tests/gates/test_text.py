"""How much text a patch brings along: research passes, a text learned by heart does not, however it is written."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from research.change.drafts import Edit
from research.change.patches import to_patch
from research.gates import process
from research.gates.checks import text
from research.gates.order import context_of
from research.gates.outcome import GateResult
from research.models import Incumbent
from research.record import repository
from tests import builders
from tests.gates.corpus import BENIGN, CATALOGUE, FILES
from tests.hiding import every_way
from tests.web.people import browser_of, text_of

LEARNED = (Path(sysconfig.get_paths()["stdlib"]) / "textwrap.py").read_text()[:6_000]
PLACE = "# --- layers -"
WAYS = dict(every_way())


def looked_at(before: dict[str, str], *edits: Edit, origin: dict[str, str] | None = None) -> GateResult:
    patch = to_patch(before, edits)
    context = context_of(
        patch, {}, before, commit="0" * 40, sandbox_level="bubblewrap", is_trusted=False, origin=origin
    )
    return text.check(context)


def added(lines: str) -> Edit:
    return Edit(path="train.py", search=PLACE, replace=f"{lines}{PLACE}")


def research() -> Iterator[tuple[str, list[Edit]]]:
    for edit in BENIGN:
        path, also = edit.get("path", "train.py"), edit.get("also", [])
        edits = [Edit(path=path, search=edit["search"], replace=edit["replace"].removeprefix("\n"))]
        yield edit["name"], edits + [Edit(path=path, search=search, replace=replace) for search, replace in also]
    for name, entry in CATALOGUE.items():
        yield name, [Edit(path=e.path, search=e.search, replace=e.replace) for e in entry.edits]


RESEARCH = list(research())


@pytest.mark.parametrize("way", WAYS)
def test_six_thousand_bytes_are_blocked_however_they_are_written(way: str) -> None:
    found = looked_at(FILES, added(WAYS[way](LEARNED)))
    assert found.outcome == "failed", found
    assert {remark["rule"] for remark in found.remarks if remark["severity"] == "block"} <= {"text", "dense"}
    assert "at most" in found.sentence.lower()


@pytest.mark.parametrize(("name", "edits"), RESEARCH, ids=[name for name, _ in RESEARCH])
def test_research_passes_and_says_how_much_it_brings(name: str, edits: list[Edit]) -> None:
    found = looked_at(FILES, *edits, origin=FILES)
    assert found.outcome == "passed", found
    assert found.measured["num_bytes"] < 0.75 * text.UNUSUAL, "so far is honest research from being unusual"
    assert found.measured["num_packed"] < text.UNUSUAL_PACKED / 2
    assert ("bytes (" in found.sentence) == (found.measured["num_bytes"] > 0)
    assert "since the campaign's first commit" in found.sentence


def test_the_reviewer_reads_which_kinds_how_much_and_where_the_most_is() -> None:
    lines = 'def gain(x):\n    """Twice as much."""\n    # As the paper says.\n    return 2.5 * x + len("abc")\n\n\n'
    found = looked_at(FILES, added(lines))
    assert found.measured["kinds"] == {"docstrings": 14, "strings": 3, "comments": 18, "numbers": 3, "names": 4}
    line = FILES["train.py"].split(PLACE)[0].count("\n") + 3
    assert found.sentence == (
        "42 bytes (comments 18, docstrings 14, names 4, strings 3, numbers 3);"
        f" the largest is 18 of comments at train.py:{line}"
    )


def test_much_text_is_a_warning_that_says_what_to_look_for() -> None:
    found = looked_at(FILES, added(WAYS["docstring"](LEARNED[:900])))
    assert found.outcome == "warned"
    assert "It could hold held-out text learned by heart" in found.sentence
    assert found.remarks[0]["path"] == "train.py"


def test_letters_without_a_space_count_three_times() -> None:
    plain, packed = (looked_at(FILES, added(WAYS[way](LEARNED[:600]))) for way in ("docstring", "base64"))
    assert plain.measured["num_bytes"] < 620
    assert packed.measured["num_bytes"] > 2_000
    ruler = looked_at(FILES, added(f"# {'-' * 90}\n"))
    assert ruler.measured["num_bytes"] == 90


def test_text_that_moves_is_not_new() -> None:
    docstring = '"""A small modern GPT and how it is trained. This file is what proposals edit.'
    assert docstring in FILES["train.py"]
    whole = FILES["train.py"].split('"""')[1]
    moved = [
        Edit(path="train.py", search=f'"""{whole}"""', replace='"""Moved."""'),
        Edit(path="fp8.py", search="from __future__", replace=f'ABOUT = """{whole}"""\nfrom __future__'),
    ]
    assert looked_at(FILES, moved[0]).measured["kinds"] == {"docstrings": 6}
    again = looked_at(FILES, *moved).measured["kinds"]
    assert again["strings"] > 700, "a docstring that becomes a string is read by code: that is new"
    longer = Edit(path="train.py", search=f'"""{whole}"""', replace=f'"""{whole}One line more.\n"""')
    assert looked_at(FILES, longer).measured["kinds"] == {"docstrings": 14}


def test_a_recipe_whose_settings_may_be_edited_is_counted_there_too() -> None:
    comments = WAYS["comments"](LEARNED)
    found = looked_at(FILES, Edit(path="recipe.toml", search="# --- model ---", replace=f"{comments}# --- model ---"))
    assert found.outcome == "failed"
    assert set(found.measured["kinds"]) == {"lines of text"}


def test_a_file_that_is_no_python_any_more_is_counted_as_text() -> None:
    found = looked_at(FILES, added(f"]\n{WAYS['comments'](LEARNED)}"))
    assert found.outcome == "failed"
    assert found.measured["kinds"]["lines of text"] > 2_000


def test_many_small_texts_are_stopped_by_what_they_are_together() -> None:
    """Each passes by itself; what they add up to since the first commit does not."""
    body = (Path(sysconfig.get_paths()["stdlib"]) / "argparse.py").read_text().replace("\t", " ")
    files, outcomes = dict(FILES), []
    for number in range(16):
        part = "".join(f"# {line.strip()}\n" for line in body[number * 2_400 : number * 2_400 + 950].splitlines())
        found = looked_at(files, added(part), origin=FILES)
        outcomes.append(found.outcome)
        files["train.py"] = files["train.py"].replace(PLACE, part + PLACE)
    assert outcomes[0] == "warned"
    assert outcomes[-1] == "failed", found
    assert f"Above {text.MOST_IN_ALL:,} a patch may bring {text.SMALL}" in found.sentence
    little = looked_at(files, added("# A word.\n"), origin=FILES)
    assert little.outcome == "warned"
    assert "read what was kept before, too" in little.sentence


def test_bob_reads_on_the_page_what_it_brings_since_the_first_commit(bob: User) -> None:
    campaign = builders.make_campaign()
    first = campaign.incumbent.commit
    comment = "# Half as wide as the incumbent's first layer was.\n"
    patch = to_patch(repository.files_at(campaign, first), [added(comment)])
    kept = repository.commit_keep(campaign, first, patch, {}, "A comment\n")
    Incumbent.objects.create(campaign=campaign, number=1, commit=kept)
    proposal = builders.make_proposal(campaign, overrides=(), edits=(added("# Twice.\n"),))
    process.check(proposal.revision)
    sentence = f"6 bytes (comments 6); {len(comment) - 3 + 6} since the campaign's first commit"
    assert proposal.revision.gates.get(name=text.NAME).sentence == sentence
    assert sentence.replace("'", "&#x27;") in text_of(browser_of(bob), f"/proposals/{proposal.pk}/")
