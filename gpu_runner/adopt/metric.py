"""How a trainer says its number: from the strings that it prints, a pattern that finds it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpu_runner.adopt.syntax import literal, name_of
from gpu_runner.adopt.tree import Tree
from gpu_runner.contract.command import MAX_PATTERN_CHARS
from gpu_runner.contract.plain import ESCAPES, is_hidden

SPEAKS = re.compile(r"print|info|log|write|echo|msg|warning|say|display|pbar", re.I)
NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|nan|inf"
METRIC = re.compile(r"(val|eval|valid|validation|test|heldout|final)?[ _/.-]*"
                    r"(?<![a-z])(bpb|bits per byte|loss|perplexity|ppl|accuracy|acc|ce)\b", re.I)  # fmt: skip
STEP = re.compile(r"\b(step|iter|iteration|it|global_step|train_steps?|current_step)\b", re.I)
TENSORBOARD = re.compile(r"SummaryWriter\(|TensorBoardLogger\(")
MAX_SAID = 400
HIDDEN = "\0"  # stands for what a reader of a pattern cannot see, as colours


@dataclass(frozen=True, kw_only=True)
class Said:
    """One place where a number is said: the pieces of its text, literal (str) or a value (its name)."""

    pieces: tuple[tuple[bool, str], ...]  # (is a value, text)
    path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What stands in [metrics]. ``sources`` are for a person: what, file and line."""

    reader: str
    metric: str
    key: str = ""
    unit: str = ""
    direction: str = "lower"
    patterns: tuple[str, ...] = ()
    step: str = "step"
    loss: str = ""
    file: str = ""
    unsure: str = ""
    sources: tuple[tuple[str, str, int], ...] = ()


def found(tree: Tree, paths: list[str], *, by_transformers: bool = False) -> Metric:
    """The likeliest way of reading the metric; one that is marked where nothing says it."""
    said = [one for path in paths for one in _said(tree, path)][:MAX_SAID]
    if (block := _block(said)) is not None:
        return block
    if by_transformers:
        return _of_transformers(paths[0])
    scored = sorted(((score, -n, one, at) for n, one in enumerate(said) for score, at in _scores(one)),
                    key=lambda hit: hit[:2], reverse=True)  # fmt: skip
    if not scored:
        return _of_events(tree, paths) or _nothing(paths[0])
    score, _, best, at = scored[0]
    return _by_pattern(best, at, score, said)


# --- what is said ---------------------------------------------------------------------------


def _said(tree: Tree, path: str) -> Iterator[Said]:
    module = tree.module(path)
    for node in ast.walk(module) if module else ():
        if isinstance(node, ast.Call) and SPEAKS.search(name_of(node.func).rpartition(".")[2]):
            pieces = [piece for n, argument in enumerate(node.args) for piece in (*_gap(n), *_pieces(argument))]
            if any(is_value for is_value, _ in pieces):
                yield Said(pieces=_joined(pieces), path=path, line=node.lineno)
        elif isinstance(node, ast.Assign | ast.AugAssign) and isinstance(node.value, ast.JoinedStr):
            yield Said(pieces=_joined(_pieces(node.value)), path=path, line=node.lineno)  # msg = f"..."; print(msg)


def _joined(pieces: Iterable[tuple[bool, str]]) -> tuple[tuple[bool, str], ...]:
    """Texts that follow each other as one."""
    joined: list[tuple[bool, str]] = []
    for is_value, text in pieces:
        if joined and not is_value and not joined[-1][0]:
            joined[-1] = (False, joined[-1][1] + text)
        else:
            joined.append((is_value, text))
    return tuple(joined)


def _gap(number: int) -> list[tuple[bool, str]]:
    return [(False, " ")] if number else []


def _pieces(node: ast.expr) -> Iterator[tuple[bool, str]]:
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield (True, _value_name(part.value))
            elif isinstance(text := literal(part), str):
                yield (False, text)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and isinstance(text := literal(node.left), str):
        values = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        yield from _interleaved(re.split(r"%[-+ 0-9.]*[defgsi]", text), values)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        if isinstance(text := literal(node.func.value), str):
            yield from _interleaved(re.split(r"\{[^{}]*\}", text), node.args)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _pieces(node.left)
        yield from _pieces(node.right)
    elif isinstance(text := literal(node), str):
        yield (False, text)
    elif not isinstance(node, ast.Dict | ast.Lambda):
        yield (True, _value_name(node))


