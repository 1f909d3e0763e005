"""Reads a folder of text: every file is a document; of JSON, every line or item is one, in its field "text".

The suffix tells what a file is, packed (.gz, .zst, .xz, .bz2) or not. Markup, tables and source code are text; a
sentence says how many files of which kind were taken. What only looks like text, such as a PDF, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources import marks, named, strangers
from gpu_runner.data.sources.compressed import is_packed, kind_of, num_bytes_of, unpacked
from gpu_runner.data.sources.folder import files_below
from gpu_runner.data.sources.json_text import TEXT, Reading, are_rows, documents_of_file, documents_of_lines
from gpu_runner.data.sources.parts import parts_of
from gpu_runner.data.sources.source import Document, Facts, TextSource

LINES = frozenset({".jsonl", ".ndjson", ".jsonlines", ".jl"})
ROWS = LINES | {".json"}  # of which one file is many documents
# A document's folder may be called held-out, too.
HELD_OUT_WORDS = named.HELD_OUT_WORDS | named.LONE_WORDS | {"held", "hold", "out"}
Parts = tuple[str, ...]
PLAIN = ("", ".txt")  # which may be anything
BY_HASH = "Held out: documents of every file, by their hash, since no name says what is held out."
FEW = 30  # documents: dealt by their hashes, they leave the watch split empty in 1 of 150 cases
ARCHIVE = "is an archive: unpack it into the folder"
OFFICE = "is a document of an office program: save it as plain text"
REFUSED = {
    ".arrow": "is an Arrow file: write it as parquet, such as with datasets.load_from_disk(FOLDER).to_parquet(FILE)",
    ".feather": "is an Arrow file: write it as parquet",
    ".parquet": "is parquet, of which --format nanochat reads folders",
    ".pdf": "is a PDF: take its text out, such as with pdftotext",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz", ".txz", ".7z", ".rar", ".epub", ".jar", ".whl"), ARCHIVE),
    **dict.fromkeys((".docx", ".doc", ".odt", ".xlsx", ".xls", ".ods", ".pptx", ".ppt", ".rtf"), OFFICE),
    **dict.fromkeys((".lz4", ".lzo", ".br", ".z"), "is packed in a way that is not read here: unpack it"),
}
# What a file begins with, whatever it is called.
BEGINNINGS = (
    (strangers.POINTER, strangers.NOT_FETCHED),
    (b"%PDF-", REFUSED[".pdf"]),
    (b"PK\x03\x04", ARCHIVE + ", or if it is a document, save that as plain text"),
    (b"PAR1", "is parquet: name it .parquet, or give the folder whose links name it so (snapshots in the Hub's cache)"),
    (b"ARROW1", REFUSED[".arrow"]),
    (b"{\\rtf", OFFICE),
    (b"\x1f\x8b", "is packed with gzip: give it the suffix .gz"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstandard: give it the suffix .zst"),
    (b"\xfd7zXZ\0", "is packed with xz: give it the suffix .xz"),
    (b"\xff\xfe\0\0", "is UTF-32: convert it to UTF-8, such as with iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "is UTF-16: convert it to UTF-8, such as with iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "is UTF-16: convert it to UTF-8, such as with iconv -f UTF-16 -t UTF-8"),
)
OF_THE_HUB = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
ABOUT = ("readme", "license", "licence", "copying", "notice", "citation", "md5sums", "sha256sums", "checksums")
CHECKSUMS = frozenset({".md5", ".sha1", ".sha256", ".sha512"})


def open_source(folder: Path, column: str | None = None) -> TextSource:
    """All files below ``folder`` but hidden ones, sorted by path. ValueError when there is none, or one is not text."""
    left_out = LeftOut()
    found = files_below(folder, left_out)
    paths = _wanted(found.paths, left_out)
    if not paths:
        raise ValueError(f"--from: {folder} holds no file of text. {left_out.in_words()}".strip())
    for path in paths:
        if what := REFUSED.get(kind_of(path)):
            if is_packed(path):
                what = f"is packed {kind_of(path).removeprefix('.')}: unpack it"
            raise ValueError(f"{path}: {what}, or take it out of the folder")
    if column is not None and not any(kind_of(path) in ROWS for path in paths):
        raise ValueError(f"--column: {folder} holds neither parquet nor JSON, so nothing in it has columns")
    plan = named.plan(folder, paths, _read_as(folder, paths))
    held_out = set(plan.held_out)
    by = {
        is_held: Reading(column=column or TEXT, left_out=left_out, held_out=is_held if held_out else None)
        for is_held in (True, False)
    }
    cut = _few(plan.held_out)
    facts: Facts = {"format": "text", "num_files": len(paths)}
    return TextSource(
        facts=facts | ({"column": column} if column else {}),
        num_bytes=sum(map(num_bytes_of, paths)),
        documents=lambda: (
            document for path in paths for document in _documents(path, by[path in held_out], is_cut=path in cut)
        ),
        notes=(*found.notes, _kinds(folder, paths), *(plan.notes or (BY_HASH,)), *_told(folder, cut)),
        left_out=left_out,
    )


def _wanted(paths: Sequence[Path], left_out: LeftOut) -> list[Path]:
    """The files without those that describe the data. Where each file is a document, a README is a document."""
    has_rows = any(kind_of(path) in ROWS and path.name not in OF_THE_HUB for path in paths)
    wanted = []
    for path in paths:
        is_about = path.stem.lower() in ABOUT or path.suffix.lower() in CHECKSUMS
        if path.name in OF_THE_HUB or (has_rows and is_about and kind_of(path) not in ROWS):
            left_out.file("file(s) about the data", path)
        else:
            wanted.append(path)
    return wanted


def _read_as(folder: Path, paths: Sequence[Path]) -> dict[Path, PurePath]:
    """For documents of one file each, the names by which ``named`` plans them: only those with a counterpart count.

    The name of a document is a title: ``the-last-test.txt`` says nothing about a split. But ``valid.txt`` does where
    ``train.txt`` stands beside it, and ``test/`` where ``train/`` does. Other names become ``-``. A file of rows is a
    shard, which ``named`` plans by its own name.
    """
    below = {path: path.parts[len(folder.parts) :] for path in paths}
    names = {parts[:depth] for parts in below.values() for depth in range(1, len(parts) + 1)}
    words = {name: tuple(named.words_of(name[-1])) for name in names}
    trained = {place for name in names if (place := _place(name, words[name], named.TRAIN_WORDS))}
    held = {place for name in names if (place := _place(name, words[name], HELD_OUT_WORDS))}
    pairs = trained & held
    heard = {
        name
        for name in names
        if pairs and any(_place(name, words[name], split) in pairs for split in (named.TRAIN_WORDS, HELD_OUT_WORDS))
    }
    return {
        path: PurePath(*(part if parts[: depth + 1] in heard else "-" for depth, part in enumerate(parts)))
        for path, parts in below.items()
        if kind_of(path) not in ROWS
    }


def _place(name: Parts, said: Parts, words: frozenset[str]) -> tuple[Parts, Parts] | None:
    """The folder of a name that has one of ``words``, and its other words; None for a name without one."""
    if words.isdisjoint(said):
        return None
    return name[:-1], tuple(word for word in said if word not in words)


def _kinds(folder: Path, paths: Sequence[Path]) -> str:
    """``Read from texts: 2 .jsonl, a document in each line; 600 .txt and 3 .md, each a document.``"""
    counts = Counter(map(kind_of, paths))
    parts = [
        _listed({kind: num for kind, num in counts.items() if kind in LINES}, "a document in each line"),
        _listed({kind: num for kind, num in counts.items() if kind in ROWS - LINES}, "a document in each line or item"),
        _listed({kind: num for kind, num in counts.items() if kind not in ROWS}, "each file a document"),
    ]
    return f"Read from {folder}: {'; '.join(filter(None, parts))}."


def _listed(counts: dict[str, int], how: str) -> str:
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    named_kinds = (f"{num:,} {kind or 'without a suffix'}" for kind, num in most)
    return f"{', '.join(named_kinds)}, {how}" if most else ""


def _few(held_out: Sequence[Path]) -> Sequence[Path]:
    """The held-out files where they are so few documents that dealing by hash could leave a split empty; else none."""
    is_few = len(held_out) < FEW and not any(kind_of(path) in ROWS or _has_texts(path) for path in held_out)
    return held_out if is_few else ()


def _has_texts(path: Path) -> bool:
    """Whether a plain text file holds many documents, by its first MiB."""
    if kind_of(path) not in PLAIN:
        return False
    with unpacked(path) as file:
        return marks.has_texts(file.read(marks.LOOKED_AT_BYTES))


def _told(folder: Path, cut: Sequence[Path]) -> Iterator[str]:
    if cut:
        why = "for watch, val and sealed, each at the end of a line: they are too few to be dealt as a whole"
        yield named.told("Cut in three", [path.relative_to(folder).as_posix() for path in cut], why)


def _documents(path: Path, by: Reading, *, is_cut: bool) -> Iterator[Document]:
    """The documents of one file. ValueError when it is not text."""
    kind = kind_of(path)
    if kind in ROWS or is_packed(path):
        strangers.refuse_pointer(path)
    with unpacked(path) as file:
        if kind in LINES:
            yield from documents_of_lines(path, file, by)
        elif kind in ROWS:
            yield from documents_of_file(path, file, by)
        elif is_cut:
            yield from parts_of(str(path), _checked(path, file.read()))
        elif kind in PLAIN:
            for name, text in marks.texts_of(str(path), _checked(path, file.read()), by.left_out):
                yield Document(name=name, text=text, held_out=by.held_out)
        else:
            yield Document(name=str(path), text=_checked(path, file.read()), held_out=by.held_out)


def _checked(path: Path, text: bytes) -> bytes:
    for beginning, said in BEGINNINGS:
        if text.startswith(beginning):
            raise ValueError(f"{path}: {said}, or take it out of the folder")
    if b"\0" in text:
        raise ValueError(f"{path}: holds a 0 byte, so it is not text; take it out of the folder")
    if kind_of(path) in PLAIN and text.startswith(b"{") and are_rows(text.split(b"\n", 2)[:2]):
        raise ValueError(f"{path}: holds JSON Lines: name it .jsonl, or .log where its JSON is the text")
    return text
