"""Alice brings tokens in files whose width is hidden: filled up, or behind a header that nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpu_runner.data.prepare import Origin, prepare
from tests.gpu_runner.texts import write_llmc, write_rank_file
from tests.gpu_runner.tokens import Tokens, documents, write_nanogpt, zipf


@pytest.mark.parametrize("fill", [-1, -100])
@pytest.mark.parametrize(("dtype", "looks_like"), [("<i4", "int32"), ("<i8", "int64")])
def test_a_filling_hides_no_width(tmp_path: Path, dtype: str, looks_like: str, fill: int) -> None:
    """-1 fills the upper halves that are 0 otherwise: the rest of the file was read as 16 bits, every second a 0."""
    train = zipf(40_000)
    train[30::64] = train[31::64] = fill
    folder = write_nanogpt(tmp_path / "bin", dtype, train=train, val=zipf(2_000))
    with pytest.raises(ValueError, match=rf"train\.bin: looks like {looks_like}, not uint16: 100\.0% of .* as {fill}"):
        prepare(tmp_path / "root", "mine", Origin(path=folder))
    with pytest.raises(ValueError, match=rf"train\.bin: holds {fill}, which is no token"):
        prepare(tmp_path / "root", "mine", Origin(path=folder, dtype=looks_like))


@pytest.mark.parametrize(("dtype", "looks_like"), [("<u4", "int32"), ("<i8", "int64"), (">u4", "uint32-be")])
def test_a_header_that_nobody_knows_hides_no_width(tmp_path: Path, dtype: str, looks_like: str) -> None:
    folder = write_nanogpt(tmp_path / "bin", dtype, val=zipf(2_000))
    header = np.arange(1 << 30, (1 << 30) + 100, dtype=dtype)
    (folder / "train.bin").write_bytes(header.tobytes() + zipf(40_000).astype(dtype).tobytes())
    with pytest.raises(ValueError, match=rf"train\.bin: looks like {looks_like}, not uint16: .*% of .* are tokens"):
        prepare(tmp_path / "root", "mine", Origin(path=folder))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_header_like_llm_cs_with_another_number_is_no_token(tmp_path: Path, dtype: type) -> None:
    write_llmc(tmp_path / "bin" / "train.bin", zipf(40_000).astype(dtype), magic=20250101)
    with pytest.raises(ValueError, match=r"train\.bin: begins with 256 int32 .* with 20250101, which is not known; "):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin"))


def test_wide_numbers_with_the_bigger_end_first_are_not_half_as_wide(tmp_path: Path) -> None:
    folder = write_nanogpt(tmp_path / "bin", ">i8", train=zipf(40_000))
    with pytest.raises(ValueError, match=r"no tokens: it looks like int64 with the bigger end first; write it again"):
        prepare(tmp_path / "root", "mine", Origin(path=folder))


def litdata(items: list[Tokens], dtype: str) -> bytes:
    """As litdata's writer packs a chunk: how many items, where each begins and the last ends, then all of them."""
    bodies = [item.astype(dtype).tobytes() for item in items]
    places = np.cumsum([4 + 4 * (len(items) + 1), *map(len, bodies)]).astype("<u4")
    return np.uint32(len(items)).tobytes() + places.tobytes() + b"".join(bodies)


@pytest.mark.parametrize("dtype", ["<u2", "<i4"])
@pytest.mark.parametrize("num", [1, 300])
def test_a_chunk_of_litdata_is_not_read_from_its_head_on(tmp_path: Path, dtype: str, num: int) -> None:
    folder = write_nanogpt(tmp_path / "bin", dtype)
    (folder / "chunk-0-0.bin").write_bytes(litdata([zipf(500, seed=i) for i in range(num)], dtype))
    (folder / "index.json").write_text('{"chunks": [], "config": {"data_format": ["no_header_tensor:16"]}}')
    with pytest.raises(ValueError, match=r"chunk-0-0\.bin: is a chunk of litdata.* one flat array of integers"):
        prepare(tmp_path / "root", "mine", Origin(path=folder))


def test_a_width_in_which_nothing_could_be_beyond_the_vocabulary_is_no_way_out(tmp_path: Path) -> None:
    tokens = documents(300, separator=300, begins=False)
    tokens[7] = 301
    folder = write_nanogpt(tmp_path / "bin", "<u2", train=tokens)
    with pytest.raises(ValueError, match=r"has 301 tokens, but .* the token 301; name the tokenizer that made it$"):
        prepare(tmp_path / "root", "mine", Origin(path=folder, tokenizer=str(write_rank_file(tmp_path))))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_floating_point_is_no_tokens(tmp_path: Path, dtype: str) -> None:
    folder = write_nanogpt(tmp_path / "bin", dtype, train=zipf(40_000))
    with pytest.raises(
        ValueError, match=r"train\.bin: holds no tokens: its values are whole numbers in floating point"
    ):
        prepare(tmp_path / "root", "mine", Origin(path=folder))


def test_text_under_the_name_of_tokens_is_no_tokens(tmp_path: Path) -> None:
    folder = write_nanogpt(tmp_path / "bin", "<u2")
    (folder / "train.bin").write_text("Here is what a text says, für alle.\n" * 500)
    with pytest.raises(
        ValueError, match=r"train\.bin: holds no tokens: it is text: put it into a folder of text files"
    ):
        prepare(tmp_path / "root", "mine", Origin(path=folder))


def test_filling_is_no_token(tmp_path: Path) -> None:
    train = zipf(40_000)
    train[::100] = -100
    folder = write_nanogpt(tmp_path / "bin", "<i8", train=train)
    with pytest.raises(ValueError, match="holds -100, which is no token: where it fills rows up or masks a loss"):
        prepare(tmp_path / "root", "mine", Origin(path=folder, dtype="int64", separator="7"))
