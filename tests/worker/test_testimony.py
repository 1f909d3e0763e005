"""Whatever a run says of itself, what goes on to the web side is well formed, bounded and plain."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.contract import LogLine, Progress, Report
from gpu_runner.contract.plain import is_hidden, plain
from gpu_runner.process.child import Lines
from gpu_runner.worker import testimony
from gpu_runner.worker.reporter import Point, columns


class Notes:
    """Listens, and writes down."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.lines: list[LogLine] = []
        self.facts: list[dict[str, Any]] = []
        self.last: Progress | None = None

    def point(self, point: Point) -> None:
        self.points.append(point)

    def log(self, line: LogLine) -> None:
        self.lines.append(line)

    def progress(self, progress: Progress) -> None:
        self.last = progress

    def started(self, facts: dict[str, Any]) -> None:
        self.facts.append(facts)

    def report(self) -> Report:
        return Report(
            fence=1,
            seq=1,
            phase="training",
            points=columns(self.points) if self.points else None,
            log=self.lines,
            progress=self.last,
            started=self.facts[-1] if self.facts else None,
        )


def heard(*lines: bytes) -> tuple[Notes, testimony.Testimony]:
    notes = Notes()
    hearing = testimony.Testimony(notes, clock=lambda: 1.0)
    for line in lines:
        hearing.report_line(line)
    return notes, hearing


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(["started", "point", "progress", "log", "ended", "?"])
FIELDS = [
    "step",
    "tokens",
    "elapsed_s",
    "metrics",
    "fraction",
    "eta_s",
    "level",
    "text",
    "failure",
    "train_s",
    "outcome",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({"kind": KINDS}, optional=dict.fromkeys(FIELDS, JSON)), max_size=6))
def test_any_json_becomes_a_report_that_the_contract_takes(said: list[dict[str, Any]]) -> None:
    notes, _ = heard(*(json.dumps(line).encode() for line in said))
    sent = notes.report().model_dump_json()
    assert "\\u0000" not in sent
    assert Report.model_validate_json(sent) == notes.report()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_become_log_lines(said: list[bytes]) -> None:
    notes, hearing = heard(*said)
    for line in said:
        hearing.printed(line, "warning")
    Report.model_validate_json(notes.report().model_dump_json())


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_lines_come_out_as_they_went_in_however_they_were_cut(lines: list[bytes], cut: int) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    stream = b"".join(line + b"\n" for line in lines)
    took: list[bytes | None] = []
    reader = Lines(took.append, max_bytes=20)
    for start in range(0, len(stream), cut):
        reader.feed(stream[start : start + cut])
    reader.close()
    assert took == [line if len(line) <= 20 else None for line in lines]


def test_a_run_cannot_flood_the_names_of_metrics() -> None:
    lines = [{"kind": "point", "step": n, "tokens": 1, "elapsed_s": 0.0, "metrics": {f"m{n}": 1}} for n in range(200)]
    notes, _ = heard(*(json.dumps(line).encode() for line in lines))
    assert len(notes.points) == 200
    assert len(columns(notes.points).metrics) == 64


def test_text_loses_what_a_terminal_or_a_bidi_reader_would_obey() -> None:
    assert (
        plain("\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 a\x00b\u202ec\ud800d\te") == "red link abcd    e"
    )


def test_an_unknown_failure_kind_cannot_pass_for_the_supervisors() -> None:
    _, hearing = heard(b'{"kind": "ended", "outcome": "failed", "failure": {"kind": "lost_contact", "message": 5}}')
    assert hearing.ended is not None
    assert hearing.ended.failure is not None
    assert (hearing.ended.failure.kind, hearing.ended.failure.message) == ("recipe_error", "5")


# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt), which Python's unicodedata does not know.
IGNORABLE = (
    "00AD 034F 061C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8 "
    "1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"
)


def test_everything_that_unicode_lets_a_screen_leave_out_counts_as_hidden() -> None:
    for part in IGNORABLE.split():
        first, _, last = part.partition("-")
        for code in range(int(first, 16), int(last or first, 16) + 1):
            assert is_hidden(chr(code)), hex(code)
            assert plain(f"a{chr(code)}b") == "ab", hex(code)


@given(st.text(st.characters() | st.sampled_from("\x1b[]0m;\x07\x9b\u2028\ud800\U000e0101\u00a0\t")))
def test_plain_text_hides_nothing_and_stays_as_it_is_the_second_time(text: str) -> None:
    once = plain(text)
    assert not {c for c in once if is_hidden(c)}
    assert plain(once) == once


def test_what_people_write_in_other_scripts_stays() -> None:
    for text in ("Größe 3 µm → ½", "学習率を上げる", "تعلّم", "шаг №1", "👍 fine", "ä = a + ̈ "):
        assert plain(text) == text
