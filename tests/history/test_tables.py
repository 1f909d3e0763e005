"""alice brings the results.tsv of her own loop: every row is read, and what cannot be is refused by line and reason."""

from __future__ import annotations

import pytest

from research.history import reader
from research.history.past import MAX_BYTES, Reading, Wanted
from tests.history.tables import HEADER, ROWS, results_tsv


def read(*rows: str, header: str = HEADER, **wanted: object) -> Reading:
    return reader.read("autoresearch", results_tsv(*rows, header=header), "results.tsv", Wanted(**wanted))  # type: ignore[arg-type]


def of(body: bytes | str) -> Reading:
    return reader.read("autoresearch", body.encode() if isinstance(body, str) else body, "results.tsv")


def fields(reading: Reading) -> dict[str, str]:
    return {column.theirs: column.field for column in reading.columns}


def test_alices_own_five_columns() -> None:
    reading = read()
    assert (reading.num_read, len(reading.experiments), reading.refused) == (5, 5, ())
    assert (reading.metric, reading.direction) == ("val_bpb", "lower")
    baseline, warm, deeper, wider, half = reading.experiments
    assert (baseline.line, baseline.commit, baseline.title, baseline.value) == (2, "a1b2c3d", "baseline", 1.5)
    assert baseline.memory_mib == 12 * 1024
    assert [e.outcome for e in reading.experiments] == ["kept", "kept", "discarded", "crashed", "kept"]
    assert (wider.value, wider.memory_mib, wider.said) == (None, None, "crash")  # missing, not zero
    assert [e.parent for e in reading.experiments] == [None, 2, 3, 3, 3]
    assert (warm.key != deeper.key, half.title) == (True, "half the batch")


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + results_tsv(),
        results_tsv(end="\r\n"),
        results_tsv(end="\r"),
        results_tsv().replace(b"\n", b"\n\n"),
        results_tsv().decode().encode("utf-16"),
        results_tsv().replace(b"\t", b","),
        results_tsv().replace(b"\t", b";"),
        results_tsv(header="# " + HEADER),
        results_tsv(*(row + "\t\t" for row in ROWS), header=HEADER + "\t"),
        "\n".join(ROWS).encode(),  # nobody wrote the header
    ],
    ids=["byte order mark", "CRLF", "CR", "blank lines", "UTF-16", "commas", "semicolons", "#", "tabs behind", "bare"],
)
def test_the_same_five_rows_however_they_were_saved(body: bytes) -> None:
    found = of(body)
    assert [(e.commit, e.title, e.value, e.said) for e in found.experiments] == [
        (e.commit, e.title, e.value, e.said) for e in read().experiments
    ]
    assert found.refused == ()


def test_forks_rename_their_columns_and_what_nobody_knows_is_kept_as_an_extra() -> None:
    header = "exp\tgit_sha\tval_loss\tpeak_vram_mb\ttrain_secs\tmfu\tdecision\thypothesis\tnext idea"
    reading = read("exp1\tabc1234\t3.28\t2048.0\t300.5\t41.2\tKEEP\tfewer heads\ttry none", header=header)
    assert fields(reading) == {
        "exp": "title", "git_sha": "commit", "val_loss": "metric", "peak_vram_mb": "memory", "train_secs": "seconds",
        "mfu": "extra", "decision": "outcome", "hypothesis": "description", "next idea": "extra",
    }  # fmt: skip
    (only,) = reading.experiments
    assert (only.memory_mib, only.train_s, only.value, only.outcome) == (2048.0, 300.5, 3.28, "kept")
    assert only.extras == {"mfu": "41.2", "next idea": "try none"}
    assert only.title == "fewer heads"


def test_alice_says_otherwise_which_column_is_what() -> None:
    header = "commit\tscore\tother\tstatus\tdescription"
    rows = ("a1b2c3d\t1\t7.5\tkeep\tone", "b1b2c3d\t2\t7.1\tkeep\ttwo")
    chosen = {"other": "metric", "Score": "extra", "description": "title"}
    reading = read(*rows, header=header, columns=chosen, direction="higher")
    assert (reading.metric, reading.direction, reading.experiments[0].value) == ("other", "higher", 7.5)
    assert reading.experiments[0].extras == {"score": "1"}
    for wrong, way_out in (
        ({"size": "metric"}, "no column 'size'; there are commit, score"),
        ({"other": "job"}, "'job'"),
    ):
        with pytest.raises(ValueError, match=f"^map: .*{way_out}"):
            read(*rows, header=header, columns=wrong)
    with pytest.raises(ValueError, match=r"^map: other and score are both metric"):
        read(*rows, header=header, columns={"other": "metric", "score": "metric"})


