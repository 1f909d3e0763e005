"""Which of a source's columns is which of ours. Forks rename and add columns: known words are mapped, others are kept.

A field takes one column: the first that its list names. Whoever knows better says so: see ``Wanted.columns``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from research.history import cells
from research.history.past import Direction, line_of

FIELDS = ("commit", "outcome", "description", "title", "memory", "seconds", "metric", "parameter", "extra")
ONE_EACH = FIELDS[:7]
ROWS_READ = 500
MADE_UP = "column"  # and its place: the name of a column that the source does not name

SYNONYMS: dict[str, tuple[str, ...]] = {
    "commit": tuple(
        "commit git_commit commit_hash commit_sha commit_id git_sha git_hash sha hash rev revision "
        "candidate_ref meta_commit".split()
    ),
    "outcome": tuple("status outcome decision verdict disposition kept keep state result action".split()),
    "description": tuple(
        "description desc experiment_description change changes change_summary summary notes note idea hypothesis "
        "comment comments details message what config_summary".split()
    ),
    "title": tuple(
        "name run_name title tag label experiment_name display_name run experiment exp run_id experiment_id "
        "exp_id id run_number number no".split()
    ),
}
_MEMORY = frozenset(
    "memory mem peak_memory peak_mem max_memory max_mem vram peak_vram max_vram gpu_memory gpu_mem "
    "peak_gpu_memory peak_gpu_mem memory_used memory_peak cuda_memory peak_memory_allocated".split()
)
_SECONDS = tuple(
    "training training_time train train_time runtime run_time duration elapsed elapsed_time wall wall_time "
    "walltime wall_clock time total total_time".split()
)
# The most wanted first. A name that begins with one of these words after val_, eval_ or best_ counts as well.
METRICS = tuple(
    "val_bpb bpb bits_per_byte val_loss validation_loss eval_loss test_loss val_ppl perplexity ppl val_ce "
    "loss score metric metric_value objective fitness val_acc val_accuracy accuracy acc val_f1 f1 "
    "primary_metric value".split()
)
_HELD_OUT = ("val_", "valid_", "validation_", "eval_", "test_", "best_", "final_")
_NO_METRIC = frozenset(
    "step steps num_steps epoch epochs seed tokens num_tokens total_tokens params num_params n_params depth "
    "width batch batch_size timestamp date budget cost usd mfu improvement delta index order".split()
)
_NO_SETTING = frozenset("step steps epoch runtime duration tokens num_tokens total_tokens mfu timestamp".split())
_LOWER = frozenset(
    "bpb loss ppl perplexity ce nll fid wer cer rmse mse mae error err latency regret distance bits".split()
)
_HIGHER = frozenset(
    "acc accuracy f1 auc auroc reward return sharpe throughput tflops tok mfu r2 bleu rouge speedup psnr ssim "
    "map iou recall precision win elo".split()
)


def plain_name(name: str) -> str:
    """A column's name for comparing: ``Val BPB``, ``val-bpb`` and ``metrics.val_bpb`` are one."""
    return re.sub(r"[^a-z0-9]+", "_", bare(name.lower()).removeprefix("summary.")).strip("_")


def bare(name: str) -> str:
    """A name without what MLflow puts before those of settings and numbers."""
    return name.removeprefix("params.").removeprefix("metrics.")


def unit_in(name: str, units: Iterable[str]) -> tuple[str, str]:
    """(name without its unit, the unit): ``peak_vram_mb`` is peak_vram and mb; "" where it names none."""
    base, _, last = plain_name(name).rpartition("_")
    return (base, last) if base and last in set(units) else (plain_name(name), "")


def names_of(raw: Sequence[str]) -> list[str]:
    """A header's names, each once: an empty one is called by its place, a second ``loss`` is ``loss (2)``."""
    names: list[str] = []
    for place, cell in enumerate(raw, start=1):
        name = line_of(cell, 80) or f"{MADE_UP} {place}"
        same = sum(1 for known in names if known == name or known.startswith(f"{name} ("))
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def is_known(name: str) -> bool:
    """Whether it is a word that headers use."""
    plain = plain_name(name)
    return field_of(name) != "" or plain in METRICS or plain.startswith(_HELD_OUT) or plain in _NO_METRIC


def field_of(name: str) -> str:
    """Our field of the name, metric apart; "" for one that says nothing to us."""
    bare = plain_name(name)
    if unit_in(name, cells.MEMORY_MIB)[0] in _MEMORY:
        return "memory"
    if (unit := unit_in(name, cells.SECONDS))[0] in _SECONDS and (unit[1] or unit[0] in ("runtime", "duration")):
        return "seconds"
    if bare in cells.SECONDS:
        return "seconds"
    return next((field for field, known in SYNONYMS.items() if bare in known), "")


