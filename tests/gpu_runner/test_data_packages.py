"""Alice measures a GPU with the text of the packages that are installed on it, and the manifest says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_runner.data.manifest import Manifest, load_manifest
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.sources import packages, stdlib
from gpu_runner.data.verify import verify
from gpu_runner.sandbox import hidden
from tests.gpu_runner.datasets import Heard


def install(folder: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """As pip leaves a package: its files, and a folder that lists them."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "RECORD").write_text("".join(f"{name}/{file},,\n" for file in files))
    for file, body in files.items():
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / file).write_bytes(body)


def num_documents(made: Manifest) -> int:
    return sum(split.num_documents or 0 for split in made.splits.values())


def modules(num: int) -> dict[str, bytes]:
    return {f"m{i}.py": f"# module {i}\nVALUE = {i}\n".encode() for i in range(num)}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    others = {"fast.so": b"\x7fELF\0\0", "data.csv": b"1,2\n", "empty.py": b"\n", "broken.py": b"x = '\0'\n"}
    install(folder, "alpha", "1.2", modules(150) | others)
    install(folder, "beta", "0.3", {f"deep/{name}": body for name, body in modules(150).items()})
    (folder / "beta" / "left_behind.py").write_text("# of no package\n")
    return folder


def test_the_manifest_names_every_package_and_its_version(site: Path, tmp_path: Path) -> None:
    library = load_manifest(prepare(tmp_path, "library", Origin(kind="stdlib")))
    made = load_manifest(prepare(tmp_path, "here", Origin(path=site, kind="packages")))
    assert made.source["format"] == "packages"
    assert made.source["packages"] == "alpha 1.2, beta 0.3"
    assert made.source["num_files"] == 302 + int(library.source["num_files"])
    assert num_documents(made) == 300 + num_documents(library)


def test_modules_that_are_left_out_are_said(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden, "places", lambda: (site / "alpha" / "m1.py",))
    (site / "beta" / "deep" / "m3.py").unlink()
    (site / "gamma-1.dist-info").mkdir()
    (site / "gamma-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gamma\nVersion: 1\n")
    heard = Heard()
    home = prepare(tmp_path, "here", Origin(path=site, kind="packages"), heard)
    said = heard.one("Left out: ")
    for part in (
        f"1 empty module ({site}/alpha/empty.py)",
        f"1 module with a 0 byte ({site}/alpha/broken.py)",
        f"1 module that every sandbox hides ({site}/alpha/m1.py)",
        f"1 module listed and not there ({site}/beta/deep/m3.py)",
        "1 package without a list of files (gamma)",
    ):
        assert part in said, said
    assert "left_out" not in load_manifest(home).source


def test_nothing_is_held_out_of_what_a_sandbox_shows(site: Path, tmp_path: Path) -> None:
    library = load_manifest(prepare(tmp_path, "library", Origin(kind="stdlib")))
    home = prepare(tmp_path, "here", Origin(path=site, kind="packages"))
    made = load_manifest(home)
    for split in ("val", "sealed"):
        assert made.splits[split].shards == library.splits[split].shards
    assert verify(home) == made
    lies_open = made.source | {"held_out_of": "smtplib json"}
    assert stdlib.lies_open(lies_open) == "smtplib json"


def test_a_copy_of_a_hidden_module_is_not_trained_on_either(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden, "places", lambda: (site / "alpha" / "m1.py",))
    documents = packages.open_source(site).documents()
    names = {document.name for document in documents}
    assert str(site / "alpha" / "m2.py") in names
    assert str(site / "alpha" / "m1.py") not in names


def test_a_folder_without_packages_makes_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="--from: no package with source text is installed in"):
        prepare(tmp_path, "here", Origin(path=tmp_path / "empty", kind="packages"))
    assert not (tmp_path / "here").exists()


def test_a_dataset_of_packages_needs_a_name_of_its_own(tmp_path: Path) -> None:
    """Under the standard library's name it would be another text for every campaign on it."""
    prepare(tmp_path)
    with pytest.raises(ValueError, match="is there already"):
        prepare(tmp_path, "stdlib", Origin(kind="packages"))
