"""Geometry of the static charts: numbers in, pixel positions out, for SVG templates.

Every figure is a frozen dataclass of its natural size (``width`` x ``height`` px) with positions rounded to a
tenth of a pixel. bpb throughout; negative is better and lies to the left. A number that is missing has no mark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from research import levels

MINUS = "\u2212"


# --- scales ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tick:
    at: float
    label: str
    zero: bool = False


@dataclass(frozen=True)
class Scale:
    """Linear from ``low..high`` to pixels ``start..end``; positions outside are clamped to the frame."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def ticks(self, about: int, label: Callable[[float, int], str]) -> list[Tick]:
        """Round values inside the scale, about ``about`` of them."""
        step = nice_step((self.high - self.low) / about)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [Tick(self(i * step), label(i * step, digits), i == 0) for i in range(first, last + 1)]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``rough`` (> 0)."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def signed(value: float, digits: int) -> str:
    """``+0.002``, ``−0.010`` with a real minus, ``0`` without a sign."""
    if round(value, digits) == 0:
        return "0"
    return f"{value:+.{digits}f}".replace("-", MINUS)


def plain(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", MINUS)


def span(values: Iterable[float | None], *, pad: float, least: float = 1e-6) -> tuple[float, float]:
    """Lowest and highest of ``values``, widened by the share ``pad`` on both sides and at least ``least`` wide."""
    known = [v for v in values if v is not None and math.isfinite(v)] or [0.0]
    low, high = min(known), max(known)
    room = max((high - low) * pad, least / 2)
    return low - room, high + room


# --- a predicted effect against zero, noise and precedents ----------------------------------


@dataclass(frozen=True)
class Interval:
    """A dot with an optional bar; ``side`` says where its label finds room."""

    y: float
    at: float
    low: float | None
    high: float | None
    label: str
    tone: str
    side: str = "right"

    @property
    def label_x(self) -> float:
        if self.side == "right":
            return round((self.high if self.high is not None else self.at) + 10, 1)
        return round((self.low if self.low is not None else self.at) - 10, 1)


@dataclass(frozen=True)
class EffectFigure:
    width: int
    height: int
    top: float
    bottom: float
    ticks: list[Tick]
    zero: float
    noise: tuple[float, float] | None
    prediction: Interval
    others: list[Interval]
    says: str


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A change of val_bpb with its interval, stated or measured."""

    label: str
    effect_bpb: float
    low_bpb: float | None = None
    high_bpb: float | None = None
    tone: str = "ink"


def tone_of(effect: float, noise_sd: float | None) -> str:
    """Green when better by more than the noise, red when worse by more, grey between."""
    room = noise_sd or 0.0
    return "good" if effect < -room else "bad" if effect > room else "ink"


def effect_figure(
    prediction: Effect, others: Sequence[Effect], noise_sd: float | None, *, width: int = 392
) -> EffectFigure:
    """A prediction's interval above measured effects, on one axis that includes zero."""
    marks = [prediction, *others]
    values = [v for m in marks for v in (m.effect_bpb, m.low_bpb, m.high_bpb)]
    band = [] if noise_sd is None else [-noise_sd, noise_sd]
    x = Scale(*span([*values, *band, 0.0], pad=0.08), 6, width - 6)
    height = 120 + 25 * len(others)
    rows = [_interval(x, m, 106 + 25 * i, width) for i, m in enumerate(others)]
    return EffectFigure(
        width=width,
        height=height,
        top=30,
        bottom=height - 26,
        ticks=x.ticks(5, signed),
        zero=x(0),
        noise=None if noise_sd is None else (x(-noise_sd), round(x(noise_sd) - x(-noise_sd), 1)),
        prediction=_interval(x, prediction, 66, width),
        others=rows,
        says=_effects_in_words(prediction, others, noise_sd),
    )


def _interval(x: Scale, mark: Effect, y: float, width: int) -> Interval:
    at = x(mark.effect_bpb)
    return Interval(
        y=y,
        at=at,
        low=None if mark.low_bpb is None else x(mark.low_bpb),
        high=None if mark.high_bpb is None else x(mark.high_bpb),
        label=mark.label,
        tone=mark.tone,
        side="right" if at < width * 0.55 else "left",
    )


def _effects_in_words(prediction: Effect, others: Sequence[Effect], noise_sd: float | None) -> str:
    parts = [f"Predicted change of val_bpb {signed(prediction.effect_bpb, 4)}"]
    if prediction.low_bpb is not None and prediction.high_bpb is not None:
        parts[0] += f", {levels.STATED_INTERVAL} {signed(prediction.low_bpb, 4)} to {signed(prediction.high_bpb, 4)}"
    if noise_sd is not None:
        parts.append(f"Seed noise of one pair is plus or minus {noise_sd:.4f}")
    parts += [f"{o.label} measured {signed(o.effect_bpb, 4)}" for o in others]
    return ". ".join(parts) + "."


@dataclass(frozen=True)
class MiniFigure:
    """The 64 x 12 interval in a row of the queue, on a scale shared by all rows."""

    zero: float
    low: float
    high: float
    at: float
    tone: str


def mini_scale(effects: Sequence[Effect], *, width: int = 64) -> Scale:
    values = [v for e in effects for v in (e.low_bpb, e.high_bpb, e.effect_bpb)]
    return Scale(*span([*values, 0.0], pad=0.05), 2, width - 2)


def mini_figure(x: Scale, effect: Effect) -> MiniFigure:
    low = effect.low_bpb if effect.low_bpb is not None else effect.effect_bpb
    high = effect.high_bpb if effect.high_bpb is not None else effect.effect_bpb
    tone = "good" if high < 0 else "bad" if low > 0 else "ink"
    return MiniFigure(x(0), x(low), x(high), x(effect.effect_bpb), tone)


# --- paired seeds ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One seed trained with the incumbent and with the candidate; the measured bpb of each."""

    seed: int
    candidate_bpb: float
    incumbent_bpb: float
    e_value: float | None = None
    low_bpb: float | None = None
    high_bpb: float | None = None

    @property
    def difference_bpb(self) -> float:
        return self.candidate_bpb - self.incumbent_bpb


@dataclass(frozen=True)
class PairRow:
    y: float
    seed: int
    candidate: float
    incumbent: float
    difference: str
    tone: str


@dataclass(frozen=True)
class PairsFigure:
    width: int
    height: int
    bottom: float
    middle: float
    ticks: list[Tick]
    rows: list[PairRow]
    labels: tuple[str, float, str, float]
    says: str


def pairs_figure(pairs: Sequence[Pair], candidate: str, incumbent: str, *, width: int) -> PairsFigure:
    """One line a seed from the incumbent's score to the candidate's."""
    left, right = 52, width - 84
    x = Scale(*span([v for p in pairs for v in (p.candidate_bpb, p.incumbent_bpb)], pad=0.12), left, right)
    rows = [
        PairRow(
            y=46 + 36 * i,
            seed=p.seed,
            candidate=x(p.candidate_bpb),
            incumbent=x(p.incumbent_bpb),
            difference=signed(p.difference_bpb, 4),
            tone=tone_of(p.difference_bpb, None),
        )
        for i, p in enumerate(pairs)
    ]
    bottom = 62 + 36 * (len(pairs) - 1)
    differences = ", ".join(signed(p.difference_bpb, 4) for p in pairs)
    return PairsFigure(
        width=width,
        height=bottom + 38,
        bottom=bottom,
        middle=round((left + right) / 2, 1),
        ticks=x.ticks(2 if width < 400 else 4, plain),
        rows=rows,
        labels=_apart(candidate, rows[0].candidate, incumbent, rows[0].incumbent),
        says=f"{len(pairs)} paired seeds. Differences of {candidate} from {incumbent}: {differences} bpb.",
    )


def _apart(one: str, one_x: float, other: str, other_x: float) -> tuple[str, float, str, float]:
    """Move two labels on one line apart until neither covers the other (6.5 px a character, about)."""
    need = (len(one) + len(other)) * 6.5 / 2 + 8
    if (lack := need - abs(one_x - other_x)) > 0:
        push = lack / 2 if one_x >= other_x else -lack / 2
        one_x, other_x = one_x + push, other_x - push
    return one, round(one_x, 1), other, round(other_x, 1)


# --- evidence, pair by pair ------------------------------------------------------------------


@dataclass(frozen=True)
class EvidenceDot:
    x: float
    y: float
    crossed: bool


@dataclass(frozen=True)
class EvidenceFigure:
    width: int
    height: int
    left: float
    right: float
    bottom: float
    middle: float
    yticks: list[Tick]
    xticks: list[Tick]
    one: float
    needed_y: float
    needed: str
    path: str
    dots: list[EvidenceDot]
    last: tuple[float, float, str, str] | None
    says: str


MOST_DRAWN = 1_000.0  # beyond, an e-value sits at the edge: what it means does not change any more


def evidence_figure(e_values: Sequence[float], *, max_pairs: int, needed: float, width: int) -> EvidenceFigure:
    """The e-value after each pair on a log axis, with the boundary at which it may be believed."""
    left, right, top, bottom = 46, width - 18, 14, 206
    positive = [max(e, 1e-3) for e in e_values]
    high = math.ceil(math.log10(min(MOST_DRAWN, max([needed * 2, *positive]))))
    low = math.floor(math.log10(min([0.1, *positive])))
    x = Scale(0, max_pairs, left, right)
    y = Scale(low, high, bottom, top)
    points = [(x(i + 1), y(math.log10(e))) for i, e in enumerate(positive)]
    stride = max(1, math.ceil(max_pairs / 6)) if width > 400 else max(1, math.ceil(max_pairs / 4))
    last = points[-1] if points else None
    return EvidenceFigure(
        width=width,
        height=244,
        left=left,
        right=right,
        bottom=bottom,
        middle=round((left + right) / 2, 1),
        yticks=[Tick(y(p), _power(p), p == 0) for p in range(low, high + 1)],
        xticks=[Tick(x(i), str(i)) for i in range(0, max_pairs + 1, stride)],
        one=y(0),
        needed_y=y(math.log10(needed)),
        needed=f"{needed:.3g}",
        path=_path([(x(0), y(0)), *points]),
        dots=[EvidenceDot(px, py, e >= needed) for (px, py), e in zip(points, positive, strict=True)],
        last=last and (last[0], last[1], in_short(positive[-1]), "start" if last[0] < right - 70 else "end"),
        says=f"e-value after each pair: {', '.join(map(in_short, positive)) or 'none yet'}. {needed:.3g} is required.",
    )


def in_short(e_value: float) -> str:
    """An e-value with the digits that matter: 0.31, 24.6, 61, over 1,000."""
    if e_value > MOST_DRAWN:
        return f"over {MOST_DRAWN:,.0f}"
    return f"{e_value:.2f}" if e_value < 1 else f"{e_value:.3g}"


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:.{-exponent}f}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


