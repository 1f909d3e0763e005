"""A foreign trainer as a recipe (``kind = "command"``): how it is started, how its numbers are read, how it is scored.

Everything here is written by whoever brings the recipe, and no proposal may change it. Frozen and strict.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gpu_runner.contract.closest import closest
from gpu_runner.contract.plain import plain
from gpu_runner.contract.wire import Wire

# What may stand in braces in a word of `run` and in a value of `env`; beside it the key of any knob.
PLACEHOLDERS = ("python", "seed", "seconds", "tokens", "steps", "data", "out", "overrides")
IN_BRACES = re.compile(r"(?<!\{)\{([A-Za-z_][A-Za-z0-9_]*)\}(?!\})")  # {{this}} is a word in braces
OURS = "val_bpb"  # the trusted scorer's number, and nobody else's
MAX_WORDS, MAX_PATTERNS, MAX_PATTERN_CHARS = 200, 8, 500
_REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{)")


def is_safe_path(path: str) -> bool:
    """True for a relative POSIX path that stays inside its folder."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and "\0" not in path


def _safe(path: str) -> str:
    if not is_safe_path(path):
        raise ValueError(f"{path!r} must be a path inside of its folder, such as model.py")
    return path


def _readable(text: str) -> str:
    if plain(text) != text:
        raise ValueError("holds a control or hidden character; write it without")
    return text


def _is_expression(pattern: str) -> str:
    """No group may be repeated: that alone lets a line of a hostile trainer hold up its reader for hours."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if _REPEATED_GROUP.search(pattern):
        raise ValueError("repeats a group, which can take for ever on a long line; repeat single characters only")
    return pattern


Path = Annotated[str, Field(max_length=200), AfterValidator(_safe)]
Word = Annotated[str, Field(max_length=2_000), AfterValidator(_readable)]
Key = Annotated[str, Field(max_length=80), AfterValidator(_readable)]
Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_CHARS), AfterValidator(_is_expression)]
Booleans = Literal["python", "lower", "digits", "flag"]  # True | true | 1 | the argument alone, left out where false


class Overrides(Wire):
    """How the values of all knobs reach the trainer; those that ``run`` or ``env`` name in braces go there instead."""

    travel: Literal["arguments", "environment", "file", "constants"] = "arguments"
    pattern: Annotated[tuple[Word, ...], Field(min_length=1, max_length=4)] = ("--{key}={value}",)  # of each argument
    booleans: Booleans = "python"
    path: Path | None = None  # file: where it is written; constants: whose head is rewritten. In the trainer's own copy
    format: Literal["json", "toml", "yaml", "python"] = "json"  # of the file

    @model_validator(mode="after")
    def _whole(self) -> Overrides:
        if self.travel in ("file", "constants") and self.path is None:
            raise ValueError(f'path: is missing; with travel = "{self.travel}" it names the file')
        if not {"{key}", "{value}"} & set(re.findall(r"\{(?:key|value)\}", " ".join(self.pattern))):
            raise ValueError('pattern: has neither {key} nor {value}; write it as in "--{key}={value}"')
        return self


class Command(Wire):
    """How a foreign trainer is started. ``run`` is a list of words; no shell reads it."""

    run: tuple[Word, ...] = Field(min_length=1, max_length=MAX_WORDS)
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,79}$")], Word] = Field(default={}, max_length=50)
    overrides: Overrides = Overrides()
    environment: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9_.-]{0,39})?$")  # empty: the worker's own packages
    layout: Literal["ours", "nanogpt", "llmc"] = "ours"  # of {data}
    data_at: Path | None = None  # where {data} also stands in the trainer's own copy, as nanoGPT's data/NAME
    data_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,40}$")  # of llmc's files, as fineweb_
    steps: int | None = Field(default=None, ge=1)  # what {steps} is in a run that is not a smoke run
    ends: Literal["itself", "told"] = "itself"  # told: SIGTERM when the seconds of its budget are over

    @property
    def named(self) -> frozenset[str]:
        """Everything that stands in braces in ``run`` and ``env``."""
        return frozenset(name for text in (*self.run, *self.env.values()) for name in IN_BRACES.findall(text))

    def problem_with_knobs(self, called: dict[str, str]) -> str | None:
        """Why they do not fit knobs ``{key: name in the trainer}``, as a sentence with the key; None where they do."""
        known = (*PLACEHOLDERS, *called)
        for name in sorted(self.named - set(known)):
            return f"run: {{{name}}} is neither a placeholder nor a knob; {closest(name, known)} (a brace: {{{{)"
        if "overrides" in self.named and "{overrides}" not in self.run:
            return "run: {overrides} must be a word of its own, since it stands for several"
        travelling = sorted(set(called) - self.named)
        needs_word = self.overrides.travel == "arguments"
        if travelling and needs_word and "overrides" not in self.named:
            return (
                f"run: has no word {{overrides}}, so knob {travelling[0]} reaches the trainer nowhere; add that word,"
                f" or {{{travelling[0]}}} where it belongs"
            )
        if "overrides" in self.named and self.overrides.travel in ("environment", "constants"):
            return f'run: {{overrides}} stands for nothing with travel = "{self.overrides.travel}"; leave it out'
        if "steps" in self.named and self.steps is None:
            return "steps: is missing; {steps} is the smoke run's few steps there, and in every other run this number"
        return None

    def problem_with_budget(self, kind: str) -> str | None:
        """Why a campaign's run budget of this kind is none that the trainer can be told; None where it is."""
        if "tokens" in self.named and kind != "tokens":
            return f"run budget: the recipe tells its trainer {{tokens}}, so it must be in tokens, not in {kind}"
        if self.ends == "told" and kind != "seconds":
            return f'run budget: with ends = "told" the recipe\'s trainer is ended by its seconds, not by {kind}'
        return None


