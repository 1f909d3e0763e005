"""nanochat's parquet files: a document in each row of the column "text"; the last file is held out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_runner.data.sources.source import Document, TextSource
from gpu_runner.data.tokenizers.encoder import WAY_OUT

COLUMN = "text"
ROWS_AT_ONCE = 256


def open_source(folder: Path) -> TextSource:
    """ValueError when a file is no parquet with that column, or when there are fewer than two."""
    paths = sorted(folder.glob("*.parquet"))
    if len(paths) < 2:
        raise ValueError(f"--from: {folder} holds {len(paths)} .parquet files; the last is held out, so give two")
    return TextSource(
        facts={"format": "nanochat", "num_files": len(paths)},
        num_bytes=sum(_num_bytes(path) for path in paths),
        documents=lambda: (document for path in paths for document in _documents(path, path == paths[-1])),
    )


def _open(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"--from: parquet needs the package pyarrow; {WAY_OUT}") from error
    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: is no parquet file that can be read: {error}".splitlines()[0]) from error
    columns = {field.name: str(field.type) for field in file.schema_arrow}
    if columns.get(COLUMN) not in ("string", "large_string"):
        raise ValueError(f"{path}: has no column {COLUMN!r} of text; it has {columns}")
    return file


def _num_bytes(path: Path) -> int:
    """Of the column, before compression, as the file's footer says."""
    with _open(path) as file:
        column = file.schema_arrow.names.index(COLUMN)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        return sum(int(group.column(column).total_uncompressed_size) for group in groups)


def _documents(path: Path, held_out: bool) -> Iterator[Document]:
    """A row without text is no document."""
    with _open(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[COLUMN]):
            for text in batch.column(0).to_pylist():
                if text is not None:
                    yield Document(name=str(path), text=text.encode(), held_out=held_out)
