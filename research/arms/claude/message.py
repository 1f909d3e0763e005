"""Parses the body of an answer, its usage first: that was paid for, whatever is wrong with the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from research.arms.claude.attempt import Attempt, Reply, no_tokens, read_json, short
from research.arms.claude.prices import price
from research.change.drafts import Usage

NAME_CHARS = 100  # of a model, or of a reason to stop
# Below 0 it would pay for others; above some thousand million it is no count, and no ledger could hold its price.
Count = Annotated[int, Field(ge=0, le=10**9)]


class _Loose(BaseModel):
    """A model that ignores unknown fields, which may be new features of the API."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _CacheCreation(_Loose):
    ephemeral_5m_input_tokens: Count = 0
    ephemeral_1h_input_tokens: Count = 0


class _Tokens(_Loose):
    input_tokens: Count
    output_tokens: Count
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None


class _Bill(_Loose):
    model: str
    usage: _Tokens


class _Message(_Loose):
    model: str
    content: list[Any]
    stop_reason: Any = None
    stop_details: Any = None


class _Prompt(_Loose):
    input_tokens: Annotated[int, Field(gt=0, le=10**9, strict=True)]


_M = TypeVar("_M", bound=_Loose)


def read_count(body: bytes, model: str, seconds: float) -> Attempt:
    """The Attempt of an answer to count_tokens. A count of 0 is a problem, since every prompt of ours has tokens."""
    usage = no_tokens(model, seconds, "counted", Decimal(0))
    prompt = _as(_Prompt, read_json(body))
    if isinstance(prompt, str):
        return Attempt(usage=usage, problem="Claude's answer is not a count of tokens.")
    return Attempt(usage=usage, counted=prompt.input_tokens)


def read_message(body: bytes, model: str, seconds: float, *, share: Decimal = Decimal(1)) -> Attempt:
    """The Attempt of an answer of ``model``, at ``share`` of the price. Never raises for what is in ``body``."""
    said = read_json(body)
    message = _as(_Message, said)
    if isinstance(message, str):
        why = _error_message(said) or message
        usage = _usage(said, model, seconds, share, _name(_get(said, "stop_reason") or "unreadable"))
        return Attempt(usage=usage, problem=f"Claude's answer is not a message of the API ({short(why)}).")
    usage = _usage(said, model, seconds, share, _name(message.stop_reason or "missing"))
    problem = _stopped_early(message, usage)
    if problem:
        return Attempt(usage=usage, problem=problem, refused=message.stop_reason == "refusal")
    words = "".join(block["text"] for block in message.content if _is_text(block))
    return Attempt(usage=usage, reply=Reply(text=words, model=_name(message.model)))


def _as(model: type[_M], said: object) -> _M | str:
    """``said`` as ``model``, or why it does not fit."""
    if said is None:
        return "not JSON"
    try:
        return model.model_validate(said)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])


def _get(said: object, key: str) -> Any:
    return said.get(key) if isinstance(said, dict) else None


def _error_message(said: object) -> str:
    message = _get(_get(said, "error"), "message")
    return message if isinstance(message, str) else ""


def _name(said: object) -> str:
    return short(str(said), NAME_CHARS)


def _is_text(block: object) -> bool:
    """Whether a block is text: there may be thinking, and block types of the future, beside it."""
    return _get(block, "type") == "text" and isinstance(_get(block, "text"), str)


def _stopped_early(message: _Message, usage: Usage) -> str:
    match message.stop_reason:
        case "end_turn":
            return ""
        case "refusal":
            category = _name(_get(message.stop_details, "category") or "not given")
            return f"Claude declined to answer (category {category}); the campaign goes on without it."
        case "max_tokens" | "model_context_window_exceeded" as reason:
            return f"Claude's answer was cut off ({reason} after {usage.output_tokens:,} tokens)."
        case other:
            return f"Claude stopped without finishing its answer (stop_reason {_name(other)})."


def _usage(said: object, model: str, seconds: float, share: Decimal, stop_reason: str) -> Usage:
    """The Usage. Where the bill cannot be read its price is None, not 0; caps then count the most that it can be."""
    bill = _as(_Bill, said)
    if isinstance(bill, str):
        return no_tokens(model, seconds, stop_reason, None)
    tokens = bill.usage
    written = tokens.cache_creation_input_tokens or 0
    an_hour = tokens.cache_creation.ephemeral_1h_input_tokens if tokens.cache_creation else 0
    usd = price(
        bill.model,
        on=datetime.now(UTC).date(),
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_input_tokens or 0,
        cache_write_5m_tokens=max(0, written - an_hour),
        cache_write_1h_tokens=an_hour,
    )
    return Usage(
        model=_name(bill.model),
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_input_tokens or 0,
        cache_write_tokens=written,
        usd=None if usd is None else usd * share,
        seconds=seconds,
        stop_reason=stop_reason,
    )