class Metrics(Wire):
    """How the trainer's numbers are read, and what its last word on the campaign's metric is called."""

    reader: Literal["json_lines", "regex", "tensorboard", "block"]
    metric: str = Field(pattern=r"^[a-z][a-z0-9_/]{0,63}$")  # what people call it
    key: Key = ""  # what the trainer calls it: a JSON key, a group's name, a tag; empty: the same
    unit: Annotated[str, Field(max_length=40), AfterValidator(_readable)] = ""  # such as nats per token
    direction: Literal["lower", "higher"] = "lower"  # which is better
    pattern: tuple[Pattern, ...] = Field(default=(), max_length=MAX_PATTERNS)  # of regex: each has named groups
    file: Path | None = None  # read instead of stdout; for tensorboard a folder. Inside of {out} or of the source
    step: Key = "step"
    loss: Key = ""  # for live curves, beside everything else that is a number
    tokens: Key = ""

    @property
    def reads(self) -> str:
        """The trainer's own name of the metric."""
        return self.key or self.metric

    @model_validator(mode="after")
    def _is_its_own(self) -> Metrics:
        if self.metric == OURS:
            raise ValueError(
                f"metric: {OURS} is what the trusted scorer measures; call the trainer's own reported_{OURS}, with"
                f' key = "{OURS}"'
            )
        return self

    @model_validator(mode="after")
    def _fits_its_reader(self) -> Metrics:
        if self.reader == "regex":
            groups = [name for pattern in self.pattern for name in re.compile(pattern).groupindex]
            if not self.pattern:
                raise ValueError('pattern: is missing; reader = "regex" reads named groups, as in (?P<loss>[0-9.]+)')
            if self.reads not in groups:
                raise ValueError(f"pattern: no group is called {self.reads}; {closest(self.reads, groups)}")
        elif self.pattern:
            raise ValueError(f'pattern: is for reader = "regex", not for "{self.reader}"; leave it out')
        if self.reader == "tensorboard" and self.file is None:
            raise ValueError("file: is missing; it names the folder of the event files, such as runs")
        return self


class Model(Wire):
    """How a trained model is opened by the trusted scorer, as it opens any: ``function(config)`` of ``file``.

    ``config`` holds the values of all knobs by their keys, vocab_size and seq_len; the function gives a torch module
    whose ``forward`` turns tokens ``[B, T]`` into logits ``[B, T, vocabulary]``. Its weights are taken from
    ``checkpoint`` (safetensors, or what torch.load reads with weights_only), a path in {out} or in the source.
    """

    file: Path
    function: str = Field(default="build_model", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,79}$")
    checkpoint: Path
    weights: Key = ""  # where in the checkpoint, as model or state.model; empty: where they usually are
    seq_len: int | str = Field(
        union_mode="left_to_right"
    )  # rows of which the model is asked: a number, or a knob's key
