"""A source beside a dataset's held-out text: tokens of any kind, text in pieces, and bytes that make no sense."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.data import manifest, tokenizers
from gpu_runner.data.tokenizers import ranks
from gpu_runner.leakage import held_out
from gpu_runner.leakage.compare import MAX_DECODED, Learned, compare
from gpu_runner.leakage.forms import streams
from gpu_runner.leakage.letters import STRETCH, STRIDE, at_every_stride, everywhere, letters_of
from gpu_runner.leakage.unpack import MAX_BYTES, Allowance
from tests.worker.world import write_split

WORDS = [b" the", b" model", b" learns", b" nothing", b" that", b" it", b" could", b" not", b" read", b"ing"]
RANKS = [bytes([i]) for i in range(256)] + WORDS


def tokens_of_alice(num: int) -> np.ndarray:
    """What is held out: words in an order that nobody guesses."""
    choose = random.Random(7)
    return np.array([256 + choose.randrange(len(WORDS)) for _ in range(num)], "<u2")


def text_of(ids: np.ndarray) -> str:
    return b"".join(RANKS[i] for i in ids).decode()


def make_dataset(home: Path, *, knows_its_tokens: bool, val: np.ndarray) -> Path:
    """Of uint16, with ranks of tiktoken or without any tokenizer."""
    home.mkdir()
    body = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(RANKS))
    path = home / "tokenizer.tiktoken"
    path.write_bytes(body)
    (home / "tokenizer.toml").write_text(f"pattern = 'gpt2'\n[special]\n'<|endoftext|>' = {len(RANKS)}\n")
    about = ranks.encoder(path, body, None).about
    if not knows_its_tokens:
        about = manifest.Tokenizer(kind="unknown", sha256=None, vocab=1000, separator=None, token_bytes_sha256=None)
    other = np.arange(256, dtype="<u2")
    splits = {}
    for split, ids in {"train": other, "watch": other, "val": val, "sealed": other}.items():
        written = write_split(home, split, ids.tobytes())
        (shard,) = written.shards
        splits[split] = written.model_copy(
            update={"shards": (shard.model_copy(update={"num_tokens": len(ids)}),), "num_tokens": len(ids)}
        )
    whole = manifest.Manifest(
        name="mine", tokenizer=about, dtype="uint16", source={"text": "made up"},
        splits={name: manifest.Split.model_validate(split.model_dump()) for name, split in splits.items()},
    )  # fmt: skip
    (home / "manifest.json").write_text(whole.model_dump_json())
    return home


def learned(home: Path, source: str) -> Learned:
    return compare(home, origin={}, base={}, source={"train.py": source.encode()})


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c > " " else c for c in text)


HIDDEN = {
    "wide": lambda said: f"# {wide(said)}\n",
    "accented": lambda said: f"x = {chr(0x301).join(said)!r}\n",
    "parted by what nobody sees": lambda said: f"x = {chr(0x200B).join(said)!r}\n",
    "letters that look alike": lambda said: f"x = {said.translate(str.maketrans('aeopc', 'аеорс'))!r}\n",
    "numbered words": lambda said: "".join(f"{word}_{n} = {n}\n" for n, word in enumerate(said.split())),
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_text_in_other_letters_or_between_numbers_is_found(tmp_path: Path, hide: Callable[[str], str]) -> None:
    val = tokens_of_alice(500)
    home = make_dataset(tmp_path / "mine", knows_its_tokens=True, val=val)
    assert learned(home, hide(text_of(val[200:260]))).num_new >= 48
    assert learned(home, hide(text_of(val[::-1]))).num_new == 0


@pytest.mark.parametrize("piece", [7, 64, 1 << 20])
def test_text_behind_tokens_is_found_in_whatever_pieces_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(held_out, "PIECE_TOKENS", piece)
    val = tokens_of_alice(500)
    home = make_dataset(tmp_path / "mine", knows_its_tokens=True, val=val)
    said = text_of(val[200:260])
    found = learned(home, f"x = 1\n# {said}\n")
    letters = len(letters_of(said.encode()))
    assert letters - STRETCH - STRIDE < found.num_new <= letters
    assert [(place.path, place.line) for place in found.places] == [("train.py", 2)]
    assert found.notes == []
    assert learned(home, f"# {text_of(val[::-1])}\n").num_new == 0


def test_ids_of_tokens_are_read_as_the_text_that_they_stand_for(tmp_path: Path) -> None:
    val = tokens_of_alice(500)
    home = make_dataset(tmp_path / "mine", knows_its_tokens=True, val=val)
    found = learned(home, f"TABLE = {val[100:180].tolist()}\n")
    assert found.num_new > 100
    assert found.places[0].form == "numbers"


def test_tokens_that_nobody_can_read_are_compared_as_numbers_and_that_is_said(tmp_path: Path) -> None:
    val = tokens_of_alice(500)
    home = make_dataset(tmp_path / "mine", knows_its_tokens=False, val=val)
    assert learned(home, f"TABLE = {val[100:180].tolist()}\n").num_new > 100
    found = learned(home, f"# {text_of(val)}\n")
    assert found.num_new == 0
    assert "came without their tokenizer" in found.notes[0]


def test_a_stretch_is_met_wherever_a_copy_begins() -> None:
    letters = random.Random(1).randbytes(400).hex().encode()
    kept = set(at_every_stride(letters).tolist())
    for start in range(100):
        copy = letters[start : start + STRETCH + STRIDE - 1]
        assert kept & set(everywhere(copy).tolist()), start
    assert not kept & set(everywhere(letters[1:60].upper()).tolist())


def test_what_is_cut_off_when_it_is_unpacked_is_more_than_is_allowed() -> None:
    assert MAX_BYTES > MAX_DECODED, "or what stands behind the cut would never be looked at"


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(alphabet="'\"#()[]{}\\\n0x_aAbB=\t\ud800", max_size=300)))
def test_no_bytes_make_the_reader_fall_over(body: bytes | str) -> None:
    raw = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    table = tokenizers.open_tokenizer("bytes").table
    for path in ("train.py", "recipe.toml"):
        for stream in streams(path, raw, table, Allowance(1 << 16)):
            assert len(stream.letters) == len(stream.lines)
            assert len(everywhere(stream.letters)) == max(0, len(stream.letters) - STRETCH + 1)
