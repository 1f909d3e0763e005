"""A dataset in short, for the web side: its manifest's numbers, and beginnings of a few training documents.

Held-out text is not read here at all.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from gpu_runner import contract
from gpu_runner.contract.plain import plain, shortened
from gpu_runner.data.manifest import HELD_OUT, Manifest, Split, load_manifest, manifest_sha256
from gpu_runner.data.overlap import N
from gpu_runner.data.tokenizers import decode, stored_table
from gpu_runner.data.tokens import Ids, TokenArray

SAMPLE_TOKENS = 600
SEARCHED_TOKENS = 1 << 20  # for the beginning of a document: 2 MB of most shards
MIN_CHARS = 40  # a shorter beginning says little; the next document follows


def summary_of(home: Path, name: str) -> contract.DatasetSummary:
    """What there is to say of the dataset in ``home``, which its owner calls ``name``. ValueError, OSError."""
    manifest = load_manifest(home)
    about = manifest.tokenizer
    facts = sorted(manifest.source.items())
    return contract.DatasetSummary(
        name=name,
        sha256=manifest_sha256(home),
        dtype=manifest.dtype,
        tokenizer=about.kind,
        tokenizer_sha256=about.sha256,
        vocab=about.vocab,
        separator=about.separator,
        is_scorable=about.token_bytes_sha256 is not None,
        source={plain(key)[:60]: _fact(value) for key, value in facts[: contract.MAX_FACTS]},
        num_facts_left_out=max(0, len(facts) - contract.MAX_FACTS),
        splits={split: _split(split, manifest.splits[split]) for split in contract.SPLIT_NAMES},
        samples=samples(home, manifest),
    )


def _fact(value: str | int) -> str | int:
    return value if isinstance(value, int) else shortened(plain(value), contract.MAX_FACT_CHARS)


def _split(name: str, split: Split) -> contract.SplitSummary:
    found = split.overlap if name in HELD_OUT else None
    return contract.SplitSummary(
        num_shards=len(split.shards),
        num_tokens=split.num_tokens,
        num_bytes=split.num_bytes,
        num_documents=split.num_documents,
        overlap=None
        if found is None
        else contract.SharedRuns(unit=found.unit, length=N, num=found.num, num_shared=found.num_shared),
    )


def samples(home: Path, manifest: Manifest) -> list[str]:
    """Beginnings of training documents from the first, second and last third, each in plain characters.

    None of a dataset whose tokenizer is unknown. Raises ValueError where a file is missing.
    """
    table = stored_table(home, manifest.tokenizer)
    if table is None:
        return []
    text = TokenArray(home / "train", manifest, "train")
    found: list[str] = []
    for third in range(contract.MAX_SAMPLES):
        ids = _document(text, len(text) * third // contract.MAX_SAMPLES, manifest.tokenizer.separator)
        read = plain(decode(table, ids[ids < len(table)]), keep="\n").strip(
            "\ufffd \n"
        )  # a letter may be cut at either end
        found.append(read[: contract.MAX_SAMPLE_CHARS])
    return list(dict.fromkeys(filter(None, found)))


def _document(text: TokenArray, place: int, separator: int | None) -> Ids:
    """The first tokens of a document at or behind ``place``, which is one's own beginning only at 0.

    Where none begins within SEARCHED_TOKENS, whatever stands at ``place``.
    """
    ids = text.span(place, place + SEARCHED_TOKENS)
    ends = [] if separator is None else np.flatnonzero(ids == separator).tolist()
    edges: list[int] = [*([-1] if place == 0 else []), *ends] or [-1]
    found = list(pairwise([*edges, len(ids)]))
    edge, following = next((pair for pair in found if pair[1] - pair[0] > MIN_CHARS), found[0])
    return ids[edge + 1 : min(following, edge + 1 + SAMPLE_TOKENS)]
