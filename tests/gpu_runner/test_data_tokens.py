"""Alice brings tokens that others made: of every width, with and without headers, with their separator anywhere.

Nothing of it may be read wrong without a word: each file is written as the project that it comes from writes it.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gpu_runner.__main__ import main
from gpu_runner.data.manifest import HELD_OUT, SPLITS, load_manifest
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.sources import widths
from gpu_runner.data.verify import verify
from tests.gpu_runner.datasets import Heard, read
from tests.gpu_runner.texts import tokens_of, write_llmc, write_rank_file
from tests.gpu_runner.tokens import VOCAB, Tokens, documents, write_nanogpt, zipf


def everything(home: Path) -> Tokens:
    return np.concatenate([read(home, split) for split in SPLITS])


# --- how wide a token is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "vocab", "looks_like"),
    [
        ("<u4", VOCAB, "uint32"),  # every id fits 16 bits: read as uint16 there are twice as many, every second a 0
        ("<u4", 128_256, "uint32"),
        ("<u4", 65, "uint32"),
        ("<i8", VOCAB, "int64"),
        ("<i8", 128_256, "int64"),
        (">u2", VOCAB, "uint16-be"),
        (">u2", 65, "uint16-be"),
        (">u4", 128_256, "uint32-be"),
        ("u1", 65, "uint8"),
        ("u1", 250, "uint8"),
    ],
)
def test_tokens_of_another_width_are_not_read_as_sixteen_bits(
    tmp_path: Path, dtype: str, vocab: int, looks_like: str
) -> None:
    train, val = zipf(40_000, vocab=vocab), zipf(20_000, seed=1, vocab=vocab)
    folder = write_nanogpt(tmp_path / "bin", dtype, train=train, val=val)
    with pytest.raises(ValueError, match=rf"train\.bin: looks like {looks_like}, not uint16: .* --dtype {looks_like}"):
        prepare(tmp_path / "root", "mine", Origin(path=folder))
    home = prepare(tmp_path / "root", "mine", Origin(path=folder, dtype=looks_like))
    assert np.array_equal(read(home, "train"), train)
    assert load_manifest(home).source == {"format": "nanogpt", "num_files": 2, "dtype": looks_like}
    verify(home)


@pytest.mark.parametrize("vocab", [65, 1024, 32_000, VOCAB, 65_000])
def test_sixteen_bits_are_read_without_a_question(tmp_path: Path, vocab: int) -> None:
    train, val = zipf(40_000, vocab=vocab), zipf(20_000, seed=1, vocab=vocab)
    heard = Heard()
    home = prepare(tmp_path, "mine", Origin(path=write_nanogpt(tmp_path / "bin", "<u2", train=train, val=val)), heard)
    assert np.array_equal(read(home, "train"), train)
    assert not any("CAREFUL" in said for said in heard.said)


@pytest.mark.parametrize("vocab", [2, 300, 5000, 32_000, VOCAB, 65_536])
def test_sixteen_bits_are_sixteen_bits_when_every_token_is_as_frequent(tmp_path: Path, vocab: int) -> None:
    """Made-up tokens, with which people try a pipeline out."""
    for num in (3_000, 200_000):
        train = np.random.default_rng(0).integers(0, vocab, num)
        folder = write_nanogpt(tmp_path / f"{num}", "<u2", train=train, val=train[::-1][:3_000])
        home = prepare(tmp_path / "root", f"of-{num}", Origin(path=folder))
        assert np.array_equal(read(home, "train"), train)


def test_a_width_that_alice_names_against_what_is_seen_is_read_and_said_loudly(tmp_path: Path) -> None:
    folder = write_nanogpt(tmp_path / "bin", "<u4", train=zipf(40_000), val=zipf(20_000, seed=1))
    heard = Heard()
    prepare(tmp_path / "root", "mine", Origin(path=folder, dtype="uint16"), heard)
    assert (
        "CAREFUL: read as uint16: 2 files (train.bin, val.bin), as --dtype says, though it looks like uint32: every"
        " second 16-bit number is 0, as the upper half of a 32-bit token is."
    ) in heard.said
    narrow = write_nanogpt(tmp_path / "narrow", "<u2", train=zipf(40_000), val=zipf(20_000, seed=1))
    with pytest.raises(ValueError, match=r"\.bin: holds the token .* at most 262,144 .* another width"):
        prepare(tmp_path / "root", "other", Origin(path=narrow, dtype="uint32"))
    (narrow / "train.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"train\.bin: 3 bytes are no whole number of 16-bit tokens"):
        prepare(tmp_path / "root", "other", Origin(path=narrow, dtype="uint16"))


@pytest.mark.parametrize("protocol", range(6))
def test_the_vocabulary_that_nano_gpt_wrote_down_is_held_against_the_tokens(tmp_path: Path, protocol: int) -> None:
    """Its ids are few, so the file is too short for the look of its bytes; and nothing is unpickled."""
    rng = np.random.default_rng(0)
    folder = write_nanogpt(tmp_path / "bin", "u1", train=rng.integers(1, 65, 100), val=rng.integers(1, 65, 100))
    meta = {"vocab_size": 65, "itos": {1: "a"}, "stoi": {"a": 1}, "of": Bomb(tmp_path / "exploded")}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=protocol))
    with pytest.raises(
        ValueError, match=r"beyond the 65 of which meta\.pkl .* when it is read as uint16; name --dtype uint8"
    ):
        prepare(tmp_path / "root", "mine", Origin(path=folder))
    assert not (tmp_path / "exploded").exists()


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_meta_that_says_nothing_decides_nothing(tmp_path: Path) -> None:
    for body in (b"", b"no pickle at all", pickle.dumps({"itos": {}}), pickle.dumps({"vocab_size": "many"})):
        (tmp_path / "meta.pkl").write_bytes(body)
        assert widths.vocab_of_meta(tmp_path / "meta.pkl") is None
    assert widths.vocab_of_meta(tmp_path / "no such file") is None


def test_tokens_beyond_the_tokenizer_may_be_of_another_width(tmp_path: Path) -> None:
    ranks = str(write_rank_file(tmp_path))
    tokens = documents(20, separator=300, begins=False)
    folder = write_nanogpt(tmp_path / "bin", ">u2", train=tokens)
    with pytest.raises(ValueError, match=r"has 301 tokens, but .*train\.bin holds the token .* --dtype uint16-be"):
        prepare(tmp_path / "root", "mine", Origin(path=folder, tokenizer=ranks, dtype="uint16"))


def test_dtype_is_for_files_that_do_not_say_it(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "train.bin", tokens_of(300))
    with pytest.raises(ValueError, match="--dtype: llmc says itself how wide its tokens are"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", dtype="uint16"))
    with pytest.raises(ValueError, match="--dtype: of files of tokens without a header"):
        prepare(tmp_path / "root", "stdlib", Origin(dtype="uint16"))


# --- names and folders --------------------------------------------------------------------------


def test_a_name_with_val_within_a_word_is_training_text(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    train = tokens_of(100)
    write_llmc(folder / "retrieval_train_000001.bin", train)
    write_llmc(folder / "retrieval_val_000000.bin", tokens_of(200, first=100))
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=folder, separator="0"), heard)
    assert np.array_equal(read(home, "train"), train)
    assert heard.said[:2] == [
        "Trained on: 1 file (retrieval_train_000001.bin), since the name retrieval_train_000001.bin says 'train'.",
        "Held out: 1 file (retrieval_val_000000.bin), since the name retrieval_val_000000.bin says 'val'; they are"
        " dealt to watch, val and sealed alike.",
    ]


def test_tokens_of_any_name_in_any_folder_are_read_and_the_rest_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    for place, name, first in (("train", "000", 0), ("train", "001", 50), ("val", "000", 100), (".", "extra", 300)):
        write_nanogpt(folder / place, "<u2", **{name: tokens_of(50 if place != "val" else 200, first=first)})
    (folder / "README.md").write_text("About.")
    (folder / "empty.bin").write_bytes(b"")
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=folder), heard)
    assert np.array_equal(read(home, "train"), np.concatenate([tokens_of(50, first=300), tokens_of(100)]))
    said = "\n".join(heard.said)
    assert "Trained on: 2 files (train/000.bin, train/001.bin), since the name train says 'train'." in said
    assert "Trained on: 1 file (extra.bin), since their names say nothing and others' say 'held out'." in said
    assert "1 .md file beside the tokens" in said
    assert "1 file without a token" in said
    assert "empty.bin" in said


def test_files_of_two_widths_are_counted(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "a.bin", tokens_of(9))
    write_llmc(tmp_path / "bin" / "b.bin", tokens_of(9, dtype=np.uint32))
    with pytest.raises(ValueError, match=r"two widths, 1 of uint16 \(a\.bin\) and 1 of uint32 \(b\.bin\)"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", separator="0"))


def test_a_prepared_dataset_is_no_source(tmp_path: Path) -> None:
    home = prepare(tmp_path)
    with pytest.raises(ValueError, match="is the prepared dataset 'stdlib' already"):
        prepare(tmp_path, "again", Origin(path=home))


def test_a_file_that_was_not_written_to_its_end_is_said_to_be(tmp_path: Path) -> None:
    """nanoGPT makes train.bin in its full length, and then fills it."""
    folder = write_nanogpt(tmp_path / "bin", "<u2", train=zipf(100_000), val=zipf(20_000, seed=1))
    with open(folder / "train.bin", "r+b") as file:
        file.seek(-70_000, 2)
        file.write(bytes(70_000))
    heard = Heard()
    prepare(tmp_path / "root", "mine", Origin(path=folder), heard)
    said = "CAREFUL: 1 file (train.bin), whose last 65,536 bytes are 0, as if not written to the end."
    assert said in heard.said


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i4", "<i8", ">u2", "<i2", "u1"])
@pytest.mark.parametrize("shape", ["flat", "a row", "a column"])
def test_numpy_shards_are_read_in_whatever_integers_they_are(tmp_path: Path, dtype: str, shape: str) -> None:
    """As build-nanogpt's fineweb.py writes them."""
    folder = tmp_path / "edu_fineweb10B"
    folder.mkdir()
    made = {
        "train_000001": tokens_of(100),
        "train_000002": tokens_of(100, first=100),
        "val_000000": tokens_of(200, first=200),
    }
    for name, tokens in made.items():
        lying = {"flat": tokens, "a row": tokens[None], "a column": np.asfortranarray(tokens[:, None])}[shape]
        np.save(folder / f"edufineweb_{name}.npy", lying.astype(dtype))
    home = prepare(tmp_path / "root", "edu", Origin(path=folder, separator="0"))
    manifest = verify(home)
    assert manifest.source == {"format": "npy", "num_files": 3}
    assert np.array_equal(read(home, "train"), tokens_of(200))
    assert sum(len(read(home, split)) for split in HELD_OUT) == len(tokens_of(200, first=200))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 1024), np.uint16), r"is an array of 4 x 1,024, not one row of tokens: .*\.reshape\(-1\)"),
        (np.asfortranarray(np.zeros((4, 99), np.uint16)), "is an array of 4 x 99, column after column, not one row"),
        (np.zeros(1024, np.float32), "holds float32, no whole numbers"),
        (np.array(["a", "b"]), "holds <U1, no whole numbers"),
        (np.array([{"a": 1}], object), "holds object, no whole numbers"),
        (np.zeros(9, bool), "holds bool, no whole numbers"),
        (np.array(7), "is an array of no length"),
        (np.full(1024, 300_000), "holds the token 300,000; at most 262,144"),
        (np.full(1024, -1, np.int16), "holds -1, which is no token: numbers of 16 bits with a sign end at 32,767"),
    ],
)
def test_an_array_that_is_no_row_of_tokens_is_named(tmp_path: Path, array: npt.NDArray[np.generic], said: str) -> None:
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "train.npy", array)
    with pytest.raises(ValueError, match=rf"train\.npy: {said}"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "npy", separator="7"))


