"""The trusted scorer: bits per byte of held-out text, from logits, by its own log-softmax.

It imports no proposed code and no torch. The dataset's manifest says how many bytes of text each token stands for; a
target that stands for none, such as the end of a document, does not count. The model sits in a second sandbox
(harness/model_server.py) that is given inputs only, batch by batch, and answers with raw logits; targets stay here.
A leaky model can still cheat if its logits at a position depend on what comes later, on the other rows of the batch, or
on what it was asked before. So the first pass commits every loss, and then fresh processes, which have seen none
of it, are given the same prefixes with other real text behind them (challenge.py). Where their answers differ, the
score is *disputed*.

Outcomes:

    ok           val_bpb is the number
    disputed     val_bpb is a number, but the model's answers differ, or it did more work than answering (effort.py)
    quarantined  val_bpb is better than text of this kind allows: a person must look
    failed       no number: no checkpoint, a crash, malformed or non-finite logits, a deadline, a dataset
                 of tokens whose bytes are not known, or wrong arguments (exit code 2); or the machine failed or the
                 model's process was killed from outside (exit code 75): try again
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from gpu_runner.contract import SCORER_VERSION, Effort, Evidence, HeldOutSplit, Score
from gpu_runner.data.manifest import Manifest, file_sha256, manifest_sha256, shard_paths
from gpu_runner.data.tokens import TokenArray, TokenBytes, read_token_bytes
from gpu_runner.data.verify import refuse_open
from gpu_runner.machine.faults import MachineFault
from gpu_runner.scorer import identity
from gpu_runner.scorer.challenge import Challenged
from gpu_runner.scorer.effort import Allowed, Efforts, clock_here
from gpu_runner.scorer.examine import TOLERANCE_NATS, Examination, Rows
from gpu_runner.scorer.model_process import Batch, Deadline, ModelFailed, ModelProcess

DEFAULT_TOKENS = 131_072
BATCH_TOKENS = 4_096  # of one request at most; the same for every model, so that scores compare
MIN_SEQ_LEN, MAX_SEQ_LEN = 32, 4_096
BATCH_BYTES = 64 << 20  # of logits of one request, where the vocabulary is large; one row at least
LIMIT_S = 840.0  # for each split; the worker's deadline is a minute longer, so that it still hears the reason
# Prefixes that are asked again: a leak at 0.34 % of the positions is found with 99.9 %, at 0.1 % with 87 %.
DEFAULT_CHALLENGES = 2_048
# Nobody compresses source text this far with a model that trains on one machine: suspect a leak.
PLAUSIBLE_BPB = 0.3

Outcome = Literal["ok", "disputed", "quarantined", "failed"]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A held-out split, its hashes checked. ``token_bytes`` is None where the bytes behind a token are not known."""

    split: HeldOutSplit
    manifest: Manifest
    text: TokenArray
    foreign: TokenArray  # real text of which none is held out: what challenges put behind a prefix
    token_bytes: TokenBytes | None

    @property
    def vocab(self) -> int:
        return self.manifest.tokenizer.vocab


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the scorer measured on one split."""

    bpb: float
    outcome: Outcome
    reasons: list[str]
    evidence: Evidence
    about: dict[str, str | int | float | None]


def score(
    recipe_dir: Path,
    checkpoint_dir: Path,
    dataset_dir: Path,
    *,
    split: HeldOutSplit = "val",
    sealed: bool = False,
    num_tokens: int = DEFAULT_TOKENS,
    num_challenges: int = DEFAULT_CHALLENGES,
    level: str,
    device: str = "auto",
    limit_s: float = LIMIT_S,
    usual: Effort | None = None,
    trained_s: float | None = None,
) -> Score:
    """Measure one checkpoint. Faults of the model are in the Score; wrong arguments raise ValueError.

    MachineFault where the machine failed or a model's process was killed from outside, which says nothing on the model.

    ``num_tokens`` is rounded to whole batches, ``num_challenges`` up to whole batches. The same arguments always read
    the same text; the text behind a challenged prefix is drawn anew every time. ``sealed`` reads the sealed split as
    well, in the same way, but only when the outcome on ``split`` is ok. Each split has ``limit_s`` seconds. ``usual``
    is the Effort of scoring the incumbent on a machine like this: a model that takes far more is disputed.
    ``trained_s`` is how long the model was trained: after a short training it may take less before its first answer.
    """
    began = time.monotonic()
    _refuse_within(dataset_dir, (recipe_dir, checkpoint_dir))
    held_out = open_held_out(dataset_dir, split)
    provenance: dict[str, str | int | float | None] = {
        "scorer_version": SCORER_VERSION,
        "scorer_sha256": identity.scorer_sha256(),
        "manifest_sha256": manifest_sha256(dataset_dir),
        "tokenizer_sha256": held_out.manifest.tokenizer.sha256,
        "split": split,
        "sandbox_level": level,
    }
    measured: list[Measured] = []
    failure: str | None = None
    effort: Effort | None = None
    try:
        provenance |= identity.of_model(recipe_dir, checkpoint_dir)
        weights = identity.weights_of(checkpoint_dir)
        efforts = Efforts(allowed=Allowed(weights=weights, clock=clock_here(), usual=usual, trained_s=trained_s))
        provenance["seq_len"] = seq_len = _seq_len(checkpoint_dir)
        last = Deadline(began + limit_s * (1 + sealed), f"Scoring did not end in time (limit {limit_s:g} s a split).")
        given: dict[str, Any] = {"level": level, "device": device, "last": last, "allowed": efforts.allowed}
        start = partial(ModelProcess, recipe_dir, checkpoint_dir, vocab=held_out.vocab, **given)
        how = {"seq_len": seq_len, "num_tokens": num_tokens, "num_asked": max(num_challenges, 1)}
        measured.append(_measure(start, held_out, efforts, **how))
        if sealed and measured[0].outcome == "ok":
            measured.append(_measure(start, open_held_out(dataset_dir, "sealed"), efforts, **how))
        effort = efforts.told()
        if identity.of_model(recipe_dir, checkpoint_dir)["checkpoint_sha256"] != provenance["checkpoint_sha256"]:
            failure = "The checkpoint changed while it was scored."
    except ModelFailed as failed:
        if failed.is_machines:
            raise MachineFault(str(failed)) from failed
        measured, failure = [], str(failed)[:2_000]
    return scored(measured, failure, provenance, time.monotonic() - began, effort)


def scored(
    measured: list[Measured],
    failure: str | None,
    provenance: dict[str, str | int | float | None],
    seconds: float,
    effort: Effort | None = None,
) -> Score:
    """One Score of all splits: its outcome is the worst of theirs."""
    outcome: Outcome = "failed"
    reasons: list[str] = []
    for which in measured:
        prefix = "sealed_" if which.evidence.split == "sealed" else ""
        provenance |= {f"{prefix}{name}": value for name, value in which.about.items()}
        outcome = which.outcome  # the second split is read only after a first that is ok
        reasons += [f"On the sealed text: {reason}" if prefix else reason for reason in which.reasons]
    if len({which.about["parameters_sha256"] for which in measured}) > 1:
        outcome, reasons = "disputed", [*reasons, "The model held other parameters or buffers on the sealed text."]
    if failure is not None:
        outcome, reasons = ("disputed" if measured else "failed"), [*reasons, failure]
    return Score(
        val_bpb=measured[0].bpb if measured else None,
        sealed_bpb=measured[1].bpb if len(measured) > 1 else None,
        outcome=outcome,
        reasons=reasons,
        provenance=provenance,
        seconds=seconds,
        evidence=measured[-1].evidence if measured else None,
        effort=effort if measured else None,
    )


# --- the text ---------------------------------------------------------------------------------


def open_held_out(dataset_dir: Path, split: HeldOutSplit) -> HeldOut:
    """Open a held-out split, checked against the manifest. ValueError where it is missing, changed, or not held out."""
    manifest = refuse_open(dataset_dir)
    held_out = [name for name in get_args(HeldOutSplit) if name in manifest.splits]
    if split not in held_out:
        raise ValueError(f"split: {split!r} is not one of {', '.join(held_out)}")
    paths = shard_paths(dataset_dir, manifest, split)
    for path, shard in zip(paths, manifest.splits[split].shards, strict=True):
        _refuse_other_bytes(path, shard.sha256)
    return HeldOut(
        split=split,
        manifest=manifest,
        text=TokenArray(paths[0].parent, manifest, split),
        foreign=TokenArray(dataset_dir / "train", manifest, "train"),
        token_bytes=read_token_bytes(dataset_dir / "train", manifest),
    )


def _refuse_within(dataset_dir: Path, shown: Sequence[Path]) -> None:
    for folder in shown:
        if dataset_dir.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"dataset: lies in {folder}, which the model is shown: it could read what is held out")


def _refuse_other_bytes(path: Path, expected_sha256: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; run `python -m gpu_runner data verify`") from error
    if found != expected_sha256:
        raise ValueError(f"{path}: is not what the manifest says; remove the dataset and prepare it again")


def cut_rows(held_out: HeldOut, *, seq_len: int, num_tokens: int) -> Rows:
    """About ``num_tokens`` tokens in evenly spaced rows, in whole batches. ValueError when the text is too short."""
    text = held_out.text
    if not (available := (len(text) - 1) // seq_len):
        raise ValueError(f"dataset: {len(text):,} held-out tokens are too few for rows of {seq_len}")
    if len(held_out.foreign) <= seq_len:
        raise ValueError(
            f"dataset: {len(held_out.foreign):,} training tokens are too few to challenge rows of {seq_len}"
        )
    per_batch = min(rows_at_once(held_out.vocab, seq_len), available)
    num_batches = min(max(num_tokens // (per_batch * seq_len), 1), available // per_batch)
    starts = np.linspace(0, len(text) - 1 - seq_len, num_batches * per_batch).astype(np.int64)
    rows = text.rows(starts, seq_len + 1).astype(np.int32)
    return Rows(inputs=rows[:, :-1], targets=rows[:, 1:], per_batch=per_batch)


def rows_at_once(vocab: int, seq_len: int) -> int:
    """How many rows one request has."""
    return max(min(BATCH_TOKENS, BATCH_BYTES // (4 * vocab)) // seq_len, 1)


def _num_bytes(held_out: HeldOut, rows: Rows) -> npt.NDArray[np.uint16]:
    """Bytes of text that each target stands for, [N, T]. ModelFailed where they are not known: bpb needs them."""
    if held_out.token_bytes is None:
        raise ModelFailed(
            "The dataset was made of tokens without their tokenizer, so their bytes of text are not known and there are"
            " no bits per byte; prepare it again with --tokenizer."
        )
    return held_out.token_bytes[rows.targets]


def _seq_len(checkpoint_dir: Path) -> int:
    """Row length as config.json says, within bounds, since proposed code wrote it."""
    try:
        asked = json.loads((checkpoint_dir / "config.json").read_bytes()).get("seq_len")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelFailed(f"config.json: not a JSON object: {error}") from error
    if not isinstance(asked, int) or not MIN_SEQ_LEN <= asked <= MAX_SEQ_LEN:
        raise ModelFailed(f"config.json: seq_len {asked!r} is no whole number from {MIN_SEQ_LEN} to {MAX_SEQ_LEN}.")
    return asked


# --- the measurement --------------------------------------------------------------------------


def _measure(
    start: Callable[[], ModelProcess],
    held_out: HeldOut,
    efforts: Efforts,
    *,
    seq_len: int,
    num_tokens: int,
    num_asked: int,
) -> Measured:
    """Bits per byte of one split, what its challenges found, and what the model's process says of itself.

    What all of its processes spent is noted in ``efforts``.
    """
    try:
        rows = cut_rows(held_out, seq_len=seq_len, num_tokens=num_tokens)
    except ValueError as error:  # the model asks for rows of that length
        raise ModelFailed(str(error)) from error
    num_bytes = _num_bytes(held_out, rows)
    try:
        examined = Examination(start, rows, held_out.foreign, held_out.vocab)
        examined.challenge(num_asked)
    except ModelFailed as failed:
        raise (_of_training_text(failed, start, rows, held_out.foreign) if failed.withheld else failed) from failed
    bpb = float(examined.nats[num_bytes > 0].sum() / num_bytes.sum(dtype=np.int64) / math.log(2))
    device = str(examined.about["device"])
    for stages in examined.stages:
        efforts.note(stages)
    outcome, reasons = judge(bpb, examined.found, device, efforts.reasons())
    counts = {"num_repeats": examined.num_repeats, "num_commitments": examined.num_commitments}
    told: dict[str, str | int | float | None] = {
        **examined.about,
        **counts,
        "parameters_sha256": examined.held.before,
        "num_tokens": rows.targets.size,
    }
    return Measured(
        bpb=bpb,
        outcome=outcome,
        reasons=reasons,
        evidence=examined.found.evidence(TOLERANCE_NATS[device], held_out.split),
        about=told | examined.found.provenance(TOLERANCE_NATS[device]),
    )


def _of_training_text(
    failed: ModelFailed, start: Callable[[], ModelProcess], rows: Rows, foreign: TokenArray
) -> ModelFailed:
    """The same failure, reproduced on training text: its words may be quoted, on pages and in prompts."""
    tokens = foreign.rows(np.zeros(rows.per_batch, np.int64), rows.inputs.shape[1]).astype(np.int32)
    batch = Batch(tokens, np.zeros(rows.per_batch, np.int64), tokens.shape[1])
    try:
        with start() as model:
            for _ in model.ask([batch, batch], held_out=False):
                pass
    except ModelFailed as again:
        return again
    return ModelFailed(
        f"{failed} What it said could hold held-out text and is left out; of training text it said nothing."
    )


def judge(bpb: float, found: Challenged, device: str, too_much: Sequence[str] = ()) -> tuple[Outcome, list[str]]:
    """The outcome for one split, with its reasons as sentences. ``too_much``: the efforts' reasons."""
    if reasons := [*found.reasons(TOLERANCE_NATS[device]), *too_much]:
        return "disputed", reasons
    if bpb < PLAUSIBLE_BPB:
        return "quarantined", [
            f"{bpb:.4f} bits per byte is below {PLAUSIBLE_BPB}, which no model of this size reaches."
        ]
    return "ok", []
