"""Text to train on and text to be measured by: prepared once, pinned by a manifest.

    ROOT/<name>/manifest.json
                train/train.bin      what runs learn from       mounted in the training sandbox
                train/watch.bin      their own live curve       mounted in the training sandbox
                train/manifest.json  a copy, for the harness    mounted in the training sandbox
                val/val.bin          read by the scorer only    folder 0700, mounted nowhere
                sealed/sealed.bin    read at promotion only     folder 0700, mounted nowhere

The default corpus is the Python standard library's own source text: at hand on every machine,
about 12 MB, real. Every file is one document, as raw bytes, followed by one 0 byte. A document's
split follows from the sha256 of its bytes, so twins never stand on both sides of a split.

The text differs between Python versions, so two machines agree only when ``manifest_sha256`` does.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from gpu_runner.contract import Wire, canonical_json

SPLITS = ("train", "watch", "val", "sealed")
FOLDER = {"train": "train", "watch": "train", "val": "val", "sealed": "sealed"}
# Upper bounds, in thousandths of the hash space: watch 2 %, val 6 %, sealed 5 %, train the rest.
SHARES = (("watch", 20), ("val", 80), ("sealed", 130), ("train", 1000))
SEPARATOR = b"\0"
NOT_CORPUS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# encodings/ is one template filled in eighty times: on both sides of a split it would measure memory.
NOT_CORPUS |= {"encodings"}


class Split(Wire):
    """One shard: how many bytes, how many documents, and the hash of the whole file."""

    num_bytes: int
    num_documents: int
    sha256: str


class Manifest(Wire):
    """What a dataset is. Holds no local path: the same text gives the same manifest anywhere."""

    name: str
    kind: str  # "bytes": one token is one byte
    vocab: int
    separator: str  # what stands behind every document, in words
    source: dict[str, str | int]
    splits: dict[str, Split]


def prepare(root: Path, name: str = "stdlib") -> Path:
    """Write the corpus under ``root`` and return its folder; one that is whole already is left alone.

    Raises ValueError when another text stands under the name, OSError when it cannot be written.
    """
    if name != "stdlib":
        raise ValueError(f"name: no corpus is called {name!r}; the one that can be prepared is 'stdlib'")
    home = root / name
    if (home / "manifest.json").exists() and _is_whole(home):
        return home
    documents = list(_standard_library())
    with _told_in_one_sentence(home), _scratch(root, name) as scratch:
        manifest = _write(scratch, name, documents)
        _refuse_other_text(home, manifest)
        if not _is_whole(home):  # somebody else may have finished first
            _swap_in(scratch, home)
    return home


def load_manifest(home: Path) -> Manifest:
    """The manifest of the dataset in ``home``. Raises ValueError when it is missing or malformed."""
    path = home / "manifest.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: no dataset here; run `python -m gpu_runner data prepare`") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a manifest: {error}") from error


def manifest_sha256(home: Path) -> str:
    """What a run pins its dataset by: sha256 (hex) of the manifest's canonical JSON."""
    return sha256(canonical_json(load_manifest(home).model_dump(mode="json"))).hexdigest()


def verify(home: Path) -> Manifest:
    """Hash every shard again. Raises ValueError that names the first wrong file."""
    manifest = load_manifest(home)
    for split, expected in manifest.splits.items():
        path = shard(home, split)
        if not path.exists():
            raise ValueError(f"{path}: missing; run `python -m gpu_runner data prepare`")
        if file_sha256(path) != expected.sha256:
            raise ValueError(f"{path}: is not what the manifest says; remove the folder and prepare it again")
    copy = home / "train" / "manifest.json"
    if not copy.exists() or copy.read_bytes() != (home / "manifest.json").read_bytes():
        raise ValueError(f"{copy}: is not a copy of the manifest; run `python -m gpu_runner data prepare`")
    return manifest


def shard(home: Path, split: str) -> Path:
    """Where a split's bytes lie."""
    return home / FOLDER[split] / f"{split}.bin"


# --- the standard library -------------------------------------------------------------------


def _standard_library() -> Iterator[tuple[str, bytes]]:
    """Relative path and bytes of every module, sorted by path; without tests and installed packages."""
    base = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(base.rglob("*.py"), key=lambda path: path.relative_to(base).as_posix())
    for path in paths:
        relative = path.relative_to(base)
        # _sysconfigdata*.py is written by the build and names the machine it was built on.
        if not NOT_CORPUS & set(relative.parts) and not path.name.startswith("_sysconfigdata"):
            yield relative.as_posix(), path.read_bytes()


def _split_of(document: bytes) -> str:
    place = int(sha256(document).hexdigest()[:8], 16) % 1000
    return next(split for split, bound in SHARES if place < bound)


# --- writing ----------------------------------------------------------------------------------


def _write(scratch: Path, name: str, documents: list[tuple[str, bytes]]) -> Manifest:
    by_split: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    for _, text in documents:
        by_split[_split_of(text)].append(text)
    for folder, mode in (("train", 0o755), ("val", 0o700), ("sealed", 0o700)):
        (scratch / folder).mkdir()
        (scratch / folder).chmod(mode)
    manifest = Manifest(
        name=name,
        kind="bytes",
        vocab=256,
        separator="one 0 byte behind every document",
        source={"text": "Python standard library", "python": platform.python_version(), "num_files": len(documents)},
        splits={split: _write_shard(shard(scratch, split), texts) for split, texts in by_split.items()},
    )
    body = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True).encode() + b"\n"
    for path in (scratch / "manifest.json", scratch / "train" / "manifest.json"):
        _write_durably(path, body, 0o644)
    return manifest


def _write_shard(path: Path, documents: list[bytes]) -> Split:
    body = b"".join(text + SEPARATOR for text in documents)
    _write_durably(path, body, 0o644 if path.parent.name == "train" else 0o600)
    return Split(num_bytes=len(body), num_documents=len(documents), sha256=sha256(body).hexdigest())


def _write_durably(path: Path, body: bytes, mode: int) -> None:
    with open(path, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(mode)


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
    """Give the finished folder its name. A broken one that stood there goes out with the scratch folder."""
    broken = scratch.with_name(scratch.name + ".broken")
    if home.exists():
        os.rename(home, broken)
    os.rename(scratch, home)
    shutil.rmtree(broken, ignore_errors=True)


def _refuse_other_text(home: Path, fresh: Manifest) -> None:
    """Repair what is damaged, but never put another text under a name that runs were measured on."""
    try:
        standing = load_manifest(home)
    except ValueError:
        return  # there is none, or it cannot be read: nothing was pinned to it
    if standing != fresh:
        python = standing.source.get("python")
        raise ValueError(
            f"{home}: damaged, and its text (Python {python}) cannot be made again by Python"
            f" {platform.python_version()}; remove the folder, and start campaigns on the new text"
        )


def _is_whole(home: Path) -> bool:
    try:
        verify(home)
    except ValueError:
        return False
    return True


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file of any size."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _told_in_one_sentence(home: Path) -> Iterator[None]:
    """Full disks and forbidden folders, said plainly; the kind of OSError stays."""
    try:
        yield
    except OSError as error:
        message = f"cannot write the corpus to {home}: {error.strerror}; free space or name another --root"
        raise OSError(error.errno, message) from error