def test_a_numpy_shard_that_was_cut_is_named(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    path = tmp_path / "npy" / "train.npy"
    np.save(path, tokens_of(100))
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match=r"train\.npy: .* bytes where its header tells of .*; fetch it again"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "npy", separator="0"))
    path.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"train\.npy: does not begin with numpy's header"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "npy", separator="0"))


def test_npy_without_numpys_header_is_read_as_what_it_is(tmp_path: Path) -> None:
    """OLMo's and dolma's .npy: np.memmap under that suffix, which numpy.load cannot open."""
    folder = tmp_path / "olmo"
    folder.mkdir()
    tokens = documents(2_000, separator=100_257, begins=False, vocab=100_000)
    tokens.astype("<u4").tofile(folder / "part-0-00000.npy")
    with pytest.raises(ValueError, match="looks like uint32, not uint16"):
        prepare(tmp_path / "root", "olmo", Origin(path=folder, separator="100257"))
    home = prepare(tmp_path / "root", "olmo", Origin(path=folder, separator="100257", dtype="uint32"))
    assert np.array_equal(np.sort(everything(home)), np.sort(tokens))
    with pytest.raises(ValueError, match=r"does not begin with numpy's header .* without one it is --format nanogpt"):
        prepare(tmp_path / "root", "other", Origin(path=folder, kind="npy", separator="100257"))


