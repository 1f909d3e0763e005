"""Bits per byte stand on the bytes behind every token: no tokenizer may lose or invent one."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.data.encoding import write_texts as write_texts_to_splits
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.progress import Silent
from gpu_runner.data.sources import text
from gpu_runner.data.tokenizers import decode, open_tokenizer
from gpu_runner.data.tokenizers import encoder as encoder_module
from gpu_runner.data.tokenizers.encoder import Encoder
from tests.gpu_runner.texts import END, document, edit_json, write_rank_file, write_texts, write_tokenizer_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module")
def encoders(folder: Path) -> dict[str, Encoder]:
    files = (write_rank_file(folder), write_tokenizer_json(folder))
    return {"bytes": open_tokenizer("bytes")} | {path.name: open_tokenizer(str(path)) for path in files}


@given(text=st.text() | st.text(alphabet=" \n\tthe🙂é中\0") | st.just(f"a {END} b"))
def test_any_text_comes_back_and_its_tokens_have_exactly_its_bytes(encoders: dict[str, Encoder], text: str) -> None:
    for name, encoder in encoders.items():
        (ids,) = encoder.encode([text.encode()])
        assert decode(encoder.table, ids) == text, name
        assert int(encoder.token_bytes[ids].sum()) == len(text.encode()), name


def test_part_of_a_character_has_its_own_bytes_and_not_those_of_the_replacement_sign(
    encoders: dict[str, Encoder],
) -> None:
    ranks = encoders["small.tiktoken"]
    half = ranks.table.index(b"\xf0\x9f")
    assert (int(ranks.token_bytes[half]), len(decode(ranks.table, ranks.encode([b"x"])[0][:0]))) == (2, 0)
    assert len(ranks.table[half].decode(errors="replace").encode()) == 3


@pytest.mark.parametrize("name", ["small.tiktoken", "tokenizer.json"])
def test_merges_are_used_and_the_end_of_a_document_is_no_text(encoders: dict[str, Encoder], name: str) -> None:
    encoder = encoders[name]
    text = document(3).encode()
    assert len(encoder.encode([text])[0]) < len(text)
    separator = encoder.about.separator
    assert separator is not None
    assert int(encoder.token_bytes[separator]) == 0
    assert separator not in encoder.encode([END.encode()])[0], "a text that spells the token does not end a document"


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (Path.touch, (tmp_path / "it ran",))  # type: ignore[return-value]

    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="is a pickle"):
        open_tokenizer(str(tmp_path / "tokenizer.pkl"))
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer NFC"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "not byte-level"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "adds a space"),
        ({"model": {"byte_fallback": True}}, "byte_fallback"),
        ({"model": {"type": "WordPiece"}}, "WordPiece"),
        ({"model": {"vocab": {"a": 0}}}, "255 of the 256 bytes"),
        ({"added_tokens": [{"id": 1, "content": "x", "special": False, "lstrip": True}]}, "swallows the spaces"),
        ({"added_tokens": []}, "no special token"),
    ],
)
def test_a_tokenizer_whose_bytes_are_not_exact_is_refused_with_the_reason(
    encoders: dict[str, Encoder], folder: Path, over: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        open_tokenizer(str(edit_json(folder / "tokenizer.json", "edited.json", **over)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not base64 at all\n", "line 1"),
        (b"YQ== 0\n", "255 of the 256"),
        (b"".join(b"%s %d\n" % (b, 0) for b in (b"YQ==", b"Yg==")), "254 of the 256"),
    ],
)
def test_a_rank_file_that_is_none_is_refused(tmp_path: Path, body: bytes, said: str) -> None:
    path = write_rank_file(tmp_path)
    path.write_bytes(body)
    with pytest.raises(ValueError, match=said):
        open_tokenizer(str(path))


def test_a_rank_file_needs_to_say_how_it_cuts_text_unless_its_name_does(tmp_path: Path) -> None:
    path = write_rank_file(tmp_path)
    (tmp_path / "small.toml").unlink()
    with pytest.raises(ValueError, match=r"write small\.toml beside it"):
        open_tokenizer(str(path))
    named = open_tokenizer(str(path.rename(tmp_path / "gpt2.tiktoken")))
    assert (named.about.vocab, named.about.separator) == (50_257, 50_256)


def test_the_separator_can_be_chosen(tmp_path: Path) -> None:
    path = write_rank_file(tmp_path)
    (tmp_path / "small.toml").write_text('pattern = "\\\\S+|\\\\s+"\n[special]\n"<|a|>" = 300\n"<|b|>" = 301\n')
    assert open_tokenizer(str(path), "<|b|>").about.separator == 301
    with pytest.raises(ValueError, match=r"it has <\|a\|>"):
        open_tokenizer(str(path))


@pytest.mark.parametrize(("package", "name"), [("tiktoken", "small.tiktoken"), ("tokenizers", "tokenizer.json")])
def test_without_the_package_a_sentence_says_how_to_get_it(
    encoders: dict[str, Encoder], folder: Path, package: str, name: str
) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from gpu_runner.data.tokenizers import open_tokenizer
try:
    open_tokenizer({str(folder / name)!r}).encode([b"text"])
except ValueError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "webapp/house/install.py .venv data" in said.stdout


def test_more_blanks_in_a_row_than_tiktoken_can_cut_are_named_with_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real limit lies at a million, where tiktoken 0.14 ends in a panic of Rust."""
    monkeypatch.setattr(encoder_module, "MAX_BLANKS", 500)
    folder = write_texts(tmp_path / "texts")
    (folder / "x.txt").write_text("a" + " " * 500 + "b" * 501 + "\u3000\n" * 20)
    ranks = str(write_rank_file(tmp_path))
    prepare(tmp_path / "root", "fits", Origin(path=folder, tokenizer=ranks))
    (folder / "y.txt").write_text("a" + " \n" * 251 + "b")
    with pytest.raises(ValueError, match=r"y\.txt: holds 502 blanks in a row, .* 500; split such runs, or use another"):
        prepare(tmp_path / "root", "mine", Origin(path=folder, tokenizer=ranks))
    prepare(tmp_path / "root", "mine", Origin(path=folder))


