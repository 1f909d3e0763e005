"""What a repository's numbers are: a setting with its type, what sort of setting it is, and a guess of its bounds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from gpu_runner.contract import Knob
from gpu_runner.contract.command import PLACEHOLDERS
from gpu_runner.contract.plain import plain

Type = Literal["int", "float", "bool", "choice", "text"]
MAX_HELP = 120
MAX_CHOICES = 20

# Names of what is searched over, as trainers call it; everything else is offered after these.
LEARNING = re.compile(
    r"(^|_)(lr|learning_rate|min_lr|weight_decay|wd|beta_?[123]?|betas|momentum|dropout|warmup|warmdown|cooldown|decay|"
    r"eps|epsilon|clip|grad_clip|max_norm|batch_size|batch|accumulation|layers?|heads?|embd?|dim|depth|width|hidden|"
    r"block_size|seq_len|sequence_length|context|rotary|rope|window|ratio|frac|scale|init|std|bias|tie|softcap|gamma|"
    r"label_smoothing|activation|optimizer|schedule|scheduler|norm|expansion|kv|mlp|vocab_pad)(_|$|s$)"
)
# Names of what a run is told, of where it writes and how it is watched: no knobs.
HOUSEKEEPING = re.compile(
    r"(^|_)(log|logs|logging|logger|wandb|project|run|run_id|name|tag|entity|notes|save|saves|checkpoint|checkpoints|"
    r"ckpt|resume|restart|load|hub|push|report|print|verbose|debug|profile|profiler|profiling|trace|dump|cache|path|"
    r"paths|dir|dirs|file|files|folder|root|url|host|port|addr|address|rank|local_rank|world_size|nproc|nodes|devices?|"
    r"gpus?|cuda|tpu|backend|distributed|ddp|fsdp|parallel|dp|tp|pp|cp|shard|sharding|workers?|num_workers|thread|"
    r"threads|seed|eval|evals|evaluate|evaluation|val|valid|validation|test|sample|samples|generate|inference|every|"
    r"interval|freq|frequency|only|tokenizer|dataset|datasets|data|corpus|split|streaming|pretrained|version|"
    r"flops|peak|timeout|comet|tensorboard|mlflow|id|user|email|email_|slack|s3|gcs|remote|dry|overwrite|"
    r"compile|compiled|flash|dtype|precision|fp8|fp16|bf16|tf32|deterministic|gc|memory|monitor|metric|metrics|"
    r"budget|job|prefetch|pin|shuffle|download|force|help|config|vocab|vocab_size|overfit|write|tensorcores|zero_stage)(_|$)"
)
# Names with a housekeeping word in them that are none.
LEARNED_ALL_THE_SAME = re.compile(
    r"(^|_)lr(_|$)|^(device|micro|train|global|total|per_device_train)_(\w+_)?batch_size$"
)
# How long a run is: told by the run, or left as it is, but nothing that a proposal may change.
BUDGET = re.compile(r"^(max|num|total|train|training|n)_?(\w+_)?(iters?|steps?|iterations|tokens|epochs?|flops)$|"
                    r"^(steps|iterations|epochs?|max_duration|stop_at|stop_after)$")  # fmt: skip
# Tables of settings, as in eval.max_iters, that hold no knobs.
TABLES = re.compile(r"(^|\.)(eval\w*|async_eval\w*|val\w*|log\w*|\w*checkpoint\w*|profil\w*|env|wandb|distributed|fsdp|"
                    r"generat\w*|metrics?|monitor\w*|speed_monitor|restore\w*|slurm|comm|debug)\.")  # fmt: skip
PART_OF_IT = re.compile(r"warm|cool|decay|accum")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A named value of the trainer: as it is called there, where it stands, and by which way it can be set."""

    name: str
    value: int | float | bool | str | None
    type: Type
    path: str
    line: int
    help: str = ""
    choices: tuple[str, ...] = ()
    is_flag: bool = False  # there or not, without a value
    unsure: str = ""

    @property
    def plain_name(self) -> str:
        """Its last name, in small letters with underscores."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.rpartition(".")[2].lower()[:80]).strip("_")

    @property
    def is_in_another_table(self) -> bool:
        """Whether it is of evaluation, logging and the like, whatever its own name."""
        return TABLES.search(self.name.lower()[:100]) is not None

    @property
    def is_learning(self) -> bool:
        return LEARNING.search(self.plain_name) is not None and not self.is_housekeeping

    @property
    def is_housekeeping(self) -> bool:
        name = self.plain_name
        if self.is_in_another_table or (BUDGET.search(name) and not PART_OF_IT.search(name)):
            return True
        return HOUSEKEEPING.search(name) is not None and not LEARNED_ALL_THE_SAME.search(name)


def type_of(value: object) -> Type | None:
    """The type of a knob with such a value; None where there is none."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float" if math.isfinite(value) else None
    return "text" if isinstance(value, str) else None


def comment(text: str, at_most: int = MAX_HELP) -> str:
    """Foreign text as one harmless line."""
    return " ".join(plain(text.replace("\n", " ")).split())[:at_most].strip()


def key_of(name: str, taken: set[str]) -> str:
    """A knob's key for a trainer's name; of two that share their last name the later gets its table's name, too."""
    whole = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    last = re.sub(r"[^a-z0-9]+", "_", name.rpartition(".")[2].lower()).strip("_")
    for key in (last, whole, *(f"{last}_{number}" for number in range(2, 100))):
        key = (key if key[:1].isalpha() else f"k_{key}")[:40]
        if key not in taken and key not in PLACEHOLDERS:
            taken.add(key)
            return key
    raise ValueError(f"{plain(name)[:80]}: a hundred settings share this name")


def as_knob(setting: Setting, taken: set[str]) -> Knob | None:
    """A knob with guessed bounds; None of a text without choices, or of a setting without a default."""
    value, kind = setting.value, setting.type
    if value is None or kind == "text" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "choice" and value not in setting.choices:
        return None
    if kind == "float":
        value = float(value)
    key = key_of(setting.name, taken)
    name = setting.name if setting.name != key and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]{0,79}", setting.name) else ""
    low, high = _bounds(setting.plain_name, value) if kind in ("int", "float") else (None, None)
    said = comment(setting.help) or f"{setting.name[:60]} of {setting.path[-60:]}."
    return Knob(key=key, type=kind, default=value, help=said, low=low, high=high, choices=setting.choices, name=name)


def _bounds(name: str, value: int | float | bool | str) -> tuple[float | None, float | None]:
    """A guess. Minus one means "off" or "work it out" to many trainers, so nothing is said there."""
    assert isinstance(value, int | float)
    if value < 0:
        return None, None
    if isinstance(value, int):
        return (0.0, None) if value == 0 else (float(max(1, value // 8)), float(value * 8))
    if value <= 1 and re.search(r"dropout|prob|ratio|frac|beta|momentum|smoothing", name):
        return 0.0, 1.0
    if re.search(r"(^|_)(lr|learning_rate)(_|$)", name) and value > 0:
        return _two_digits(value / 30), _two_digits(value * 30)
    return 0.0, _two_digits(value * 10) if value else 1.0


def _two_digits(number: float) -> float:
    return float(f"{number:.1e}")
