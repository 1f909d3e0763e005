"""Writes the prompts: templates in ``prompts/``, filled from a Brief. Pure.

What seldom changes comes first, so that it can be cached: the rules, the recipe at the incumbent, what was
imported, the settled part of the ledger, with a mark at the end of each. What changes with every call stands behind the
last of them: what is new in the ledger, the campaign with its budget left, how training went, notes, the question. Text
that others wrote is fenced and labelled.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal

from gpu_runner.contract import canonical_json, parse_recipe, sha256
from research import levels
from research.arms.claude import imported
from research.arms.claude.memory import Memory, cut, remember
from research.change.drafts import RISKS, Brief, Draft, Word
from research.change.visible import visible

if TYPE_CHECKING:  # the SDK takes longer to import than all of Django
    from anthropic.types import MessageParam, TextBlockParam

FOLDER = Path(__file__).parent / "prompts"
MAX_COMMENT_CHARS = 8_000
MAX_GOAL_CHARS, MAX_PROGRAM_CHARS = 4_000, 20_000
PLATEAU = 6  # judged in a row without a keep: time for other kinds of ideas

# An hour, not five minutes: the next wave comes after the runs of this one, which take longer than that.
CACHE_TTL: Literal["5m", "1h"] = "1h"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    system: list[TextBlockParam]
    messages: list[MessageParam]

    def sha256(self) -> str:
        return sha256(canonical_json([self.system, self.messages]))


def templates_sha256() -> str:
    """One hash of all templates and the risks' meanings: the version of our own words in the prompts."""
    ours = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
    return sha256(canonical_json(ours | {"risks": _RISKS}))


def propose(brief: Brief) -> Prompt:
    """Ask for up to ``brief.num_wanted`` drafts."""
    question = _template("propose").substitute(num_wanted=brief.num_wanted)
    if brief.num_since_keep >= PLATEAU:
        question += "\n" + _template("plateau").substitute(num=brief.num_since_keep)
    return _prompt(brief, question)


def revise(brief: Brief, previous: Draft, comment: str) -> Prompt:
    """Ask for one draft that answers ``comment`` on ``previous``."""
    body = dataclasses.asdict(previous)
    del body["source"], body["origin"]
    question = _template("revise").substitute(
        previous=fence("the earlier proposal", json.dumps(body, indent=1, ensure_ascii=False)),
        comment=fence("the reviewer's comment", cut(comment, MAX_COMMENT_CHARS)),
    )
    return _prompt(brief, question, previous)


def _prompt(brief: Brief, question: str, revising: Draft | None = None) -> Prompt:
    memory = remember(brief.precedents, revising)
    parts = (_latest(memory), _context(brief), _foreign(brief), _dynamics(brief), _log_tails(brief), _notes(brief))
    content: list[TextBlockParam] = [
        _block(_recipe(brief), cached=True),
        *_imported(brief, cached=not memory.closed),
        *_ledger(memory),
        *(_block(text) for text in parts if text),
        _block(question),
    ]
    return Prompt(
        system=[_block(_template("system").substitute(risks=_RISKS, stated=levels.STATED), cached=True)],
        messages=[{"role": "user", "content": content}],
    )


def _block(text: str, *, cached: bool = False) -> TextBlockParam:
    block: TextBlockParam = {"type": "text", "text": text}
    if cached:
        block["cache_control"] = {"type": "ephemeral", "ttl": CACHE_TTL}
    return block


_RISKS = "\n".join(f"- `{name}`: {meaning}" for name, meaning in RISKS.items())


def _template(name: str) -> Template:
    return Template((FOLDER / f"{name}.md").read_text(encoding="utf-8"))


def fence(label: str, text: str) -> str:
    """``text`` between marks that it cannot contain: they carry its own hash. Same text, same marks, so caches hold.

    Invisible characters are written as code points, and so is the first character of anything that looks like a mark: a
    mark inside could carry the hash of the text within it, and pose as the team's own words.
    """
    shown = _MARK.sub("<U+003C>", visible(text))
    mark = sha256(shown.encode())[:16]
    return f"<data id={mark} label={json.dumps(label)}>\n{shown}\n</data id={mark}>"


_MARK = re.compile(r"<(?=\s*/?\s*data\b)", re.IGNORECASE)


def _line(text: str, limit: int) -> str:
    """A few words of others for one line of ours."""
    return " ".join(visible(text).split())[:limit]


# --- the parts ------------------------------------------------------------------------------


