"""The trusted scorer on one checkpoint, as a command: what a worker starts for every run, and people by hand.

    python -m gpu_runner.scorer --recipe DIR --checkpoint DIR --dataset NAME [--split val]
                               [--sealed] [--num-tokens N] [--challenges N] [--limit-s S] [--sandbox LEVEL] --json

Exit code: 0 for a number that can be believed, 1 for one that cannot and for none, 2 for arguments that make no sense,
75 where the machine failed or somebody killed the model's process: try again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.contract import Effort, Score, parse
from gpu_runner.contract.plain import plain
from gpu_runner.data.find import default_root, find_dataset
from gpu_runner.machine.faults import is_machines
from gpu_runner.scorer.score import DEFAULT_CHALLENGES, DEFAULT_TOKENS, LIMIT_S, score, scored

EX_TEMPFAIL = 75  # of sysexits.h: the machine failed, another attempt may tell


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_runner.scorer", description="Score one checkpoint.")
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dataset", required=True, help="a prepared dataset's name, or its folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--sealed", action="store_true", help="read the sealed split, too: at a promotion only")
    parser.add_argument("--num-tokens", type=int, default=DEFAULT_TOKENS)
    parser.add_argument("--challenges", type=int, default=DEFAULT_CHALLENGES, help="prefixes to ask again")
    parser.add_argument("--usual", help="Effort, as JSON: what scoring the incumbent takes on such a machine")
    parser.add_argument("--trained-s", type=float, help="seconds of training: a short one may load for less time")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="seconds for each split")
    parser.add_argument("--sandbox", help="bubblewrap, landlock or none; default: the better that works here")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", action="store_true", help="print the whole Score")
    chosen = parser.parse_args(argv)
    began = time.monotonic()
    try:
        measured = _chosen_score(chosen)
    except Exception as error:
        if not isinstance(error, ValueError | OSError) and not is_machines(error):
            raise  # a bug of ours, with its traceback
        said = str(error) or type(error).__name__
        print(f"score: {said}", file=sys.stderr)
        if chosen.json:
            print(scored([], plain(said)[:2_000], {}, time.monotonic() - began).model_dump_json(indent=2))
        return EX_TEMPFAIL if is_machines(error) else 2
    print(measured.model_dump_json(indent=2) if chosen.json else _in_words(measured))
    return 0 if measured.outcome == "ok" else 1


def _chosen_score(chosen: argparse.Namespace) -> Score:
    return score(
        chosen.recipe,
        chosen.checkpoint,
        _dataset(chosen.dataset),
        split=chosen.split,
        sealed=chosen.sealed,
        num_tokens=chosen.num_tokens,
        num_challenges=chosen.challenges,
        level=sandbox.probe(chosen.sandbox),
        device=chosen.device,
        limit_s=chosen.limit_s,
        trained_s=chosen.trained_s,
        usual=parse(Effort, chosen.usual.encode()) if chosen.usual else None,
    )


def _dataset(wanted: str) -> Path:
    """The dataset's folder, given itself or by name as in `python -m gpu_runner train`; "stdlib" is made if missing."""
    if (Path(wanted) / "manifest.json").is_file():
        return Path(wanted)
    try:
        return find_dataset(wanted, Path.cwd(), default_root())
    except OSError as error:
        raise ValueError(f"dataset: {wanted!r} could not be prepared: {error}") from error


def _in_words(measured: Score) -> str:
    number = "no number" if measured.val_bpb is None else f"{measured.val_bpb:.4f} bits per byte"
    if measured.sealed_bpb is not None:
        number += f", {measured.sealed_bpb:.4f} on the sealed text,"
    return " ".join([f"{measured.outcome}: {number} in {measured.seconds:.1f} s.", *measured.reasons])


if __name__ == "__main__":
    sys.exit(main())
