"""Makes a dataset of a source, a tokenizer and a name, in a scratch folder that is renamed when it is whole."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.data import overlap
from gpu_runner.data.encoding import write_texts, write_tokens
from gpu_runner.data.manifest import HELD_OUT, TOKEN_BYTES, TOKENIZER_FILE, Manifest, load_manifest
from gpu_runner.data.place import refuse_name, refuse_taken
from gpu_runner.data.progress import Silent
from gpu_runner.data.separators import find_separator
from gpu_runner.data.sources import open_source, stdlib
from gpu_runner.data.sources.source import TextSource, TokenSource
from gpu_runner.data.splits import close_durably
from gpu_runner.data.tokenizers import decode, open_tokenizer
from gpu_runner.data.tokenizers.encoder import Encoder
from gpu_runner.data.tokens import TokenArray
from gpu_runner.data.verify import is_there, is_whole, refuse_shown

MUCH_OVERLAP = 0.01
SHOWN_TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What to make a dataset of, as a person says it. All None: the standard library, as bytes."""

    path: Path | None = None
    kind: str | None = None  # one of sources.FORMATS; None: what the folder looks like
    tokenizer: str | None = None  # None: bytes for text, unknown for tokens
    separator: str | None = None  # the token between documents, by its text or number
    column: str | None = None  # of parquet or JSON; None: "text"
    dtype: str | None = None  # one of widths.STORED, of tokens without a header; None: uint16

    @property
    def is_stdlib(self) -> bool:
        return self.path is None and self.kind in (None, "stdlib")


def prepare(root: Path, name: str = "stdlib", origin: Origin = Origin(), progress: Silent = Silent()) -> Path:  # noqa: B008  # both are immutable
    """Write the dataset ``name`` under ``root`` and return its folder.

    The standard library's is kept where it is whole, and made anew where a sandbox would show its held-out text.
    ValueError when the origin is wrong, when a sandbox would show it or ``root``, or when another text or something
    else has the name; OSError when the dataset cannot be written.
    """
    refuse_name(name)
    home = root / name
    refuse_shown(f"--root: {root}", root)
    if origin.path is not None and origin.kind != "packages":  # of which nothing is held out
        refuse_shown(f"--from: {origin.path}", origin.path)
    if _stands(home, name, origin):
        return home
    refuse_taken(home, origin.path)
    source = open_source(origin.path, origin.kind, column=origin.column, dtype=origin.dtype)
    with _told_in_one_sentence(home), _scratch(root, name) as scratch:
        made = _write(scratch, name, source, origin, progress)
        _refuse_other_text(home, made, progress)
        if not is_whole(home):  # somebody else may have finished first
            _swap_in(scratch, home)
    return home


def _stands(home: Path, name: str, origin: Origin) -> bool:
    """Whether the dataset is there already. ValueError when something is there that must not be overwritten."""
    if origin.path is None and origin.kind is None and name != "stdlib":
        raise ValueError(f"--from: {name!r} has to be made of something; name a folder, or --format stdlib")
    if origin.path is None and origin.column is not None:
        raise ValueError("--column: the source text of Python has no columns; name a folder with --from")
    if origin.path is None and origin.dtype is not None:
        raise ValueError("--dtype: of files of tokens without a header; name their folder with --from")
    if origin.is_stdlib and origin.tokenizer is None:
        return is_whole(home)
    if is_there(home):
        raise ValueError(f"--name: {home} is there already; give another name, or remove it first")
    return False


def _write(scratch: Path, name: str, source: TextSource | TokenSource, origin: Origin, progress: Silent) -> Manifest:
    for note in source.notes:
        progress.say(note)
    facts = source.facts
    if isinstance(source, TextSource):
        encoder: Encoder | None = open_tokenizer(origin.tokenizer or "bytes", origin.separator)
        assert encoder is not None
        with _left_out_said(source, progress):
            written = write_texts(scratch, source, encoder, progress)
        if left_out := source.left_out.fact():
            facts = facts | {"left_out": left_out}
    else:
        encoder = _encoder_of_tokens(origin)
        marked = find_separator(source, encoder, origin.separator, progress)
        written = write_tokens(scratch, source, encoder, marked, progress)
    made = Manifest(name=name, source=facts, **written)
    _write_tokenizer(scratch, encoder)
    if encoder is not None and isinstance(source, TokenSource):
        progress.say(_beginning(scratch, made, encoder))
    made = overlap.measure(scratch, made, progress)
    _warn(made, progress)
    body = json.dumps(made.model_dump(mode="json"), indent=2, sort_keys=True).encode() + b"\n"
    for path in (scratch / "manifest.json", scratch / "train" / "manifest.json"):
        _write_durably(path, body)
    return made


