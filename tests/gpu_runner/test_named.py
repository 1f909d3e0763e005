"""What the names of alice's shards say of their splits: whole words do, letters within a word do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_runner.data.sources.named import plan, split_said_by, told

TRAIN = (
    "train.bin",
    "fineweb_train_000001.bin",
    "retrieval_train_000001.bin",
    "RETRIEVAL_TRAIN_01.bin",
    "data/train-00000-of-00012-a09b74b3ef9c3b56.parquet",
    "tinyTrainSet.bin",
    "train/000.bin",
    "training_data/shard_3.npy",
    "test_data/train.bin",
    "wiki.train.tokens",
)
HELD_OUT = (
    "val.bin",
    "fineweb_val_000000.bin",
    "tiny_shakespeare_val.bin",
    "FineWebVal00.bin",
    "val/000.bin",
    "data/validation-00000-of-00001.parquet",
    "data/test-00000-of-00001.parquet",
    "dev.jsonl",
    "dev-v1.1.json",
    "valid.bin",
    "held_out_1.npy",
    "held-out/1.npy",
    "holdout.bin",
    "evaluation/1.bin",
    "testing-00000.parquet",
    "train/val_0.bin",
    "train_val/test.bin",
)
SILENT = (
    "000.bin",
    "retrieval_000001.bin",
    "interval.bin",
    "rival_news_01.bin",
    "contest.bin",
    "latest.bin",
    "evaluation_of_drugs_0001.bin",
    "developer_01.bin",
    "invalid.bin",
    "restrained.bin",
    "nivåval.bin",
    "strain_7.bin",
    "train_val/000.bin",
)


@pytest.mark.parametrize(
    ("name", "split"),
    [(name, said) for names, said in ((TRAIN, "train"), (HELD_OUT, "held_out"), (SILENT, None)) for name in names],
)
def test_a_name_says_its_split_by_whole_words(name: str, split: str | None) -> None:
    said = split_said_by(name)
    assert (said and said.split) == split


@pytest.mark.parametrize("name", ["train_val.bin", "test_train_0.bin"])
def test_a_name_that_says_both_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: its name says both '\w+' and '\w+'; rename it"):
        split_said_by(name)


def test_which_files_became_what_is_said_with_the_word_that_decided() -> None:
    folder = Path("fineweb")
    paths = [folder / f"fineweb_{word}_00000{i}.bin" for word in ("train", "retrieval") for i in range(4)]
    held = [folder / "fineweb_val_000000.bin", folder / "test" / "0.bin"]
    made = plan(folder, [*paths, *held])
    assert (list(made.train), list(made.held_out)) == (paths, held)
    assert list(made.notes) == [
        "Trained on: 4 files (fineweb_train_000000.bin, fineweb_train_000001.bin, fineweb_train_000002.bin and 1"
        " more), since the name fineweb_train_000000.bin says 'train'.",
        "Trained on: 4 files (fineweb_retrieval_000000.bin, fineweb_retrieval_000001.bin,"
        " fineweb_retrieval_000002.bin and 1 more), since their names say nothing and others' say 'held out'.",
        "Held out: 2 files (fineweb_val_000000.bin, test/0.bin), since the name fineweb_val_000000.bin says 'val' and"
        " the name test says 'test'; they are dealt to watch, val and sealed alike.",
    ]


def test_where_no_name_holds_out_the_plan_leaves_it_to_the_source() -> None:
    made = plan(Path(), [Path("train_1.bin"), Path("b.bin")])
    assert (len(made.train), made.held_out, made.notes) == (2, (), ())


def test_held_out_text_alone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing in x would be trained on: the name a_val_0\.bin says 'val'"):
        plan(Path("x"), [Path("x/a_val_0.bin"), Path("x/a_val_1.bin")])


def test_one_file_is_not_called_files() -> None:
    assert (
        told("Left out", ["README.md"], "since it is no .bin") == "Left out: 1 file (README.md), since it is no .bin."
    )
