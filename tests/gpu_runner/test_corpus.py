"""Alice prepares the corpus that her runs learn from and are measured by."""

from __future__ import annotations

import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gpu_runner import corpus
from gpu_runner.__main__ import main


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.prepare(tmp_path_factory.mktemp("corpus"))


def test_two_machines_with_the_same_python_make_the_same_dataset(prepared: Path, tmp_path: Path) -> None:
    elsewhere = corpus.prepare(tmp_path / "another" / "root")
    assert corpus.manifest_sha256(elsewhere) == corpus.manifest_sha256(prepared)


def test_preparing_again_touches_nothing(tmp_path: Path) -> None:
    home = corpus.prepare(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    corpus.prepare(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["stdlib"]


def test_every_module_is_in_exactly_one_split_byte_for_byte(prepared: Path) -> None:
    documents = [
        document
        for split in corpus.SPLITS
        for document in corpus.shard(prepared, split).read_bytes().removesuffix(b"\0").split(b"\0")
    ]
    library = Path(sysconfig.get_paths()["stdlib"])
    assert documents.count((library / "json" / "decoder.py").read_bytes()) == 1
    assert len(documents) == corpus.load_manifest(prepared).source["num_files"] > 500
    assert not any(b"generated from 'MAPPINGS" in document for document in documents)  # twins but for a table
    held_out = corpus.load_manifest(prepared).splits["val"].num_bytes
    assert 200_000 < held_out < 1_200_000


def test_held_out_text_is_closed_to_other_users(prepared: Path) -> None:
    assert (prepared / "val").stat().st_mode & 0o777 == 0o700
    assert (prepared / "sealed").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (prepared / "train").iterdir()} == {"train.bin", "watch.bin", "manifest.json"}


@pytest.mark.parametrize("split", corpus.SPLITS)
def test_verify_names_the_file_that_was_changed_and_prepare_repairs_it(tmp_path: Path, split: str) -> None:
    home = corpus.prepare(tmp_path)
    path = corpus.shard(home, split)
    body = bytearray(path.read_bytes())
    body[1000] ^= 1
    path.write_bytes(body)
    with pytest.raises(ValueError) as wrong:
        corpus.verify(home)
    assert str(path) in str(wrong.value)
    corpus.verify(corpus.prepare(tmp_path))


def test_another_text_never_takes_the_name_of_the_one_that_runs_were_measured_on(tmp_path: Path) -> None:
    home = corpus.prepare(tmp_path)
    manifest = home / "manifest.json"
    ours = corpus.load_manifest(home).source["python"]
    manifest.write_text(manifest.read_text().replace(str(ours), "3.9.1"))
    before = manifest.read_bytes()
    with pytest.raises(ValueError, match=r"Python 3\.9\.1"):
        corpus.prepare(tmp_path)
    assert manifest.read_bytes() == before


def test_a_missing_dataset_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data prepare"):
        corpus.verify(tmp_path / "stdlib")


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    argv = [sys.executable, "-m", "gpu_runner", "data", "prepare", "--root", str(tmp_path)]
    attempt = subprocess.run(argv, preexec_fn=small_files_only, capture_output=True, text=True, timeout=60)
    assert attempt.returncode == 1
    assert "free space" in attempt.stderr
    assert len(attempt.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_alice_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--root", str(tmp_path)]
    assert main(["data", "prepare", *where]) == 0
    assert corpus.manifest_sha256(tmp_path / "stdlib") in capsys.readouterr().out
    assert main(["data", "verify", *where]) == 0
    corpus.shard(tmp_path / "stdlib", "val").unlink()
    assert main(["data", "verify", *where]) == 1
    assert "val.bin: missing" in capsys.readouterr().err
    assert main(["data", "prepare", "--name", "wikipedia", *where]) == 1
    assert "'wikipedia'" in capsys.readouterr().err