def assign(names: Sequence[str], rows: Sequence[Sequence[str]], wanted: Mapping[str, str], metric: str) -> list[str]:
    """Our field of every column. ``wanted`` is their name -> our field, and goes before our own guess.

    Guessed from the first ROWS_READ rows: a hostile table has as many columns as it has rows.

    Raises ValueError naming what is unknown.
    """
    fields, rows = [""] * len(names), rows[:ROWS_READ]
    for theirs, ours in wanted.items():
        if _checked(theirs, ours) in ONE_EACH and ours in fields:
            raise ValueError(f"map: {names[fields.index(ours)]} and {theirs} are both {ours}; a field takes one column")
        fields[_place(theirs, names)] = ours
    taken = set(fields) - {"extra", "parameter"}
    for field in (f for f in ONE_EACH if f not in taken and f != "metric"):
        if (place := _first(field, names, fields, rows)) is not None:
            fields[place] = field
    if "metric" not in taken and (place := _metric(names, fields, rows, metric)) is not None:
        fields[place] = "metric"
    return [field or "extra" for field in fields]


def has(theirs: str, names: Sequence[str]) -> bool:
    """Whether one of ``names`` is meant by ``theirs``, as somebody may type it."""
    return any(plain_name(name) == plain_name(theirs) for name in names)


def _place(theirs: str, names: Sequence[str]) -> int:
    exact = (i for i, name in enumerate(names) if name == theirs)
    return next(exact, next(i for i, name in enumerate(names) if plain_name(name) == plain_name(theirs)))


def _checked(theirs: str, ours: str) -> str:
    if ours not in FIELDS:
        raise ValueError(f"map: {theirs}={ours}: {ours!r} is no field; choose one of {', '.join(FIELDS)}")
    return ours


def _first(field: str, names: Sequence[str], fields: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    free = [i for i, name in enumerate(names) if not fields[i] and field_of(name) == field]
    if field == "outcome":  # "result" is as often a number, and "state" a place
        free = [i for i in free if not _are_numbers(i, rows)]
    return min(free, key=lambda i: _rank(field, names[i]), default=None)


def _rank(field: str, name: str) -> int:
    known: Sequence[str] = _SECONDS if field == "seconds" else SYNONYMS.get(field, ())
    bare = unit_in(name, cells.SECONDS)[0] if field == "seconds" else plain_name(name)
    return known.index(bare) if bare in known else len(known)


def _metric(names: Sequence[str], fields: Sequence[str], rows: Sequence[Sequence[str]], metric: str) -> int | None:
    """The column of the metric: the one that was asked for, the best known, or the first that holds numbers.

    One that says nothing in most rows, or the same in all, is taken last of all. Names that we made up tell nothing.
    """
    free = [i for i, field in enumerate(fields) if not field]
    if metric:
        return next((i for i in free if plain_name(names[i]) == plain_name(metric)), None)
    numbers = [i for i in free if _are_numbers(i, rows) and _may_be_metric(names[i])]
    return min(numbers, key=lambda i: (not _says_enough(i, rows), _metric_rank(names[i]), i), default=None)


def _may_be_metric(name: str) -> bool:
    return not (field_of(name) or plain_name(name) in _NO_METRIC or plain_name(name).startswith(MADE_UP))


def _says_enough(place: int, rows: Sequence[Sequence[str]]) -> bool:
    said = [row[place].strip() for row in rows if place < len(row) and _is_number(row[place])]
    return 2 * len(said) >= len(rows) and (len(set(said)) > 1 or len(said) < 3)


def _metric_rank(name: str) -> int:
    bare = plain_name(name)
    if bare in METRICS:
        return METRICS.index(bare)
    return len(METRICS) + (0 if bare.startswith(_HELD_OUT) else 1)


def most_wanted(names: Sequence[str]) -> str:
    """Of names of numbers the one that is most likely the metric; "" where all of them say what was run."""
    free = [name for name in names if _may_be_metric(name)]
    return min(free, key=lambda name: (_metric_rank(name), names.index(name)), default="")


def is_measured(name: str) -> bool:
    """Whether a number of this name says how good or how long a run was, and not how it was set up."""
    bare = plain_name(name)
    words = set(bare.split("_"))
    return bare in METRICS or bare.startswith(_HELD_OUT) or bool(words & (_LOWER | _HIGHER)) or bare in _NO_SETTING


def _are_numbers(place: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether at least half of the column's cells that say something are numbers."""
    said = [row[place] for row in rows if place < len(row) and row[place].strip().lower() not in cells.MISSING]
    return bool(said) and 2 * sum(_is_number(cell) for cell in said) >= len(said)


def _is_number(cell: str) -> bool:
    try:
        return cells.number(cell) is not None
    except ValueError:
        return False


def direction_of(metric: str, kept: Sequence[float]) -> Direction | None:
    """Which way ``metric`` is better: by its name, else by where the kept ones went, in their order. None: neither."""
    words = set(plain_name(metric).split("_"))
    if words & _LOWER or words & _HIGHER:
        return "lower" if words & _LOWER else "higher"
    if len(kept) < 2 or kept[0] == kept[-1]:
        return None
    return "lower" if kept[-1] < kept[0] else "higher"
