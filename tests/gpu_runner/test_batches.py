"""Every run of a seed reads the same text in the same order: over shards, after a stop, on several processes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_runner.data import splits
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.data.order import row_starts
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.tokens import TokenArray
from gpu_runner.harness.batches import Batches
from gpu_runner.harness.dataset import Dataset, open_dataset
from gpu_runner.harness.failures import BadOverride, DatasetMissing
from gpu_runner.harness.watch import Watch
from tests.gpu_runner.texts import tokens_of, write_llmc, write_rank_file, write_texts


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Text in bytes, in ranks in shards of 1,000 bytes, and tokens of 32 bits that nobody knows the bytes of."""
    folder = tmp_path_factory.mktemp("datasets")
    texts, ranks = write_texts(folder / "texts"), str(write_rank_file(folder))
    write_llmc(folder / "bin" / "train.bin", tokens_of(100, dtype=np.uint32) + np.uint32(100_000))
    write_llmc(folder / "bin" / "val.bin", tokens_of(100, dtype=np.uint32))
    made = {"bytes": prepare(folder, "bytes", Origin(path=texts))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "SHARD_BYTES", 1_000)
        made["ranks"] = prepare(folder, "ranks", Origin(path=texts, tokenizer=ranks))
    return made | {"unknown": prepare(folder, "unknown", Origin(path=folder / "bin"))}


def open_home(home: Path) -> Dataset:
    return open_dataset(home / "train", manifest_sha256(home), seed=5)


def batches_of(home: Path, **over: Any) -> Batches:
    chosen: dict[str, Any] = {"batch_size": 8, "seq_len": 32, "device": "cpu"} | over
    batches = Batches(open_home(home), **({"drawn": lambda _: None} | chosen))
    batches.begin()
    return batches


# --- order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("kind", ["bytes", "ranks", "unknown"])
def test_rows_are_those_of_the_text_whatever_shards_it_lies_in(homes: dict[str, Path], kind: str, ahead: bool) -> None:
    dataset = open_home(homes[kind])
    train = TokenArray(homes[kind] / "train", dataset.manifest, "train")
    text = train.span(0, len(train)).astype(np.int64)
    batches = batches_of(homes[kind], ahead=ahead)
    starts = row_starts(len(text), 32, 5)
    for _ in range(60):  # several epochs of the smallest
        x, y = next(batches)
        assert (x.shape, x.dtype, y.dtype) == ((8, 32), torch.int64, torch.int64)
        for row, target in zip(x, y, strict=True):
            start = next(starts)
            assert np.array_equal(row, text[start : start + 32])
            assert np.array_equal(target, text[start + 1 : start + 33])
    batches.close()


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("num_before", [0, 1, 3, 200])
def test_going_on_is_never_having_stopped(homes: dict[str, Path], ahead: bool, num_before: int) -> None:
    unbroken, stopped = batches_of(homes["ranks"], ahead=ahead), batches_of(homes["ranks"], ahead=ahead)
    for _ in range(num_before):
        next(unbroken)
    next(stopped)  # it had begun elsewhere
    stopped.seek(unbroken.num_rows)
    for _ in range(3):
        assert torch.equal(next(unbroken)[0], next(stopped)[0])
    stopped.close()
    assert torch.equal(next(unbroken)[0], next(stopped)[0]), "what was gathered ahead is not lost"
    assert unbroken.num_rows == stopped.num_rows == 8 * (num_before + 4)
    unbroken.close()
    stopped.close()


def test_two_processes_see_the_batches_of_one_between_them_and_count_the_same(homes: dict[str, Path]) -> None:
    counts: list[list[int]] = [[], [], []]
    alone = batches_of(homes["bytes"], drawn=counts[0].append)
    pair = [batches_of(homes["bytes"], rank=rank, world_size=2, drawn=counts[1 + rank].append) for rank in range(2)]
    for _ in range(5):
        first, second = (next(batches)[0] for batches in pair)
        assert torch.equal(torch.stack([first, second], dim=1).flatten(0, 1), next(alone)[0])
    assert counts[0] == counts[1] == counts[2] == [256] * 5
    assert pair[0].num_rows == pair[1].num_rows == alone.num_rows == 40
    with pytest.raises(BadOverride, match="batch_size: 8 rows cannot be shared evenly by 3"):
        batches_of(homes["bytes"], world_size=3)


def test_warming_up_uses_tokens_that_the_model_knows_and_reads_no_text(homes: dict[str, Path]) -> None:
    batches = batches_of(homes["ranks"], rank=1, world_size=2)
    x, y = batches.dummy()
    real_x, real_y = next(batches)
    assert (x.shape, x.stride(), y.stride()) == (real_x.shape, real_x.stride(), real_y.stride())
    assert 256 < int(x.max()) < 301
    assert batches.num_rows == 8


# --- the thread --------------------------------------------------------------------------------


