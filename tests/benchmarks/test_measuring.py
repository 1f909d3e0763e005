"""Numbers that alice compares are taken turn by turn, from trainers that really trained, or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import peers
from tests.benchmarks.checkouts import folder_of_peers
from tests.benchmarks.measuring import Contender, Rounds, contest, interleave, ratio
from tests.benchmarks.order import Order, Shape
from tests.benchmarks.ours import knobs_of
from tests.benchmarks.record import Record
from tests.benchmarks.texts import read_llmc, write_llmc, zipf_tokens
from tests.waiting import wait_until

TINY = Shape(depth=2, width=64, head_dim=32, vocab=256, seq_len=32, batch_rows=4, micro_rows=4)


def rounds(name: str, *tokens_per_s: float) -> Rounds:
    return Rounds(name, {}, tuple({"tokens_per_s": speed} for speed in tokens_per_s))


def stands_still(pid: int) -> bool:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True).stdout.startswith(b"T")


def test_a_moment_in_which_the_machine_was_slow_does_not_change_a_ratio() -> None:
    base, twice = rounds("base", 100, 10, 120), rounds("twice", 200, 20, 240)
    assert ratio(twice, base).values == (2, 2, 2)
    assert f"{ratio(twice, base):.2f}" == "2.00 (2.00 to 2.00)"
    assert f"{base.of('tokens_per_s'):,.0f}" == "100 (10 to 120)"


def test_our_recipe_trains_by_rounds_and_stands_still_between_them(dataset: Path, tmp_path: Path) -> None:
    order = Order(who="ours", shape=TINY, folder=str(tmp_path / "ours"), dataset=str(dataset), compile=False)
    with contest({"ours": order}, warm_up_s=0.0) as (ours,):
        found = interleave([ours], num_turns=2, seconds=0.1)["ours"]
        few = ours.round(seconds=60, num_steps=3)
        wait_until(partial(stands_still, ours.process.pid), "the process is stopped")
    assert found.built["tokens_per_step"] == 4 * 32
    assert all(turn["seconds"] >= 0.1 and turn["num_steps"] >= 1 for turn in found.turns)
    assert few["num_steps"] == 3
    assert 0 <= found.turns[0]["others_cores"] <= (os.cpu_count() or 1) + 0.2  # /proc counts hundredths of a second
    assert few["tokens_per_s"] == pytest.approx(3 * 128 / few["seconds"])
    assert found.turns[-1]["loss"] < np.log(256)


def test_a_trainer_that_dies_is_named_with_what_it_printed(dataset: Path, tmp_path: Path) -> None:
    order = Order(
        who="ours", shape=TINY, folder=str(tmp_path / "ours"), dataset=str(dataset), knobs={"no_such_knob": 1}
    )
    contender = Contender("ours", order)
    with pytest.raises(RuntimeError, match=r"(?s)ours ended without an answer.*no_such_knob"):
        contender.build()
    contender.end()
    assert contender.process.returncode not in (None, 0, -signal.SIGSTOP)


def test_a_width_that_our_recipe_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="width: 100 is no multiple of 3 layers"):
        knobs_of(Shape(depth=3, width=100, head_dim=32, vocab=256, seq_len=32, batch_rows=4, micro_rows=4))


def test_a_peer_that_has_changed_is_not_run_with_half_of_its_edits() -> None:
    peer = peers.PEERS["nanoGPT"]
    assert peers.edited("a = 1\nb = 2\n", {"a = 1": "a = 3"}, peer) == "a = 3\nb = 2\n"
    with pytest.raises(
        ValueError, match=rf"'c = 1' stands there 0 times instead of once; check out commit {peer.commit}"
    ):
        peers.edited("a = 1\n", {"c = 1": ""}, peer)
    with pytest.raises(ValueError, match="stands there 2 times"):
        peers.edited("a = 1\na = 1\n", {"a = 1": ""}, peer)


def test_whoever_has_no_peers_is_told_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS", str(tmp_path))
    (tmp_path / "nanoGPT").mkdir()
    (tmp_path / "nanoGPT" / "train.py").touch()
    assert folder_of_peers("nanoGPT") == tmp_path
    with pytest.raises(ValueError, match=r"PEERS: nanochat not found in .*\n  git clone https\S+/nanochat \S+ && git"):
        folder_of_peers("nanoGPT", "nanochat")
    monkeypatch.delenv("PEERS")
    with pytest.raises(ValueError, match="PEERS: nanoGPT not found; fetch"):
        folder_of_peers("nanoGPT")


def test_made_up_tokens_are_skewed_like_text_and_survive_a_file(tmp_path: Path) -> None:
    tokens = zipf_tokens(100_000, 1_000)
    write_llmc(tmp_path / "tokens.bin", tokens)
    assert (read_llmc(tmp_path / "tokens.bin") == tokens).all()
    most, *_, least = sorted(np.bincount(tokens, minlength=1_000), reverse=True)
    assert most > 100 * max(least, 1)
    (tmp_path / "other.bin").write_bytes(bytes(2_000))
    with pytest.raises(ValueError, match=r"other\.bin: is not an llm\.c file"):
        read_llmc(tmp_path / "other.bin")


def test_a_record_is_a_table_on_a_page_and_raw_numbers_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.record.FOLDER", tmp_path)
    record = Record(name="speed", title="Speed", columns=("who", "x"), rows=[("ours", "2.00")], raw={"x": [2.0]})
    assert "| who | x |\n| --- | --- |\n| ours | 2.00 |\n" in record.publish().read_text()
    assert json.loads((tmp_path / "speed.json").read_text())["raw"] == {"x": [2.0]}
