"""What Claude remembers of a long campaign: the important in detail, the rest in short, most of it from the cache."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from research.arms.claude import memory, prompt
from research.arms.claude.memory import BLOCK, MAX_CHARS, Level, remember
from research.arms.claude.proposer import ClaudeProposer
from research.change.drafts import Comment, Override, Precedent
from tests.research.briefs import make_brief, make_precedent

from .anthropic_server import PromptCache, serving

SHIPPED = Path(__file__).parents[2] / "gpu_runner" / "recipes" / "gpt"
FILES = {p.name: p.read_text(encoding="utf-8") for p in sorted(SHIPPED.iterdir()) if p.suffix in (".py", ".toml")}
PATCH = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-old_name = 1\n+new_name = 2\n"


def settled(number: int, **over: Any) -> Precedent:
    """Tried on an earlier incumbent, nothing special."""
    base = {"on_incumbent": False, "settled_at": f"2026-11-{1 + number // 1000:02}T00:00:{number % 1000:06}"}
    return make_precedent(number=number, **(base | over))


def long_history(num: int) -> list[Precedent]:
    """Every tenth was kept, every seventh rejected, the last thirty were tried on this incumbent; all are wordy."""
    rows = []
    for n in range(1, num + 1):
        over: dict[str, Any] = {"reason": "words " * 40, "patch": PATCH * 4, "on_incumbent": n > num - 30}
        if n % 10 == 0:
            over |= {"outcome": "keep", "effect_bpb": -0.01}
        elif n % 7 == 0:
            over |= {"state": "rejected", "outcome": None, "effect_bpb": None}
        rows.append(settled(n, overrides=(Override(key=f"knob_{n % 12}", value=n, reason="r"),), **over))
    return rows


def told(remembered: memory.Memory) -> dict[int, dict[str, Any]]:
    lines = [line for part in (*remembered.closed, remembered.latest) for line in part.splitlines()]
    rows = [json.loads(line) for line in lines]
    return {row["number"]: row for row in rows}


# --- by relevance ---------------------------------------------------------------------------------


def test_what_matters_is_told_in_full_and_the_rest_in_a_line() -> None:
    rows = [
        settled(1, patch=PATCH),
        settled(2, outcome="keep", patch=PATCH),
        settled(3, state="rejected", outcome=None, patch=PATCH),
        settled(4, on_incumbent=True, patch=PATCH),
    ]
    seen = told(remember(rows))
    assert ["patch" in seen[n] for n in (1, 2, 3, 4)] == [False, True, True, True]
    assert seen[1] == {
        "number": 1, "title": "Deeper", "change": "depth = 6, train.py", "became": "discard", "effect_bpb": 0.02
    }  # fmt: skip


def test_a_long_history_fits_its_room_and_the_important_shrink_last() -> None:
    remembered = remember(long_history(900))
    assert sum(map(len, remembered.closed)) <= MAX_CHARS
    seen = told(remembered)
    kept = [n for n in range(1, 901) if n % 10 == 0]
    assert set(kept) <= set(seen)
    assert all("reason" in seen[n] for n in kept)
    plain = [n for n in range(1, 871) if n % 10 and n % 7]
    assert len(plain) > len(set(plain) & set(seen)), "these give way first"


def test_what_is_not_told_is_counted_with_its_best_and_worst() -> None:
    remembered = remember(long_history(900))
    counts = [json.loads(line) for line in remembered.counts.splitlines()]
    assert [c["changed"] for c in counts] == sorted(c["changed"] for c in counts)
    by_file = next(c for c in counts if c["changed"] == "train.py")
    assert by_file["num"] == 900 - len(told(remembered))
    assert by_file["best_bpb"] <= by_file["worst_bpb"] == 0.02
    assert sum(by_file["became"].values()) == by_file["num"]


def test_what_is_near_to_something_open_comes_back_in_full() -> None:
    rows = [settled(n, overrides=(Override(key=f"knob_{n}", value=1, reason="why"),)) for n in range(1, 40)]
    opened = make_precedent(
        number=50, state="pending_review", outcome=None, overrides=(Override(key="knob_5", value=2, reason=""),)
    )
    remembered = remember([*rows, opened])
    nearest = json.loads(remembered.near.splitlines()[0])
    assert (nearest["number"], "patch" in nearest) == (5, True)
    assert len(remembered.near.splitlines()) == 1
    assert [json.loads(line)["number"] for line in remembered.open.splitlines()] == [50]


def test_long_words_and_patches_are_cut_and_reviewers_comments_are_there() -> None:
    wordy = settled(
        1,
        on_incumbent=True,
        patch="x" * 9_000,
        reason="y" * 9_000,
        comments=(Comment(choice="approve", text="z" * 9_000),),
    )
    [seen] = told(remember([wordy])).values()
    assert seen["patch"] == "x" * 3_000 + "\n(cut)"
    assert seen["reason"] == "y" * 1_500 + "\n(cut)"
    assert seen["comments"] == ["approve: " + "z" * 1_500 + "\n(cut)"]


# --- for the cache ----------------------------------------------------------------------------------


def test_the_order_in_which_rows_are_read_is_not_the_order_in_which_they_are_told() -> None:
    rows = long_history(300)
    shuffled = random.Random(3).sample(rows, len(rows))
    assert remember(rows) == remember(shuffled)


def test_one_more_row_changes_no_block_that_was_full() -> None:
    """But where the rows outgrow their room, and then not again for a while."""
    rows = long_history(700)
    closed = [remember(rows[:num]).closed for num in range(600, 701)]
    broken = sum(after[: len(before)] != before for before, after in pairwise(closed))
    assert broken <= 100 // 8


def test_short_histories_only_grow_at_their_end() -> None:
    rows = long_history(80)
    closed = [remember(rows[:num]).closed for num in range(1, 81)]
    for num, (before, after) in enumerate(pairwise(closed), start=1):
        assert after[: len(before)] == before or num > 50  # the thirty on this incumbent are a window of the builder's


def test_the_request_has_no_more_marks_than_the_api_takes_and_ends_uncached() -> None:
    asked = prompt.propose(make_brief(precedents=tuple(long_history(50))))
    blocks: list[Any] = [*asked.system, *asked.messages[0]["content"]]
    marked = [i for i, block in enumerate(blocks) if "cache_control" in block]
    assert len(marked) == 3
    assert blocks[marked[-1]]["text"].startswith("<data ")
    assert "Left in the campaign" in "".join(block["text"] for block in blocks[marked[-1] + 1 :])


def waves(num: int, a_wave: int = 3) -> Iterator[tuple[Precedent, ...]]:
    """A campaign's ledger before each wave: those of the one before are open, older ones are judged."""
    for wave in range(num):
        rows = [settled(n, on_incumbent=True, reason="words " * 30, patch=PATCH) for n in range(1, wave * a_wave + 1)]
        yield tuple(
            replace(p, state="pending_review", outcome=None, reason="") if p.number > (wave - 1) * a_wave else p
            for p in rows
        )


