"""Alice prepares what her runs learn from and are measured by: the standard library, or text of her own."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from gpu_runner.__main__ import main
from gpu_runner.data import splits
from gpu_runner.data.find import find_dataset
from gpu_runner.data.manifest import HELD_OUT, SPLITS, Manifest, load_manifest, manifest_sha256, shard_paths
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.progress import Bar, Lines
from gpu_runner.data.sources import stdlib
from gpu_runner.data.verify import refuse_open, verify
from gpu_runner.sandbox import hidden
from gpu_runner.scorer.score import open_held_out
from tests.gpu_runner.datasets import Heard, read
from tests.gpu_runner.texts import document, tokens_of, write_llmc, write_rank_file, write_texts, write_tokenizer_json


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("datasets"))


def only_shard(home: Path, split: str) -> Path:
    (path,) = shard_paths(home, load_manifest(home), split)
    return path


# --- the standard library ----------------------------------------------------------------------


def test_two_machines_with_the_same_python_make_the_same_dataset(prepared: Path, tmp_path: Path) -> None:
    elsewhere = prepare(tmp_path / "another" / "root")
    assert manifest_sha256(elsewhere) == manifest_sha256(prepared)
    assert str(tmp_path) not in (elsewhere / "manifest.json").read_text()


def test_preparing_again_touches_nothing(tmp_path: Path) -> None:
    home = prepare(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    prepare(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["stdlib"]


def test_every_module_is_in_exactly_one_split_byte_for_byte(prepared: Path) -> None:
    documents = [
        document
        for split in SPLITS
        for document in only_shard(prepared, split).read_bytes().removesuffix(b"\0").split(b"\0")
    ]
    library = Path(sysconfig.get_paths()["stdlib"])
    assert documents.count((library / "json" / "decoder.py").read_bytes()) == 1
    manifest = load_manifest(prepared)
    assert len(documents) == manifest.source["num_files"] > 500
    assert len(documents) == sum(split.num_documents or 0 for split in manifest.splits.values())
    assert not any(b"generated from 'MAPPINGS" in document for document in documents)  # twins but for a table
    assert 200_000 < manifest.splits["val"].num_tokens < 1_200_000


def test_the_modules_that_are_left_out_are_said(tmp_path: Path) -> None:
    heard = Heard()
    prepare(tmp_path, progress=heard)
    (said,) = (said for said in heard.said if said.startswith("Left out: "))
    assert re.search(r"[\d,]+ modules of tests and character tables \(first: .*\.py\)", said), said


def documents_of(home: Path, split: str) -> set[bytes]:
    return set(only_shard(home, split).read_bytes().removesuffix(b"\0").split(b"\0"))


def test_only_what_every_sandbox_hides_is_held_out(prepared: Path) -> None:
    """A score reads 131,072 bytes of val, and the sealed split as many."""
    hideable = {path.read_bytes() for path in hidden.own_files()}
    manifest = load_manifest(prepared)
    for split in ("val", "sealed"):
        assert documents_of(prepared, split) <= hideable
        assert manifest.splits[split].num_tokens > 2 * 131_072
    assert documents_of(prepared, "val").isdisjoint(documents_of(prepared, "sealed"))
    assert set(str(manifest.source["held_out_of"]).split()) <= hidden.MODULES
    assert len(documents_of(prepared, "train") & hideable) > 20, "the rest of them is trained on"


def test_twins_are_dealt_to_one_side_and_both_sides_get_the_same() -> None:
    texts = {Path(f"{number}.py"): b"%05d" % (number // 2) * 5_000 for number in range(80)}
    dealt = stdlib.deal(texts)
    num_bytes = {split: sum(len(texts[path]) for path in dealt if dealt[path] == split) for split in ("val", "sealed")}
    assert all(stdlib.ENOUGH_BYTES <= num < stdlib.ENOUGH_BYTES + 60_000 for num in num_bytes.values())
    assert {dealt.get(Path(f"{n}.py")) == dealt.get(Path(f"{n + 1}.py")) for n in range(0, 80, 2)} == {True}
    assert stdlib.deal(dict(reversed(texts.items()))) == dealt, "in whatever order they come"


def test_a_python_without_its_standard_library_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"has 300,000 bytes, too few .* libpython3-stdlib.* --from"):
        stdlib.deal({Path("turtle.py"): b"a" * 150_000, Path("smtplib.py"): b"b" * 150_000})


def make_open(home: Path, *modules: str) -> str:
    """As datasets were made before: held out of anything; or of these modules. The manifest's hash."""
    for path in (home / "manifest.json", home / "train" / "manifest.json"):
        body = json.loads(path.read_text())
        del body["source"]["held_out_of"]
        body["source"] |= {"held_out_of": " ".join(modules)} if modules else {}
        path.write_text(json.dumps(body))
    return manifest_sha256(home)