def _interleaved(texts: list[str], values: list[ast.expr]) -> Iterator[tuple[bool, str]]:
    for number, text in enumerate(texts):
        yield (False, text)
        if number < len(texts) - 1:
            yield (True, _value_name(values[number]) if number < len(values) else "")


def _value_name(node: ast.expr) -> str:
    """What a value is called: ``val_loss``, ``losses['val']`` as losses_val, ``loss.item()`` as loss."""
    if isinstance(node, ast.Subscript):
        return f"{_value_name(node.value)}_{literal(node.slice) or ''}"
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("item", "mean", "detach", "cpu"):
            return _value_name(node.func.value)
        return _value_name(node.args[0]) if node.args else name_of(node.func)
    if isinstance(node, ast.BinOp):
        return _value_name(node.left)
    return name_of(node)[-80:]


# --- which of it is the metric --------------------------------------------------------------


def _scores(said: Said) -> Iterator[tuple[int, int]]:
    """(score, index of the value) for every value that may be the metric."""
    for at, (is_value, name) in enumerate(said.pieces):
        if not is_value:
            continue
        before = said.pieces[at - 1][1][-30:] if at and not said.pieces[at - 1][0] else ""
        label = _label(before)
        if label:
            yield _worth(label) + (3 if any(STEP.search(name) for name in _steps_in(said)) else 0), at
        elif METRIC.search(name) and before.strip() and (score := _worth(name) - 7) > 0:
            yield score, at


def _label(before: str) -> str:
    """The last words before a value, as ``val loss`` of ``"step 3: train loss 2.1, val loss "``; empty of others."""
    said = re.split(r"[,|;\n]|\s{2,}|\] ", before.rstrip(" :=("))[-1].strip().lower()
    hits = list(METRIC.finditer(said))
    return said if hits and said.endswith(hits[-1][0].lower()) else ""


def _worth(name: str) -> int:
    said = name.lower()
    if not METRIC.search(said):
        return 0
    score = 10
    score += 20 if re.search(r"val|eval|held", said) else 6 if re.search(r"test|final", said) else 0
    score += 6 if re.search(r"bpb|bits", said) else 4 if re.search(r"loss|\bce\b", said) else 0
    score -= 6 if re.search(r"best|min|prev|aux|diff|delta|target|time|every|interval|limit|max", said) else 0
    return score


def _by_pattern(best: Said, at: int, score: int, said: list[Said]) -> Metric:
    """A regular expression for the best line, and one for the training loss where another line says it."""
    key = _group(best, at)
    patterns, sources = [_pattern(best, at, key)], [("metric", best.path, best.line)]
    loss = ""
    for other in said:
        if other is best:
            continue
        hit = next((n for s, n in _scores(other) if 8 <= s < 23), None)
        if hit is not None and any(STEP.search(name) for name in _steps_in(other)):
            loss = "loss" if key != "loss" else "train_loss"
            patterns.append(_pattern(other, hit, loss))
            sources.append(("training loss", other.path, other.line))
            break
    metric = _metric_name(key)
    return Metric(
        reader="regex",
        metric=metric,
        key=key if key != metric else "",
        unit=_unit(key),
        direction="higher" if "acc" in key else "lower",
        patterns=tuple(patterns),
        loss=loss,
        unsure="" if score >= 24 else "only a training loss was found, which says nothing of held-out text",
        sources=tuple(sources),
    )


def _group(said: Said, at: int) -> str:
    before = said.pieces[at - 1][1] if at and not said.pieces[at - 1][0] else ""
    label = _label(before[-30:]) or said.pieces[at][1]
    hits = list(METRIC.finditer(label))
    kept = hits[-1][0] if hits else label
    name = re.sub(r"[^a-z0-9]+", "_", kept.lower()).strip("_")
    name = re.sub(r"^(validation|valid|eval)_", "val_", name).replace("bits_per_byte", "bpb")
    own = said.pieces[at][1].lower()
    if name == "loss" and re.search(r"val|eval", own):
        name = "val_loss"
    return name if name.isidentifier() else "loss"


def _steps_in(said: Said) -> Iterator[str]:
    """For every value, its name and the word before it."""
    for at, (is_value, name) in enumerate(said.pieces):
        if is_value:
            before = said.pieces[at - 1][1] if at and not said.pieces[at - 1][0] else ""
            yield f"{re.split(r'[^A-Za-z_]+', before.rstrip(' :=#'))[-1]} {name.rpartition('.')[2]}"


