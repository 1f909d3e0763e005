"""``python -m gpu_runner``: what a person runs on a GPU machine by hand.

worker                                       ask for approved runs and train them, until told to stop
train SPEC.toml                              train one run by hand, without the dashboard (train.py)
data prepare [--name stdlib] [--root DIR]    write the corpus
data verify  [--name stdlib] [--root DIR]    hash it again
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gpu_runner import corpus, train


def default_root() -> Path:
    """Where datasets lie when nobody says otherwise."""
    home = Path(os.environ.get("COUNTERSIGN_HOME") or ".countersign")
    return Path(os.environ.get("COUNTERSIGN_DATASETS") or home / "datasets")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m gpu_runner", description="What runs on a GPU machine.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="ask for approved runs and train them").set_defaults(run=serve)
    by_hand = commands.add_parser("train", help="train one run by hand", description=train.__doc__)
    by_hand.formatter_class = argparse.RawDescriptionHelpFormatter
    train.add_arguments(by_hand)
    by_hand.set_defaults(run=train_by_hand)
    acts = commands.add_parser("data", help="prepare or verify a corpus").add_subparsers(dest="act", required=True)
    for act, run, about in (("prepare", data_prepare, "write the corpus"), ("verify", data_verify, "hash it again")):
        sub = acts.add_parser(act, help=about)
        sub.add_argument("--name", default="stdlib")
        sub.add_argument("--root", type=Path, default=default_root(), help="default: %(default)s")
        sub.set_defaults(run=run)
    return top


def serve(_: argparse.Namespace) -> int:
    from gpu_runner import worker  # celery and requests: not needed to prepare data

    return worker.main()


def train_by_hand(chosen: argparse.Namespace) -> int:
    return train.run(chosen, default_root())


def data_prepare(chosen: argparse.Namespace) -> int:
    _describe(corpus.prepare(chosen.root, chosen.name))
    return 0


def data_verify(chosen: argparse.Namespace) -> int:
    corpus.verify(chosen.root / chosen.name)
    _describe(chosen.root / chosen.name)
    return 0


def _describe(home: Path) -> None:
    print(f"{home}: {corpus.manifest_sha256(home)}")
    for name, split in corpus.load_manifest(home).splits.items():
        print(f"  {name:<7}{split.num_bytes:>12,} bytes in {split.num_documents:,} documents")


def main(argv: list[str] | None = None) -> int:
    chosen = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        return run(chosen)
    except (ValueError, OSError) as error:
        print(f"{chosen.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
