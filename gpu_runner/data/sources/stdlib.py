"""The Python standard library's own source text: real, about 12 MB, and at hand on every machine.

It differs between Python versions, so two machines have the same dataset only when the manifest's hash agrees.

A sandbox shows the interpreter, and with it this text. So val and sealed are made only of modules that every sandbox
hides (``gpu_runner.sandbox.hidden``); the manifest names them, as ``held_out_of``. The watch split is no secret: a run
can read it while it trains.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources.source import Document, Facts, TextSource
from gpu_runner.data.splits import watched_or_trained
from gpu_runner.sandbox import hidden

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# encodings/ is one template filled in eighty times: on both sides of a split it would measure memory.
LEFT_OUT |= {"encodings"}
ENOUGH_BYTES = 400_000  # for each of val and sealed; the rest is trained on
FEWEST_BYTES = 160_000  # a score reads 131,072
TEXT, HELD_OUT_OF = "Python standard library", "held_out_of"


def open_source() -> TextSource:
    """Every module, sorted by path; without tests and installed packages. ValueError when too little can be hidden."""
    base = hidden.library()
    left_out = LeftOut()
    paths = [path for path in base.rglob("*.py") if _is_wanted(path, base, left_out)]
    paths.sort(key=lambda path: path.relative_to(base).as_posix())
    held_out = deal({path: path.read_bytes() for path in paths if module_of(path.relative_to(base)) in hidden.MODULES})
    facts: Facts = {"text": TEXT, "python": platform.python_version(), "num_files": len(paths)}
    modules = {module_of(path.relative_to(base)) for path in held_out}
    return TextSource(
        facts=facts | {HELD_OUT_OF: " ".join(sorted(modules))},
        num_bytes=sum(path.stat().st_size for path in paths),
        documents=lambda: _documents(paths, held_out),
        left_out=left_out,
    )


def module_of(relative: Path) -> str:
    """The name by which the module is imported, at the top level."""
    return relative.parts[0].removesuffix(".py")


def deal(texts: dict[Path, bytes]) -> dict[Path, str]:
    """Which files are val and which sealed: in the order of their hashes, to the split with less text.

    Until both have enough; equal files go to one split. ValueError when there is too little text.
    """
    dealt: dict[Path, str] = {}
    num_bytes = {"val": 0, "sealed": 0}
    seen: dict[bytes, str] = {}
    for digest, path in sorted((sha256(text).digest(), path) for path, text in texts.items()):
        shorter = min(num_bytes, key=lambda split: num_bytes[split])
        if digest not in seen and num_bytes[shorter] >= ENOUGH_BYTES:
            break
        split = seen.setdefault(digest, shorter)
        dealt[path] = split
        num_bytes[split] += len(texts[path])
    if min(num_bytes.values()) < FEWEST_BYTES:
        raise ValueError(
            f"--format stdlib: of the modules that a sandbox can hide this Python has {sum(map(len, texts.values())):,}"
            f" bytes, too few for two held-out parts of {FEWEST_BYTES:,}; use a Python with its whole standard library"
            " (Debian: apt install libpython3-stdlib), or give text of your own with --from"
        )
    return dealt


def lies_open(facts: Facts) -> str:
    """The modules whose text a dataset with these facts holds out, if a sandbox does not hide all of them; else ""."""
    is_ours = facts.get("text") == TEXT or facts.get("format") == "packages"
    named = str(facts.get(HELD_OUT_OF, "any module" if is_ours else ""))
    return "" if set(named.split()) <= hidden.MODULES else named


def _documents(paths: Sequence[Path], held_out: dict[Path, str]) -> Iterator[Document]:
    for path in paths:
        text = path.read_bytes()
        yield Document(name=path.name, text=text, split=held_out.get(path) or watched_or_trained(text))


def _is_wanted(path: Path, base: Path, left_out: LeftOut) -> bool:
    folders = LEFT_OUT & set(path.relative_to(base).parts)
    if "site-packages" in folders or "dist-packages" in folders:
        return False  # is not of the standard library
    if folders:
        left_out.file("module(s) of tests and character tables", path)
    # _sysconfigdata*.py is written by the build and names the machine it was built on.
    elif path.name.startswith("_sysconfigdata"):
        left_out.file("module(s) that the build wrote", path)
    else:
        return True
    return False
