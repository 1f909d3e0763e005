"""Is the candidate better than the incumbent? A sequential test that stays valid when asked after every pair of seeds.

Pure functions over paired differences ``d_i = candidate - incumbent`` (val_bpb at seed i; negative
is better), taken as N(delta, sigma²) with one unknown sigma per hardware class and budget. Noise is
pooled: earlier proposals' residuals about their own means say how large sigma is, long before three
seeds of this proposal could.

Evidence is a t-test e-process. With delta/sigma ~ N(0, c²) under the alternative and the right-Haar
prior 1/sigma under both hypotheses, the likelihood ratio depends on the data only through their
maximal invariant, so it is a martingale with mean 1 under delta = 0 whatever sigma is, and may be
looked at after every pair (Ville: it ever reaches 1/alpha with probability at most alpha).
Sources: Robbins 1970; Lai 1976; Wang & Ramdas, "Anytime-valid t-tests and confidence sequences for
Gaussian means with unknown variance" (2024), extended here by pooled degrees of freedom, which are
simply further observations of the invariant.

Limits of the method:

* The mixture is two-sided, and so is its interval: "keep" is given only to the better half, so under
  no effect at all false keeps are at most alpha, and alpha/2 by symmetry. A one-sided mixture would buy
  power (0.47 -> 0.52 at six pairs) at the price of keeping proposals whose shown interval contains 0.
* The pooled residuals come from proposals that were themselves stopped early; that they are a clean
  chi-square is an approximation. ``tests/research/test_statistics.py`` measures what it costs.
* One sigma for all proposals is not so: pairs that differ by a tenth of a learning rate scatter a tenth as
  much as pairs of two depths. Noise pooled over quiet changes would make false keeps of a loud one (seen:
  0.28 of those without effect), so it is left out where the proposal's own pairs contradict it (``_shared``).
* ``chance_worth`` is Bayesian and only ever stops a proposal, never keeps one: a wrong prior wastes
  pairs or overlooks small wins, but cannot raise the false keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from gpu_runner.contract import SeedPolicy
from research import levels

Decision = Literal["keep", "discard", "continue", "inconclusive"]

# c: prior sd of delta/sigma. Three, because a newcomer's first campaign has no pooled noise, and with
# n = 3 and nu = 2 the e-value can never exceed 1 + 3c²: it takes c >= 2.6 for three pairs to reach the
# 20 that alpha = 0.05 asks for. Real wins at that scale are several sigma, so little is lost by it.
EFFECT_SCALE = 3.0
# Half of all proposals change nothing that can be measured; the other half are drawn from N(0, c² sigma²).
PRIOR_ACTIVE = 0.5
FUTILE_BELOW = 0.10  # stop when a worthwhile effect has become less probable than this
# The pool is left out when pairs as scattered as these had this chance under its noise. At 0.10 false keeps stay below
# alpha = 0.05 however much louder a proposal is (0.047 at most; 0.057 at 0.05), and power falls by 0.01 to 0.05.
UNLIKE_BELOW = 0.10


@dataclass(frozen=True, kw_only=True)
class Look:
    """The statistics of the pairs so far, in bpb or the metric's own unit; None: there is no such number yet."""

    n: int
    mean: float
    low: float | None  # (1 - alpha) confidence sequence; both None while it is unbounded
    high: float | None
    sd: float | None  # of one paired difference, pooled; None without a degree of freedom
    e_value: float
    chance_worth: float  # posterior probability that delta <= -min_effect_bpb
    decision: Decision
    reason: str


@dataclass(frozen=True)
class _Evidence:
    """Sufficient statistics: ``ss`` and ``nu`` are of pooled and own residuals together."""

    n: int
    mean: float
    ss: float
    nu: int

    @property
    def growth(self) -> float:
        """By how much the mixture widens the spread of the mean: 1 + n c²."""
        return 1.0 + self.n * EFFECT_SCALE**2

    @property
    def q(self) -> float:
        return self.n * self.mean**2

    @property
    def shrunk_ss(self) -> float:
        return self.ss + self.q / self.growth


# --- the rule -------------------------------------------------------------------------------