@pytest.mark.parametrize("modules", [(), ("smtplib", "json")])
def test_a_dataset_whose_held_out_text_lies_open_is_refused_until_it_is_made_anew(
    tmp_path: Path, modules: tuple[str, ...]
) -> None:
    home = prepare(tmp_path)
    before = make_open(home, *modules)
    for refused in (
        lambda: verify(home),
        lambda: refuse_open(home),
        lambda: find_dataset("stdlib", tmp_path, tmp_path),
        lambda: open_held_out(home, "val"),
    ):
        with pytest.raises(ValueError, match=r"which no sandbox hides.*data prepare.*new campaigns"):
            refused()
    heard = Heard()
    verify(prepare(tmp_path, progress=heard))
    assert manifest_sha256(home) != before
    assert "made anew: what it held out lay open" in heard.said[-1]


def test_alice_cannot_hold_out_what_a_sandbox_shows(tmp_path: Path) -> None:
    shown = Path(np.__file__).parent
    with pytest.raises(ValueError, match=r"--from: .*numpy: lies under .*, which every sandbox shows"):
        prepare(tmp_path, "packages", Origin(path=shown))
    (tmp_path / "link").symlink_to(shown)
    with pytest.raises(ValueError, match="which every sandbox shows"):
        prepare(tmp_path, "packages", Origin(path=tmp_path / "link"))
    with pytest.raises(ValueError, match="--root: /usr/share/datasets: lies under /usr"):
        prepare(Path("/usr/share/datasets"))
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_held_out_text_is_closed_to_other_users(prepared: Path) -> None:
    assert (prepared / "val").stat().st_mode & 0o777 == 0o700
    assert (prepared / "sealed").stat().st_mode & 0o777 == 0o700
    beside = {"train-00000.bin", "watch-00000.bin", "token_bytes.bin", "manifest.json"}
    assert {path.name for path in (prepared / "train").iterdir()} == beside


@pytest.mark.parametrize("split", SPLITS)
def test_verify_names_the_file_that_was_changed_and_prepare_repairs_it(tmp_path: Path, split: str) -> None:
    home = prepare(tmp_path)
    path = only_shard(home, split)
    body = bytearray(path.read_bytes())
    body[1000] ^= 1
    path.write_bytes(body)
    with pytest.raises(ValueError) as wrong:
        verify(home)
    assert str(path) in str(wrong.value)
    verify(prepare(tmp_path))


@pytest.mark.parametrize("name", ["train/token_bytes.bin", "train/manifest.json"])
def test_what_the_harness_reads_beside_the_shards_is_verified_too(tmp_path: Path, name: str) -> None:
    home = prepare(tmp_path)
    body = (home / name).read_bytes()
    (home / name).write_bytes(body[:-1] + b"\x07")
    with pytest.raises(ValueError, match=Path(name).name):
        verify(home)


def test_another_text_never_takes_the_name_of_the_one_that_runs_were_measured_on(tmp_path: Path) -> None:
    home = prepare(tmp_path)
    manifest = home / "manifest.json"
    ours = load_manifest(home).source["python"]
    manifest.write_text(manifest.read_text().replace(str(ours), "3.9.1"))
    before = manifest.read_bytes()
    with pytest.raises(ValueError, match=r"Python 3\.9\.1"):
        prepare(tmp_path)
    assert manifest.read_bytes() == before


