"""A dataset in short, as a worker that has it describes it: its manifest, and a little of what is trained on.

Held-out text is in no field: a summary crosses to pages, and who has read that text would write proposals for it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpu_runner.contract.wire import Line, Lines, TokenCount, Whole, Wire

MAX_SAMPLES, MAX_SAMPLE_CHARS = 3, 800
MAX_FACTS, MAX_FACT_CHARS = 20, 300
MAX_SUMMARIES = 40  # in one hello, which stays below a megabyte with them; the next one has more

DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]
SplitName = Literal["train", "watch", "val", "sealed"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "watch", "val", "sealed")
TokenizerKind = Literal["bytes", "tiktoken", "huggingface", "unknown"]


class SharedRuns(Wire):
    """How many of a held-out split's runs of ``length`` units stand in the training text, too."""

    unit: Literal["words", "tokens"]
    length: int = Field(ge=1, le=1_000)
    num: TokenCount
    num_shared: TokenCount

    @model_validator(mode="after")
    def _is_a_part(self) -> SharedRuns:
        if self.num_shared > self.num:
            raise ValueError(f"num_shared: {self.num_shared} of {self.num} is more than all")
        return self


class SplitSummary(Wire):
    """A split's counts. What its source does not tell is None, never 0."""

    num_shards: int = Field(ge=1, le=1_000_000)
    num_tokens: TokenCount
    num_bytes: TokenCount | None  # of text
    num_documents: TokenCount | None
    overlap: SharedRuns | None = None  # None for what is trained on


class DatasetSummary(Wire):
    """What a worker says of one manifest that it has."""

    name: DatasetName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # of the manifest
    dtype: Literal["uint8", "uint16", "uint32"]  # of one token in a shard
    tokenizer: TokenizerKind
    tokenizer_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None  # None for bytes and unknown
    vocab: int = Field(ge=1, le=2**32)
    separator: int | None = Field(ge=0, le=2**32)  # ends a document; None where documents are not marked
    is_scorable: bool  # the bytes behind each token are known, so bits per byte can be counted
    source: dict[Annotated[Line, Field(max_length=60)], Annotated[Line, Field(max_length=MAX_FACT_CHARS)] | Whole] = (
        Field(max_length=MAX_FACTS)
    )
    num_facts_left_out: int = Field(default=0, ge=0, le=2**31)  # of the source's, beyond MAX_FACTS
    splits: dict[SplitName, SplitSummary]
    samples: list[Annotated[Lines, Field(max_length=MAX_SAMPLE_CHARS)]] = Field(default=[], max_length=MAX_SAMPLES)

    @model_validator(mode="after")
    def _has_every_split(self) -> DatasetSummary:
        if len(self.splits) != len(SPLIT_NAMES):
            raise ValueError("splits: must be train, watch, val and sealed")
        return self