def look(
    differences: Sequence[float],
    *,
    pooled_ss: float,
    pooled_df: int,
    seeds: SeedPolicy,
    unit: str = "bpb",
    direction: str = "lower",
) -> Look:
    """Judge the pairs so far; to be called after each pair, in the order in which they came.

    ``pooled_ss`` (bpb²) and ``pooled_df`` come from ``pool`` over *other* proposals of the same hardware
    class and budget. ``direction`` says whether a lower or a higher number is better; differences, and all that the
    Look says of them, keep their own sign. Raises ValueError on a difference that is not finite.
    """
    assert differences, "a look needs at least one pair"
    if not all(map(math.isfinite, differences)):
        raise ValueError(f"differences: every one must be a finite number of {unit}, not {list(differences)!r}")
    assert pooled_ss >= 0, "a sum of squares"
    assert pooled_df >= 0, "its degrees of freedom"
    sign = -1 if direction == "higher" else 1  # below this line, lower is better
    differences = [sign * difference for difference in differences]
    n, own_ss = len(differences), _residual_ss(differences)
    shared_ss, shared_df = _shared(own_ss, n - 1, pooled_ss, pooled_df)
    evidence = _Evidence(n, math.fsum(differences) / n, shared_ss + own_ss, shared_df + n - 1)
    e_value = _e_value(evidence)
    bounds = _interval(evidence, seeds.alpha)
    worth = _chance_below(evidence, -seeds.min_effect_bpb, e_value)
    ends = None if bounds is None else sorted(sign * bound for bound in bounds)
    shown = None if ends is None else (ends[0], ends[1])
    seen = _in_words(n, sign * evidence.mean, shown, seeds.alpha, unit)
    decision, reason = _decide(evidence, differences, e_value, worth, seen, seeds, unit)
    if shared_df < pooled_df:
        reason += " Its pairs scatter more than those of earlier proposals, so only their own noise is counted."
    return Look(
        n=evidence.n,
        mean=sign * evidence.mean,
        low=shown[0] if shown else None,
        high=shown[1] if shown else None,
        sd=math.sqrt(evidence.ss / evidence.nu) if evidence.nu else None,
        e_value=e_value,
        chance_worth=worth,
        decision=decision,
        reason=reason,
    )


def _decide(
    evidence: _Evidence,
    differences: Sequence[float],
    e_value: float,
    worth: float,
    seen: str,
    seeds: SeedPolicy,
    unit: str,
) -> tuple[Decision, str]:
    """The decision, by the rules in the order in which they win; each sentence carries the numbers that decided."""
    n, mean, needed = evidence.n, evidence.mean, 1.0 / seeds.alpha
    if not any(differences):
        return "discard", f"Changed nothing: the scores are equal to the last digit in {_pairs(n)}."
    if e_value >= needed and mean < 0 and n >= seeds.min_pairs:
        return "keep", f"Better: {seen}; e = {_short(e_value)} reached the {needed:.3g} required."
    if e_value >= needed and mean > 0:
        return "discard", f"Worse: {seen}; e = {_short(e_value)} reached the {needed:.3g} required."
    worthwhile = f"an effect of at least {seeds.min_effect_bpb:.4g} {unit} has a chance of {100 * worth:.1f} %"
    if n >= seeds.min_pairs and worth < FUTILE_BELOW:
        return "discard", f"Not worth more seeds: {seen}; {worthwhile}, below {100 * FUTILE_BELOW:g} %."
    if n >= seeds.max_pairs:
        return (
            "inconclusive",
            f"All {_pairs(n)} are spent: {seen}; e = {_short(e_value)} of {needed:.3g}, and {worthwhile}.",
        )
    return (
        "continue",
        f"Open after {n} of at most {_pairs(seeds.max_pairs)}: {seen}; e = {_short(e_value)} of {needed:.3g}.",
    )


def _in_words(n: int, mean: float, bounds: tuple[float, float] | None, alpha: float, unit: str) -> str:
    sentence = f"{mean:+.5f} {unit} over {_pairs(n)}"
    if bounds is None:
        return f"{sentence} (no {levels.measured_interval(alpha)} yet)"
    return f"{sentence} ({levels.measured_interval(alpha)} {bounds[0]:+.5f} to {bounds[1]:+.5f})"


