"""Which token stands between the documents of tokens that alice brings: found by looking, at their heads or ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gpu_runner.data.manifest import HELD_OUT, SPLITS, load_manifest
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.tokenizers import open_tokenizer
from gpu_runner.data.verify import verify
from tests.gpu_runner.datasets import Heard, read
from tests.gpu_runner.texts import document, write_llmc, write_rank_file, write_tokenizer_json
from tests.gpu_runner.tokens import documents, write_nanogpt

LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")


def write_llama(folder: Path) -> tuple[str, dict[str, int]]:
    """A tokenizer with Llama 3's special tokens, as Hugging Face writes it, and their numbers."""
    path = write_tokenizer_json(folder)
    config = json.loads(path.read_text())
    first = max(config["model"]["vocab"].values()) + 1
    numbers = {name: first + i for i, name in enumerate(LLAMA)}
    end = config["added_tokens"][0]
    config["added_tokens"] = [end | {"id": number, "content": name} for name, number in numbers.items()]
    config["model"]["vocab"].pop(end["content"])
    path.write_text(json.dumps(config))
    return str(path), numbers


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("name", LLAMA[:2])
def test_the_separator_is_found_by_looking(tmp_path: Path, name: str, begins: bool) -> None:
    """llm.c begins each document with it; others end it so. Between two documents it is the same."""
    tokenizer, numbers = write_llama(tmp_path)
    separator = numbers[name]
    train, val = (documents(n, separator=separator, begins=begins, seed=n) for n in (300, 200))
    write_llmc(tmp_path / "bin" / "tiny_train.bin", train.astype(np.uint32))
    write_llmc(tmp_path / "bin" / "tiny_val.bin", val.astype(np.uint32))
    heard = Heard()
    home = prepare(tmp_path / "root", "llama", Origin(path=tmp_path / "bin", tokenizer=tokenizer), heard)
    manifest = verify(home)
    assert manifest.tokenizer.separator == separator
    how = "begins each document, and is written behind it" if begins else "stands behind each document"
    assert any(f"Separator: {name} ({separator}) {how}: 500 times in" in said for said in heard.said)
    assert np.array_equal(read(home, "train"), np.roll(train, -1) if begins else train)
    whole = {
        tuple(document) for document in np.split(val, np.flatnonzero(val == separator) + (not begins)) if len(document)
    }
    for split in HELD_OUT:
        tokens = read(home, split)
        assert tokens[-1] == separator != tokens[0]
        found = np.split(tokens, np.flatnonzero(tokens == separator) + 1)[:-1]
        assert len(found) == manifest.splits[split].num_documents
        assert {tuple(np.roll(document, 1) if begins else document) for document in found} <= whole
    assert sum(manifest.splits[split].num_documents or 0 for split in HELD_OUT) == 200


def test_documents_between_two_marks_end_with_the_second(tmp_path: Path) -> None:
    tokenizer, numbers = write_llama(tmp_path)
    begin, end, turn = numbers.values()
    rng = np.random.default_rng(0)
    texts = [[begin, *rng.integers(1, 250, 30), turn, *rng.integers(1, 250, 30), turn, end] for _ in range(300)]
    write_llmc(tmp_path / "bin" / "all.bin", np.concatenate(texts).astype(np.uint32))
    home = prepare(tmp_path / "root", "chat", Origin(path=tmp_path / "bin", tokenizer=tokenizer))
    manifest = load_manifest(home)
    assert manifest.tokenizer.separator == end
    for split in SPLITS:
        assert (read(home, split)[0], read(home, split)[-1]) == (begin, end)


def test_a_stray_end_of_text_is_no_separator(tmp_path: Path) -> None:
    tokenizer, numbers = write_llama(tmp_path)
    begin, end, _ = numbers.values()
    tokens = documents(300, separator=begin, begins=True)
    tokens[[30, 3_000]] = end
    write_llmc(tmp_path / "bin" / "all.bin", tokens.astype(np.uint32))
    home = prepare(tmp_path / "root", "llama", Origin(path=tmp_path / "bin", tokenizer=tokenizer))
    assert load_manifest(home).tokenizer.separator == begin