def write_megatron(prefix: Path, tokens: Tokens, code: int, dtype: str, lengths: list[int]) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tokens.astype(dtype).tofile(prefix.with_suffix(".bin"))
    head = struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, code, len(lengths), len(lengths) + 1)
    pointers = np.concatenate([[0], np.cumsum(lengths)[:-1]]) * np.dtype(dtype).itemsize
    body = [np.array(lengths, "<i4"), pointers.astype("<i8"), np.arange(len(lengths) + 1, dtype="<i8")]
    prefix.with_suffix(".idx").write_bytes(head + b"".join(part.tobytes() for part in body))


@pytest.mark.parametrize(("code", "dtype"), [(8, "<u2"), (4, "<i4"), (5, "<i8")])
def test_megatrons_index_says_how_wide_its_tokens_are(tmp_path: Path, code: int, dtype: str) -> None:
    tokens = documents(300, separator=300, begins=False)
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], tokens == 300]))).tolist()
    write_megatron(tmp_path / "bin" / "corpus_text_document", tokens, code, dtype, lengths)
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", separator="300"), heard)
    assert not any(said.startswith("Left out") for said in heard.said), "the index is read"
    assert load_manifest(home).source == {"format": "megatron", "num_files": 1}
    assert np.array_equal(np.sort(everything(home)), np.sort(tokens))
    write_megatron(tmp_path / "bin" / "corpus_text_document", tokens[:-1], code, dtype, lengths)
    with pytest.raises(ValueError, match=r"corpus_text_document\.bin: .* where its index tells of .* fetch both again"):
        prepare(tmp_path / "root", "other", Origin(path=tmp_path / "bin", separator="300"))


