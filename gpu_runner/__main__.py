"""``python -m gpu_runner``: what a person runs on a GPU machine by hand.

worker                                           ask for approved runs and train them, until told to stop
train SPEC.toml                                  train one run by hand, without the dashboard (train.py)
data prepare [--name NAME] [--from FOLDER] ...   make a dataset of text or tokens (docs/data.md)
data inspect [NAME|FOLDER]                       say what is in it
data verify  [NAME|FOLDER]                       hash it again
recipe new PATH                                  read a repository, write a first recipe.toml (docs/recipes.md)
recipe check PATH                                train five steps of it in the sandbox, say what is missing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from gpu_runner.adopt.commands import add_recipe_commands
from gpu_runner.data.commands import add_data_commands
from gpu_runner.data.find import default_root
from gpu_runner.standalone import train


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m gpu_runner", description="What runs on a GPU machine.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="ask for approved runs and train them").set_defaults(run=serve)
    by_hand = commands.add_parser("train", help="train one run by hand", description=train.__doc__)
    by_hand.formatter_class = argparse.RawDescriptionHelpFormatter
    train.add_arguments(by_hand)
    by_hand.set_defaults(run=train_by_hand)
    add_data_commands(commands)
    add_recipe_commands(commands)
    return top


def serve(_: argparse.Namespace) -> int:
    from gpu_runner.worker import serve  # celery and requests: not needed to prepare data

    return serve.main()


def train_by_hand(chosen: argparse.Namespace) -> int:
    return train.run(chosen, default_root())


def main(argv: list[str] | None = None) -> int:
    chosen = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        return run(chosen)
    except (ValueError, OSError) as error:
        print(f"{chosen.command}: {said_by(error)}", file=sys.stderr)
        return 1


def said_by(error: ValueError | OSError) -> str:
    """Without the number of an error, where its text is a sentence of ours."""
    is_ours = isinstance(error, OSError) and error.filename is None and error.strerror
    return is_ours or str(error)


if __name__ == "__main__":
    sys.exit(main())
