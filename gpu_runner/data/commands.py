"""The command line ``python -m gpu_runner data``: prepare, inspect and verify a dataset."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_runner.data import progress
from gpu_runner.data.find import default_root
from gpu_runner.data.manifest import SPLITS, load_manifest, manifest_sha256
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.sources import FORMATS
from gpu_runner.data.sources.widths import STORED
from gpu_runner.data.verify import verify


def add_data_commands(commands: Any) -> None:
    """The command ``data`` with its three acts."""
    acts = commands.add_parser("data", help="prepare, inspect or verify a dataset").add_subparsers(
        dest="act", required=True
    )
    making = acts.add_parser("prepare", help="make a dataset of text or tokens")
    making.add_argument("--name", default="stdlib", help="what it is called; default: %(default)s")
    making.add_argument("--from", dest="path", type=Path, help="a folder; without it the standard library's own text")
    making.add_argument("--format", dest="kind", choices=FORMATS, help="default: what the folder looks like")
    making.add_argument("--column", help="of parquet or JSON: the one that holds the text; default: text")
    making.add_argument("--tokenizer", help="bytes, a rank file of tiktoken, or a Hugging Face tokenizer.json")
    making.add_argument("--separator", help="the token between documents, as the tokenizer spells or numbers it")
    making.add_argument("--dtype", choices=STORED, help="of tokens in files without a header; default: uint16")
    making.set_defaults(run=data_prepare)
    for act, run, about in (("inspect", data_inspect, "say what is in it"), ("verify", data_verify, "hash it again")):
        sub = acts.add_parser(act, help=about)
        sub.add_argument("dataset", nargs="?", default="stdlib", help="a name or a folder; default: %(default)s")
        sub.set_defaults(run=run)
    for sub in acts.choices.values():
        sub.add_argument("--root", type=Path, default=default_root(), help="default: %(default)s")


def data_prepare(chosen: argparse.Namespace) -> int:
    origin = Origin(
        path=chosen.path,
        kind=chosen.kind,
        tokenizer=chosen.tokenizer,
        separator=chosen.separator,
        column=chosen.column,
        dtype=chosen.dtype,
    )
    try:
        with _terminated_as_interrupted():
            home = prepare(chosen.root, chosen.name, origin, progress.for_people())
    except KeyboardInterrupt:
        print("data: stopped; nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT
    _describe(home)
    return 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, by which a cluster ends programs, raises KeyboardInterrupt, so that no half dataset stays behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def data_inspect(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from gpu_runner.data import inspect

    return 0 if inspect.show(_find(chosen), Console()) else 1


def data_verify(chosen: argparse.Namespace) -> int:
    home = _find(chosen)
    verify(home, progress.for_people())
    _describe(home)
    return 0


def _find(chosen: argparse.Namespace) -> Path:
    """A dataset by its name under the root, or by its folder."""
    named: Path = chosen.root / chosen.dataset
    return named if (named / "manifest.json").exists() or "/" not in chosen.dataset else Path(chosen.dataset)


def _describe(home: Path) -> None:
    print(f"{home}: {manifest_sha256(home)}")
    for name in SPLITS:
        split = load_manifest(home).splits[name]
        num_bytes = "" if split.num_bytes is None else f", {split.num_bytes:,} bytes of text"
        documents = "" if split.num_documents is None else f" in {split.num_documents:,} documents"
        print(f"  {name:<7}{split.num_tokens:>14,} tokens{num_bytes}{documents}")