def _pattern(said: Said, metric_at: int, key: str) -> str:
    """From the step, or from the words before the metric, up to the metric; what else is a value may be anything."""
    values = [n for n, (is_value, _) in enumerate(said.pieces) if is_value]
    named = zip(values, _steps_in(said), strict=True)
    step_at = next((n for n, name in named if STEP.search(name) and n < metric_at), None)
    first = step_at if step_at is not None else metric_at
    parts = [_literal(said.pieces[first - 1][1], is_first=True)] if first and not said.pieces[first - 1][0] else []
    for at in range(first, metric_at + 1):
        is_value, text = said.pieces[at]
        if at == metric_at:
            parts.append(f" *(?P<{key}>{NUMBER})")
        elif at == step_at:
            parts.append(" *(?P<step>[0-9]+)")
        else:
            parts.append(".*?" if is_value else _literal(text))
    whole = re.sub(r"(\.\*\?)+", ".*?", re.sub(r"( \*| )+(?= \*)", "", "".join(parts)))
    if len(whole) <= MAX_PATTERN_CHARS:
        return whole
    return _literal(said.pieces[metric_at - 1][1], is_first=True)[-200:] + f" *(?P<{key}>{NUMBER})"


def _literal(text: str, *, is_first: bool = False) -> str:
    """Text as a pattern: a line of its own, spaces as many as there are, quotes and the like as they are."""
    text = re.split(r"[\n\r]", text)[-1] if is_first else text.replace("\n", " ")
    text = "".join(HIDDEN if is_hidden(one) else one for one in ESCAPES.sub(HIDDEN, text[-80:] if is_first else text))
    said = re.sub(r"\\([ :=,/'\"#%<>@!~`&-])", r"\1", re.escape(text)).replace(re.escape(HIDDEN), ".*?")
    return re.sub(r" +", " *", said.lstrip() if is_first else said)


def _metric_name(key: str) -> str:
    return f"reported_{key}" if key == "val_bpb" else key


def _unit(key: str) -> str:
    if "bpb" in key:
        return "bits per byte"
    return "nats per token" if "loss" in key else ""


# --- other readers --------------------------------------------------------------------------


def _block(said: list[Said]) -> Metric | None:
    """autoresearch's: lines of ``key: value`` after a line of dashes. Printed dashes alone hold no value."""
    for one in said:
        pieces = one.pieces
        if len(pieces) == 2 and not pieces[0][0] and re.fullmatch(r"val_(bpb|loss): +", pieces[0][1]):
            key = pieces[0][1].partition(":")[0]
            steps = next((o.pieces[0][1].partition(":")[0] for o in said if len(o.pieces) == 2
                          and re.fullmatch(r"(num_steps|steps?): +", o.pieces[0][1])), "step")  # fmt: skip
            return Metric(reader="block", metric=_metric_name(key), key=key if key == "val_bpb" else "",
                          unit=_unit(key), step=steps, sources=(("metric", one.path, one.line),))  # fmt: skip
    return None


def _of_transformers(path: str) -> Metric:
    return Metric(
        reader="regex",
        metric="eval_loss",
        unit="nats per token",
        patterns=(rf"'eval_loss': '?(?P<eval_loss>{NUMBER})", rf"'loss': '?(?P<loss>{NUMBER})"),
        loss="loss",
        unsure="transformers' Trainer prints its numbers as {'eval_loss': ...}; it has to evaluate (eval_strategy)",
        sources=(("metric", path, 1),),
    )


def _of_events(tree: Tree, paths: list[str]) -> Metric | None:
    for path in paths:
        if (hit := TENSORBOARD.search(tree.text(path))) is not None:
            tags = re.findall(r"add_scalar\(\s*[\"']([^\"'\n]{1,60})[\"']", tree.text(path))
            tag = max(tags, key=_worth, default="val_loss")
            name = re.sub(r"[^a-z0-9_/]+", "_", tag.lower()).strip("_/") or "val_loss"
            name = _metric_name(name if name[0].isalpha() else f"m_{name}")[:64]
            return Metric(reader="tensorboard", metric=name, key=tag if tag != name else "", file="runs",
                          unit=_unit(name), unsure="the folder of the event files is a guess",
                          sources=(("metric", path, tree.text(path)[: hit.start()].count("\n") + 1),))  # fmt: skip
    return None


def _nothing(path: str) -> Metric:
    return Metric(
        reader="regex",
        metric="val_loss",
        unit="nats per token",
        patterns=(rf"val loss *(?P<val_loss>{NUMBER})",),
        unsure="nothing that prints such a number was found; write the words that stand before it",
        sources=(("metric", path, 1),),
    )
