"""alice asks what is in a dataset without going to the machine that has it: a summary, and a little training text."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_runner.contract import MAX_FACT_CHARS, MAX_SAMPLE_CHARS
from gpu_runner.data.manifest import load_manifest
from gpu_runner.data.summary import samples, summary_of
from tests.worker.world import make_dataset

STORY = "Once upon a time there was a small model that read everything twice. "


def test_a_summary_has_the_manifests_numbers_and_beginnings_of_training_documents(tmp_path: Path) -> None:
    story = STORY * 40
    sha256 = make_dataset(
        tmp_path, "as\x1b[31m said " * 99, held_out="the answers, " * 99, trained_on=f"{story}\0\x1b[2J\u202e{STORY}"
    )
    said = summary_of(tmp_path / "tiny", "tiny")
    assert (said.name, said.sha256, said.tokenizer, said.separator) == ("tiny", sha256, "bytes", 0)
    assert said.splits["train"].num_documents == 52
    assert said.splits["val"].num_tokens > 1_000
    assert said.samples[0] == story[:600].strip(), "from a document's first letter on"
    assert said.samples[-1] in (STORY.strip(), story[:600].strip())
    assert all(len(one) <= MAX_SAMPLE_CHARS and "answers" not in one for one in said.samples)
    assert len(str(said.source["text"])) <= MAX_FACT_CHARS
    assert not {"\x1b", "\u202e", "\0"} & set("".join(said.samples) + str(said.source))


def test_tokens_without_their_tokenizer_have_no_samples_and_a_lost_file_is_named(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    home = tmp_path / "tiny"
    manifest = load_manifest(home)
    unknown = manifest.tokenizer.model_copy(update={"kind": "unknown", "token_bytes_sha256": None, "separator": None})
    assert samples(home, manifest.model_copy(update={"tokenizer": unknown})) == []
    unmarked = manifest.tokenizer.model_copy(update={"separator": None})
    assert samples(home, manifest.model_copy(update={"tokenizer": unmarked}))[0].startswith("to train on")
    (home / "train" / "train-00000.bin").unlink()
    with pytest.raises(ValueError, match=r"train-00000\.bin: missing"):
        summary_of(home, "tiny")