def test_a_missing_dataset_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data prepare"):
        verify(tmp_path / "stdlib")


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    argv = [sys.executable, "-m", "gpu_runner", "data", "prepare", "--root", str(tmp_path)]
    attempt = subprocess.run(argv, preexec_fn=small_files_only, capture_output=True, text=True, timeout=60)
    assert attempt.returncode == 1
    assert attempt.stderr.startswith("data: cannot write the dataset to ")
    assert "free space" in attempt.stderr
    assert len(attempt.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# --- text of her own ---------------------------------------------------------------------------


def test_a_folder_of_text_keeps_every_document_whole(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    (folder / ".hidden").write_bytes(b"\0")
    home = prepare(tmp_path / "root", "mine", Origin(path=folder))
    found = [text for split in SPLITS for text in only_shard(home, split).read_bytes().split(b"\0") if text]
    assert sorted(found) == sorted(document(number).encode() for number in range(200))
    assert load_manifest(home).source == {"format": "text", "num_files": 200}


def test_lines_of_jsonl_are_documents(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    lines = [json.dumps({"text": document(number), "url": "x"}) for number in range(200)]
    (tmp_path / "texts" / "a.jsonl").write_text("\n".join(lines) + "\n")
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "texts"))
    assert sum(split.num_documents or 0 for split in load_manifest(home).splits.values()) == 200
    (tmp_path / "texts" / "a.jsonl").write_text('{"text": "good"}\n{"no text": 1}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl: line 2"):
        prepare(tmp_path / "root", "other", Origin(path=tmp_path / "texts"))


@pytest.mark.parametrize("kind", ["tiktoken", "huggingface"])
def test_text_in_tokens_of_her_tokenizer_counts_bytes_of_the_text(tmp_path: Path, kind: str) -> None:
    file = write_rank_file(tmp_path) if kind == "tiktoken" else write_tokenizer_json(tmp_path)
    folder = write_texts(tmp_path / "texts", num=400)
    home = prepare(tmp_path / "root", "mine", Origin(path=folder, tokenizer=str(file)))
    manifest = verify(home)
    assert (manifest.tokenizer.kind, manifest.dtype) == (kind, "uint16")
    num_bytes = sum(split.num_bytes or 0 for split in manifest.splits.values())
    assert num_bytes == sum(len(document(number).encode()) for number in range(400))
    for name, split in manifest.splits.items():
        assert np.count_nonzero(read(home, name) == manifest.tokenizer.separator) == split.num_documents


def test_a_large_text_is_many_shards_that_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_texts(tmp_path / "texts")
    one = prepare(tmp_path / "root", "one", Origin(path=folder))
    monkeypatch.setattr(splits, "SHARD_BYTES", 1_000)
    many = prepare(tmp_path / "root", "many", Origin(path=folder))
    shards = load_manifest(many).splits["train"].shards
    assert len(shards) > 20
    assert {shard.num_tokens for shard in shards[:-1]} == {1_000}
    assert np.array_equal(read(one, "train"), read(many, "train"))
    verify(many)


def test_of_a_huge_source_no_more_is_held_out_than_scoring_can_hash() -> None:
    assert splits.thinning(12_000_000) == 1
    thinned_by = splits.thinning(300_000_000_000)
    texts = [str(number).encode() for number in range(20_000)]
    held = [splits.split_of(text, held_out=None, thinned_by=thinned_by) != "train" for text in texts]
    usual = [splits.split_of(text, held_out=None, thinned_by=1) != "train" for text in texts]
    assert 0 < sum(held) < sum(usual) / 100
    assert all(before for before, now in zip(usual, held, strict=True) if now), "what is held out always was"


# --- what others have made ---------------------------------------------------------------------


def write_parquet(path: Path, texts: list[str | None], column: str = "text") -> None:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table({"id": range(len(texts)), column: texts}), path, row_group_size=64)


def test_the_last_parquet_file_is_held_out_and_rows_without_text_are_no_documents(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    write_parquet(folder / "shard_00000.parquet", [document(number) for number in range(100)] + [None] * 5)
    write_parquet(folder / "shard_00001.parquet", [None, *(document(number) for number in range(100, 200))])
    home = prepare(tmp_path / "root", "chat", Origin(path=folder))
    manifest = verify(home)
    assert manifest.source["format"] == "nanochat"
    assert only_shard(home, "train").read_bytes() == "".join(document(i) + "\0" for i in range(100)).encode()
    held = b"".join(only_shard(home, split).read_bytes() for split in HELD_OUT).decode().split("\0")
    assert sorted(filter(None, held)) == sorted(document(number) for number in range(100, 200))


def test_parquet_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    write_parquet(folder / "a.parquet", [document(1)])
    write_parquet(folder / "b.parquet", [document(1)], column="content")
    with pytest.raises(ValueError, match=r"b\.parquet: has no column 'text'"):
        prepare(tmp_path / "root", "chat", Origin(path=folder))
    (folder / "b.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ValueError, match=r"b\.parquet: is no parquet file"):
        prepare(tmp_path / "root", "chat", Origin(path=folder))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_llm_c_files_with_val_in_their_name_are_held_out_in_whole_documents(tmp_path: Path, dtype: type) -> None:
    folder = tmp_path / "bin"
    write_llmc(folder / "x_train_000001.bin", tokens_of(50, dtype=dtype))
    write_llmc(folder / "x_train_000002.bin", tokens_of(50, first=50, dtype=dtype))
    write_llmc(folder / "x_val_000000.bin", tokens_of(100, first=100, dtype=dtype))
    home = prepare(tmp_path / "root", "fine", Origin(path=folder, separator="0"))
    manifest = verify(home)
    assert (manifest.tokenizer.kind, manifest.tokenizer.vocab, manifest.dtype) == ("unknown", 256, np.dtype(dtype).name)
    assert np.array_equal(read(home, "train"), tokens_of(100))
    held = [read(home, split) for split in HELD_OUT]
    assert all(tokens[-1] == 0 for tokens in held), "a document is cut"
    assert sum(map(len, held)) == len(tokens_of(100, first=100))
    assert manifest.splits["val"].num_bytes is None


def test_nano_gpt_files_and_the_pickle_that_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    tokens_of(50).tofile(folder / "train.bin")
    tokens_of(100, first=50).tofile(folder / "val.bin")
    (folder / "meta.pkl").write_bytes(b"no pickle at all")
    heard = Heard()
    home = prepare(tmp_path / "root", "shakespeare", Origin(path=folder), heard)
    assert any("meta.pkl was not opened" in said for said in heard.said)
    assert np.array_equal(read(home, "train"), tokens_of(50))
    held = np.concatenate([read(home, split) for split in HELD_OUT])
    assert np.array_equal(held, tokens_of(100, first=50)), "without separators: one cut after the other"
    assert load_manifest(home).splits["train"].num_documents is None


def test_tokens_without_a_held_out_part_are_split_by_document(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "all.bin", tokens_of(600))
    with pytest.raises(ValueError, match="--separator"):
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin"))
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", separator="0"))
    found = np.concatenate([read(home, split) for split in SPLITS])
    assert sorted(found) == sorted(tokens_of(600))
    assert sum(split.num_documents or 0 for split in load_manifest(home).splits.values()) == 600


def test_with_their_tokenizer_foreign_tokens_have_bytes(tmp_path: Path) -> None:
    file = write_rank_file(tmp_path)
    write_llmc(tmp_path / "bin" / "all.bin", tokens_of(300, separator=300))
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", tokenizer=str(file)))
    for split in load_manifest(home).splits.values():
        assert split.num_bytes == split.num_tokens - (split.num_documents or 0)
    write_llmc(tmp_path / "bin" / "more.bin", np.array([301], np.uint16))
    with pytest.raises(ValueError, match=r"has 301 tokens, but .*more\.bin holds the token 301"):
        prepare(tmp_path / "root", "other", Origin(path=tmp_path / "bin", tokenizer=str(file)))


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"magic": 1}, "does not begin with llm.c's header"),
        ({"version": 9}, "has llm.c's header in version 9, but of 20240520 only 1 is known"),
        ({"num_tokens": 7}, "where 7 tokens with their header have"),
    ],
)
def test_a_bin_file_that_lies_is_named(tmp_path: Path, over: dict[str, int], said: str) -> None:
    write_llmc(tmp_path / "bin" / "a_train.bin", tokens_of(9), **over)
    with pytest.raises(ValueError, match=said) as refused:
        prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin", kind="llmc"))
    assert "a_train.bin" in str(refused.value)
    assert not (tmp_path / "root" / "mine").exists()