def test_a_separator_that_alice_names_has_to_occur(tmp_path: Path) -> None:
    tokenizer, numbers = write_llama(tmp_path)
    begin = numbers["<|begin_of_text|>"]
    write_llmc(tmp_path / "bin" / "all.bin", documents(300, separator=begin, begins=True).astype(np.uint32))
    said = (
        rf"<\|end_of_text\|> \({begin + 1}\) occurs nowhere in .* there occur <\|begin_of_text\|> \({begin}\) 300 times"
    )
    with pytest.raises(ValueError, match=said):
        prepare(tmp_path / "root", "a", Origin(path=tmp_path / "bin", tokenizer=tokenizer, separator="<|end_of_text|>"))
    with pytest.raises(ValueError, match=rf"7000 occurs nowhere in .*; the first of them, {begin}, occurs 300 times"):
        prepare(tmp_path / "root", "a", Origin(path=tmp_path / "bin", separator="7000"))
    for chosen in (Origin(path=tmp_path / "bin", separator=str(begin)),
                   Origin(path=tmp_path / "bin", separator=str(begin), tokenizer=tokenizer)):  # fmt: skip
        home = prepare(tmp_path / "root", "by-number" + str(chosen.tokenizer is None), chosen)
        assert load_manifest(home).tokenizer.separator == begin


def test_tokens_without_any_mark_are_cut_where_they_are_held_out_and_refused_where_not(tmp_path: Path) -> None:
    """nanoGPT's shakespeare has no end of a text in it."""
    ranks = str(write_rank_file(tmp_path))
    rng = np.random.default_rng(0)
    folder = write_nanogpt(tmp_path / "bin", "<u2", train=rng.integers(1, 250, 9_000), val=rng.integers(1, 250, 9_000))
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=folder, tokenizer=ranks), heard)
    assert load_manifest(home).tokenizer.separator is None
    assert load_manifest(home).splits["val"].num_documents is None
    assert any(
        "Documents are not marked: none of its special tokens occurs (<|endoftext|> (300))" in s for s in heard.said
    )
    (folder / "val.bin").unlink()
    with pytest.raises(ValueError, match=r"does not say where documents end.*none of its special tokens occurs"):
        prepare(tmp_path / "root", "other", Origin(path=folder, tokenizer=ranks))


def test_empty_documents_fall_to_no_split(tmp_path: Path) -> None:
    """A file that was filled up with its separator: all of it has one hash."""
    tokens = np.concatenate([documents(300, separator=300, begins=False), np.full(5_000, 300)])
    write_llmc(tmp_path / "bin" / "all.bin", tokens.astype(np.uint16))
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", separator="300"), heard)
    assert sum(split.num_documents or 0 for split in load_manifest(home).splits.values()) == 300
    assert "Left out: 5,000 separators with no document before them." in heard.said


@pytest.mark.parametrize("is_held_out", [True, False])
def test_a_mark_at_both_ends_of_a_document_is_written_once(tmp_path: Path, is_held_out: bool) -> None:
    """Each of them was counted as a document of its own where the training text had a file for itself."""
    texts = documents(400, separator=300, begins=False)
    both = np.concatenate([[300], np.repeat(texts, 1 + (texts == 300))])[:-1]
    write_llmc(tmp_path / "bin" / "train.bin", both.astype(np.uint16))
    if is_held_out:
        write_llmc(tmp_path / "bin" / "val.bin", documents(200, separator=300, begins=False, seed=1).astype(np.uint16))
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", separator="300"), heard)
    manifest, splits = load_manifest(home), ("train",) if is_held_out else SPLITS
    assert sum(manifest.splits[split].num_documents or 0 for split in splits) == 400
    assert sum(manifest.splits[split].num_tokens for split in splits) == len(texts)
    assert heard.one("Left out: ") == "Left out: 400 separators with no document before them."


def test_alice_sees_whether_the_tokenizer_is_the_one_that_made_the_tokens(tmp_path: Path) -> None:
    """A larger one knows every token of a smaller one: nothing else would give it away."""
    file = write_tokenizer_json(tmp_path)
    encoder = open_tokenizer(str(file))
    assert encoder.about.separator is not None
    texts = encoder.encode([document(number).encode() for number in range(100)])
    tokens = np.concatenate([part for text in texts for part in (text, [encoder.about.separator])])
    for name in ("train", "val"):
        write_llmc(tmp_path / "bin" / f"{name}.bin", tokens.astype(np.uint16))
    heard = Heard()
    prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", tokenizer=str(file)), heard)
    assert heard.one("With this tokenizer the training text begins 'Document 0.\\n").endswith("name another.")
