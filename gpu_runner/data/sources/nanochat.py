"""Reads parquet as nanochat and the Hugging Face Hub keep it: a document in each row of one column, "text" by default.

Held out are the files whose names say so. Where no name says anything it is the last file, as nanochat does; where
all names say "train", or there is only one file, documents by their hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources import named, strangers
from gpu_runner.data.sources.folder import files_below
from gpu_runner.data.sources.json_text import NO_ROW, TEXT, Reading
from gpu_runner.data.sources.source import Document, Facts, TextSource
from gpu_runner.data.tokenizers.encoder import WAY_OUT

SUFFIXES = (".parquet", ".parq", ".pq")
ROWS_AT_ONCE = 256
# Of a column, whatever the width of its lengths and whether it says that it is UTF-8; a tokenizer sees whether it is.
TEXT_TYPES = {"string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null"}


@dataclass(frozen=True)
class Shard:
    path: Path
    num_rows: int
    num_bytes: int  # of the column, before compression, as the file's footer says


def is_parquet(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def open_source(folder: Path, column: str | None = None) -> TextSource:
    """ValueError when no row has text, or a file lacks the column."""
    left_out = LeftOut()
    found = files_below(folder, left_out)
    shards = _shards(folder, found.paths, column or TEXT, left_out)
    plan = _plan(folder, shards)
    held_out = set(plan.held_out)
    by = {
        is_held: Reading(column=column or TEXT, left_out=left_out, held_out=is_held if held_out else None)
        for is_held in (True, False)
    }
    facts: Facts = {"format": "nanochat", "num_files": len(shards)}
    return TextSource(
        facts=facts | ({"column": column} if column else {}),
        num_bytes=sum(shard.num_bytes for shard in shards),
        documents=lambda: (one for shard in shards for one in _documents(shard.path, by[shard.path in held_out])),
        notes=(*found.notes, *plan.notes),
        left_out=left_out,
    )


def _shards(folder: Path, paths: Sequence[Path], column: str, left_out: LeftOut) -> list[Shard]:
    """The files that have rows, in order. The others are counted as left out."""
    shards = []
    for path in paths:
        if not is_parquet(path):
            left_out.file(f"{path.suffix or 'other'} file(s) beside the parquet", path)
            continue
        shard = _measured(path, column)
        if shard.num_rows:
            shards.append(shard)
        else:
            left_out.file(NO_ROW, path)
    if not shards:
        raise ValueError(f"--from: {folder} holds no parquet file with a row in it. {left_out.in_words()}".strip())
    return shards


def _plan(folder: Path, shards: Sequence[Shard]) -> named.Plan:
    """Which files are held out, with the sentences that say why."""
    paths = tuple(shard.path for shard in shards)
    plan = named.plan(folder, paths)
    last = paths[-1].relative_to(folder)
    said = Counter(one.split if (one := named.split_said_by(path.relative_to(folder))) else None for path in paths)
    if plan.held_out:
        if paths[-1] not in plan.held_out:
            note = f"{last} is trained on, as names say, though the last file would be held out if they said nothing."
            return named.Plan(train=plan.train, held_out=plan.held_out, notes=(*plan.notes, note))
        return plan
    if len(paths) == 1 or said["train"]:
        why = "there is one file alone" if len(paths) == 1 else "names say 'train', and none says what is held out"
        note = f"Held out: documents of every file, by their hash, since {why}."
        return named.Plan(train=paths, held_out=(), notes=(note,))
    share = shards[-1].num_bytes / max(sum(shard.num_bytes for shard in shards), 1)
    why = f"since it is the last ({share:.1%} of the text), and no name says which is; {named.DEALT}"
    notes = (named.told("Held out", [last.as_posix()], why),)
    return named.Plan(train=paths[:-1], held_out=paths[-1:], notes=notes)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """pyarrow's ParquetFile. ValueError names a file that is not parquet, or is cut off."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"--from: parquet needs the package pyarrow; {WAY_OUT}") from error
    strangers.refuse_pointer(path)
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.strerror and not isinstance(error, pyarrow.ArrowException):
            raise  # of the disk, not of what is on it
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: is no parquet file that can be read: {said}; fetch it again") from error


def _measured(path: Path, column: str) -> Shard:
    with _opened(path) as file:
        if file.schema_arrow.names.count(column) > 1:
            raise ValueError(f"{path}: has more than one column {column!r}; write it again with the one to read")
        _refuse_no_text(path, {field.name: field.type for field in file.schema_arrow}, column)
        about = file.metadata
        place = next(i for i in range(about.num_columns) if about.schema.column(i).path == column)
        groups = (about.row_group(i).column(place) for i in range(about.num_row_groups))
        num_bytes = sum(int(group.total_uncompressed_size) for group in groups)
        return Shard(path, about.num_rows, num_bytes)


def _refuse_no_text(path: Path, types: dict[str, Any], column: str) -> None:
    """ValueError says which columns the file has, and which option names one."""
    texts = [name for name, kind in types.items() if _is_text(kind)]
    if column in texts:
        return
    has = f"it has {', '.join(f'{name} ({kind})' for name, kind in types.items())}"
    ways = f"name the one to read with --column {' or '.join(texts[:3])}" if texts else "write one with the text in it"
    what = f"its column {column!r} is {types[column]} and not text" if column in types else f"has no column {column!r}"
    raise ValueError(f"{path}: {what}; {has}; {ways}")


def _is_text(kind: Any) -> bool:
    """Whether a column's type is text, or a dictionary or extension type (such as JSON) that stores text."""
    inner = getattr(kind, "value_type", None) if str(kind).startswith("dictionary") else None
    return str(inner or getattr(kind, "storage_type", kind)) in TEXT_TYPES


def _documents(path: Path, by: Reading) -> Iterator[Document]:
    """The rows as documents, those without text left out."""
    import pyarrow

    number = 0
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[by.column]):
            for text in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                number += 1
                if text is None:
                    by.left_out.document("row(s) without text", f"{path}, row {number}")
                else:
                    yield Document(name=f"{path}, row {number}", text=text, held_out=by.held_out)
