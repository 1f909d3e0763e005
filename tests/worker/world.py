"""A GPU machine for tests: a recipe in a git repository, a small dataset, and a script that plays the harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_runner import contract
from gpu_runner.data import tokenizers
from gpu_runner.data.manifest import FOLDER, Manifest, Shard, Split, manifest_sha256
from gpu_runner.worker.parts import Machine

RUN_TOKEN = "run-token-of-this-test"

# Plays the harness: whatever train.py is, run it with these words at hand.
PLAYED_HARNESS = (
    sys.executable,
    "-c",
    "import sys; source = sys.argv[1] + '/source/train.py'; exec(compile(open(source).read(), source, 'exec'))",
)

# Written into every train.py: say() a report line, draw() batches of 100 tokens, save() a checkpoint, wait_for() a file
# that the test makes.
WORDS = """
import json, os, struct, subprocess, sys, time
RUN, FD, TEXT = sys.argv[1], int(sys.argv[3]), int(sys.argv[5])
OUT = RUN + "/out"
NUM_DRAWN = 0

def ask(question, **numbers):
    os.write(TEXT, json.dumps({"ask": question, **numbers}).encode() + b"\\n")
    granted, length = struct.unpack("<?I", hear(5))
    return granted, hear(length)

def hear(length):
    heard = b""
    while len(heard) < length:
        heard += os.read(TEXT, length - len(heard)) or sys.exit("no more text")
    return heard

def draw(times=1):
    global NUM_DRAWN
    if not NUM_DRAWN:
        ask("begin", batch_size=4, seq_len=25)
    for _ in range(times):
        granted, body = ask("batch")
        assert granted, body
        NUM_DRAWN += 1

def write(text):
    left = text.encode()
    while left:
        left = left[os.write(FD, left):]

def say(**line):
    write(json.dumps(line) + chr(10))

def point(step, **metrics):
    say(kind="point", step=step, tokens=step * 100, elapsed_s=step / 10, metrics=metrics)

def wait_for(name):
    while not os.path.exists(OUT + "/" + name):
        time.sleep(0.01)

def tell(name, text=""):
    with open(OUT + "/" + name, "w") as file:
        file.write(text)

def save():
    os.mkdir(OUT + "/checkpoint")
    tell("checkpoint/model.safetensors", "weights")

def finish(outcome="ok", failure=None):
    say(kind="ended", outcome=outcome, failure=failure, num_steps=NUM_DRAWN, num_tokens=100 * NUM_DRAWN, train_s=0.3,
        compile_s=None, peak_memory_mib=12.5, self_reported_bpb=1.75)

ask("ready")
"""

SCORE = {
    "val_bpb": 1.5,
    "outcome": "ok",
    "reasons": [],
    "provenance": {"scorer": "played by a test"},
    "seconds": 0.1,
}


def scorer_that_says(score: dict[str, Any]) -> tuple[str, ...]:
    return (sys.executable, "-c", f"print({json.dumps(score)!r})")


def git(folder: Path, *arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "alice", "GIT_AUTHOR_EMAIL": "alice@lab.example"}
    who |= {"GIT_COMMITTER_NAME": "alice", "GIT_COMMITTER_EMAIL": "alice@lab.example", "PATH": os.defpath}
    done = subprocess.run(["git", *arguments], cwd=folder, env=who, check=True, capture_output=True, timeout=30)
    return done.stdout.decode()


class Repository:
    """Alice's recipe: one commit, as the web side sends it."""

    def __init__(self, folder: Path, train: str) -> None:
        self.folder = folder
        folder.mkdir()
        git(folder, "init", "--quiet", "--initial-branch=main")
        (folder / "train.py").write_text(WORDS + train)
        (folder / "recipe.toml").write_text('[recipe]\nname = "tiny"\nabout = "for tests"\neditable = ["train.py"]\n')
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=the recipe")
        self.commit = git(folder, "rev-parse", "HEAD").strip()

    def bundle(self) -> bytes:
        git(self.folder, "bundle", "create", "sent.bundle", "HEAD")
        return (self.folder / "sent.bundle").read_bytes()

    def patch(self, change: dict[str, str]) -> str:
        """The diff that writes these files, leaving the repository as it was."""
        for name, text in change.items():
            (self.folder / name).write_text(text)
        git(self.folder, "add", *change)
        patch = git(self.folder, "diff", "--cached")
        git(self.folder, "reset", "--quiet", "--hard")
        return patch


