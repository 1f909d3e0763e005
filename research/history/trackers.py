"""How trackers name the columns of the tables that they export. Pure.

W&B's table of runs (its CSV button), MLflow's (its CSV button, and ``mlflow.search_runs().to_csv()``). trackio exports
no table of runs, so its column names are guessed like a loop's.
"""

from __future__ import annotations

from collections.abc import Sequence

from research.history import columns
from research.history.past import Kind
from research.history.tables import Table

_WANDB = {
    "Name": "title", "State": "outcome", "Notes": "description", "Runtime": "seconds", "Commit": "commit",
}  # fmt: skip
_MLFLOW = {
    "Name": "title", "Status": "outcome", "Duration": "seconds", "status": "outcome",
    "tags.mlflow.runName": "title", "tags.mlflow.note.content": "description",
    "tags.mlflow.source.git.commit": "commit",
}  # fmt: skip
_ABOUT = frozenset(
    "id user tags created updated end_time sweep group job_type hostname github entity project start_time run_id "
    "experiment_id artifact_uri source_type source_name source version models run_name dataset".split()
)


def fields(kind: Kind, names: Sequence[str]) -> dict[str, str]:
    """Their name -> our field, where the tool's own format says it. Whatever it does not name is a setting."""
    if kind == "autoresearch":
        return {}
    known = {"wandb": _WANDB, "mlflow": _MLFLOW}.get(kind, {})
    return {name: field for name in names if (field := known.get(name) or _field(kind, name))}


def _field(kind: Kind, name: str) -> str:
    if kind == "mlflow" and name.startswith(("params.", "metrics.", "tags.")):
        return {"params.": "parameter", "tags.": "extra"}.get(name[: name.index(".") + 1], "")
    if columns.plain_name(name) in _ABOUT:
        return "extra"
    return "" if columns.is_measured(name) or columns.field_of(name) else "parameter"


def is_newest_first(kind: Kind, table: Table) -> bool:
    """Whether a tracker's table begins with its newest run, as theirs do; what was tried first is told first."""
    began = ("start_time", "created", "created_at")
    place = next((i for i, name in enumerate(table.names) if columns.plain_name(name) in began), None)
    if kind == "autoresearch" or place is None:
        return False
    said = [row.cells[place] for row in table.rows if place < len(row.cells) and row.cells[place].strip()]
    return len(said) > 1 and said[0] > said[-1]
