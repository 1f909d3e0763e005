"""alice reads a run's log: of every bar its last state, and each line as her own terminal would have shown it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.harness.failures import from_exception
from gpu_runner.harness.failures import told as told_by_follower
from gpu_runner.process.child import Child, Lines
from gpu_runner.process.terminal import MAX_COLUMNS, Terminal, shown
from gpu_runner.standalone.process import _failure_in
from gpu_runner.worker.testimony import MAX_LINE_BYTES

from .conftest import Bench
from .test_launch import GOOD


def told(*blocks: bytes, max_bytes: int = MAX_LINE_BYTES) -> list[bytes | None]:
    lines: list[bytes | None] = []
    terminal = Terminal(lines.append, max_bytes)
    for block in blocks:
        terminal.feed(block)
    terminal.close()
    return lines


def printed_by(program: str) -> list[bytes | None]:
    """What a real process draws on its stderr, read through a real pipe."""
    lines: list[bytes | None] = []
    environment = {"PATH": os.environ["PATH"]}
    with Child(
        [sys.executable, "-c", program],
        env=environment,
        cwd=Path("/"),
        stdout=Lines(lambda line: None, 100),
        stderr=Terminal(lines.append, MAX_LINE_BYTES),
    ) as child:
        deadline = time.monotonic() + 60

        def check() -> None:
            assert time.monotonic() < deadline

        assert child.follow(check) == 0
    return lines


@pytest.mark.parametrize(
    ("drawn", "lines"),
    [
        (b"\r 10%\r 50%\r100%\ndone\n", [b"100%", b"done"]),
        (b"\r 10%\r 50%\r100%", [b"100%"]),  # no newline comes any more
        (b"10%\r50%\r100%\r", [b"100%"]),  # print(state, end="\r")
        (b"10%\r\n20%\r\r\n30%\n", [b"10%", b"20%", b"30%"]),  # Windows' line ends are no bar
        (b"10 left\r9 left\r", [b"9 left"]),  # a shorter state is that state alone
        (b"\r100%|###|\r           \rbob goes on\n", [b"bob goes on"]),  # tqdm(leave=False) wipes its bar
        (b"\r100%|###|\r           \r", []),
        (b"|\b/\b-\b\\\bdone\n", [b"done"]),  # a spinner
        (b"loss 5%\b\b10%\n", [b"loss 10%"]),
        (b"typo\b \b\b \b\n", [b"ty"]),
        (b"1/9 [=>..]" + b"\b" * 10 + b"\r9/9 [====]\n", [b"9/9 [====]"]),  # Keras
        (b"Resolving: 10%\x1b[K\rResolving: 9\x1b[K\n", [b"Resolving: 9"]),  # git
        (b"spin one\x1b[2K\x1b[1Gdone\n", [b"done"]),  # npm, rich
        (b"\x1b[?25l\r\x1b[32m10%\x1b[0m\r\x1b[32m100%\x1b[0m\x1b[?25h\n", [b"100%"]),
        (b"Epoch 1: \x1b[s 10%\r\x1b[9C 20%\n", [b"Epoch 1:  20%"]),  # a place on the line: the rest stays
        (b"abcdef\x1b[3D\x1b[2PX\n", [b"abcX"]),
        (b"abcdef\x1b[2D\x1b[1KX\n", [b"    Xf"]),
        (b"left\tright\n", [b"left\tright"]),
        (b"a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\n", [b"abc"]),
        (b"a\x1b]0;no end\nbob\n", [b"a", b"bob"]),  # nobody's line is swallowed by the one before
        (b"bob\x1b[31", [b"bob"]),
        (b"\n\n  \n", []),
        (b"one\ntwo\x1b[H\x1b[2J\x1b[3Jthree\n", [b"one", b"three"]),  # clear
        (b"last wo\x1b[2Jrds", [b"last words"]),
    ],
)
def test_a_line_is_what_a_screen_shows_when_it_is_left(drawn: bytes, lines: list[bytes]) -> None:
    assert told(drawn) == lines
    assert told(*(bytes([byte]) for byte in drawn)) == lines, "however the pipe cuts it: letters and escapes, too"


def test_no_bar_is_too_long_however_often_it_is_drawn() -> None:
    drawn = b"".join(b"\r%6d/100000 [%3d%%]" % (n, n // 1000) for n in range(100_001))
    assert len(drawn) > 20 * MAX_LINE_BYTES
    assert told(drawn) == [b"100000/100000 [100%]"]
    assert told(*(drawn[at : at + 65_536] for at in range(0, len(drawn), 65_536)), b"\n") == [b"100000/100000 [100%]"]


def test_a_line_that_is_too_long_is_said_to_be_and_the_next_is_read() -> None:
    assert told(b"x" * 101, b"x\nbob\n", max_bytes=100) == [None, b"bob"]
    assert told("ä".encode() * 51 + b"\n", max_bytes=100) == [None]
    assert told(b"x" * 500 + b"\rbob\n", max_bytes=100) == [b"bob"]


def test_bars_under_each_other_are_told_when_they_begin_and_as_they_stood_at_last() -> None:
    inner = b"".join(b"\n\rinner %d%%\x1b[A" % n for n in range(0, 101, 10))
    drawn = b"\router 0%" + (inner + b"\router 50%") + (inner + b"\router 100%") + b"\n\r          \rdone\n"
    assert told(drawn) == [b"outer 0%", b"outer 100%", b"done"]


def test_of_a_table_that_grows_only_what_is_new_is_told() -> None:
    drawn, rows = b"epoch  loss\n", [b"%d      %.1f" % (n, 4 - n / 10) for n in range(5)]
    for num in range(1, 6):
        drawn += b"\n".join([b"epoch  loss", *rows[:num], b""]) + b"\x1b[%dA" % (num + 1)
    assert told(drawn) == [b"epoch  loss", b"epoch  loss", *rows]
    assert told(b"loss 3.0\nloss 3.0\nloss 3.0\x1b[Kx\b \n") == [b"loss 3.0"] * 3, (
        "three lines that read alike are three"
    )


def test_the_bars_of_tqdm_leave_their_last_state() -> None:
    lines = printed_by(
        """
