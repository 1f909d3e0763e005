"""What tells the runs of one source apart. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

SECRET = re.compile(r"passw|secret|api_?key|auth_?token|access_?token|credential|private_?key|_token$|^token$", re.I)
# Where and by whom a run was made: kept, but no argument for or against an idea, and nobody else's business.
WHEREABOUTS = re.compile(
    r"(tags\.)?mlflow\.(user|source\.\w+)|artifact_uri|user|username|entity|host(name)?|sweep|group|created|updated|"
    r"start.time|end.time|timestamp|date|run.?id|run|experiment.?id|source.(name|type|version)|github|gpu.name|\w*sha",
    re.I,
)
LEFT_OUT = "(left out: its name is that of a credential)"


def varying(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of parameters that are not the same in every run, in the order in which they come up; all of one run."""
    names = list(dict.fromkeys(name for run in runs for name in run))
    if len(runs) == 1:
        return names
    return [name for name in names if len({run.get(name) for run in runs}) > 1]


def telling(extras: Mapping[str, str]) -> dict[str, str]:
    """What a proposer is told of a row's other columns: not where, when and by whom it was made."""
    return {name: value for name, value in extras.items() if not WHEREABOUTS.fullmatch(name)}


def shown(name: str, value: str) -> str:
    """The value, unless its name says that nobody should read it: a run's settings hold tokens, too."""
    return LEFT_OUT if value and _is_secret(name) else value


@lru_cache(maxsize=1_024)
def _is_secret(name: str) -> bool:
    return SECRET.search(name) is not None