# --- prediction against outcome --------------------------------------------------------------


@dataclass(frozen=True)
class OutcomeFigure:
    width: int
    height: int
    top: float
    bottom: float
    ticks: list[Tick]
    noise: tuple[float, float] | None
    zero: float
    said: Interval
    measured: Interval
    says: str


def outcome_figure(
    said: Effect, measured: Effect, noise_sd: float | None, *, alpha: float, width: int
) -> OutcomeFigure:
    """The stated interval above the measured one, which has the level 1 - ``alpha``."""
    values = [v for m in (said, measured) for v in (m.effect_bpb, m.low_bpb, m.high_bpb)]
    band = [] if noise_sd is None else [-noise_sd, noise_sd]
    x = Scale(*span([*values, *band, 0.0], pad=0.1), 8, width - 8)
    interval = "no interval yet"
    if measured.low_bpb is not None and measured.high_bpb is not None:
        interval = f"{levels.measured_interval(alpha)} {signed(measured.low_bpb, 4)} to {signed(measured.high_bpb, 4)}"
    return OutcomeFigure(
        width=width,
        height=150,
        top=22,
        bottom=122,
        ticks=x.ticks(4 if width < 400 else 6, signed),
        noise=None if noise_sd is None else (x(-noise_sd), round(x(noise_sd) - x(-noise_sd), 1)),
        zero=x(0),
        said=_interval(x, said, 52, width),
        measured=_interval(x, measured, 98, width),
        says=f"{_effects_in_words(said, [], noise_sd)} Measured {signed(measured.effect_bpb, 4)}, {interval}.",
    )
