"""alice tries her recipe for five steps, on her own machine, and is told what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gpu_runner.__main__ import main
from tests.waiting import wait_until

from .trainers import NANO, OPENED, plain
from .world import make_dataset, processes_with


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNTERSIGN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COUNTERSIGN_DATASETS", raising=False)
    make_dataset(tmp_path / "home" / "datasets")
    return tmp_path / "home"


def checked(folder: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Its lines by name, after the folder has these files; nothing is left of the run."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    code = main(["recipe", "check", str(folder), "--dataset", "tiny", "--json", *words])
    said = json.loads(capsys.readouterr().out)
    lines = {line["name"]: line for line in said["lines"]}
    assert said["ok"] == (code == 0) == all(line["ok"] is not False for line in said["lines"])
    return lines


def test_a_recipe_that_is_well_is_green_and_leaves_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = checked(tmp_path / "nano", NANO, capsys, "--seeds")
    assert all(line["ok"] for line in lines.values()), lines
    assert lines["data"]["found"] == "opened: meta.pkl (layout nanogpt)"
    assert "nats per token at step 4, said 3 time(s)" in lines["metric"]["found"]
    assert "{out}/ckpt.pt" in lines["output"]["found"]
    assert lines["seed"]["found"].startswith("heard")
    assert lines["machine"]["found"] == "sandbox bubblewrap, dataset tiny"
    assert {"memory", "seconds", "starts", "files", "recipe"} <= set(lines)
    assert list((home / "checks").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "nano").iterdir()) == sorted({Path(n).parts[0] for n in NANO})


@pytest.mark.parametrize(
    ("script", "name", "found", "todo"),
    [
        ("import nothing_such\n", "starts", "No module named 'nothing_such'", "declare that interpreter"),
        ("open('data/x.bin')\n", "starts", "No such file or directory: 'data/x.bin'", "set data_at or layout"),
        ("print('val loss 3.5')\n", "metric", "never said its accuracy", "It printed: 'val loss 3.5'"),
        ("print('{\"accuracy\": NaN}')\n", "metric", "no finite number", "It printed"),
        ("print('{\"accuracy\": 1}')\n", "data", "was opened (layout ours)", "Name {data} in run or env"),
        ("print('{\"accuracy\": 1}')\n", "seed", "told no {seed}", "Name {seed} in run"),
        ("import time\ntime.sleep(600)\n", "starts", "did not end within 2 s", "cheaper"),
    ],
)
def test_each_lack_is_named_with_its_way_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, name: str, found: str, todo: str
) -> None:
    within = ("--within", "2") if "sleep" in script else ()
    line = checked(tmp_path / "plain", plain(script), capsys, *within)[name]
    assert line["ok"] is False and found in line["found"] and todo in line["todo"], line


def test_a_seed_that_is_told_and_not_heard_is_seen(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = 'import os, time\nprint(\'{"accuracy": 0.5, "time": %s}\' % time.time(), os.environ)\n'
    files = plain(
        script.replace("os.environ", "os.environ.get('SEED')[0:0]"), 'env = {SEED = "{seed}", DAT = "{data}"}'
    )
    lines = checked(tmp_path / "deaf", files, capsys, "--seeds")
    assert lines["seed"]["found"] == "seeds 1 and 2 gave the same numbers"
    assert lines["data"]["ok"] is False


def test_what_a_hostile_trainer_leaves_is_told_as_text_and_is_gone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = """
import os
open("\\x1b[31mred\\n", "w").write("x")
os.symlink("/etc/passwd", "link")
os.mkfifo("fifo")
print("\\x1b]0;title\\x07", '{"accuracy": 0.5}', sep="\\n")
for _ in range(400):
    os.mkdir("d" * 50)
    os.chdir("d" * 50)
"""
    for name, text in plain(script).items():
        (tmp_path / "evil").mkdir(exist_ok=True)
        (tmp_path / "evil" / name).write_text(text)
    assert main(["recipe", "check", str(tmp_path / "evil"), "--dataset", "tiny"]) == 1
    said = capsys.readouterr().out
    assert "beside its source: red (0.0 MiB in all)" in said and "accuracy = 0.5" in said
    assert not [character for character in said if ord(character) < 32 and character != "\n"]
    assert list((home / "checks").iterdir()) == []


def test_a_model_that_the_scorer_finds_nowhere_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without torch: a checkpoint that is there is opened in tests/worker/test_foreign.py, by the same code."""
    lines = checked(tmp_path / "none", OPENED | {"train.py": "print('{\"accuracy\": 0.5}')\n"}, capsys)
    assert lines["starts"]["ok"] and lines["model"]["ok"] is False
    assert "left no ckpt.pt" in lines["model"]["found"] and "Mend checkpoint" in lines["model"]["todo"]


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        ({"train.py": ""}, "recipe", "holds no recipe.toml; `recipe new"),
        ({"recipe.toml": "[recipe]\nkind = 'comand'\n"}, "recipe", "recipe.toml, line 2: kind in [recipe]"),
        (
            plain("") | {"recipe.toml": plain("")["recipe.toml"].replace('"train.py"]', '"tran.py"]')},
            "files",
            "tran.py",
        ),
        (plain("", 'environment = "torch9"'), "machine", "environment: torch9 is not declared on this machine"),
    ],
)
def test_what_is_wrong_before_anything_starts_is_one_sentence(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], name: str, found: str
) -> None:
    lines = checked(tmp_path / "wrong", files, capsys)
    assert lines[name]["ok"] is False and found in lines[name]["found"], lines
    assert "starts" not in lines


def test_ctrl_c_ends_the_trainer_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    mark = f"{tmp_path}/hanging"
    for name, text in plain(f"import time\nprint('hangs', flush=True)\ntime.sleep(600)  # {mark}\n").items():
        (tmp_path / "hanging").mkdir(exist_ok=True)
        (tmp_path / "hanging" / name).write_text(text)
    command = [sys.executable, "manage.py", "recipe", "check", mark, "--dataset", "tiny"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as asked:  # fmt: skip
        killer = threading.Timer(120, asked.kill)
        killer.start()
        try:
            wait_until(lambda: _is_training(home) and processes_with("train.py"), "a trainer", within_s=90)
            os.killpg(asked.pid, signal.SIGINT)  # as a terminal does
            out, err = asked.communicate(timeout=60)
        finally:
            killer.cancel()
    assert asked.returncode == 130 and "stopped; nothing is left behind" in err, (out, err)
    assert list((home / "checks").iterdir()) == []


def _is_training(home: Path) -> bool:
    return any((home / "checks").glob("run-*/out/source/train.py"))