def _short(e_value: float) -> str:
    return f"{e_value:.3g}" if e_value < 1_000 else "over 1,000"


def _pairs(n: int) -> str:
    return f"{n} pair{'' if n == 1 else 's'}"


def _shared(own_ss: float, own_df: int, pooled_ss: float, pooled_df: int) -> tuple[float, int]:
    """The pooled noise; none of it where this proposal's own pairs scatter too much for it: a one-sided F test."""
    if not own_df or not pooled_df or not own_ss:
        return pooled_ss, pooled_df
    chance = regularised_beta(pooled_ss / (pooled_ss + own_ss), 0.5 * pooled_df, 0.5 * own_df)
    return (0.0, 0) if chance < UNLIKE_BELOW else (pooled_ss, pooled_df)


# --- the evidence ---------------------------------------------------------------------------


def _e_value(evidence: _Evidence) -> float:
    """e_n = (1+nc²)^(-1/2) [(S+q) / (S+q/(1+nc²))]^((nu+1)/2); 1 when n = 1 and nothing is pooled."""
    if evidence.shrunk_ss == 0:
        return 1.0  # no spread and no effect: no evidence either way
    ratio = (evidence.ss + evidence.q) / evidence.shrunk_ss
    log_e = -0.5 * math.log(evidence.growth) + 0.5 * (evidence.nu + 1) * math.log(ratio)
    return math.exp(min(log_e, 700.0))  # exp(710) is not a float


def _interval(evidence: _Evidence, alpha: float) -> tuple[float, float] | None:
    """Every delta whose own e-value stays below 1/alpha; None while no delta can reach it.

    Setting e = 1/alpha and solving for q = n (mean - delta)²: with K = (sqrt(1+nc²)/alpha)^(2/(nu+1)),
    q = S (K - 1) / (1 - K/(1+nc²)), which has a solution once K < 1 + nc².
    """
    if evidence.nu == 0:
        return None
    ratio = math.exp(2 / (evidence.nu + 1) * (0.5 * math.log(evidence.growth) - math.log(alpha)))
    room = 1.0 - ratio / evidence.growth
    if room <= 0:
        return None
    half = math.sqrt(evidence.ss * (ratio - 1.0) / (room * evidence.n))
    return evidence.mean - half, evidence.mean + half


def _chance_below(evidence: _Evidence, bound: float, e_value: float) -> float:
    """Posterior P(delta <= bound), bound < 0, for a spike at 0 (weight 1 - PRIOR_ACTIVE) and a N(0, c² sigma²) slab.

    Given the slab, delta is Student-t with nu + 1 degrees of freedom about the shrunken mean; e_value is
    the Bayes factor of slab against spike.
    """
    precision = evidence.n + 1.0 / EFFECT_SCALE**2
    centre = evidence.n * evidence.mean / precision
    scale = math.sqrt(evidence.shrunk_ss / ((evidence.nu + 1) * precision))
    if scale == 0:
        return 1.0 if centre <= bound else 0.0
    odds = e_value * PRIOR_ACTIVE / (1.0 - PRIOR_ACTIVE)
    return odds / (1.0 + odds) * t_cdf((bound - centre) / scale, evidence.nu + 1)


# --- from val to sealed ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How an effect on val carries over to the sealed split. bpb, negative is better."""

    effect_bpb: float  # estimated on the sealed text
    gap_bpb: float  # sealed minus val, of the same two models
    carries_over: bool
    reason: str  # with the numbers: for people only


def transfer(mean: float, *, val: float, sealed: float) -> Transfer:
    """Estimate the effect on the sealed split, from the mean on val and one pair that was measured on both.

    ``val`` and ``sealed`` are the differences of the same two models on two texts. The luck of their seed is in both,
    so it cancels in ``sealed - val``: the pair's val difference is a control variate, with coefficient 1, for its
    sealed one (Lavenberg & Welch 1981; Owen, Monte Carlo theory, methods and examples, 8.9). What is left is the noise
    of the texts, which is small, on top of the noise of a mean over several pairs.

    It carries over if the gap is smaller than the effect. A larger gap in the wrong direction leaves no gain; a larger
    one in the right direction means that most of the sealed gain does not come from what was judged on val, and needs
    a person.
    """
    gap = sealed - val
    effect = mean + gap
    carries_over = 2 * mean < effect < 0
    said = (
        f"{effect:+.5f} bpb on the sealed text, from {mean:+.5f} on val and a gap of {gap:+.5f} ({sealed:+.5f} against"
    )
    said += f" {val:+.5f} for the same two models)"
    if carries_over:
        reason = f"It carries over: {said}."
    elif effect >= 0:
        reason = f"It does not carry over to the sealed text: {said}."
    else:
        reason = f"It does not carry over to the sealed text, where most of the gain is another one: {said}."
    return Transfer(effect_bpb=effect, gap_bpb=gap, carries_over=carries_over, reason=reason)