def test_a_source_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write_texts(tmp_path / "few", num=1)
    write_texts(tmp_path / "one", num=0)
    (tmp_path / "one" / "long.txt").write_text("".join(map(document, range(99))))
    write_texts(tmp_path / "latin")
    (tmp_path / "latin" / "x.txt").write_bytes("für".encode("latin-1"))
    write_texts(tmp_path / "binary")
    (tmp_path / "binary" / "x.png").write_bytes(b"PNG\0")
    ranks = str(write_rank_file(tmp_path))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "train.bin").write_bytes(b"123")
    for origin, said in (
        (Origin(path=empty), "holds no file"),
        (Origin(path=empty, kind="nanogpt"), r"holds no \.bin or \.npy or \.ds file with a token"),
        (Origin(path=empty, kind="llmc"), r"holds no \.bin file with a token"),
        (Origin(path=tmp_path / "nowhere"), "is not a folder"),
        (Origin(path=tmp_path / "few"), "the split 'train' would have 226 tokens, too few for rows of 256"),
        (Origin(path=tmp_path / "one"), "no document fell to the split"),
        (Origin(path=tmp_path / "latin", tokenizer=ranks), r"x\.txt: is not UTF-8"),
        (Origin(path=tmp_path / "binary"), r"x\.png: holds a 0 byte"),
        (Origin(path=tmp_path / "odd"), "no whole number"),
        (Origin(), "has to be made of something"),
        (Origin(kind="text"), "is read from a folder"),
        (Origin(path=empty, kind="stdlib"), "leave --from out"),
    ):
        with pytest.raises(ValueError, match=said):
            prepare(tmp_path / "root", "mine", origin)
    assert not any((tmp_path / "root").iterdir()), "nothing is left behind"


