"""Rows of JSON and parquet as people have them: every one is read, or counted, or named with the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_runner.__main__ import main
from gpu_runner.data.manifest import HELD_OUT, load_manifest
from gpu_runner.data.progress import Bar
from gpu_runner.data.sources import json_text
from tests.gpu_runner.datasets import held_out_texts, made_of, source_of, texts_in, write_lines, write_parquet
from tests.gpu_runner.texts import document, tokens_of, write_llmc, write_rank_file, write_texts

TEXTS = [document(number) for number in range(200)]
ALL = sorted(TEXTS)
ROWS = [{"text": text} for text in TEXTS]


# --- JSON -------------------------------------------------------------------------------------


def test_blank_lines_and_null_texts_are_counted_and_no_documents(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "texts" / "a.jsonl", [*ROWS, {"text": None}, {"text": ""}], "", "  \r", "")
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home) == ALL
    for part in (
        f"1 row without text ({path}, line 201)",
        "1 empty document (",
        f"3 blank lines (first: {path}, line 203",
    ):
        assert part in heard.one("Left out: ")
    assert source_of(home)["left_out"] == "3 blank lines, 1 empty document, 1 row without text"


def test_a_line_ends_at_a_newline_only_and_may_follow_a_byte_order_mark(tmp_path: Path) -> None:
    texts = [f"{text}\u2028and\u2029on\x85and on\x0b\x0c" for text in TEXTS]
    about = '"score": NaN, "of more digits than Python reads": ' + "9" * 5_000
    lines = "\r\n".join(f'{{"text": {json.dumps(text, ensure_ascii=False)}, {about}}}' for text in texts)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.ndjson").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    home, _ = made_of(tmp_path / "texts")
    assert texts_in(home) == sorted(texts)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (r'{"text": "abc \ud800 d"}', r"holds \\ud800 at character 5, half of a surrogate pair.* write \\ufffd in its"),
        (r'{"text": "\udc00"}', r"holds \\udc00 at character 1"),
        ('{"content": "x", "n": 1}', r'with a "text": it has content \(a text\), n \(a number\); .*--column content'),
        ('{"n": [1]}', r"it has n \(a list\); write its text into that, or take it out of the folder"),
        ("{}", "it has no field"),
        ("[1, 2]", r"but a list; write objects, or name a file \.json where it is one array"),
        ('"text"', "but a text"),
        ("null", "but null"),
        ('{"text": 3}', 'its "text" is a number and no text'),
        ('{"text": NaN}', 'its "text" is a number and no text'),
        ('{"text": ["a"], "body": "b"}', r'its "text" is a list and no text: .*--column body'),
        pytest.param('{"text": "a", "x": ' + "[" * 5_000 + "]" * 5_000 + "}", "nests its objects too deep", id="deep"),
        ('{"text": "a"', "is not JSON: .*; mend it, or take it out"),
        ('{"text": "a"} {"text": "b"}', "is not JSON: Extra data"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_the_way_out(tmp_path: Path, line: str, said: str) -> None:
    path = write_lines(tmp_path / "texts" / "a.jsonl", ROWS, line)
    with pytest.raises(ValueError, match=said) as refused:
        made_of(tmp_path / "texts")
    assert str(refused.value).startswith(f"{path}: line 201")


def test_a_line_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "texts" / "a.jsonl", ROWS)
    path.write_bytes(path.read_bytes() + '{"text": "für"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.jsonl: line 201 is not UTF-8 \(.* at byte 11\); convert it"):
        made_of(tmp_path / "texts")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\ufeff" + json.dumps(TEXTS),
        "\n".join(map(json.dumps, ROWS)),
        json.dumps([*ROWS, {"text": None}]),
    ],
    ids=["array", "pretty", "texts", "lines", "null"],
)
def test_a_json_file_is_an_array_of_documents_or_lines_of_them(tmp_path: Path, body: str) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.json").write_text(body)
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home) == ALL
    assert "1 .json, a document in each line or item" in heard.one("Read from ")


def test_a_json_file_may_be_one_document(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number, row in enumerate(ROWS):
        (tmp_path / "texts" / f"{number}.json").write_text(json.dumps(row, indent=number % 2 or None))
    assert texts_in(made_of(tmp_path / "texts")[0]) == ALL


def test_files_without_a_row_are_counted(tmp_path: Path) -> None:
    write_lines(tmp_path / "texts" / "a.jsonl", ROWS)
    for name, body in (("b.jsonl", ""), ("c.json", "\n"), ("d.json", "[]")):
        (tmp_path / "texts" / name).write_text(body)
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home) == ALL
    assert f"3 files without a row (first: {tmp_path}/texts/b.jsonl)" in heard.one("Left out: ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (json.dumps({"data": ROWS}, indent=1), r'a\.json is not a JSON object with a "text": it has data \(a list\)'),
        (json.dumps({"text": TEXTS}), r'a\.json: line 1: its "text" is a list and no text'),
        (json.dumps([ROWS]), r"a\.json: item 1 is not a JSON object with a \"text\", but a list"),
        (json.dumps([{"text": "\ud800"}]), r"a\.json: item 1: its text holds \\ud800"),
        ("3", r"a\.json is not a JSON object with a \"text\", but a number"),
        ('[{"text": "a"},', r"a\.json is not JSON"),
    ],
)
def test_a_json_file_without_one_meaning_is_refused(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.json").write_text(body)
    with pytest.raises(ValueError, match=said):
        made_of(tmp_path / "texts")


def test_an_array_too_long_to_hold_says_how_to_make_lines_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "MAX_ARRAY_BYTES", 1_000)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.json").write_text(json.dumps(ROWS, indent=1))
    with pytest.raises(ValueError, match=r"more than 1,000 bytes; .*`jq -c '\.\[\]' a\.json > a\.jsonl`"):
        made_of(tmp_path / "texts")


def test_alice_names_the_field_and_the_manifest_keeps_it(tmp_path: Path) -> None:
    write_lines(tmp_path / "texts" / "a.jsonl", [{"text": 1, "content": text} for text in TEXTS])
    made = ["--name", "mine", "--from", str(tmp_path / "texts"), "--root", str(tmp_path), "--column", "content"]
    assert main(["data", "prepare", *made]) == 0
    assert texts_in(tmp_path / "mine") == ALL
    assert source_of(tmp_path / "mine") == {"format": "text", "num_files": 1, "column": "content"}


def test_a_column_of_what_has_none_is_refused(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "a.bin", tokens_of(9))
    for folder in (tmp_path / "bin", write_texts(tmp_path / "texts")):
        with pytest.raises(ValueError, match=r"--column: .*columns"):
            made_of(folder, column="content")
    assert main(["data", "prepare", "--root", str(tmp_path), "--column", "content"]) == 1


# --- parquet ----------------------------------------------------------------------------------

KINDS = ["string", "large_string", "string_view", "binary", "large_binary", "binary_view", "dictionary", "json"]


def array_of(kind: str, texts: list[str | None]) -> Any:
    import pyarrow

    plain = pyarrow.array(texts, pyarrow.string())
    if kind == "dictionary":
        return plain.dictionary_encode()
    if kind == "json":
        return pyarrow.ExtensionArray.from_storage(pyarrow.json_(pyarrow.string()), plain)
    return plain.cast(getattr(pyarrow, kind)())


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_every_type_that_parquet_has_for_it_is_read(tmp_path: Path, kind: str) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", array_of(kind, [*TEXTS, None, ""]))
    home, heard = made_of(tmp_path / "data")
    assert texts_in(home) == ALL
    for part in ("1 row without text (", "a.parquet, row 201)", "1 empty document ("):
        assert part in heard.one("Left out: ")


@pytest.mark.parametrize("kind", ["string_view", "dictionary", "binary"])
def test_text_of_every_type_goes_through_a_tokenizer(tmp_path: Path, kind: str) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", array_of(kind, list(TEXTS)))
    home, _ = made_of(tmp_path / "data", tokenizer=str(write_rank_file(tmp_path)))
    assert source_of(home)["num_files"] == 1


def test_another_column_is_read_by_its_name_and_what_there_is_is_said(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", [text.encode() for text in TEXTS], column="raw_content")
    has = r"has no column 'text'; it has about \(struct<.*>\), raw_content \(binary\)"
    with pytest.raises(ValueError, match=rf"a\.parquet: {has}; name the one to read with --column raw_content"):
        made_of(tmp_path / "data")
    home, _ = made_of(tmp_path / "data", column="raw_content")
    assert texts_in(home) == ALL


def test_a_column_that_is_no_text_is_named_with_its_type(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", [[{"role": "user", "content": text}] for text in TEXTS], "messages")
    with pytest.raises(ValueError, match=r"its column 'messages' is list<.*> and not text; .*write one with the text"):
        made_of(tmp_path / "data", column="messages")


def test_of_two_columns_with_one_name_none_is_chosen_unsaid(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "parquet").mkdir()
    twins = pyarrow.table([TEXTS, TEXTS[::-1]], names=["text", "text"])
    parquet.write_table(twins, tmp_path / "parquet" / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: has more than one column 'text'; write it again"):
        made_of(tmp_path / "parquet")


def test_bytes_that_are_no_text_are_named_by_their_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", [*(text.encode() for text in TEXTS), b"\xff\xfe"])
    with pytest.raises(ValueError, match=r"a\.parquet, row 201: is not UTF-8"):
        made_of(tmp_path / "data", tokenizer=str(write_rank_file(tmp_path)))


def test_a_row_with_a_0_byte_would_be_two_documents_so_it_is_left_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", [*TEXTS, "one\0two"])
    home, heard = made_of(tmp_path / "data")
    assert texts_in(home) == ALL
    assert "1 document with a 0 byte, which ends a document here (" in heard.one("Left out: ")
    with_ranks, _ = made_of(tmp_path / "data", "ranks", tokenizer=str(write_rank_file(tmp_path)))
    assert "left_out" not in source_of(with_ranks)


def test_a_file_that_breaks_off_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data" / "a.parquet", TEXTS)
    body = path.read_bytes()
    (path.parent / "b.parquet").write_bytes(body[:300] + b"\xff" * 900 + body[1200:])
    with pytest.raises(ValueError, match=r"b\.parquet: is no parquet file that can be read: .*; fetch it again"):
        made_of(tmp_path / "data")


def test_shards_are_found_below_and_files_without_rows_are_counted(tmp_path: Path) -> None:
    deep = tmp_path / "data" / "sample" / "10BT"
    write_parquet(deep / "000_00000.parquet", TEXTS[:150])
    write_parquet(deep / "001_00000.parquet", TEXTS[150:])
    write_parquet(deep / "002_00000.parquet", array_of("string", []))
    home, heard = made_of(tmp_path / "data")
    assert held_out_texts(home) == sorted(TEXTS[150:])
    assert heard.one("Held out: 1 file (sample/10BT/001_00000.parquet), since it is the last (25.")
    assert f"1 file without a row ({deep}/002_00000.parquet)" in heard.one("Left out: ")


def test_names_of_the_hub_decide_and_the_rule_of_the_last_file_that_contradicts_them_is_named(tmp_path: Path) -> None:
    data = tmp_path / "hub" / "data"
    write_parquet(data / "train-00000-of-00001.parquet", TEXTS[:150])
    write_parquet(data / "test-00000-of-00001.parquet", TEXTS[150:180])
    write_parquet(data / "validation-00000-of-00001.parquet", TEXTS[180:])
    write_parquet(data / "unsupervised-00000-of-00001.parquet", ["an unsupervised text"])
    for name in ("README.md", "dataset_info.json", ".gitattributes"):
        (tmp_path / "hub" / name).write_text("{}")
    home, heard = made_of(tmp_path / "hub")
    assert held_out_texts(home) == sorted(TEXTS[150:])
    assert "1 file (data/train-00000-of-00001.parquet)" in heard.said[0]
    assert heard.one("Trained on: 1 file (data/unsupervised-00000-of-00001.parquet), since their names say nothing")
    assert heard.one("Held out: 2 files (data/test-00000-of-00001.parquet, data/validation-00000-of-00001.parquet)")
    (data / "validation-00000-of-00001.parquet").unlink()
    _, heard = made_of(tmp_path / "hub", "other")
    assert any("unsupervised-00000-of-00001.parquet is trained on, as names say, though" in said for said in heard.said)
    said = heard.one("Left out: ")
    assert all(part in said for part in ("1 .md file beside", "1 .json file beside", "1 hidden file ("))


@pytest.mark.parametrize("num_files", [1, 3])
def test_files_that_all_say_train_are_split_by_document_and_not_by_the_last(tmp_path: Path, num_files: int) -> None:
    for i in range(num_files):
        write_parquet(tmp_path / "data" / f"train-{i:05}-of-{num_files:05}.parquet", TEXTS[i::num_files])
    home, heard = made_of(tmp_path / "data")
    assert texts_in(home) == ALL
    assert 0 < len(held_out_texts(home)) < 60
    assert heard.one("Held out: documents of every file, by their hash, since ")


# --- what decides no split ---------------------------------------------------------------------


def test_empty_and_repeated_rows_decide_no_split(tmp_path: Path) -> None:
    """Empty texts have one hash, which lies in val, and so have all copies of any other text."""
    held = held_out_texts(made_of(write_parquet(tmp_path / "a" / "a.parquet", TEXTS).parent)[0])
    copies = [held[0]] * 50 + [f" {held[1]} "] + [""] * 133 + [" \n"] * 20
    home, heard = made_of(write_parquet(tmp_path / "b" / "a.parquet", [*TEXTS, *copies]).parent, "more")
    assert held_out_texts(home) == held
    left_out = "153 empty documents, 50 repeated documents of what is held out"
    assert source_of(home)["left_out"] == left_out
    assert heard.one(f"Left out: {left_out.split(',')[0]} (first: ")


def test_repeats_in_the_training_text_are_alices_own_choice(tmp_path: Path) -> None:
    write_lines(tmp_path / "texts" / "train.jsonl", [{"text": "the same"}] * 30 + ROWS[:100])
    write_lines(tmp_path / "texts" / "val.jsonl", [{"text": "the same"}] * 30 + ROWS[100:] + ROWS[100:])
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home, "train").count("the same") == 30
    assert held_out_texts(home) == sorted([*TEXTS[100:], "the same"])
    assert "129 repeated documents of what is held out" in heard.one("Left out: ")


def test_repeats_in_held_out_tokens_stand_there_once_as_well(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "x_train.bin", tokens_of(100))
    held = tokens_of(100, first=100)
    write_llmc(tmp_path / "bin" / "x_val.bin", np.concatenate([held, held, tokens_of(1, first=100)]))
    home, heard = made_of(tmp_path / "bin", separator="0")
    num_tokens = sum(load_manifest(home).splits[split].num_tokens for split in HELD_OUT)
    assert num_tokens == len(held)
    assert heard.one("Left out: ") == "Left out: 101 repeated documents of what is held out."


def test_a_name_in_brackets_is_said_on_a_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Bar().say("Left out: 1 hidden file ([red] draft[/old].txt).")
    assert "([red] draft[/old].txt)" in capsys.readouterr().err
