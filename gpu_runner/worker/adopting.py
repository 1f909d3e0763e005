"""Makes a foreign trainer's checkpoint one that the trusted scorer takes, in a sandbox: its file is hostile."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.command.reading import PLACES
from gpu_runner.command.safely import opened
from gpu_runner.contract import Knobs, Model
from gpu_runner.contract.plain import plain
from gpu_runner.data.manifest import load_manifest
from gpu_runner.process.child import Child, Lines
from gpu_runner.process.terminal import Terminal
from gpu_runner.worker.endings import RunFailure
from gpu_runner.worker.parts import Launch
from gpu_runner.worker.testimony import MAX_LINE_BYTES

COMMAND = (sys.executable, "-m", "gpu_runner.harness.foreign_weights")
LIMIT_S = 300.0
TODO = "Mend checkpoint, weights or seq_len in [model] of recipe.toml."


def adopt(launch: Launch, model: Model, values: Knobs, dataset: Path) -> None:
    """Write ``out/checkpoint`` from what the trainer left. Raises an EarlyEnd."""
    saved = _saved(launch.out, model.checkpoint)
    seq_len = values[model.seq_len] if isinstance(model.seq_len, str) else model.seq_len
    config = values | {"vocab_size": load_manifest(dataset).tokenizer.vocab, "seq_len": seq_len}
    words = list[str]()
    began_at = time.monotonic()

    def check() -> None:
        launch.check()
        if time.monotonic() - began_at > LIMIT_S:
            raise RunFailure("no_checkpoint", f"Its checkpoint could not be read within {LIMIT_S:g} s.", TODO)

    command = [*COMMAND, str(saved), str(launch.out), json.dumps(config), *([model.weights] if model.weights else [])]
    with (
        sandbox.Cell(level=launch.machine.sandbox_level, writable=launch.out) as cell,
        Child(
            cell.argv(command),
            env=sandbox.child_environment(),
            cwd=launch.folder,
            stdout=Lines(lambda line: None, MAX_LINE_BYTES),
            stderr=Terminal(lambda line: words.append(plain((line or b"").decode(errors="replace"))), MAX_LINE_BYTES),
        ) as child,
    ):
        exit_code = child.follow(check)
    if exit_code != 0:
        said = "\n".join(words[-6:]) or f"exit code {exit_code}"
        raise RunFailure("no_checkpoint", f"Its checkpoint could not be opened: {said}", TODO)


def _saved(out: Path, path: str) -> Path:
    for place in PLACES:
        if (fd := opened(out / place, path)) is not None:
            os.close(fd)
            return out / place / path
    raise RunFailure("no_checkpoint", f"It ended well and left no {path}, neither in {{out}} nor in its source.", TODO)
