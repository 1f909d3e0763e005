"""By which way a trainer's numbers are set from outside: the best of those that were found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gpu_runner.adopt.values import Setting

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")
Travel = Literal["arguments", "constants"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """Settings that travel alike. ``pattern`` is of each argument; ``path`` the file whose constants are replaced."""

    what: str  # as a person calls it
    travel: Travel
    settings: tuple[Setting, ...]
    pattern: tuple[str, ...] = ("--{key}={value}",)
    booleans: str = "python"
    path: str = ""
    before: tuple[str, ...] = ()  # words that it needs, as a config file
    edited: str = ""  # the file of settings that proposals edit, since none can be set from outside
    unsure: str = ""

    @property
    def num_learning(self) -> int:
        return sum(setting.is_learning for setting in self.settings)

    def named(self, *names: str) -> Setting | None:
        """The setting that has one of these last names; the names are in order of preference."""
        by_name: dict[str, Setting] = {}
        for setting in (one for one in self.settings if NAME.fullmatch(one.name) and not one.is_in_another_table):
            by_name.setdefault(setting.plain_name, setting)
        return next((by_name[name] for name in names if name in by_name), None)

    def words(self, setting: Setting, value: str) -> list[str]:
        """The words that set one, where it travels as an argument."""
        key = setting.name
        return [word.replace("{key}", key).replace("{value}", value) for word in self.pattern]


def best(ways: list[Way]) -> Way | None:
    """The way with most of what is searched over; of equals the one that was found first."""
    return max(ways, key=lambda way: (way.num_learning, bool(way.edited), len(way.settings)), default=None)
