"""The approval: the conditions of a run that a person countersigned, and their digest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gpu_runner.contract.knobs import Knobs, KnobValue
from gpu_runner.contract.wire import Wire, canonical_json, sha256

SCORER_VERSION = "6"
GATE_VERSION = "4"


class Budget(Wire):
    """How long a run trains. Tokens and FLOPs compare learning; seconds compare systems."""

    kind: Literal["seconds", "tokens", "flops"]
    amount: float = Field(gt=0)

    @property
    def longest_s(self) -> float | None:
        """Longest wall clock of an honest run, from "started" to "ended"; None unless the budget is in seconds.

        The harness keeps its clock in the process of the proposed code, which could turn it back; the supervisor
        allows half as much again for the watch curve, and a minute for the checkpoint.
        """
        return 1.5 * self.amount + 60 if self.kind == "seconds" else None


# torch's generator on a CPU reads 32 bits of a seed: 2**32 + 1 gives the weights of 1, bit for bit. A seed above, and
# one below 0, which Python reads as its opposite, would be another's under a number of its own.
MAX_SEED = 2**32 - 1
SEEDS_OF_AN_INCUMBENT = 1_000  # the last is the sealed pair's
MAX_PAIRS = SEEDS_OF_AN_INCUMBENT - 2
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class SeedPolicy(Wire):
    """How many pairs of seeds a proposal may take, and the alpha and smallest effect at which the judge stops."""

    min_pairs: int = Field(ge=1)
    max_pairs: int = Field(ge=1, le=MAX_PAIRS)
    alpha: float = Field(gt=0, lt=1)
    min_effect_bpb: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> SeedPolicy:
        if self.max_pairs < self.min_pairs:
            raise ValueError(f"max_pairs {self.max_pairs} is below min_pairs {self.min_pairs}")
        return self


def _as_any_database_keeps_it(overrides: Knobs) -> Knobs:
    """Numbers as PostgreSQL's JSON gives them back: it has no -0.0 and writes 1e16 in digits.

    Else the digest would change.
    """
    return {key: _kept(value) if isinstance(value, float) else value for key, value in overrides.items()}


def _kept(value: float) -> KnobValue:
    return int(value) if "e+" in repr(value) else value + 0.0  # -0.0 + 0.0 is 0.0


class Approval(Wire):
    """Everything that changes what a run means. A person signs its digest."""

    base_commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    patch: str
    overrides: Annotated[Knobs, AfterValidator(_as_any_database_keeps_it)]
    budget: Budget
    seeds: SeedPolicy
    dataset_sha256: str
    scorer_version: str
    lock_sha256: str
    sandbox_level: str
    gate_version: str
    environment_sha256: str = ""  # of the packages of the environment that the recipe names; empty: it names none

    def of_the_incumbent(self) -> Approval:
        """The same conditions without the change: the baseline's, with which a candidate is compared."""
        return self.model_copy(update={"patch": "", "overrides": {}})

    def digest(self) -> str:
        """sha256 (hex) over the canonical JSON of every field.

        An environment that nobody named is left out, so that what was signed before there were any keeps its digest.
        """
        unsaid = set() if self.environment_sha256 else {"environment_sha256"}
        return sha256(canonical_json(self.model_dump(mode="json", exclude=unsaid)))
