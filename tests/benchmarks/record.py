"""What was measured, for the terminal and for a file: a table, the machine that it was measured on, the raw numbers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gpu_runner.machine import hardware

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "test-results"


@dataclass
class Record:
    """A table with a title; ``raw`` is everything that its cells were made from."""

    name: str  # of the files
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def publish(self) -> Path:
        """Print it, and write test-results/NAME.md and NAME.json. Returns the first."""
        Console(width=140).print(self._table(), *self.notes, self._machine(), sep="\n")
        FOLDER.mkdir(exist_ok=True)
        raw = {"at": datetime.now(UTC).isoformat(), "commit": _commit(), "machine": hardware.facts(), "raw": self.raw}
        (FOLDER / f"{self.name}.json").write_text(json.dumps(raw, indent=2) + "\n")
        page = FOLDER / f"{self.name}.md"
        page.write_text(self.markdown())
        return page

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"\n{note}\n" for note in [*self.notes, self._machine()])
        return f"## {self.title}\n\n{table}\n{notes}"

    def _table(self) -> Table:
        table = Table(*self.columns, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def _machine(self) -> str:
        facts = hardware.facts()
        where = f"{facts['cpu']}, {facts['num_cores']} cores"
        if facts["gpu"]:
            where = f"{facts['gpu']} (driver {facts['gpu_driver']})"
        return f"Measured on {where}; torch {facts['torch']}, Python {facts['python']}, commit {_commit()}."


def _commit() -> str:
    """Short hash, with a + where files were changed since."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    return said.stdout.strip() or "unknown"
