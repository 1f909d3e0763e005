"""Small sources of every format, written as the projects that they come from write them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

TEXT = "the a model learns from text that people wrote and it is measured by text held back ünïcode 中文 🙂"
END = "<|endoftext|>"


def document(number: int) -> str:
    """A text like no other: 40 words drawn by its number."""
    rng = np.random.default_rng(number)
    return f"Document {number}.\n" + " ".join(rng.choice(TEXT.split(), size=40)) + "\n"


def write_texts(folder: Path, num: int = 200) -> Path:
    folder.mkdir(parents=True)
    for number in range(num):
        (folder / f"{number:04}.txt").write_text(document(number))
    return folder


def write_rank_file(folder: Path) -> Path:
    """Ranks as tiktoken reads them, by hand: 256 bytes, a few merges, half a character, and settings beside it."""
    merges = [b"th", b"the", b" the", b"ex", b"te", b" te", " 中".encode()[:3], b"\xf0\x9f", b"\n\n"]
    tokens = [*(bytes([i]) for i in range(256)), *merges]
    path = folder / "small.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    (folder / "small.toml").write_text(f'pattern = "gpt2"\n[special]\n"{END}" = 300\n')
    return path


def write_tokenizer_json(folder: Path) -> Path:
    """A byte-level BPE tokenizer that Hugging Face's trainer learned from a few documents."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator([document(i) for i in range(50)], trainer)
    path = folder / "tokenizer.json"
    learner.save(str(path))
    return path


def edit_json(path: Path, name: str, **over: object) -> Path:
    """A copy of ``path`` with top-level fields replaced; ``model`` is merged."""
    config = json.loads(path.read_bytes())
    config["model"] |= over.pop("model", {})  # type: ignore[operator]
    copy = path.with_name(name)
    copy.write_text(json.dumps(config | over))
    return copy


def write_llmc(path: Path, tokens: npt.NDArray[np.uint16] | npt.NDArray[np.uint32], **over: int) -> Path:
    """A header of 256 int32 (magic, version, number of tokens), then the tokens."""
    header = np.zeros(256, dtype="<i4")
    magic, version = (20240520, 1) if tokens.dtype == np.uint16 else (20240801, 7)
    header[:3] = over.get("magic", magic), over.get("version", version), over.get("num_tokens", len(tokens))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.tobytes() + tokens.tobytes())
    return path


def tokens_of(num: int, *, separator: int = 0, dtype: type = np.uint16, first: int = 0) -> npt.NDArray[np.uint16]:
    """``num`` documents of 20 to 60 tokens below 256, each ended by ``separator``."""
    documents = []
    for number in range(first, first + num):
        rng = np.random.default_rng(number)
        documents += [rng.integers(1, 256, size=rng.integers(20, 60)), [separator]]
    return np.concatenate(documents).astype(dtype)