def _recipe(brief: Brief) -> str:
    files = [fence(f"file {path}", brief.files[path]) for path in sorted(brief.files)]
    if brief.not_shown:
        files.append("Further files of the recipe, which are not shown and may not be edited:")
        files.append(fence("further files", "\n".join(brief.not_shown)))
    return "\n\n".join(["# The recipe at the incumbent", *files])


def _context(brief: Brief) -> str:
    best, noise, unit = _measured(brief)
    return _template("context").substitute(
        campaign=fence("campaign", brief.campaign),
        goal=fence("goal", cut(brief.goal, MAX_GOAL_CHARS)),
        program=fence("program", cut(brief.program, MAX_PROGRAM_CHARS) or "(none written)"),
        incumbent="not measured yet" if best is None else f"{best:.5f} {unit}",
        noise="not measured yet" if noise is None else f"standard deviation {noise:.5f} {unit} of a paired difference",
        min_effect=f"{brief.min_effect_bpb:g} {unit}",
        run_budget=brief.run_budget,
        hardware=_line(brief.hardware, 60),
        budget_left=brief.budget_left,
        editable=", ".join(parse_recipe(brief.recipe_toml).editable),
    )


def _imported(brief: Brief, *, cached: bool) -> list[TextBlockParam]:
    """What other loops did, which changes with an import only. The ledger's mark caches it as well."""
    if not (lines := imported.remember(brief.imported)):
        return []
    return [_block(_section("imported", experiments=fence("imported experiments", lines)), cached=cached)]


def _measured(brief: Brief) -> tuple[float | None, float | None, str]:
    """The incumbent's mean, the noise, and their unit; a trainer's own word is called one."""
    if brief.word is None:
        return brief.incumbent_bpb, brief.noise_sd_bpb, "bpb"
    unit = _line(brief.word.unit, 40)
    called = f"{unit} ({brief.word.metric}, self-reported)" if unit else f"{brief.word.metric}, self-reported"
    return brief.word.incumbent, brief.word.noise_sd, called


def _foreign(brief: Brief) -> str:
    """What else holds of a trainer that is not ours; empty for a recipe with the harness."""
    if parse_recipe(brief.recipe_toml).kind != "command":
        return ""
    return _section("foreign", scored=_section("opened") if brief.word is None else _of_its_word(brief.word))


def _of_its_word(word: Word) -> str:
    return _section(
        "word",
        metric=f"{word.metric} in {_line(word.unit, 40)}" if word.unit else word.metric,
        direction=word.direction,
        judged="judges such numbers" if word.is_judged else "judges no such numbers: its verdicts cannot tell",
        better="negative" if word.direction == "lower" else "positive",
    )


def _ledger(memory: Memory) -> list[TextBlockParam]:
    """A block with the heading, and one for each settled part; the cache may end behind the last."""
    if not memory.closed:
        return []
    parts = [fence(f"ledger, part {number}", lines) for number, lines in enumerate(memory.closed, start=1)]
    blocks = [_block(text) for text in [_section("ledger"), *parts]]
    blocks[-1] = _block(parts[-1], cached=True)
    return blocks


def _latest(memory: Memory) -> str:
    """What comes after the settled parts and changes with every wave."""
    parts = {
        "The latest": memory.latest,
        "Open now": memory.open,
        "Near to what is open or new, in detail": memory.near,
        "Further ones, counted by what they changed": memory.counts,
    }
    told = [f"## {name}\n\n{fence(name.lower(), lines)}" for name, lines in parts.items() if lines]
    if not (told or memory.closed):
        return "# Ledger\n\nNothing has been tried yet."
    head = [] if memory.closed else [_section("ledger")]
    return "\n\n".join([*head, *told])


def _dynamics(brief: Brief) -> str:
    """One JSON object a run; null for a measurement that was not taken."""
    lines = [
        json.dumps({"run": d.name, "at": d.at, "tokens": d.tokens} | d.metrics) for d in brief.dynamics if d.metrics
    ]
    return _section("dynamics", training_runs=fence("training dynamics", "\n".join(lines))) if lines else ""


def _log_tails(brief: Brief) -> str:
    tails = [fence(f"log of proposal {t.proposal}, {t.purpose} run", t.text) for t in brief.log_tails if t.text]
    return _section("logs", tails="\n\n".join(tails)) if tails else ""


def _notes(brief: Brief) -> str:
    notes = [f"{note.at} UTC\n{note.text}" for note in brief.notes]
    return _section("notes", notes=fence("steering notes", "\n\n".join(notes))) if notes else ""


def _section(name: str, **parts: str) -> str:
    return _template(name).substitute(parts)