class _FailsOn:
    """A tokenizer's library that fails on one text in a way of its own."""

    def __init__(self, text: str, error: BaseException) -> None:
        self.text, self.error = text, error

    def encode_ordinary_batch(self, texts: list[str], **_: object) -> list[list[int]]:
        if any(self.text in text for text in texts):
            raise self.error
        return [list(text.encode()) for text in texts]

    def encode_batch_fast(self, texts: list[str], **_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(ids=ids) for ids in self.encode_ordinary_batch(texts)]


@pytest.mark.parametrize(("kind", "attribute"), [("tiktoken", "_encoding"), ("tokenizers", "_opened")])
def test_a_panic_of_rust_is_told_with_the_document_and_the_way_out(tmp_path: Path, kind: str, attribute: str) -> None:
    file = write_rank_file(tmp_path) if kind == "tiktoken" else write_tokenizer_json(tmp_path)
    encoder = open_tokenizer(str(file))
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    source = text.open_source(write_texts(tmp_path / "texts"))
    setattr(encoder.encode, attribute, _FailsOn("Document 77.", panic("StackOverflow\nat line 3")))
    said = rf"0077\.txt: {kind} gave up on a text, .*\(StackOverflow\); split such runs, or use another tokenizer"
    (tmp_path / "home").mkdir()
    with pytest.raises(ValueError, match=said):
        write_texts_to_splits(tmp_path / "home", source, encoder, Silent())


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), MemoryError(), SystemExit(1)])
def test_what_is_no_panic_goes_on_as_it_is(tmp_path: Path, stop: BaseException) -> None:
    encoder = open_tokenizer(str(write_rank_file(tmp_path)))
    setattr(encoder.encode, "_encoding", _FailsOn("x", stop))  # noqa: B010  # it is another's private field
    with pytest.raises(type(stop)):
        encoder.encode([b"x"])


def test_what_ends_a_document_of_bytes_is_not_for_choosing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--separator: with bytes a 0 ends a document; leave it out"):
        prepare(tmp_path / "root", "mine", Origin(path=write_texts(tmp_path / "texts"), separator="10"))


def test_a_model_of_sentencepiece_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(ValueError, match=r"tokenizer\.model is a model of SentencePiece.* use a byte-level tokenizer"):
        open_tokenizer(str(tmp_path / "tokenizer.model"))
