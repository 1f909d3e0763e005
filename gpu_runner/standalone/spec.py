"""SPEC.toml: what a person asks the trainer for. Parsed strictly; a mistake is one sentence with the way out.

    recipe = "gpt"           a shipped recipe, or a folder with recipe.toml and train.py
    dataset = "stdlib"       a prepared dataset's name, or its folder
    seed = 1
    [budget]                 exactly one of seconds, tokens, flops
    [overrides]              knobs of recipe.toml
    [machine]                where and how; it changes how fast a run is, and not what it learns

``gpu_runner/standalone/example.toml`` is a whole one with comments.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from gpu_runner.contract import MAX_SEED, Budget, Knobs, KnobValue, Wire
from gpu_runner.contract.closest import closest

SEED_IS = f"a whole number from 0 to {MAX_SEED} (torch reads 32 bits of it: above, weights would repeat)"
EXAMPLE = Path(__file__).resolve().parent / "example.toml"


class BudgetTable(Wire):
    """How long to train: exactly one of the three."""

    seconds: float | None = Field(default=None, gt=0, description="seconds inside the training clock")
    tokens: float | None = Field(default=None, gt=0, description="tokens to train on, a number above 0")
    flops: float | None = Field(default=None, gt=0, description="floating-point operations, a number above 0")

    @model_validator(mode="after")
    def _exactly_one(self) -> BudgetTable:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("name exactly one of seconds, tokens and flops")
        return self

    @property
    def as_budget(self) -> Budget:
        ((kind, amount),) = self.model_dump(exclude_none=True).items()
        return Budget.model_validate({"kind": kind, "amount": amount})


class MachineTable(Wire):
    """Where and how to train. Only ``processes`` and ``dtype`` change what is learned."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="a whole number of CPU threads for each process, from 1 (all cores when left out)",
    )
    processes: int = Field(default=1, ge=1, le=1024, description="processes on this machine, one for each GPU, from 1")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto, float32 or bfloat16")
    compile: Literal["auto", "always", "never"] = Field(default="auto", description="auto, always or never")
    snapshot_every_s: float = Field(
        default=60.0, gt=0, description="seconds between two snapshots that a killed run goes on from, above 0"
    )
    sandbox: Literal["none", "landlock", "bubblewrap", "best"] = Field(
        default="none", description="none (your own code, your own rights), landlock, bubblewrap or best"
    )
    deadline_s: float | None = Field(
        default=None, gt=0, description="seconds of wall clock after which the run is killed, above 0"
    )


class TrainSpec(Wire):
    """The spec of one run by hand."""

    recipe: str = Field(min_length=1, description="the name of a shipped recipe, or a folder")
    dataset: str = Field(min_length=1, description="the name of a prepared dataset, or its folder")
    seed: int = Field(default=1, ge=0, le=MAX_SEED, description=SEED_IS)
    budget: BudgetTable = Field(description="a table with exactly one of seconds, tokens and flops")
    overrides: Knobs = Field(default={}, description="a table of knobs that the recipe declares")
    machine: MachineTable = Field(default=MachineTable(), description="a table; leave it out for the defaults")


TABLES: dict[str, type[Wire]] = {"": TrainSpec, "budget": BudgetTable, "machine": MachineTable}


def load_spec(path: Path) -> TrainSpec:
    """The spec in ``path``. Raises ValueError: one sentence that names the field and the way out."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; {EXAMPLE} is one to copy") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not TOML: {error}") from error
    try:
        return TrainSpec.model_validate(table)
    except ValidationError as error:
        raise ValueError(f"{path}: {_first_mistake(error)}") from error


def with_changes(spec: TrainSpec, *, settings: Iterable[str], seed: int | None) -> TrainSpec:
    """``spec`` with ``--set knob=value`` and ``--seed`` applied. Raises ValueError."""
    overrides = spec.overrides | dict(_setting(text) for text in settings)
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ValueError(f"--seed: must be {SEED_IS}; not {seed}")
    return spec.model_copy(update={"overrides": overrides, "seed": spec.seed if seed is None else seed})


def as_toml(spec: TrainSpec) -> str:
    """``spec`` as TOML that ``load_spec`` reads, every field written out."""
    body = spec.model_dump(exclude_none=True)
    top = [_line(key, value) for key, value in body.items() if not isinstance(value, dict)]
    tables = [
        "\n".join([f"\n[{name}]", *(_line(key, value) for key, value in table.items())])
        for name, table in body.items()
        if isinstance(table, dict)
    ]
    return "\n".join([*top, *tables]) + "\n"


def _setting(text: str) -> tuple[str, KnobValue]:
    """``knob=value``; the value as TOML reads it, else as a string."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not key or not equals:
        raise ValueError(f"--set: {text!r} is not of the form knob=value")
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        read = value
    return key, read if isinstance(read, int | float | bool | str) else value


def _line(key: str, value: object) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")  # JSON allows it bare


def _first_mistake(error: ValidationError) -> str:
    """The first of pydantic's errors, as a sentence about the file."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["overrides"] and len(place) > 1:  # pydantic complains once for every type a knob may have
        return f"overrides.{place[1]}: must be a number, true, false or a text, not {first['input']!r}"
    where = ".".join(place)
    table = TABLES[".".join(place[:-1])].model_fields if place else {}
    if first["type"] == "extra_forbidden":
        return f"{where}: no such field; {closest(place[-1], table)}"
    if first["type"] == "value_error":  # one of our validators'
        return f"{where}: {first['ctx']['error']}"
    wanted = table[place[-1]].description
    return (
        f"{where}: is missing; it is {wanted}"
        if first["type"] == "missing"
        else (f"{where}: must be {wanted}; not {first['input']!r}")
    )
