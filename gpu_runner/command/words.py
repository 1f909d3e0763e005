"""The command line and the environment of a foreign trainer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_runner.command import overrides
from gpu_runner.contract import Command, Knob, Knobs
from gpu_runner.contract.command import IN_BRACES


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one run tells its trainer. None: this run has no such number, and its recipe may not ask for it."""

    python: str
    seed: int
    seconds: float
    tokens: int | None
    steps: int | None
    data: str  # a folder
    out: str  # a folder

    def placed(self) -> dict[str, str]:
        """Placeholder -> its text; without {overrides}, which may stand for several words."""
        numbers = {"seed": self.seed, "seconds": f"{self.seconds:g}", "tokens": self.tokens, "steps": self.steps}
        written = {name: str(number) for name, number in numbers.items() if number is not None}
        return written | {"python": self.python, "data": self.data, "out": self.out}


def command_line(command: Command, knobs: tuple[Knob, ...], values: Knobs, told: Told) -> list[str]:
    """The words of the process. Raises ValueError where the recipe asks for a number that this run has not."""
    known = _known(command, knobs, values, told)
    line: list[str] = []
    for word in command.run:
        if word == "{overrides}":
            line += overrides.as_words(command.overrides, travelling(command, knobs), values)
        else:
            line.append(filled(word, known))
    return line


def variables(command: Command, knobs: tuple[Knob, ...], values: Knobs, told: Told) -> dict[str, str]:
    """The recipe's own variables, and the knobs that travel as such. Raises ValueError as ``command_line``."""
    known = _known(command, knobs, values, told)
    own = {name: filled(text, known) for name, text in command.env.items()}
    if command.overrides.travel != "environment":
        return own
    return overrides.as_variables(command.overrides, travelling(command, knobs), values) | own


def filled(text: str, known: Mapping[str, str]) -> str:
    """``text`` with what stands in braces replaced. Raises ValueError that names what is not known."""
    for name in IN_BRACES.findall(text):
        if name not in known:
            raise ValueError(f"recipe.toml: run in [command]: this run has no {{{name}}} to tell its trainer")
    return IN_BRACES.sub(lambda found: known[found[1]], text).replace("{{", "{").replace("}}", "}")


def travelling(command: Command, knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
    """The knobs that ``overrides`` carries: all but those that a word or variable names itself."""
    return tuple(knob for knob in knobs if knob.key not in command.named)


def _known(command: Command, knobs: tuple[Knob, ...], values: Knobs, told: Told) -> dict[str, str]:
    of_knobs = {knob.key: overrides.as_text(values[knob.key], command.overrides.booleans) for knob in knobs}
    return of_knobs | told.placed()
