"""Which file of a repository is started, and how: ranked by its name, its place, what it does, and who mentions it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import comment
from gpu_runner.contract.closest import closest

MAX_CANDIDATES = 5
MAX_LOOKED_AT = 300
NAMES: tuple[tuple[str, int], ...] = (
    (r"(run_)?train\.py", 50),
    (r"(train_gpt|pretrain|run_clm|train_lm)\w*\.py", 45),
    (r"(train|base_train|pretraining)\w*\.py", 40),
    (r"\w*train(er)?\.py", 30),
    (r"(main|run|__main__)\.py", 15),
)
OTHER_WORK = re.compile(
    r"sft|rl\b|rlhf|dpo|ppo|grpo|reward|finetun|chat|eval|test|infer|generat|sampl|prepare|tokeniz|convert|export|"
    r"profil|bench|classif|vision|image|audio|glue|lora|adapter|distill"
)
ELSEWHERE = re.compile(
    r"(^|/)(tests?|records?|data|eval\w*|legacy|old|archive|docs?|benchmarks?|experiments?|tools|extensions?|contrib|config\w*)/"
)
TRAINS = re.compile(r"\.backward\(|Trainer\(|\.fit\(|optimizer\.step\(|value_and_grad|\.train\(\)")
STARTED = re.compile(r"(?:torchrun|python3?|accelerate launch|deepspeed|srun)\b([^\n`]{0,300})")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file that is started. ``words`` follow {python}; ``why`` is for a person."""

    path: str
    score: int
    why: tuple[str, ...]
    by_torchrun: bool
    words: tuple[str, ...]
    pythonpath: str = ""


def ranked(tree: Tree) -> list[Entry]:
    """The likeliest entries, best first. Empty where nothing looks as if it trains."""
    mentions = _mentions(tree)
    paths = sorted(tree.ending(".py"), key=lambda path: (-_by_name(path), path.count("/"), path))[:MAX_LOOKED_AT]
    scored = [(score, path) for path in paths if (score := _judged(tree, path, mentions)[0]) > 30]
    best = sorted(scored, key=lambda pair: (-pair[0], pair[1].count("/"), pair[1]))[:MAX_CANDIDATES]
    return [_entry(tree, path, mentions) for _, path in best]


def chosen(tree: Tree, path: str) -> Entry:
    """The entry that a person named. Raises ValueError where there is none such."""
    path = PurePosixPath(path).as_posix()
    if path not in tree.known or not path.endswith(".py"):
        known = closest(path, [known for known in tree.ending(".py") if known.count("/") < 3][:20])
        raise ValueError(f"--entry: {tree.folder / path} is no Python file of this repository; {known}")
    return _entry(tree, path, _mentions(tree))


def _mentions(tree: Tree) -> str:
    """All command lines of READMEs and shell scripts, continued lines joined."""
    files = [path for path in tree.ending(".md", ".sh", ".rst", ".slurm") if path.count("/") < 3][:60]
    whole = "\n".join(tree.text(path).replace("\\\n", " ") for path in files)
    return "\n".join(found[0] for found in STARTED.finditer(whole))


def _by_name(path: str) -> int:
    name = path.rpartition("/")[2]
    by_name = next((score for pattern, score in NAMES if re.fullmatch(pattern, name)), 0)
    return (
        by_name - 3 * path.count("/") - (40 if OTHER_WORK.search(name) else 0) - (25 if ELSEWHERE.search(path) else 0)
    )


def _said_of(path: str, mentions: str) -> list[str]:
    """The command lines that start this file, by its path or as a module."""
    dotted = path.removesuffix(".py").replace("/", ".")
    named = re.compile(rf"(?:^|[\s/]){re.escape(path)}\b|-m {re.escape(dotted)}\b")
    return [line for line in mentions.splitlines() if named.search(line)]


def _judged(tree: Tree, path: str, mentions: str) -> tuple[int, list[str]]:
    """Its score, and why, in words."""
    text, said = tree.text(path), _said_of(path, mentions)
    why, score = [], _by_name(path)
    for holds, worth, words in (
        (score > 0, 0, f"called {path.rpartition('/')[2]}"),
        (TRAINS.search(text) is not None, 15, "trains"),
        ("__main__" in text, 5, "has a __main__ block"),
        (_package_of(tree, path) is not None, 25, "started by its package's own command line"),
        (bool(said), 20 + min(len(said), 5), f"started in {len(said)} place(s) of README and scripts"),
    ):
        if holds:
            score += worth
            why.append(comment(words))
    return score, why


def _entry(tree: Tree, path: str, mentions: str) -> Entry:
    said, (score, why) = _said_of(path, mentions), _judged(tree, path, mentions)
    as_module = f"-m {path.removesuffix('.py').replace('/', '.')}"
    words, pythonpath = _words(tree, path, any(as_module in line for line in said))
    return Entry(
        path=path,
        score=score,
        why=tuple(why),
        by_torchrun=any("torchrun" in line or "torch.distributed" in line for line in said),
        words=words,
        pythonpath=pythonpath,
    )


def _words(tree: Tree, path: str, as_module: bool) -> tuple[tuple[str, ...], str]:
    """How Python is given the file, and PYTHONPATH where it imports what lies at the top of the repository."""
    parents = PurePosixPath(path).parent
    local = tree.imported_by(path)
    from_src = any(file.startswith("src/") for file in local) and not path.startswith("src/")
    from_top = parents.as_posix() != "." and any(not file.startswith(f"{parents}/") for file in local)
    if (package := _package_of(tree, path)) is not None:
        return ("-m", package, path.rpartition("/")[2].removesuffix(".py")), ""
    if as_module and all(part.isidentifier() for part in parents.parts):
        return ("-m", path.removesuffix(".py").replace("/", ".")), "src" if from_src else ""
    return (path,), "src" if from_src else "." if from_top else ""


def _package_of(tree: Tree, path: str) -> str | None:
    """The package whose own command line starts this file by its name, as ``python -m litgpt pretrain``."""
    folder, _, name = path.rpartition("/")
    main = f"{folder}/__main__.py"
    if "__main__" in tree.text(path) or main not in tree.known or "/" in folder:
        return None
    return folder if re.search(rf"[\"']{re.escape(name.removesuffix('.py'))}[\"']", tree.text(main)) else None