def make_dataset(
    root: Path, text: str = "made up", *, held_out: str = "", split: str = "val", trained_on: str = ""
) -> str:
    """A dataset with a real manifest, of such ``text``; its sha256. ``held_out`` is more text of one ``split``."""
    home = root / "tiny"
    texts = {"train": b"to train on\0" * 50, "watch": b"to watch\0" * 9, "val": b"held out\0" * 9, "sealed": b"s\0"}
    texts[split] += held_out.encode() + b"\0"
    texts["train"] += trained_on.encode() + b"\0"
    encoder = tokenizers.open_tokenizer("bytes")
    manifest = Manifest(
        name="tiny",
        tokenizer=encoder.about,
        dtype="uint8",
        source={"text": text},
        splits={split: write_split(home, split, body) for split, body in texts.items()},
    )
    (home / "train" / "token_bytes.bin").write_bytes(encoder.token_bytes.tobytes())
    for folder in (home, home / "train"):
        (folder / "manifest.json").write_text(manifest.model_dump_json())
    return manifest_sha256(home)


def write_split(home: Path, split: str, body: bytes) -> Split:
    path = home / FOLDER[split] / f"{split}-00000.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    shard = Shard(file=path.name, num_tokens=len(body), sha256=contract.sha256(body))
    return Split(shards=(shard,), num_tokens=len(body), num_bytes=len(body), num_documents=body.count(0))


def make_machine(tmp_path: Path, **over: Any) -> Machine:
    machine = Machine(
        runs=tmp_path / "home" / "runs",
        datasets=tmp_path / "home" / "datasets",
        hardware_class="cpu-x86_64",
        sandbox_level="bubblewrap",
        lock_sha256="1" * 64,
        harness=PLAYED_HARNESS,
        scorer=scorer_that_says(SCORE),
        beat_s=0.2,
    )
    return replace(machine, **over)


def make_lease(
    commit: str, dataset_sha256: str, *, patch: str = "", level: str = "bubblewrap", **over: Any
) -> contract.Lease:
    """A lease of run 7. ``over`` replaces fields of the spec; ``approval`` those of the approval, after signing."""
    fields: dict[str, Any] = {
        "base_commit": commit,
        "patch": patch,
        "overrides": {},
        "budget": contract.Budget(kind="tokens", amount=300.0),
        "seeds": contract.SeedPolicy(min_pairs=2, max_pairs=5, alpha=0.05, min_effect_bpb=0.005),
        "dataset_sha256": dataset_sha256,
        "scorer_version": contract.SCORER_VERSION,
        "lock_sha256": "1" * 64,
        "sandbox_level": level,
        "gate_version": contract.GATE_VERSION,
    }
    signed = contract.Approval(**(fields | over.pop("signed", {})))
    sent = signed.model_copy(update=over.pop("tampered", {}))
    spec: dict[str, Any] = {
        "run_id": 7,
        "fence": 3,
        "attempt": 1,
        "next_seq": 1,
        "purpose": "candidate",
        "title": "Warm up for longer",
        "seed": 1,
        "approval": sent,
        "digest": signed.digest(),
        "dataset": "tiny",
        "max_steps": None,
        "score_tokens": 1000,
        "deadline_s": 60.0,
    }
    return contract.Lease(spec=contract.RunSpec(**(spec | over)), token=RUN_TOKEN)


def processes_with(marker: str) -> list[int]:
    """Living processes (no zombies) with ``marker`` in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if marker.encode() in command and stat.rsplit(")", 1)[1].split()[0] != "Z":
            found.append(int(folder.name))
    return found
