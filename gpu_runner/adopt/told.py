"""What a run tells its trainer: seed, steps, where its data lies and where it may write; and what it must find."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gpu_runner.adopt.syntax import assigned, literal
from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import Setting
from gpu_runner.adopt.ways import Way

SEED = ("seed", "random_seed", "global_seed", "manual_seed")
STEPS = ("max_iters", "max_steps", "num_iterations", "num_steps", "train_steps", "total_steps", "steps", "n_steps",
         "num_train_steps", "max_train_steps", "iterations", "train_iters", "max_iterations", "max_step",
         "num_training_steps", "training_steps", "num_scheduled_iterations", "max_iter", "max_duration")  # fmt: skip
SECONDS = ("time_budget", "max_seconds", "time_limit", "max_time", "train_seconds")
TOKENS = ("max_tokens", "total_tokens", "train_tokens", "num_tokens", "token_budget")
ALIKE = ("lr_decay_iters", "decay_iters")  # of nanoGPT: the schedule's end, which goes with the steps
OUT = ("out_dir", "output_dir", "dump_dir", "save_dir", "save_folder", "checkpoint_dir", "ckpt_dir", "run_dir",
       "log_dir", "logdir", "logging_dir", "outdir", "checkpoints_path", "default_root_dir", "dump_folder",
       "results_dir", "results_base_folder", "save_path", "output_path", "out")  # fmt: skip
DATA = ("data_dir", "data_path", "data_root", "dataset_dir", "dataset_path", "data_folder", "root_dir", "train_dir",
        "input_dir", "datadir", "datasets_dir", "dataset_folder")  # fmt: skip
TRAIN_FILES = ("input_bin", "train_bin", "train_files", "train_file", "train_data", "train_data_path", "train_glob")
VAL_FILES = ("input_val_bin", "val_bin", "val_files", "val_file", "validation_file", "val_data", "val_data_path",
             "eval_file")  # fmt: skip
LLMC = re.compile(r"20240520|20240801")
GLOB = re.compile(r"(?:[\"']([\w.-]{1,40}(?:/[\w.-]{1,40}){0,4})/)?([A-Za-z0-9-]{0,40}_)?train[\w*]{0,40}\.bin")
JOINED_DATA = re.compile(r"os\.path\.join\(\s*[\"'](data)[\"']\s*,\s*(dataset)\b")
VARIABLE = re.compile(
    r"(?:environ\.get\(|getenv\(|environ\[)\s*[\"']([A-Z_]{0,30}(?:DATA|CACHE|BASE_DIR|ROOT)[A-Z_]{0,30})[\"']"
)
ANY_SEED = re.compile(r"\b(?:manual_seed|set_seed|seed_everything|random\.seed|seed_all)\(([^)\n]{0,60})\)?")
NEEDS_RANK = re.compile(r"os\.environ\[[\"'](RANK|LOCAL_RANK|WORLD_SIZE)[\"']\]")
ASKS_FOR_RANK = re.compile(r"environ\.get\([\"'](?:LOCAL_)?RANK|[\"']RANK[\"'][^\n]{0,60}in os\.environ|getenv\(")
AS_TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
DEFAULT_STEPS = 1_000


@dataclass
class Told:
    """Words and variables of the command, and the layout of its data. ``unsure`` is by what it is about."""

    words: list[tuple[str, ...]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    steps: int | None = None
    layout: str = "ours"
    data_at: str = ""
    data_prefix: str = ""
    used: set[str] = field(default_factory=set)  # names of settings that a run tells, and so no knobs
    unsure: dict[str, str] = field(default_factory=dict)
    sources: list[tuple[str, Setting]] = field(default_factory=list)


def told(tree: Tree, paths: list[str], way: Way | None) -> Told:
    """Find it in what the entry reaches. ``paths`` begin with the entry."""
    said = Told()
    whole = "\n".join(tree.text(path) for path in paths)
    _steps(said, tree, paths, way)
    _seed(said, tree, paths, way)
    _out(said, way)
    _data(said, way, whole, tree)
    _asks(said, tree, paths)
    _device(said, way)
    if NEEDS_RANK.search(whole) and not ASKS_FOR_RANK.search(whole):
        said.env |= AS_TORCHRUN
    if "wandb" in whole:
        said.env["WANDB_MODE"] = "disabled"
    return said


def _tell(said: Told, way: Way, setting: Setting, value: str, what: str) -> bool:
    """Add the words that set one. False where it cannot travel as an argument."""
    if way.travel != "arguments":
        return False
    said.words.append(tuple(way.words(setting, value)))
    said.used.add(setting.name)
    said.sources.append((what, setting))
    return True


def _steps(said: Told, tree: Tree, paths: list[str], way: Way | None) -> None:
    found = way.named(*STEPS) if way else None
    if way and found and _tell(said, way, found, "{steps}", "steps"):
        default = found.value if isinstance(found.value, int) and found.value > 0 else DEFAULT_STEPS
        said.steps = int(default)
        said.unsure["steps"] = "how long a whole run is; yours to choose" + (
            "" if default == found.value else f", since {found.name} says none"
        )
        for alike in (setting for setting in way.settings if setting.plain_name in ALIKE):
            _tell(said, way, alike, "{steps}", "steps")
        return
    for names, value in ((SECONDS, "{seconds}"), (TOKENS, "{tokens}")):
        if way and (other := way.named(*names)) and _tell(said, way, other, value, value.strip("{}")):
            said.unsure["run"] = f"no option for a number of steps was found; {other.name} is told {value} instead"
            return
    at = f"; it stands in {found.path}, line {found.line}, as {found.name}" if found else _constant(tree, paths)
    said.unsure["run"] = f"nothing tells it how many steps to take{at}. A smoke run is ended after 60 s"


def _constant(tree: Tree, paths: list[str]) -> str:
    """Where a constant of that meaning stands, as the end of a sentence."""
    for path in paths:
        module = tree.module(path)
        for node in module.body if module else ():
            if (pair := assigned(node)) and pair[0].lower() in (*SECONDS, *STEPS, *TOKENS) and literal(pair[1]):
                return f"; {path}, line {node.lineno} sets {pair[0]} = {literal(pair[1])}"
    return ""


def _seed(said: Told, tree: Tree, paths: list[str], way: Way | None) -> None:
    if way and (found := way.named(*SEED)) and _tell(said, way, found, "{seed}", "seed"):
        return
    place = next(((path, hit) for path in paths if (hit := ANY_SEED.search(tree.text(path)))), None)
    at = ""
    if place is not None:
        at = f"; {place[0]}, line {_line(tree, place[0], place[1].start())} sets one of its own"
    said.env["SEED"] = "{seed}"
    said.unsure["env"] = f"no option for a seed was found{at}. Let it read SEED, or pairs tell nothing"


def _out(said: Told, way: Way | None) -> None:
    if way and (found := way.named(*OUT)) and _tell(said, way, found, "{out}", "output folder"):
        return
    said.unsure["out"] = "no option for an output folder was found; what it writes beside its source stays with the run"


def _data(said: Told, way: Way | None, whole: str, tree: Tree) -> None:
    """The layout by what the source reads, and the place by an option, a glob in a string, or nanoGPT's folder."""
    glob, is_llmc = GLOB.search(whole), LLMC.search(whole) is not None
    if is_llmc:
        said.layout = "llmc"
    elif "train.bin" in whole and re.search(r"memmap|fromfile|meta\.pkl", whole):
        said.layout = "nanogpt"
    elif re.search(r"memmap[^\n]{0,80}uint16", whole) and ".bin" in whole:
        said.layout = "nanogpt"
        said.unsure["layout"] = "a guess: it maps .bin files of uint16, whose names were not found"
    said.data_prefix = (glob[2] or "") if is_llmc and glob else ""
    if way and (train := way.named(*TRAIN_FILES)) and said.layout != "ours":
        names = _names(said)
        if _tell(said, way, train, f"{{data}}/{names[0]}", "data"):
            if val := way.named(*VAL_FILES):
                _tell(said, way, val, f"{{data}}/{names[1]}", "data")
            return
    dataset = way.named("dataset") if way else None
    if said.layout == "nanogpt" and JOINED_DATA.search(whole) and way and dataset:
        said.data_at = "data/ours"
        _tell(said, way, dataset, "ours", "data")
        return
    if way and (folder := way.named(*DATA)) and _tell(said, way, folder, "{data}", "data"):
        if said.layout == "ours":
            said.unsure["layout"] = "an option for a data folder was found, and not in which form it reads"
        return
    if said.layout == "llmc" and glob and glob[1] and not any(path.startswith(f"{glob[1]}/") for path in tree.paths):
        said.data_at = glob[1]
        said.unsure["data_at"] = "from the names of files in its source"
        return
    said.env["DATA"] = "{data}"
    said.unsure["layout"] = "where and in which form it reads its data was not found; DATA says where ours lies"