def test_of_several_numbers_the_campaigns_own_is_the_metric_and_goes_its_way() -> None:
    rows = ("a1b2c3d\t1.5\t3.2\tkeep\tone", "b1b2c3d\t1.4\t3.1\tkeep\ttwo")
    header = "commit\tval_bpb\tval_loss\tstatus\tdescription"
    assert read(*rows, header=header).metric == "val_bpb"
    ours = read(*rows, header=header, ours="Val Loss", our_direction="higher")
    assert (ours.metric, ours.direction, ours.notes) == ("val_loss", "higher", ())
    assert read(*rows, header=header, ours="f1", our_direction="higher").metric == "val_bpb"
    assert read(*rows, header=header, ours="val_loss", metric="val_bpb").metric == "val_bpb"
    with pytest.raises(ValueError, match=r"^metric: there is no column 'speed'; there are commit, val_bpb, val_loss"):
        read(*rows, header=header, metric="speed")


def test_which_way_is_better_by_the_name_or_else_by_what_was_kept() -> None:
    rows = ("a1b2c3d\t5\tkeep\tone", "b1b2c3d\t9\tdiscard\ttwo", "c1b2c3d\t3\tkeep\tthree")
    cases = {"val_acc": "higher", "val_bpb": "lower", "tok_per_sec": "higher", "score": "lower", "fitness": "lower"}
    for name, direction in cases.items():
        assert read(*rows, header=f"commit\t{name}\tstatus\tdescription").direction == direction, name
    by_keeps = read(*rows, header="commit\tscore\tstatus\tdescription")
    assert by_keeps.notes == ("score: lower is better, to judge by the ones that were kept.",)


def test_rows_that_cannot_be_read_are_refused_by_line_and_reason() -> None:
    reading = read(
        ROWS[0],
        "# from here on the other machine",
        "================",
        HEADER,
        "2026-08-03\twarm_up_001\t1.8646\t157\t30.24\t1302.6\tanother log altogether",
        "abc1234\t1,48\t12.0\tkeep\ta comma for a point",
        "all that follows is at depth 6",
        ROWS[0],
        "\t\t\t\t",
        "-\t-\t-\t-\t-",
        "bcd1234\t1.4800\t12.0\tkeep\ttabs\tin\tthe words",
        "cde1234\t1.47\t12.0\tkeep",
    )
    assert [(r.line, r.reason) for r in reading.refused] == [
        (3, "a comment"),
        (4, "a rule, not a row"),
        (5, "the header once more"),
        (6, "val_bpb: 'warm_up_001' is no number"),
        (7, "val_bpb: '1,48' has a comma for its decimal point; write 1.48"),
        (8, "1 cell where the header has 5: no status"),
        (9, "says the same as line 2"),
        (11, "a rule, not a row"),
    ]
    assert [e.title for e in reading.experiments] == ["baseline", "tabs in the words", "cde1234"]
    assert reading.num_read == len(reading.experiments) + len(reading.refused)


def test_a_second_table_below_the_first_is_read_by_its_own_header() -> None:
    below = ("tag\tval_bpb\tsteps\tstatus\tdescription", "l0\t2.5669\t800\treference\ta longer run")
    reading = read(*ROWS[:2], *below)
    assert [e.value for e in reading.experiments] == [1.5, 1.48, 2.5669]
    assert reading.experiments[2].extras == {"steps": "800"}
    assert reading.notes == ("Line 4 begins another table: tag, val_bpb, steps, status, description.",)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("keep", "kept"), ("KEPT", "kept"), ("NEW_BEST", "kept"), ("ADOPTED-WIN", "kept"), ("baseline", "kept"),
        ("discard", "discarded"), ("REVERT", "discarded"), ("screen_discard", "discarded"), ("worse", "discarded"),
        ("crash", "crashed"), ("infra-fail", "crashed"), ("OOM", "crashed"), ("not kept", "unsaid"),
        ("ok", "unsaid"), ("neutral", "unsaid"), ("tentative", "unsaid"), ("", "unsaid"),
    ],
)  # fmt: skip
def test_the_words_of_many_loops_for_how_it_ended(said: str, outcome: str) -> None:
    reading = read(f"a1b2c3d\t1.5\t12\t{said}\tdeeper")
    assert [(e.outcome, e.said) for e in reading.experiments] == [(outcome, said)]


def test_where_no_column_says_it_the_description_may_begin_with_it() -> None:
    reading = read("a1b2c3d\t1.5\tkeep — deeper", "b1b2c3d\t1.6\tdeeper: keep out", header="commit\trmse\tdescription")
    assert [(e.outcome, e.said) for e in reading.experiments] == [("kept", "keep"), ("unsaid", "")]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.5", 1.5), (" 1.5 ", 1.5), ("1.5e-3", 0.0015), ("1,234.5", 1234.5), ("−0.5", -0.5), ("24.9%", 24.9),
        ("~1.5", 1.5), ("nan", None), ("NaN", None), ("inf", None), ("n/a", None), ("-", None), ("", None),
        ("FAIL", None), ("1e9999", None), ("0.000000", None),
    ],
)  # fmt: skip
def test_numbers_and_the_words_for_none(cell: str, value: float | None) -> None:
    assert [e.value for e in read(f"a1b2c3d\t{cell}\t12\tdiscard\tdeeper").experiments] == [value]