def test_most_of_what_claude_reads_over_twenty_waves_comes_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PromptCache()
    with serving(cache.answer({"design": "", "drafts": []})) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        proposer = ClaudeProposer(api_key="test-key")
        for number, precedents in enumerate(waves(20)):
            left = f"{20 - number} GPU-hours"
            brief = make_brief(
                precedents=precedents, files=FILES, recipe_toml=FILES["recipe.toml"], budget_left=left, num_wanted=3
            )
            [usage] = proposer.draft(brief).usages
            assert usage.cache_read_tokens + usage.cache_write_tokens > 0
    read = sum(usage["cache_read_input_tokens"] for usage in cache.usages)
    total = read + sum(u["input_tokens"] + u["cache_creation_input_tokens"] for u in cache.usages)
    print(f"{read / total:.1%} of {total:,} tokens over {len(cache.usages)} waves")
    assert read / total > 0.85
    assert cache.usages[0]["cache_read_input_tokens"] == 0
    assert all(u["cache_read_input_tokens"] > 20_000 for u in cache.usages[1:])


def test_levels_are_in_order() -> None:
    row = settled(1, patch=PATCH, reason="words " * 100)
    sizes = [len(memory.row(row, level)) for level in Level]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert BLOCK < memory.SHRINK


def test_what_a_change_is_about_are_the_names_on_its_lines_and_no_headers() -> None:
    patch = "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n--- old_name\n+++ b/new_name\n same_name\n"
    assert memory.topics((), patch) == {"train.py", "old_name", "new_name"}
    assert memory.paths_of(patch) == ("train.py",)