def _names(said: Told) -> tuple[str, str]:
    """Of the files that ``layout`` makes, what an option for the training and for the watched text is given."""
    if said.layout == "nanogpt":
        return "train.bin", "val.bin"
    return f"{said.data_prefix}train_*.bin", f"{said.data_prefix}val_*.bin"


def _asks(said: Told, tree: Tree, paths: list[str]) -> None:
    """Where its data's place was not found: the variables that it asks for, of which one may be the place."""
    if "DATA" not in said.env and not said.data_at:
        return
    hits = [(path, hit) for path in paths for hit in VARIABLE.finditer(tree.text(path))]
    names = dict.fromkeys(f"{hit[1]} ({path}, line {_line(tree, path, hit.start())})" for path, hit in hits)
    key = "data_at" if said.data_at else "layout"
    if names:
        said.unsure[key] = f"{said.unsure.get(key, '')}. It asks for {', '.join(list(names)[:3])}".lstrip(". ")


def _device(said: Told, way: Way | None) -> None:
    found = way.named("device") if way else None
    if found is not None and isinstance(found.value, str) and found.value.startswith("cuda"):
        said.unsure["device"] = f"it wants a GPU unless {found.name} says otherwise: {found.path}, line {found.line}"


def _line(tree: Tree, path: str, at: int) -> int:
    return tree.text(path)[:at].count("\n") + 1
