"""The messages between the web side and a GPU machine.

This is the only room of ``gpu_runner`` that ``webapp`` and ``research`` may import, so it
imports neither torch nor celery nor Django. Everything here is frozen and parsed strictly:
an unknown field, a wrong type, NaN or Infinity is refused with the field's name
(``pydantic.ValidationError``, a ``ValueError``).

    wire.py      the base of all messages: strict models, canonical JSON
    recipe.py    what a proposal may change, and how it trains; its parts: knobs.py, command.py; read by recipe_toml.py
    approval.py  what was countersigned
    dataset.py   a dataset in short, with samples of what is trained on
    run.py       what is sent to a worker
    report.py    what comes back while the run lives, and the order that answers it
    score.py     what the scorer measured
    end.py       how the run ended
    closest.py, plain.py, retry_after.py   small helpers, no messages
"""

from gpu_runner.contract.approval import (
    GATE_VERSION,
    MAX_PAIRS,
    MAX_SEED,
    SCORER_VERSION,
    SEEDS_OF_AN_INCUMBENT,
    Approval,
    Budget,
    Seed,
    SeedPolicy,
)
from gpu_runner.contract.closest import closest
from gpu_runner.contract.command import OURS, PLACEHOLDERS, Command, Metrics, Model, Overrides, is_safe_path
from gpu_runner.contract.dataset import (
    MAX_FACT_CHARS,
    MAX_FACTS,
    MAX_SAMPLE_CHARS,
    MAX_SAMPLES,
    MAX_SUMMARIES,
    SPLIT_NAMES,
    DatasetSummary,
    SharedRuns,
    SplitSummary,
)
from gpu_runner.contract.end import FAULT_OF, Failure, FailureKind, Fault, RunEnd
from gpu_runner.contract.knobs import Knob, Knobs, KnobValue
from gpu_runner.contract.plain import is_hidden
from gpu_runner.contract.recipe import Recipe
from gpu_runner.contract.recipe_toml import parse_recipe, with_defaults
from gpu_runner.contract.report import (
    MAX_LOG_CHARS,
    MAX_LOG_LINES,
    MAX_METRICS,
    MAX_POINTS,
    Beat,
    LogLine,
    Order,
    Phase,
    Points,
    Progress,
    Report,
)
from gpu_runner.contract.retry_after import retry_after_s
from gpu_runner.contract.run import MOST_TIMES, Claim, Hello, Lease, Purpose, RunSpec, Spent
from gpu_runner.contract.score import (
    MAX_PLACES,
    Bound,
    Clock,
    Effort,
    Evidence,
    HeldOutSplit,
    Place,
    Score,
    SelfReported,
)
from gpu_runner.contract.wire import (
    HEARTBEAT_S,
    LEASE_S,
    MAX_STEPS,
    MAX_TOKENS,
    WORKER_GIVES_UP_S,
    W,
    Wire,
    canonical_json,
    parse,
    sha256,
)