def test_a_dataset_that_stands_is_not_written_over(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    home = prepare(tmp_path, "mine", Origin(path=folder))
    with pytest.raises(ValueError, match="is there already"):
        prepare(tmp_path, "mine", Origin(path=folder))
    only_shard(home, "val").unlink()
    verify(prepare(tmp_path, "mine", Origin(path=folder)))
    only_shard(home, "val").unlink()
    (folder / "0000.txt").write_text("another text")
    with pytest.raises(ValueError, match="damaged, and its text is another"):
        prepare(tmp_path, "mine", Origin(path=folder))


# --- overlap -----------------------------------------------------------------------------------


def runs_of(units: list[bytes] | list[int]) -> list[tuple[bytes | int, ...]]:
    return [tuple(units[i : i + 13]) for i in range(len(units) - 12)]


def check_overlap(home: Path, manifest: Manifest) -> None:
    """Against sets of whole runs."""
    is_words = manifest.tokenizer.kind == "bytes"
    units = {split: read(home, split).tobytes().replace(b"\0", b" ").split() if is_words else read(home, split).tolist()
             for split in SPLITS}  # fmt: skip
    known = set(runs_of(units["train"]))
    for split in HELD_OUT:
        found, runs = manifest.splits[split].overlap, runs_of(units[split])
        assert found is not None
        assert (found.num, found.num_shared) == (len(runs), sum(run in known for run in runs))


def test_overlap_of_the_standard_library_is_counted_right(prepared: Path) -> None:
    check_overlap(prepared, load_manifest(prepared))


def test_twelve_equal_tokens_are_no_overlap_and_thirteen_are(tmp_path: Path) -> None:
    held = np.arange(1_000, 3_000, dtype=np.uint16)
    train = np.concatenate([held[100:112], [7], held[200:213], [7], np.arange(5_000, 9_000)]).astype(np.uint16)
    write_llmc(tmp_path / "bin" / "train.bin", train)
    write_llmc(tmp_path / "bin" / "val.bin", held)
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin"))
    check_overlap(home, load_manifest(home))
    shared = [found.num_shared for split in HELD_OUT if (found := load_manifest(home).splits[split].overlap)]
    assert sum(shared) == 1


def test_held_out_text_that_stands_in_train_is_warned_of(tmp_path: Path) -> None:
    write_llmc(tmp_path / "bin" / "train.bin", tokens_of(300))
    write_llmc(tmp_path / "bin" / "val.bin", tokens_of(150))
    heard = Heard()
    home = prepare(tmp_path / "root", "mine", Origin(path=tmp_path / "bin"), heard)
    assert all(any(f"tokens in {split}, 100.0%" in said for said in heard.said) for split in HELD_OUT)
    check_overlap(home, load_manifest(home))


def test_overlap_of_much_text_is_estimated_from_a_part_of_the_runs(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu_runner.data import overlap

    whole = load_manifest(prepared)
    monkeypatch.setattr(overlap, "MAX_HELD", 20_000)
    monkeypatch.setattr(overlap, "PIECE_TOKENS", 50_001)  # in pieces that end anywhere
    overlap._powers.cache_clear()
    part = overlap.measure(prepared, whole, Heard()).splits["val"].overlap
    overlap._powers.cache_clear()
    full = whole.splits["val"].overlap
    assert part is not None
    assert full is not None
    assert full.num / 12 < part.num < full.num / 7
    assert part.share == pytest.approx(full.share, rel=0.3)


# --- by hand -----------------------------------------------------------------------------------


def test_alice_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--root", str(tmp_path)]
    assert main(["data", "prepare", *where]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"{tmp_path / 'stdlib'}: {manifest_sha256(tmp_path / 'stdlib')}"
    assert main(["data", "verify", *where]) == 0
    only_shard(tmp_path / "stdlib", "val").unlink()
    assert main(["data", "verify", *where]) == 1
    assert "val-00000.bin: missing" in capsys.readouterr().err
    assert main(["data", "prepare", "--name", "wikipedia", *where]) == 1
    assert "'wikipedia'" in capsys.readouterr().err


def test_alice_looks_at_what_she_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rank_file(tmp_path)
    folder = write_texts(tmp_path / "texts")
    made = ["--name", "mine", "--from", str(folder), "--tokenizer", str(file), "--root", str(tmp_path)]
    assert main(["data", "prepare", *made]) == 0
    capsys.readouterr()
    assert main(["data", "inspect", str(tmp_path / "mine")]) == 0
    shown = capsys.readouterr().out
    first = next(i for i in range(200) if splits.split_of(document(i).encode(), held_out=None, thinned_by=1) == "train")
    for part in (manifest_sha256(tmp_path / "mine"), "tiktoken", "301 tokens", f"'Document {first}.\\n"):
        assert part in shown
    only_shard(tmp_path / "mine", "sealed").write_bytes(b"short")
    assert main(["data", "inspect", "mine", "--root", str(tmp_path)]) == 1
    assert "sealed-00000.bin: 5 bytes" in capsys.readouterr().out.replace("\n", "")


def test_a_terminal_shows_brackets_in_names_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    Bar().say("Left out: 1 hidden file ([a] copy[1].txt).")
    assert capsys.readouterr().err == "Left out: 1 hidden file ([a] copy[1].txt).\n"


def test_a_log_has_plain_lines_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("gpu_runner.data.progress.time.monotonic", lambda: now)
    lines = Lines()
    with lines.stage("Tokenizing", 100_000_000):
        for _ in range(5):
            now += 4
            lines.advance(10_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "Tokenizing: 20 of 100 MB, 32 s left",
        "Tokenizing: 40 of 100 MB, 24 s left",
    ]
