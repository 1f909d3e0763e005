"""Shows a dataset to people: numbers of every split, and the first tokens of the training text.

Held-out text is not shown: who has read it would write proposals for it.
"""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from gpu_runner.data.manifest import SPLITS, Manifest, Split, load_manifest, manifest_sha256
from gpu_runner.data.overlap import N
from gpu_runner.data.tokenizers import decode, stored_table
from gpu_runner.data.tokens import TokenArray
from gpu_runner.data.verify import problem_with

SHOWN_TOKENS = 64
COLUMNS = ("split", "shards", "tokens", "bytes of text", "a token", "documents", "in train")
UNKNOWN = "unknown"


def show(home: Path, console: Console) -> bool:
    """Print what the dataset in ``home`` is.

    True when every file is there in its length; ValueError when it is no dataset.
    """
    manifest = load_manifest(home)
    console.print(f"{home}: {manifest_sha256(home)}", soft_wrap=True)
    console.print(f"source: {', '.join(f'{name} {fact}' for name, fact in manifest.source.items())}", soft_wrap=True)
    console.print(_in_words(manifest), soft_wrap=True)
    console.print(_table(manifest))
    problem = problem_with(home, manifest)
    if problem is None:
        console.print("Every file is there in its length; `data verify` hashes them.")
        console.print(f"The training text begins: {_first_tokens(home, manifest)}", soft_wrap=True, markup=False)
    else:
        console.print(problem, soft_wrap=True)
    return problem is None


def _in_words(manifest: Manifest) -> str:
    about = manifest.tokenizer
    ends = "documents are not marked" if about.separator is None else f"{about.separator} ends a document"
    known = "" if about.token_bytes_sha256 else "; bytes of its tokens are not known, so runs cannot be scored"
    return f"tokenizer: {about.kind}, {about.vocab:,} tokens in {manifest.dtype}, {ends}{known}"


def _table(manifest: Manifest) -> Table:
    unit = next(found.unit for split in manifest.splits.values() if (found := split.overlap))
    table = Table(
        *COLUMNS,
        caption=f"in train: of a split's runs of {N} {unit}, those in train as well",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for column in table.columns:
        column.justify, column.no_wrap = "left" if column.header == "split" else "right", True
    for name in SPLITS:
        table.add_row(name, *_row(manifest.splits[name]))
    return table


def _row(split: Split) -> tuple[str, ...]:
    per_token = UNKNOWN if split.num_bytes is None else f"{split.num_bytes / split.num_tokens:.3f}"
    shared = "" if split.overlap is None else f"{split.overlap.share:.2%}"
    known = (f"{number:,}" if number is not None else UNKNOWN for number in (split.num_bytes, split.num_documents))
    num_bytes, num_documents = known
    return f"{len(split.shards):,}", f"{split.num_tokens:,}", num_bytes, per_token, num_documents, shared


def _first_tokens(home: Path, manifest: Manifest) -> str:
    ids = TokenArray(home / "train", manifest, "train").span(0, SHOWN_TOKENS)
    table = stored_table(home, manifest.tokenizer)
    return " ".join(map(str, ids)) if table is None else repr(decode(table, ids))