# --- noise ----------------------------------------------------------------------------------


def pool(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Residual sum of squares (bpb²) and degrees of freedom of ``groups``, each about its own mean.

    A proposal that changed nothing (all differences exactly 0) is left out: its zeros are no measurement of the
    noise, and would make every later verdict too sure.
    """
    ss, df = 0.0, 0
    for group in groups:
        if any(group):
            ss += _residual_ss(group)
            df += len(group) - 1
    return ss, df


def _residual_ss(values: Sequence[float]) -> float:
    centre = math.fsum(values) / len(values)
    return math.fsum((value - centre) ** 2 for value in values)


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter None for a single value."""
    assert values, "a mean needs at least one value"
    n = len(values)
    return math.fsum(values) / n, math.sqrt(_residual_ss(values) / (n - 1)) if n > 1 else None


MAD_TO_SD = 1.4826  # of a normal distribution: the median absolute deviation is 0.6745 of it


def robust_centre_sd(values: Sequence[float]) -> tuple[float, float]:
    """Median, and median absolute deviation scaled to a normal's standard deviation.

    Half of the values may be anything: one diverged run in a history moves neither, where it would drag a mean and
    swell an ordinary standard deviation (Hampel 1974; Rousseeuw & Croux 1993, who also note that the deviation is 0
    as soon as more than half of the values are equal: a caller that divides by it needs a floor).
    """
    assert values, "a median needs at least one value"
    centre = median(values)
    return centre, MAD_TO_SD * median([abs(value - centre) for value in values])


def paired_correlation(candidate: Sequence[float], incumbent: Sequence[float]) -> float | None:
    """Pearson's r of the two arms over shared seeds: how much pairing buys (sd² of a pair is 2 sigma² (1 - r)).

    None below three pairs or when an arm does not vary.
    """
    assert len(candidate) == len(incumbent), "paired means one of each per seed"
    n = len(candidate)
    if n < 3:
        return None
    mean_c, mean_i = math.fsum(candidate) / n, math.fsum(incumbent) / n
    scale = math.sqrt(_residual_ss(candidate)) * math.sqrt(_residual_ss(incumbent))
    if scale == 0:
        return None
    cross = math.fsum((c - mean_c) * (i - mean_i) for c, i in zip(candidate, incumbent, strict=True))
    return max(-1.0, min(1.0, cross / scale))


# --- Student's t without scipy ----------------------------------------------------------------


def t_cdf(t: float, df: float) -> float:
    """P(T <= t) for Student's t with ``df`` > 0 degrees of freedom (DLMF 8.17; Numerical Recipes §6.14)."""
    tail = 0.5 * regularised_beta(df / (df + t * t), 0.5 * df, 0.5)
    return tail if t < 0 else 1.0 - tail


def regularised_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) for 0 <= x <= 1 and a, b > 0, by DLMF 8.17.22 on the side where it converges fast."""
    assert 0.0 <= x <= 1.0
    assert a > 0
    assert b > 0
    if x in (0.0, 1.0):
        return x
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - regularised_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _beta_fraction(x, a, b))


def _beta_fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) by Lentz's method in Thompson and Barnett's form (Numerical Recipes §5.2)."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for m in range(1, 2_000):
        half, odd = divmod(m, 2)
        if odd:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + m - 1) * (a + m))
        d = 1.0 / (1.0 + term * d or tiny)
        c = 1.0 + term / c or tiny
        value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            return value
    raise ArithmeticError(f"regularised_beta({x}, {a}, {b}) did not converge")
