"""The base of all messages: strict, frozen models, canonical JSON, bounded numbers and words."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gpu_runner.contract.plain import plain

HEARTBEAT_S = 10.0  # a worker that has nothing to report still reports this often
LEASE_S = 60.0  # without a report for so long the lease ends, and another worker may have the run
WORKER_GIVES_UP_S = 45.0  # the worker kills its own run first: two copies never overlap


class Wire(BaseModel):
    """Base of every message: immutable, no unknown fields, no coercion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


W = TypeVar("W", bound=Wire)


def canonical_json(value: object) -> bytes:
    """The bytes that digests are taken of: sorted keys, no spaces, UTF-8, no NaN; one byte string for each value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def parse(kind: type[W], body: bytes) -> W:
    """Strictly parse JSON bytes into ``kind``. Raises ValueError naming every bad field."""
    return kind.model_validate_json(body)


MAX_STEPS = 2**31 - 1  # what the record's columns hold: a hostile process may say any number
MAX_TOKENS = 2**53  # and what a browser's JSON reader keeps exact
StepCount = Annotated[int, Field(ge=0, le=MAX_STEPS)]
TokenCount = Annotated[int, Field(ge=0, le=MAX_TOKENS)]

# What a worker says in words. A hostile one speaks the wire itself, so nothing that hides gets past the parser.
Line = Annotated[str, AfterValidator(plain)]
Lines = Annotated[str, AfterValidator(lambda text: plain(text, keep="\n"))]
HardwareClass = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]
SandboxLevel = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]  # empty where there is no such file
Whole = Annotated[int, Field(ge=-MAX_TOKENS, le=MAX_TOKENS)]
Scalar = bool | Whole | float | Line | None
Fact = Scalar | list[Scalar] | dict[Line, Scalar]
Facts = Annotated[dict[Line, Scalar], Field(max_length=200)]
