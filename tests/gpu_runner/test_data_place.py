"""Alice says where her dataset shall stand: whatever else she keeps there is safe."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gpu_runner.__main__ import main
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.progress import Silent
from gpu_runner.data.verify import verify
from tests.gpu_runner.texts import write_texts


def everything_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize(("name", "source"), [("texts", "texts"), ("texts", "texts/deep")])
def test_a_dataset_never_takes_the_place_of_what_it_is_made_of(tmp_path: Path, name: str, source: str) -> None:
    folder = write_texts(tmp_path / source)
    before = everything_below(tmp_path)
    with pytest.raises(ValueError, match=r"--name: .*texts holds what it would be made of; give another name"):
        prepare(tmp_path, name, Origin(path=folder))
    assert everything_below(tmp_path) == before


def test_what_alice_keeps_under_the_name_is_not_thrown_away(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    for name in ("notes/thesis.txt", "mine/train/a.txt", "other/manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("mine alone")
    (tmp_path / "file").write_text("mine alone")
    before = everything_below(tmp_path)
    for name, said in (("notes", "no dataset"), ("mine", "no dataset"), ("other", "no dataset"), ("file", "a file")):
        with pytest.raises(ValueError, match=rf"--name: .*{name} is .*{said}; give another name, or move it"):
            prepare(tmp_path, name, Origin(path=folder))
    assert everything_below(tmp_path) == before


def test_an_empty_folder_may_wait_under_the_name(tmp_path: Path) -> None:
    (tmp_path / "root" / "mine").mkdir(parents=True)
    verify(prepare(tmp_path / "root", "mine", Origin(path=write_texts(tmp_path / "texts"))))


def test_a_damaged_dataset_is_mended_but_not_with_what_lies_in_it(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    home = prepare(tmp_path / "root", "mine", Origin(path=folder))
    (home / "manifest.json").write_text("{")
    (home / "notes.txt").write_text("mine alone")
    with pytest.raises(ValueError, match=r"is a damaged dataset with something else in it, notes\.txt; move that out"):
        prepare(tmp_path / "root", "mine", Origin(path=folder))
    (home / "notes.txt").unlink()
    verify(prepare(tmp_path / "root", "mine", Origin(path=folder)))


def test_a_dataset_is_not_written_into_its_own_source_nor_read_from_one(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    with pytest.raises(ValueError, match=r"--root: .*/out/mine would lie in .*texts, of which it is made"):
        prepare(folder / "out", "mine", Origin(path=folder))
    assert not (folder / "out").exists()
    home = prepare(tmp_path / "root", "mine", Origin(path=folder))
    home.rename(folder / "mine")
    for kind in (None, "text", "nanogpt"):
        with pytest.raises(ValueError, match=r"is the prepared dataset 'mine' already: .* move it out of the folder"):
            prepare(tmp_path / "root", "again", Origin(path=folder, kind=kind))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "ü", "x" * 65, "x\n"])
def test_a_name_that_cannot_be_one_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"--name: .* cannot be a dataset's name"):
        prepare(tmp_path / "root", name, Origin(path=tmp_path / "nowhere"))
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_it_finds_nothing_half_written(
    tmp_path: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopping(Silent):
        def advance(self, num_bytes: int) -> None:
            assert any((tmp_path / "root").iterdir())
            signal.raise_signal(how)

    monkeypatch.setattr("gpu_runner.data.progress.for_people", Stopping)
    before = signal.getsignal(signal.SIGTERM)
    folder = write_texts(tmp_path / "texts")
    made = ["--name", "mine", "--from", str(folder), "--root", str(tmp_path / "root")]
    assert main(["data", "prepare", *made]) == 130
    assert capsys.readouterr().err == "data: stopped; nothing was written\n"
    assert not any((tmp_path / "root").iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_root_that_is_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("mine alone")
    with pytest.raises(ValueError, match=r"--root: .*root is a file; name a folder"):
        prepare(tmp_path / "root", "mine", Origin(path=write_texts(tmp_path / "texts")))
