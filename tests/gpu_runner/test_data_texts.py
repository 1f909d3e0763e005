"""Alice gives a folder of texts: all that lies in it is read, or she is told what was not, and why."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpu_runner.data.manifest import HELD_OUT
from gpu_runner.data.sources.parts import parts_of
from tests.gpu_runner.datasets import held_out_texts, made_of, source_of, texts_in, write_lines, write_parquet
from tests.gpu_runner.texts import document, write_texts

TEXTS = [document(number) for number in range(200)]
ALL = sorted(TEXTS)


def write_numbers(folder: Path, numbers: range, name: str = "{}.txt") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / name.format(number)).write_text(document(number))


# --- links ------------------------------------------------------------------------------------


def test_texts_behind_a_link_are_read_as_well(tmp_path: Path) -> None:
    write_numbers(tmp_path / "texts", range(100))
    write_numbers(tmp_path / "elsewhere" / "deep", range(100, 200))
    (tmp_path / "texts" / "more").symlink_to(tmp_path / "elsewhere")
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home) == ALL
    assert source_of(home) == {"format": "text", "num_files": 200}
    assert heard.one("Followed out of the folder: 1 link (").endswith(f"more to {tmp_path / 'elsewhere'}).")


def test_the_hubs_cache_is_made_of_links_to_files(tmp_path: Path) -> None:
    write_numbers(tmp_path / "blobs", range(200), "{}")
    (tmp_path / "snapshot" / "data").mkdir(parents=True)
    for number in range(200):
        (tmp_path / "snapshot" / "data" / f"{number}.txt").symlink_to(f"../../blobs/{number}")
    home, heard = made_of(tmp_path / "snapshot")
    assert texts_in(home) == ALL
    assert " and 199 more)" in heard.one("Followed out of the folder: 200 links (")


def test_what_is_reached_by_two_ways_is_read_once_and_loops_end(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    write_numbers(folder / "b", range(200))
    (folder / "a").symlink_to(folder / "b")
    (folder / "b" / "again").symlink_to(folder)
    (folder / "b" / "above").symlink_to(tmp_path)
    (folder / "first.txt").symlink_to(folder / "b" / "0.txt")
    os.link(folder / "b" / "1.txt", folder / "b" / "twin.txt")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "round").symlink_to(folder / "round")
    home, heard = made_of(folder)
    assert texts_in(home) == ALL
    said = heard.one("Left out: ")
    for part in (
        r"3 links to what is taken anyway \(first: ",
        rf"2 links back to a folder above \(first: {folder}/b/above\)",
        rf"2 broken links \(first: {folder}/gone\)",
    ):
        assert re.search(part, said), said


def test_a_link_into_what_a_sandbox_shows_is_refused(tmp_path: Path) -> None:
    write_numbers(tmp_path / "texts", range(200))
    (tmp_path / "texts" / "numpy").symlink_to(Path(np.__file__).parent)
    with pytest.raises(ValueError, match=r"--from: .*texts/numpy: leads into .*, which every sandbox shows"):
        made_of(tmp_path / "texts")


# --- what is left out, and what is refused -----------------------------------------------------


def test_alice_is_told_of_all_that_is_left_out_and_what_had_text_is_in_the_manifest(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    for number, text in enumerate(("", "\n", " \t\r\n", "\ufeff", "\u200b\u3000")):
        (folder / f"empty{number}.txt").write_text(text)
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    os.mkfifo(folder / "pipe")
    home, heard = made_of(folder)
    assert texts_in(home) == ALL
    assert heard.one("Left out: ") == (
        f"Left out: 5 empty documents (first: {folder}/empty0.txt), 1 hidden file ({folder}/.DS_Store),"
        f" 1 hidden folder ({folder}/.git), 1 special file such as a device or a pipe ({folder}/pipe)."
    )
    assert source_of(home) == {"format": "text", "num_files": 205, "left_out": "5 empty documents"}


def test_a_folder_that_holds_nothing_to_read_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / ".hidden.txt").write_text("text")
    with pytest.raises(ValueError, match=r"holds no file of text\. Left out: 1 hidden file \("):
        made_of(tmp_path / "texts")


def test_where_nothing_is_left_the_reason_is_said_before_the_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpu_runner.__main__ import main

    (tmp_path / "texts").mkdir()
    for number in range(300):
        (tmp_path / "texts" / f"{number}.txt").write_text("\n" * number)
    made = ["--name", "mine", "--from", str(tmp_path / "texts"), "--root", str(tmp_path)]
    assert main(["data", "prepare", *made]) == 1
    assert "Left out: 300 empty documents (first: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("x.pdf", b"any", "is a PDF: take its text out"),
        ("x", b"%PDF-1.7\n", "is a PDF: take its text out"),
        ("x.docx", b"any", "save it as plain text"),
        ("x.txt", b"PK\x03\x04any", "is an archive"),
        ("x.tar.gz", b"any", "is packed tar: unpack it"),
        ("data-00000-of-00001.arrow", b"ARROW1", r"write it as parquet, such as with datasets\.load_from_disk"),
        ("x.parquet.zst", b"any", "is packed parquet: unpack it"),
        ("x.txt", "für".encode("utf-16"), "is UTF-16: convert it to UTF-8"),
        ("x", b"\x1f\x8b\x08any", r"give it the suffix \.gz"),
        ("x.html.br", b"any", "unpack it"),
        ("x", b'{"body": "a"}\n{"body": "b"}\n', r"holds JSON Lines: name it \.jsonl"),
        ("x.png", b"\x89PNG\0", "holds a 0 byte"),
        ("x.txt.gz", b"no gzip", "cannot be unpacked"),
        ("x.txt.gz", gzip.compress(b"text" * 999, mtime=0)[:-9], r"cannot be unpacked .*; fetch it again"),
        ("x.txt.zst", b"no zstandard", "cannot be unpacked"),
        ("x.txt.xz", b"no xz", "cannot be unpacked"),
    ],
)
def test_what_is_no_text_is_refused_with_the_way_out(tmp_path: Path, name: str, body: bytes, said: str) -> None:
    folder = write_texts(tmp_path / "texts")
    (folder / name).write_bytes(body)
    with pytest.raises(ValueError, match=said) as refused:
        made_of(folder, kind="text")
    assert str(folder / name) in str(refused.value)
    with pytest.raises(ValueError, match=re.escape(str(folder / name))):
        made_of(folder)
    assert not (tmp_path / "root" / "mine").exists()


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json.gz", "a.txt", "a.bin", "a.npy"])
def test_a_clone_without_git_lfs_is_told_to_fetch_its_files(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
    (folder / name).write_text(pointer)
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: is a pointer of Git LFS .*; run git lfs pull"):
        made_of(folder)


def pack_zst(body: bytes) -> bytes:
    import pyarrow

    half = len(body) // 2
    frames = (pyarrow.Codec("zstd").compress(part, asbytes=True) for part in (body[:half], body[half:]))
    return b"".join(frames)  # several frames, as pzstd and appended logs have


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", pack_zst)]
)
def test_packed_files_are_read_as_what_they_hold(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    lines = write_lines(tmp_path / "a.jsonl", [{"text": document(number)} for number in range(150)]).read_bytes()
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / f"a.jsonl{suffix}").write_bytes(pack(lines))
    for number in range(150, 200):
        (folder / f"{number}.TXT{suffix}").write_bytes(pack(document(number).encode()))
    home, heard = made_of(folder)
    assert texts_in(home) == ALL
    assert heard.one("Read from ").endswith("1 .jsonl, a document in each line; 50 .txt, each file a document.")


def test_markup_tables_and_source_code_are_text_and_counted_by_kind(tmp_path: Path) -> None:
    for number, name in enumerate(("{}.html", "{}.csv", "{}.py", "{}", "{}.md")):
        write_numbers(tmp_path / "texts", range(40 * number, 40 * number + 40), name)
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home) == ALL
    kinds = "40 without a suffix, 40 .csv, 40 .html, 40 .md, 40 .py, each file a document."
    assert heard.one("Read from ") == f"Read from {tmp_path / 'texts'}: {kinds}"


def test_a_readme_beside_data_is_about_it_and_beside_documents_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_lines(folder / "a.jsonl", [{"text": document(number)} for number in range(200)])
    for name in ("README.md", "LICENSE", "SHA256SUMS", "a.jsonl.md5", "dataset_info.json", "state.json"):
        (folder / name).write_text("about")
    home, heard = made_of(folder)
    assert texts_in(home) == ALL
    assert "6 files about the data" in heard.one("Left out: ")
    documents = write_texts(tmp_path / "documents")
    (documents / "README").write_text("A document.")
    assert "A document." in texts_in(made_of(documents, "documents")[0])


# --- names that say a split --------------------------------------------------------------------


@pytest.mark.parametrize("held", ["validation", "test", "dev", "held-out"])
def test_folders_train_and_another_are_what_their_names_say(tmp_path: Path, held: str) -> None:
    write_numbers(tmp_path / "texts" / "train", range(100), "the_last_test_{}.txt")
    write_numbers(tmp_path / "texts" / held, range(100, 200))
    home, heard = made_of(tmp_path / "texts")
    assert held_out_texts(home) == sorted(document(number) for number in range(100, 200))
    assert "100 files (train/the_last_test_0.txt, " in heard.one("Trained on: ")
    assert f"since the name {held} says" in heard.one("Held out: 100 files")


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("train.jsonl", "validation.jsonl"),
        ("a_train-00000-of-00002.ndjson", "a_test-00000-of-00001.ndjson"),
        ("c4-train.00000-of-01024.json", "c4-validation.00000-of-00008.json"),
        ("train/00.jsonl", "val.jsonl"),
    ],
)
def test_shards_of_lines_are_what_their_names_say(tmp_path: Path, train: str, held: str) -> None:
    write_lines(tmp_path / "texts" / train, [{"text": document(number)} for number in range(100)])
    write_lines(tmp_path / "texts" / held, [{"text": document(number)} for number in range(100, 200)])
    home, heard = made_of(tmp_path / "texts")
    assert held_out_texts(home) == sorted(document(number) for number in range(100, 200))
    assert train in heard.one("Trained on: 1 file")
    assert held in heard.one("Held out: 1 file")


@pytest.mark.parametrize(("train", "held"), [("train.txt", "val.txt"), ("wiki.train.tokens", "wiki.valid.tokens")])
def test_one_text_for_each_split_is_known_by_its_counterpart_and_cut_in_three(
    tmp_path: Path, train: str, held: str
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / train).write_text("".join(TEXTS[:100]))
    (tmp_path / "texts" / held).write_text("".join(TEXTS[100:]))
    home, heard = made_of(tmp_path / "texts")
    assert texts_in(home, "train") == ["".join(TEXTS[:100])]
    parts = [text for split in HELD_OUT for text in texts_in(home, split)]
    assert "".join(parts) == "".join(TEXTS[100:])
    assert all(part.endswith("\n") for part in parts)
    assert 2.5 < len(parts[1]) / len(parts[0]) < 3.5, "as shares are: 20, 60 and 50"
    assert f"Cut in three: 1 file ({held})" in heard.one("Cut in three")


@pytest.mark.parametrize("text", ["中" * 400, "word " * 400, "a line\n" * 400])
def test_a_text_is_cut_behind_a_line_or_a_word_or_a_character(text: str) -> None:
    parts = [part.text.decode() for part in parts_of("x", text.encode())]
    assert len(parts) == 3
    assert "".join(parts) == text
    assert all(part[-1] == text[-1] for part in parts)
    assert [part.split for part in parts_of("x", b"a" + b"\n" * 99)] == ["watch"]


def test_titles_of_documents_say_nothing_of_a_split(tmp_path: Path) -> None:
    write_numbers(tmp_path / "texts", range(100), "the test of time {}.txt")
    write_numbers(tmp_path / "texts" / "tests", range(100, 150), "test_{}.py")
    write_numbers(tmp_path / "texts", range(150, 200), "how to train a dog {}.txt")
    home, heard = made_of(tmp_path / "texts")
    assert not any(said.startswith("Trained on") for said in heard.said)
    assert heard.one("Held out: ").endswith("by their hash, since no name says what is held out.")
    assert texts_in(home) == ALL
    assert 0 < len(held_out_texts(home)) < 60


def test_a_mixed_folder_reads_its_parquet_and_counts_the_rest(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", num=3)
    write_parquet(folder / "data" / "a.parquet", [document(number) for number in range(200)])
    home, heard = made_of(folder)
    assert texts_in(home) == ALL
    assert heard.one("Left out: ") == f"Left out: 3 .txt files beside the parquet (first: {folder}/0000.txt)."


# --- what looks like one text and is not ---------------------------------------------------------


@pytest.mark.parametrize("end", ["<|endoftext|>\n", "\n<|endoftext|>\r\n", "<|endoftext|> \n"])
def test_a_file_in_which_endoftext_ends_lines_is_many_texts(tmp_path: Path, end: str) -> None:
    """TinyStories: its mark was thirteen letters to learn, and each of its files one document."""
    (tmp_path / "texts").mkdir()
    for name, texts in (("TinyStoriesV2-GPT4-train.txt", TEXTS[:100]), ("TinyStoriesV2-GPT4-valid.txt", TEXTS[100:])):
        (tmp_path / "texts" / name).write_bytes("".join(text + end for text in texts).encode())
    home, heard = made_of(tmp_path / "texts")
    before = end[: end.index("<")]
    assert texts_in(home) == sorted(text + before for text in TEXTS)
    assert held_out_texts(home) == sorted(text + before for text in TEXTS[100:])
    assert re.fullmatch(
        r"Read: 200 texts of files in which <\|endoftext\|> ends a text at the end of a line"
        r" \(first: .*TinyStoriesV2-GPT4-train\.txt, text 1\)\.",
        heard.one("Read: "),
    )
    assert not any(said.startswith("Cut in three") for said in heard.said)


def test_endoftext_within_a_line_stays_letters_and_is_said(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    (folder / "about.txt").write_text("GPT-2 has <|endoftext|> between its texts.\n")
    (folder / "about.py").write_text('END = "<|endoftext|>"\n')
    home, heard = made_of(folder)
    assert texts_in(home) == sorted([*TEXTS, "GPT-2 has <|endoftext|> between its texts.\n", 'END = "<|endoftext|>"\n'])
    assert heard.one("CAREFUL: ") == (
        "CAREFUL: 1 document with <|endoftext|> within a line, where it is letters and ends nothing"
        f" ({folder}/about.txt)."
    )


def test_bytes_that_are_no_utf_8_are_kept_and_said(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    for number in range(2):
        (folder / f"latin{number}.txt").write_bytes(f"für Nummer {number}\n".encode("latin-1"))
    _, heard = made_of(folder)
    said = f"CAREFUL: 2 documents that are no UTF-8, kept byte for byte (first: {folder}/latin0.txt)."
    assert heard.one("CAREFUL: ") == said


def test_what_has_a_mark_of_four_bytes_is_not_taken_for_two(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    (folder / "x.txt").write_bytes("für".encode("utf-32"))
    with pytest.raises(ValueError, match=r"x\.txt: is UTF-32: convert it .* iconv -f UTF-32"):
        made_of(folder)


def test_the_hubs_cache_has_its_names_in_snapshots(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "cache" / "blobs" / "a.parquet", TEXTS)
    path.rename(path.with_suffix(""))
    (tmp_path / "cache" / "snapshots").mkdir()
    (tmp_path / "cache" / "snapshots" / "a.parquet").symlink_to(path.with_suffix(""))
    with pytest.raises(ValueError, match=r"blobs/a: is parquet: .* \(snapshots in the Hub's cache\)"):
        made_of(tmp_path / "cache")
    assert texts_in(made_of(tmp_path / "cache" / "snapshots")[0]) == ALL
