"""One worker for several runs in a row: the real recipe, harness, sandbox and scorer, and a web side that is played."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gpu_runner import contract
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.worker import compile_cache, parts
from tests.gpu.inside import SMALL
from tests.gpu.machine import IS_DRY_RUN
from tests.sandbox import trials
from tests.worker.conftest import Bench
from tests.worker.world import Repository, git, make_lease

# Rows enough for all of a score's challenges in one process: each further one costs seconds to start.
SCORE_TOKENS = 8_192 if IS_DRY_RUN else 262_144
DEADLINE_S = 300.0


class Shift:
    """What happens one after another on one worker of ``bench``, whose datasets lie where ``corpus`` does."""

    def __init__(self, bench: Bench, corpus: Path) -> None:
        self.bench, self.corpus, self.num_runs = bench, corpus, 0
        self.repository = Repository(bench.folder / "recipe", "")
        here = self.repository.folder
        shutil.copytree(
            compile_cache.RECIPES / "gpt", here, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
        git(here, "add", "--all")
        git(here, "commit", "--quiet", "--message=the real recipe")
        self.commit = git(here, "rev-parse", "HEAD").strip()
        bench.web.bundle = self.repository.bundle()

    def patch(self, old: str, new: str) -> str:
        """A proposal's diff that replaces a text of train.py, which stands there once."""
        text = (self.repository.folder / "train.py").read_text()
        assert text.count(old) == 1, old
        return self.repository.patch({"train.py": text.replace(old, new)})

    def run(
        self, seconds: float, *, patch: str = "", overrides: dict[str, Any] | None = None, **machine: Any
    ) -> contract.RunEnd:
        """Train for so many seconds and score, as a worker does."""
        self.num_runs += 1
        level = trials.LEVELS[0]
        lease = make_lease(
            self.commit,
            manifest_sha256(self.corpus),
            dataset=self.corpus.name,
            patch=patch,
            level=level,
            fence=self.num_runs,
            next_seq=len(self.bench.web.reports) + 1,
            score_tokens=SCORE_TOKENS,
            deadline_s=DEADLINE_S,
            signed={
                "budget": contract.Budget(kind="seconds", amount=seconds),
                "overrides": SMALL if overrides is None else overrides,
            },
        )
        how: dict[str, Any] = {
            "harness": parts.HARNESS,
            "scorer": parts.SCORER,
            "datasets": self.corpus.parent,
            "sandbox_level": level,
        }
        end = self.bench.run(lease, **(how | machine))
        assert end is not None, "the lease was lost"
        return end