def test_what_fails_in_the_thread_is_raised_where_the_batch_is_asked_for(
    homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(homes["bytes"], ahead=True)
    next(batches)

    def disk_error(*_: object, **__: object) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(batches.supply.train, "rows", disk_error)
    with pytest.raises(OSError, match="Input/output error"):
        list(islice(batches, 5))  # two were gathered before, one may be on its way
    with pytest.raises(OSError, match="Input/output error"):
        next(batches)
    batches.close()


def test_closing_leaves_no_thread_behind(homes: dict[str, Path]) -> None:
    before = threading.active_count()
    batches = batches_of(homes["bytes"], ahead=True)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
    assert batches.wait_s > 0


# --- what cannot be opened ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda train: (train / "train-00003.bin").unlink(), "train-00003.bin: missing"),
        (lambda train: (train / "watch-00000.bin").write_bytes(b"123"), "watch-00000.bin: 3 bytes where"),
        (lambda train: (train / "token_bytes.bin").write_bytes(b"\1\0" * 301), "token_bytes.bin: is not what"),
        (lambda train: (train / "token_bytes.bin").unlink(), "token_bytes.bin: missing"),
        (lambda train: (train / "manifest.json").write_text("{}"), "not a manifest"),
        (lambda train: (train / "manifest.json").unlink(), "no dataset here"),
    ],
    ids=["missing shard", "short shard", "other lengths", "no lengths", "no manifest", "nothing"],
)
def test_a_dataset_that_is_not_whole_is_a_sentence(
    homes: dict[str, Path], tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    train, pinned = tmp_path / "train", manifest_sha256(homes["ranks"])
    train.mkdir()
    for path in (homes["ranks"] / "train").iterdir():
        (train / path.name).write_bytes(path.read_bytes())
    assert open_dataset(train, pinned, seed=1).vocab == 301
    harm(train)
    with pytest.raises(DatasetMissing, match=said):
        open_dataset(train, pinned, seed=1)


def test_another_dataset_than_the_approved_one_is_refused(homes: dict[str, Path]) -> None:
    with pytest.raises(DatasetMissing, match=f"but {'0' * 12} was approved"):
        open_dataset(homes["bytes"] / "train", "0" * 64, seed=1)


def test_rows_longer_than_the_text_are_refused(homes: dict[str, Path]) -> None:
    with pytest.raises(BadOverride, match="seq_len: rows of 100000 need 200,001 tokens, and train of this dataset has"):
        batches_of(homes["bytes"], seq_len=100_000)
    with pytest.raises(BadOverride, match=r"rows of 1000 need 1,001 tokens, and watch .* choose shorter rows"):
        Watch(open_home(homes["unknown"]), seq_len=1_000, device="cpu")


def test_a_training_text_shorter_than_a_batch_is_read_more_than_once_in_it(tmp_path: Path) -> None:
    """Nothing ends there: rows of the next epochs follow."""
    write_llmc(tmp_path / "bin" / "train.bin", np.arange(600).astype(np.uint16))
    write_llmc(tmp_path / "bin" / "val.bin", np.arange(6_000).astype(np.uint16))
    x, y = next(batches_of(prepare(tmp_path, "small", Origin(path=tmp_path / "bin")), batch_size=16, seq_len=256))
    assert (x.shape, len(x.unique()) > 500) == ((16, 256), True)
    assert torch.equal(y - x, torch.ones_like(x))


# --- the watch curve ---------------------------------------------------------------------------


class Knows(torch.nn.Module):
    """Gives every token the same chance, but the separator, which it never expects."""

    def __init__(self, vocab: int, separator: int | None) -> None:
        super().__init__()
        self.logits = torch.zeros(vocab)
        if separator is not None:
            self.logits[separator] = -10.0
        self.most_rows = 0

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.most_rows = max(self.most_rows, len(tokens))
        return self.logits.expand(*tokens.shape, -1)


def test_bits_per_byte_count_text_and_not_the_ends_of_documents(homes: dict[str, Path]) -> None:
    dataset = open_home(homes["ranks"])
    watch = Watch(dataset, seq_len=32, device="cpu")
    seen = watch.look(Knows(301, 300))
    assert dataset.token_bytes is not None
    num_bytes = int(dataset.token_bytes[watch.y].sum())
    num_ends = int((watch.y == 300).sum())
    assert num_ends > 0
    nats_of_text = (watch.num_tokens - num_ends) * math.log(300 + math.exp(-10))
    assert seen.bits_per_byte == pytest.approx(nats_of_text / math.log(2) / num_bytes)
    assert seen.nats_per_token == pytest.approx((nats_of_text + num_ends * (10 + math.log(300))) / watch.num_tokens)


def test_tokens_without_bytes_have_a_loss_and_no_bits(homes: dict[str, Path]) -> None:
    dataset = open_home(homes["unknown"])
    assert (dataset.bytes_per_token, dataset.separator) == (None, None)
    seen = Watch(dataset, seq_len=32, device="cpu").look(Knows(dataset.vocab, None))
    assert seen.bits_per_byte is None
    assert seen.nats_per_token == pytest.approx(math.log(dataset.vocab), abs=1e-5)


def test_a_large_vocabulary_is_looked_at_in_few_rows(homes: dict[str, Path]) -> None:
    for kind, most in (("bytes", 16), ("unknown", 5)):  # 64 MiB hold 5 rows of 32 x 100,256 floats
        dataset = open_home(homes[kind])
        model = Knows(dataset.vocab, None)
        Watch(dataset, seq_len=32, device="cpu").look(model)
        assert model.most_rows == most
