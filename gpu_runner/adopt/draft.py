"""Reads a repository and puts a first recipe.toml together: what the parser takes, with every doubt marked. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gpu_runner.adopt import arguments, constants, entry, fields, files, metric, written
from gpu_runner.adopt.entry import Entry
from gpu_runner.adopt.told import Told, told
from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import Setting, as_knob, comment
from gpu_runner.adopt.ways import NAME, Way, best
from gpu_runner.contract import Knob, Recipe, parse_recipe

MAX_KNOBS, MAX_EDITABLE, MAX_SHOWN = 40, 12, 8
NOT_EDITED = re.compile(
    r"data|token|eval|prepare|log|checkpoint|ckpt|dist|util|metric|download|wandb|config|common|misc|helper|__init__|"
    r"hub|convert|report|profil|serial|constants|argument|cli|test|generat|infer"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where something was found: what, file, line, and that line's text."""

    what: str
    path: str
    line: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A first recipe.toml, with all that a person should know of how it came to be."""

    text: str
    recipe: Recipe
    entries: tuple[Entry, ...]  # the chosen one first
    doubts: tuple[tuple[str, str], ...]
    sources: tuple[Source, ...]
    left_out: tuple[str, ...]


@dataclass
class _Knobs:
    """The knobs that were made of settings: which travel in words of their own, and what became of the rest."""

    made: list[tuple[Knob, Setting]] = field(default_factory=list)
    words: list[tuple[str, ...]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def draft(tree: Tree, wanted: str | None = None) -> Draft:
    """Raises ValueError where nothing here looks as if it trains, or ``wanted`` is no file of it."""
    entries = entry.ranked(tree)
    if wanted is not None:
        named = entry.chosen(tree, wanted)
        entries = [named, *(other for other in entries if other.path != named.path)]
    if not entries:
        raise ValueError(
            f"PATH: no Python file of {tree.folder} looks as if it trains (train*.py, pretrain*.py, one with a"
            " __main__ block that a README starts); name it with --entry FILE"
        )
    first = entries[0]
    paths = tree.reached_from(first.path)
    way = best([*constants.found(tree, first.path), *arguments.found(tree, paths), *fields.found(tree, paths),
                *files.found(tree, first.path, paths)])  # fmt: skip
    said = told(tree, paths, way)
    number = metric.found(tree, paths, by_transformers=way is not None and _is_transformers(way))
    knobs = _knobs(way, said)
    writing = _written(tree, first, paths, way, said, number, knobs)
    try:
        recipe = parse_recipe(writing.text)
    except ValueError as error:  # ours: a first recipe is one that the parser takes
        raise ValueError(f"recipe new: {error}. That is a fault of ours; try another --entry") from error
    return Draft(
        text=writing.text,
        recipe=recipe,
        entries=tuple(entries),
        doubts=tuple(writing.doubts),
        sources=tuple(_sources(tree, way, said, number, knobs)),
        left_out=(*tree.left_out, *([f"left as they are: {', '.join(knobs.left_out)}"] if knobs.left_out else [])),
    )


def _is_transformers(way: Way) -> bool:
    return way.named(fields.TRANSFORMERS) is not None


# --- knobs ----------------------------------------------------------------------------------


def _knobs(way: Way | None, said: Told) -> _Knobs:
    found, taken = _Knobs(), set[str]()
    settings = [s for s in (way.settings if way else ()) if s.name not in said.used and not s.is_housekeeping]
    for setting in sorted(settings, key=lambda s: not s.is_learning):
        assert way is not None
        fits = len(found.made) < MAX_KNOBS and _can_travel(way, setting)
        if not fits or (knob := as_knob(setting, taken)) is None:
            found.left_out.append(comment(setting.name, 60))
        else:
            found.made.append((knob, setting))
            if knob.called != setting.name:  # with a dash, which no knob's name has
                found.words.append(tuple(way.words(setting, "{" + knob.key + "}")))
    return found


def _can_travel(way: Way, setting: Setting) -> bool:
    """A flag cannot be a word with a value; a value that is no flag cannot be there or not."""
    if setting.type == "bool" and way.booleans == "flag":
        return setting.is_flag and "-" not in setting.name
    return NAME.fullmatch(setting.name) is not None


# --- recipe.toml ----------------------------------------------------------------------------


def _written(
    tree: Tree, first: Entry, paths: list[str], way: Way | None, said: Told, number: metric.Metric, knobs: _Knobs
) -> written.Writing:
    writing = written.Writing()
    writing.begin("recipe")
    name = comment(tree.folder.resolve().name, 60)
    writing.put("name", written.quoted(name))
    writing.put("about", written.quoted(f"{name} as it is, on our data."))
    writing.put("kind", '"command"')
    editable, shown = _files(tree, paths)
    editable += [way.edited] if way is not None and way.edited else []
    writing.put("editable", written.many(editable), _editable_doubt(tree, paths, editable))
    if shown:
        writing.put("shown", written.many(shown))
    if any("{tokens}" in word for words in said.words for word in words):
        writing.put("budget_tokens", "10000000", "yours to choose")
    _command(writing, first, way, said, knobs)
    _metrics(writing, number)
    for knob, setting in knobs.made:
        written.knob(writing, knob, setting.unsure)
    return writing


def _files(tree: Tree, paths: list[str]) -> tuple[list[str], list[str]]:
    """What may be edited: the entry, and what it imports of model and optimizer; what else it imports is shown."""
    local = [path for path in paths[1:] if tree.text(path).strip() and " " not in path]
    near = [path for path in local if not NOT_EDITED.search(path)]
    editable = [paths[0], *near[: MAX_EDITABLE - 1]]
    return editable, [path for path in local if path not in editable and "__init__" not in path][:MAX_SHOWN]


def _editable_doubt(tree: Tree, paths: list[str], editable: list[str]) -> str:
    if len(editable) >= MAX_EDITABLE:
        return f"the nearest {MAX_EDITABLE} of {len(paths)} files that it reaches; leave in what proposals may change"
    if re.search(r"def (evaluate|estimate_loss|eval)\w*\(", tree.text(paths[0])):
        return f"{comment(paths[0], 60)} evaluates itself, too: a proposal may change how it measures"
    return ""


def _command(writing: written.Writing, first: Entry, way: Way | None, said: Told, knobs: _Knobs) -> None:
    writing.begin("command")
    words = [
        "{python}",
        *(_braced(w) for w in (*first.words, *(way.before if way else ()))),
        *(w for words in said.words for w in words),
    ]
    words += [word for words in knobs.words for word in words]
    if way is not None and way.travel == "arguments" and _travelling(knobs):
        words.append("{overrides}")
    writing.put("run", written.many(words), said.unsure.get("run", ""))
    env = said.env | ({"PYTHONPATH": first.pythonpath} if first.pythonpath else {})
    if env:
        writing.put("env", written.table(env), said.unsure.get("env", ""))
    if said.steps is not None:
        writing.put("steps", str(said.steps), said.unsure.get("steps", ""))
    writing.put("layout", written.quoted(said.layout), said.unsure.get("layout", ""))
    for key in ("data_at", "data_prefix"):
        if text := getattr(said, key):
            writing.put(key, written.quoted(text), said.unsure.get(key, ""))
    for about in ("out", "device"):
        if about in said.unsure:
            writing.doubt("run in [command]", said.unsure[about])
    if first.by_torchrun and "RANK" in env:
        writing.remark("Started by torchrun otherwise; these variables make it one process on one GPU.")
    if way is not None and _travelling(knobs):
        writing.put("overrides", _overrides(way), way.unsure)
    elif way is not None and way.unsure:
        writing.doubt("run in [command]", way.unsure)
    if not knobs.made:
        writing.doubt("[knobs]", "nothing that sets its numbers from outside was found: declare knobs, or let proposals"
                      " edit code alone")  # fmt: skip


def _braced(word: str) -> str:
    """A word in which braces are braces."""
    return word.replace("{", "{{").replace("}", "}}")


def _travelling(knobs: _Knobs) -> bool:
    return any(knob.called == setting.name for knob, setting in knobs.made)


def _overrides(way: Way) -> str:
    parts = [f"travel = {written.quoted(way.travel)}"]
    if way.travel == "arguments":
        parts += [f"pattern = {written.many(way.pattern)}", f"booleans = {written.quoted(way.booleans)}"]
    else:
        parts.append(f"path = {written.quoted(way.path)}")
    return "{" + ", ".join(parts) + "}"


def _metrics(writing: written.Writing, number: metric.Metric) -> None:
    writing.begin("metrics")
    writing.put("reader", written.quoted(number.reader), number.unsure)
    for key in ("metric", "key", "unit", "direction", "file"):
        if text := getattr(number, key):
            writing.put(key, written.quoted(text))
    if number.patterns:
        writing.put("pattern", written.many(number.patterns, written.pattern))
    if number.step != "step":
        writing.put("step", written.quoted(number.step))
    if number.loss:
        writing.put("loss", written.quoted(number.loss))


# --- where it was found ---------------------------------------------------------------------


def _sources(tree: Tree, way: Way | None, said: Told, number: metric.Metric, knobs: _Knobs) -> list[Source]:
    found = [Source(what=what, path=path, line=line, text=tree.line(path, line)) for what, path, line in number.sources]
    settings = [*said.sources, *((f"knob {knob.key}", setting) for knob, setting in knobs.made)]
    return found + [
        Source(what=what, path=one.path, line=one.line, text=tree.line(one.path, one.line)) for what, one in settings
    ]