@contextmanager
def _left_out_said(source: TextSource, progress: Silent) -> Iterator[None]:
    """Tells what was left out, also when the source cannot be used, since that may be why."""
    try:
        yield
    except ValueError:
        _say_left_out(source, progress)
        raise
    _say_left_out(source, progress)


def _say_left_out(source: TextSource, progress: Silent) -> None:
    if said := source.left_out.in_words():
        progress.say(said)


def _encoder_of_tokens(origin: Origin) -> Encoder | None:
    """The tokenizer that made a source's tokens, where a person named one. ValueError for ``bytes``."""
    if origin.tokenizer == "bytes":
        raise ValueError("--tokenizer: the source holds tokens, not bytes; name the tokenizer that made them, or none")
    return None if origin.tokenizer is None else open_tokenizer(origin.tokenizer, origin.separator)


def _beginning(scratch: Path, made: Manifest, encoder: Encoder) -> str:
    """A sentence with the first tokens as text, so that people see a wrong tokenizer, which may know all the ids."""
    ids = TokenArray(scratch / "train", made, "train").span(0, SHOWN_TOKENS)
    shown = decode(encoder.table, ids)
    return f"With this tokenizer the training text begins {shown!r}; if that is no text, name another."


def _write_tokenizer(scratch: Path, encoder: Encoder | None) -> None:
    if encoder is None:
        return
    _write_durably(scratch / "train" / TOKEN_BYTES, encoder.token_bytes.tobytes())
    if encoder.file is not None:
        _write_durably(scratch / TOKENIZER_FILE[encoder.about.kind], encoder.file)


def _warn(made: Manifest, progress: Silent) -> None:
    for split in HELD_OUT:
        found = made.splits[split].overlap
        if found and found.share > MUCH_OVERLAP:
            progress.say(
                f"Of the runs of {overlap.N} {found.unit} in {split}, {found.share:.1%} stand in the training text as"
                " well: a model may know them by heart, and its score flatters it."
            )


def _write_durably(path: Path, body: bytes) -> None:
    file = open(path, "wb")  # noqa: SIM115  # close_durably closes it
    file.write(body)
    close_durably(file, 0o644)


@contextmanager
def _scratch(root: Path, name: str) -> Iterator[Path]:
    """A folder beside the final one (same file system, so that a rename is atomic); gone afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    scratch.chmod(0o755)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # after a successful swap it is gone already


def _swap_in(scratch: Path, home: Path) -> None:
    """Rename the finished folder to its name. A damaged dataset that had the name is removed."""
    broken = scratch.with_name(scratch.name + ".broken")
    if home.exists():
        os.rename(home, broken)
    os.rename(scratch, home)
    shutil.rmtree(broken, ignore_errors=True)


def _refuse_other_text(home: Path, fresh: Manifest, progress: Silent) -> None:
    """ValueError where a damaged dataset of another text has the name: runs were measured on that text.

    A dataset whose held-out text a sandbox shows may be replaced: its runs prove nothing.
    """
    try:
        standing = load_manifest(home)
    except ValueError:
        return  # there is none, or it cannot be read: nothing was pinned to it
    if standing == fresh:
        return
    if stdlib.lies_open(standing.source):
        progress.say(f"{home}: made anew: what it held out lay open in the sandbox. Start new campaigns on it.")
        return
    python = standing.source.get("python")
    was = f" (Python {python}) cannot be made again by Python {platform.python_version()}" if python else " is another"
    raise ValueError(f"{home}: damaged, and its text{was}; remove the folder, and start campaigns on the new text")


@contextmanager
def _told_in_one_sentence(home: Path) -> Iterator[None]:
    """Words a full disk or a closed folder as one sentence; the kind of OSError stays."""
    try:
        yield
    except OSError as error:
        if error.filename and not str(error.filename).startswith(str(home.parent)):
            message = f"cannot read {error.filename}: {error.strerror}"
        else:
            message = f"cannot write the dataset to {home}: {error.strerror}; free space or name another --root"
        raise OSError(error.errno, message) from error
