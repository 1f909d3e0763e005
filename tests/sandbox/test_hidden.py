"""What may be held out is nowhere to be read inside, wherever a machine has it, and nothing that trains misses it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner.sandbox import hidden, view
from research.gates.code import allowed
from tests.sandbox import trials
from tests.sandbox.trials import tried

boundaries = pytest.mark.parametrize("level", trials.LEVELS)

# Everything that runs inside: the harness, the model's process, compiling, and what edited code may import.
TRAINING = """
import importlib, sys
import torch, numpy, safetensors.torch, triton
import gpu_runner.harness.__main__, gpu_runner.harness.model_server, torch.distributed.run
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:  # not in this version of torch or triton; what is hidden raises otherwise
        assert name.startswith(("torch.", "triton.")), error
@torch.compile
def loss(x, w):
    return (x.sin() @ w).square().mean()
w = torch.randn(64, 64, requires_grad=True)
loss(torch.randn(64, 64), w).backward()
print(sorted({{name.split(".")[0] for name in sys.modules}} & {hidden!r}), float(w.grad.norm()) > 0)
"""


@boundaries
def test_nothing_that_trains_compiles_or_passes_the_gate_needs_what_is_hidden(level: str, tmp_path: Path) -> None:
    program = TRAINING.format(modules=sorted(allowed.MODULES), hidden=set(hidden.MODULES))
    assert tried(program, level=level, writable=tmp_path, within_s=300) == "[] True"


@boundaries
def test_only_a_cell_that_was_told_so_shows_it(level: str) -> None:
    """The negative control: it is the hiding that denies it."""
    code = "import smtplib\nprint(smtplib.__doc__.splitlines()[0])"
    assert tried(code, level=level, hides=()) == "SMTP/ESMTP client class."
    path = hidden.library() / "smtplib.py"
    assert "SMTP" not in tried(f"print(open({str(path)!r}).read())", level=level)


def test_at_level_bubblewrap_an_import_says_why_it_fails() -> None:
    said = tried("try: import idlelib\nexcept ImportError as error: print(error)", level="bubblewrap")
    assert said.startswith("this module of the standard library is hidden in the sandbox: its text may be held out")


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is shown, with a Python of its own and packages, and a second way into it."""
    home, library = tmp_path / "prefix", hidden.library()
    copy = home / "lib" / "python3.9"
    for name in ("os.py", "ast.py", "stat.py", "turtle.py", "json/decoder.py"):
        put(copy / name, (library / name).read_bytes())
    theirs = (library / "mailbox.py").read_text()
    put(home / "packages" / "mail" / "mailbox.py", theirs.replace("self", "this").encode())
    put(home / "packages" / "mail" / "__pycache__" / "mailbox.cpython-311.pyc", b"its bytecode")
    put(home / "packages" / "box" / "mailbox.py", b"class MailboxOfOurs:  # a name is not enough\n    pass\n" * 40)
    with zipfile.ZipFile(home / "python39.zip", "w") as archive:
        for name in ("os.py", "ast.py", "stat.py", "turtle.py"):
            archive.write(library / name, f"lib/{name}")
    put(home / "pkgs" / "python-3.9.1-h12_0.conda", b"a packed Python")
    put(home / "pkgs" / "numpy-2.0.conda", b"another package")
    (home / "link.py").symlink_to(copy / "turtle.py")
    (tmp_path / "second-way").symlink_to(home)
    usual = list(view.python())
    monkeypatch.setattr(view, "python", lambda: iter([*usual, home, tmp_path / "second-way"]))
    hidden.places.cache_clear()
    yield home
    hidden.places.cache_clear()


def put(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


COPIES = (
    *("lib/python3.9/turtle.py", "lib/python3.9/os.py", "packages/mail/mailbox.py", "python39.zip", "link.py"),
    *("packages/mail/__pycache__/mailbox.cpython-311.pyc", "pkgs/python-3.9.1-h12_0.conda"),
)
OTHERS = ("packages/box/mailbox.py", "pkgs/numpy-2.0.conda")


@boundaries
@pytest.mark.parametrize("way", ["prefix", "second-way"])
def test_every_copy_is_found_and_its_neighbours_stay(level: str, way: str, prefix: Path) -> None:
    said = tried(LOOK.format(folder=str(prefix.with_name(way)), names=COPIES + OTHERS), level=level)
    true = {name for name in COPIES + OTHERS if f"{name} {(prefix / name).read_bytes()[:40]!r}" in said.splitlines()}
    assert true == set(OTHERS), said


LOOK = """
import os
for name in {names!r}:
    try:
        print(name, open(os.path.join({folder!r}, name), "rb").read(40))
    except OSError:
        print(name, "is not there")
"""


@boundaries
def test_the_folders_around_it_can_be_listed_so_that_imports_work(level: str, prefix: Path) -> None:
    assert "mail" in tried(f"import os\nprint(os.listdir({str(prefix / 'packages')!r}))", level=level)
    put(prefix / "packages" / "mail" / "other.py", b"answer = 42")
    code = f"import sys\nsys.path.append({str(prefix / 'packages')!r})\nimport mail.other\nprint(mail.other.answer)"
    assert tried(code, level=level) == "42"


def test_the_interpreters_own_library_is_hidden_module_by_module_with_every_bytecode() -> None:
    own = {place for place in hidden.places() if place.is_relative_to(hidden.library())}
    bytecode = set((hidden.library() / "__pycache__").glob("smtplib.*"))
    assert {hidden.library() / "smtplib.py", hidden.library() / "idlelib", *bytecode} <= own
    assert hidden.library() not in own
    assert not {path for path in own if path.name.startswith(("os.", "typing.", "json"))}


def test_what_is_named_to_be_read_is_read_even_where_a_folder_around_it_is_hidden(tmp_path: Path) -> None:
    """As a run's own folder would be, in a home that somebody put below a hidden one."""
    shards = tmp_path / "home" / "train"
    put(shards / "train.bin", b"text")
    code = f"print(open({str(shards / 'train.bin')!r}).read())"
    assert tried(code, level="landlock", read_only=(shards,), hides=(tmp_path / "home",)) == "text"
    assert tried(code, level="bubblewrap", read_only=(shards,), hides=(tmp_path / "home",)) == "text"