def test_what_others_packed_is_named_with_a_way_out(tmp_path: Path) -> None:
    import gzip

    bodies = {
        "train.bin": (pickle.dumps(list(range(9_000)), protocol=4), "is what torch.save or pickle wrote"),
        "a.bin": (gzip.compress(b"tokens" * 99), "is packed by gzip; unpack it first"),
        "b.bin": (b"LITPKDS" + bytes(99), "is a chunk of lit-gpt's PackedDataset"),
        "c.bin": (b"PAR1" + bytes(99), "is parquet under another suffix"),
        "gpt2_124M.bin": ((20240326).to_bytes(4, "little") + bytes(1020), "holds a model's weights of llm.c"),
        "gpt2_tokenizer.bin": ((20240328).to_bytes(4, "little") + bytes(1020), "holds a tokenizer of llm.c"),
        "hellaswag_val.bin": ((20240522).to_bytes(4, "little") + bytes(1020), "holds questions for an evaluation"),
    }
    for name, (body, said) in bodies.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(body)
        with pytest.raises(ValueError, match=said) as refused:
            prepare(tmp_path / "root", "mine", Origin(path=folder))
        assert name in str(refused.value)
    with zipfile.ZipFile(tmp_path / "a.bin" / "a.bin", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ValueError, match="is a zip archive"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "a.bin"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train.npz", "is a zip archive"),
        ("train.pt", "opening such a file runs what is in it"),
        ("train.safetensors", "holds tensors"),
        ("data-00000-of-00001.arrow", "is an Arrow file"),
        ("shard.00000.mds", "MosaicML"),
        ("train.tar", "is an archive"),
        ("train.bin.gz", "is packed; unpack it first"),
        ("train.npy.zst", "is packed; unpack it first"),
    ],
)
def test_a_folder_of_what_cannot_be_read_is_not_trained_on_as_text(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / name).write_bytes(b"letters without a zero byte")
    with pytest.raises(ValueError, match=said) as refused:
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "from"))
    assert name in str(refused.value)


# --- by hand ------------------------------------------------------------------------------------


def test_alice_names_the_width_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_nanogpt(tmp_path / "bin", "<u4", train=zipf(40_000), val=zipf(20_000, seed=1))
    made = ["--name", "mine", "--from", str(folder), "--root", str(tmp_path)]
    assert main(["data", "prepare", *made]) == 1
    assert "Name --dtype uint32" in capsys.readouterr().err
    assert main(["data", "prepare", *made, "--dtype", "uint32"]) == 0
    said = capsys.readouterr()
    assert "Trained on: 1 file (train.bin), since the name train.bin says 'train'." in said.err
    assert "40,000 tokens" in said.out