def test_a_zero_is_a_number_where_nothing_crashed_and_it_is_no_loss() -> None:
    header = "commit\tscore\tstatus\tdescription"
    reading = read("a1b2c3d\t0\tdiscard\tbad", "b1b2c3d\t0\tcrash\tworse", "c1b2c3d\t2\tkeep\tok", header=header)
    assert [e.value for e in reading.experiments] == [0.0, None, 2.0]


def test_cells_in_quotes_and_a_quote_that_nobody_closed() -> None:
    tabs = read('a1b2c3d\t1.5\t12\tkeep\t"the ""best"" one"', 'b1b2c3d\t1.4\t12\tkeep\t"never closed')
    assert [e.title for e in tabs.experiments] == ['the "best" one', '"never closed']
    commas = of(
        'commit,val_bpb,status,description\na1b2c3d,1.5,keep,"one, with\na line\tand a tab"\nb1b2c3d,1.4,keep,b\n'
    )
    assert [(e.line, e.description) for e in commas.experiments] == [(2, "one, with\na line\tand a tab"), (4, "b")]
    endless = 'commit,val_bpb\na1b2c3d,"' + "x\n" * 400
    with pytest.raises(ValueError, match=r"^file: a quote opened in line 2 is closed 40\d lines on"):
        of(endless)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"\x89PNG\0\0\0\n", "it is no text"),
        (b"nothing here\nbut prose\n", "no tab, comma or semicolon"),
        (b"x" * (MAX_BYTES + 1), "at most 4 MiB are read"),
        (results_tsv(*(f"{i:07x}\t1.5\t1\tkeep\trow" for i in range(5_001))), "more than 5,000 rows"),
        (("\t".join(["metric", "status"] * 300) + "\n").encode(), "600 columns; at most 400"),
    ],
)
def test_what_is_no_history_is_refused_whole_in_a_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^file: .*{sentence}"):
        of(body)


def test_hostile_text_is_one_harmless_line_of_bounded_length() -> None:
    evil = "deeper\x1b[31m\u202egnp.exe\x00 <script>" + "A" * 90_000
    reading = of(results_tsv(f"a1b2c3d\t1.5\t12\tkeep\t{evil}".replace("\x00", "\u2066")))
    (only,) = reading.experiments
    assert only.title.startswith("deeper<U+001B>[31m<U+202E>gnp.exe<U+2066> <script>AAA") and len(only.title) == 200
    assert len(only.description) < 5_000
    wide = read(
        "a1b2c3d\t1.5\t" + "\t".join(["1"] * 300), header="commit\tval_bpb\t" + "\t".join(f"c{i}" for i in range(300))
    )
    assert len(wide.experiments[0].extras) == 200


def test_hostile_names_and_a_table_of_nothing_but_columns() -> None:
    evil = read("a1b2c3d\t1.5\t1\tx", header="commit\tval_bpb\u202e\x1b[2J\tstatus\tdescription")
    assert evil.metric == "val_bpb<U+202E><U+001B>[2J" and evil.columns[1].theirs == evil.metric
    names = "\t".join(f"n{i}" for i in range(390))
    wide = read(*(f"{i:07x}\t1.5\t" + "\t".join(["w"] * 390) for i in range(500)), header=f"commit\tval_bpb\t{names}")
    assert (wide.num_read, wide.metric) == (500, "val_bpb")


def test_what_is_named_like_a_credential_is_left_out() -> None:
    reading = read("a1b2c3d\t1.5\thunter22\tx", header="commit\tval_bpb\twandb_api_key\tdescription")
    assert "hunter22" not in str(reading.experiments)


def test_lines_that_are_no_utf_8_are_read_and_said() -> None:
    reading = of(results_tsv().replace(b"deeper by two", b"d\xe9per"))
    assert reading.experiments[2].title == "déper"
    assert reading.notes == ("Not UTF-8, and read as Windows-1252: line 4.",)


def test_a_table_without_header_or_familiar_shape_takes_no_column_for_the_metric() -> None:
    rows = [f"HEAD\tmodel\t397.0\t{i}.5\t{5 - i}.3\tkeep\tidea {i}" for i in range(4)]
    reading = of("\n".join(rows))
    assert (reading.metric, reading.experiments[0].title) == ("", "idea 0")
    assert "No column is the metric" in reading.notes[-1]
    chosen = reader.read(
        "autoresearch", "\n".join(rows).encode(), "results.tsv", Wanted(columns={"column 5": "metric"})
    )
    assert [e.value for e in chosen.experiments] == [5.3, 4.3, 3.3, 2.3]