from tqdm import tqdm
for _ in tqdm(range(20_000), desc="load", mininterval=0, ncols=80):
    pass
for _ in tqdm(range(3), desc="epochs", ncols=80, mininterval=0):
    for _ in tqdm(range(500), desc="steps", leave=False, ncols=80, mininterval=0):
        pass
tqdm.write("alice is done", file=__import__("sys").stderr)
"""
    )
    said = [(line or b"None").decode().partition("[")[0] for line in lines]
    assert said[0].startswith("load: 100%")
    assert "20000/20000" in said[0]
    assert [line[:13] for line in said if "epochs" in line] == ["epochs:   0%|", "epochs: 100%|"]
    assert [line for line in said if line.startswith("steps")] == []
    assert said[-1] == "alice is done"


def test_the_bars_of_rich_leave_their_last_state() -> None:
    lines = printed_by(
        """
from rich.console import Console
from rich.progress import Progress
with Progress(console=Console(stderr=True, force_terminal=True, width=80)) as progress:
    bars = [progress.add_task(name, total=50) for name in ("train", "watch")]
    for _ in range(50):
        for bar in bars:
            progress.update(bar, advance=1)
            progress.refresh()
"""
    )
    last = [(line or b"None").decode() for line in lines[-2:]]
    assert [(line[:5], "100%" in line) for line in last] == [("train", True), ("watch", True)]
    assert len(lines) < 10, "and not each of a hundred states"


PIECES = st.sampled_from(["a", "é", "\n", "\r", "\b", "\x1b[K", "\x1b[A", "\x1b[2B", "\x1b[5C", "\x1b]0;", "\x07", "€"])


@given(st.lists(PIECES, max_size=60), st.integers(1, 7))
def test_it_does_not_matter_how_a_pipe_cuts_what_is_drawn(pieces: list[str], size: int) -> None:
    drawn = "".join(pieces).encode()
    assert told(*(drawn[at : at + size] for at in range(0, len(drawn), size))) == told(drawn)


@given(st.binary(max_size=200))
def test_any_bytes_are_lines_of_text(drawn: bytes) -> None:
    for line in told(drawn):
        assert line
        line.decode()


@pytest.mark.parametrize(
    "drawn", [b"\bx", b"\x1b[1K", b"\rx", b"\x1b[P", b"\x1b[", b"\x1b]a", b"\x1b[Ax\n", b"\x1b[9999C"]
)
def test_a_run_cannot_keep_its_supervisor_busy_with_drawing(drawn: bytes) -> None:
    """The work for a block is bounded by its length, not by what stands on the line."""
    block = (b"z" * 60_000 + drawn * 65_536)[: 4 * 65_536]
    lines: list[bytes | None] = []
    terminal = Terminal(lines.append, MAX_LINE_BYTES)
    began = time.process_time()
    terminal.feed(block)
    assert time.process_time() - began < 5
    assert all(len(row.cells) <= MAX_LINE_BYTES + MAX_COLUMNS for row in terminal.rows)


def test_words_that_hold_a_drawing_are_read_alike() -> None:
    assert shown("half a letter \ud800is none") == ["half a letter is none"]
    assert shown("\r10%\r20%\nTraceback\n  in train\n") == ["20%", "Traceback", "  in train"]


def test_a_bar_in_alices_run_is_one_line_of_its_log(bench: Bench) -> None:
    drawing = """
for n in range(20_001):
    sys.stderr.write(f"\\r{n}/20000 tokens")
sys.stderr.write("\\n")
say(kind="log", text="\\rcache 1/2\\rcache 2/2")
print("warm", end="\\r")
print("ready", end="\\r")
"""
    end = bench.run(bench.lease(bench.recipe(drawing + GOOD)))
    assert end is not None
    assert end.outcome == "finished"
    log = bench.web.log()
    assert [line for line in log if "tokens" in line or "cache" in line] == ["20000/20000 tokens", "cache 2/2"]
    assert not [line for line in log if "left out" in line]
    assert [line for line in log if line in ("warm", "ready", "alice was here")] == ["alice was here"]


def test_the_bar_that_a_run_died_at_is_its_last_word(bench: Bench) -> None:
    dying = """
for n in range(100):
    sys.stderr.write(f"\\rshard {n} of 100")
sys.stderr.flush()
os._exit(3)
"""
    end = bench.run(bench.lease(bench.recipe(dying)))
    assert end is not None
    assert end.failure is not None
    assert end.failure.message.endswith("without a last word.\nshard 99 of 100")


@pytest.mark.parametrize("odd", ["\r", "\r\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1b[2K"])
def test_what_a_process_of_a_team_failed_with_is_read_whole_from_its_last_line(odd: str, tmp_path: Path) -> None:
    """Whoever started the team knows of it from this line alone."""
    failure = from_exception(ValueError(f"shard {odd}7 is short"), tmp_path)
    *_, last = told(told_by_follower(failure, "1").encode())
    assert last is not None
    read = _failure_in(last.decode())
    assert read is not None
    assert (read.kind, read.message) == ("recipe_error", "Process 1 failed: ValueError: shard 7 is short")
