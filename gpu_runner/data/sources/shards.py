"""Opens a folder of token files, for all formats: finds them, requires one width, and plans which are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources import strangers
from gpu_runner.data.sources.folder import files_below
from gpu_runner.data.sources.named import plan, told
from gpu_runner.data.sources.source import TokenFile, TokenSource, kept_as

Opener = Callable[[Path], TokenFile]
BY_HASH = "Held out: documents of every file, by their hash, since no file's name says 'held out'."

ZEROS_BYTES = 1 << 16  # so many zeros at the end of a file are no text


def open_shards(
    folder: Path, form: str, suffixes: Collection[str], opener: Opener, *, beside: str = "", **facts: str | int
) -> TokenSource:
    """Every file below ``folder`` with one of the suffixes, opened by ``opener``.

    ``beside`` is the suffix of files that ``opener`` reads as well. ValueError names what is wrong.
    """
    left_out, paths = LeftOut(), []
    below = files_below(folder, left_out)
    for path in below.paths:
        if path.suffix.lower() in suffixes:
            paths.append(path)
        elif path.suffix != beside:
            left_out.file(f"{path.suffix or 'other'} file(s) beside the tokens", path)
    files = {path: _opened(path, opener) for path in paths}
    for path, file in files.items():
        if not file.num_tokens:
            left_out.file("file(s) without a token", path)
    files = {path: file for path, file in files.items() if file.num_tokens}
    if not files:
        raise ValueError(
            f"--from: {folder} holds no {' or '.join(suffixes)} file with a token in it. {left_out.in_words()}".strip()
        )
    _refuse_two_widths(folder, files)
    found = plan(folder, files)
    return TokenSource(
        facts={"format": form, "num_files": len(files), **facts},
        train=tuple(files[path] for path in found.train),
        held_out=tuple(files[path] for path in found.held_out),
        notes=(
            *(found.notes or (BY_HASH,)),
            *below.notes,
            *_unfinished(files),
            *filter(None, [left_out.in_words()]),
        ),
    )


def _opened(path: Path, opener: Opener) -> TokenFile:
    """The opened file. ValueError where its first bytes are another format's."""
    if what := strangers.by_its_head(path):
        raise ValueError(f"{path}: {what}")
    return opener(path)


def _unfinished(files: dict[Path, TokenFile]) -> Iterator[str]:
    """Warnings for files that end in zeros, as np.memmap makes them in full length before they are written."""
    ending = [path.name for path, file in files.items() if _ends_in_zeros(path, file)]
    if ending:
        yield told("CAREFUL", ending, f"whose last {ZEROS_BYTES:,} bytes are 0, as if not written to the end")


def _ends_in_zeros(path: Path, file: TokenFile) -> bool:
    num_bytes = path.stat().st_size
    if num_bytes - file.offset < 2 * ZEROS_BYTES:
        return False
    with open(path, "rb") as opened:
        opened.seek(num_bytes - ZEROS_BYTES)
        return not any(opened.read(ZEROS_BYTES))


def _refuse_two_widths(folder: Path, files: dict[Path, TokenFile]) -> None:
    widths = Counter(kept_as(file.stored) for file in files.values())
    if len(widths) > 1:
        first = {kept_as(file.stored): path.name for path, file in reversed(files.items())}
        said = " and ".join(f"{num:,} of {width} ({first[width]})" for width, num in widths.items())
        raise ValueError(f"--from: {folder} holds files of tokens of two widths, {said}; give those of one tokenizer")


def whole(path: Path, stored_bytes: int, num_bytes: int) -> int:
    """How many tokens of ``stored_bytes`` each are in ``num_bytes``. ValueError when bytes are left over."""
    if num_bytes % stored_bytes:
        raise ValueError(
            f"{path}: {num_bytes:,} bytes are no whole number of {8 * stored_bytes}-bit tokens; fetch it again, or name"
            " its --dtype"
        )
    return num_bytes // stored_bytes
