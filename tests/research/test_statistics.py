"""bob reads the verdict: does the judge keep what is real, and only that?

The simulated proposals are those of the design's table: in units of the paired standard deviation,
55 % change nothing, 28 % harm by |N(1.5, 1)|, 17 % help by |N(1.2, 0.6)|.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpu_runner.contract import SeedPolicy
from research import statistics
from research.statistics import Look, look, mean_sd, paired_correlation, pool, regularised_beta, t_cdf

SEEDS = SeedPolicy(min_pairs=3, max_pairs=6, alpha=0.05, min_effect_bpb=0.01)
bpb = st.floats(-2, 2).map(lambda x: round(x, 6))
pairs = st.lists(bpb, min_size=1, max_size=12)


def look_at(*differences: float, ss: float = 0.0, df: int = 0, seeds: SeedPolicy = SEEDS) -> Look:
    return look(differences, pooled_ss=ss, pooled_df=df, seeds=seeds)


# --- what a person is told --------------------------------------------------------------------


def test_bob_sees_a_large_steady_win_kept_after_three_pairs_without_any_pooled_noise() -> None:
    seen = look_at(-0.50, -0.51, -0.49)
    assert (seen.decision, seen.n) == ("keep", 3)
    assert seen.low is not None
    assert seen.high is not None
    assert seen.low < -0.5 < seen.high < 0
    assert (
        seen.reason
        == "Better: -0.50000 bpb over 3 pairs (95 % interval -0.58421 to -0.41579); e = 27.7 reached the 20 required."
    )


def test_bob_never_sees_a_win_kept_before_min_pairs_however_large() -> None:
    seen = look_at(-0.50, -0.51, ss=0.01, df=100)
    assert seen.e_value > 20
    assert seen.decision == "continue"


def test_bob_sees_a_harmful_change_stopped_at_the_first_pair_that_proves_it() -> None:
    seen = look_at(0.2, ss=0.02, df=20)
    assert seen.decision == "discard"
    assert seen.reason.startswith("Worse: +0.20000 bpb over 1 pair")


def test_bob_sees_a_hopeless_change_stopped_before_all_pairs_are_spent() -> None:
    seen = look_at(-0.010, 0.010, 0.002, ss=0.02, df=20)
    assert seen.decision == "discard"
    assert seen.chance_worth < 0.10
    assert "an effect of at least 0.01 bpb has a chance of 4.2 %" in seen.reason


def test_bob_is_told_inconclusive_only_when_all_pairs_are_spent() -> None:
    differences = (-0.020, 0.010, -0.032, -0.010, -0.020, -0.015)
    assert look_at(*differences[:5], ss=0.005, df=6).decision == "continue"
    assert look_at(*differences, ss=0.005, df=6).decision == "inconclusive"


def test_a_change_that_changes_nothing_is_discarded_as_such_at_once() -> None:
    for n in (1, 2, 6):
        seen = look_at(*[0.0] * n)
        assert seen.decision == "discard"
        assert seen.reason.startswith("Changed nothing")
        assert seen.e_value == 1.0


def test_identical_differences_that_are_not_zero_divide_by_nothing() -> None:
    seen = look_at(-0.125, -0.125, -0.125, -0.125)
    assert (seen.decision, seen.sd, seen.low, seen.high) == ("keep", 0.0, -0.125, -0.125)
    assert seen.e_value == pytest.approx((1 + 4 * statistics.EFFECT_SCALE**2) ** (3 / 2))


def test_one_pair_without_pooled_noise_is_no_evidence_and_has_no_interval() -> None:
    seen = look_at(-5.0)
    assert seen.e_value == pytest.approx(1.0)
    assert (seen.low, seen.high, seen.sd, seen.decision) == (None, None, None, "continue")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_difference_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="differences: every one must be a finite number"):
        look_at(-0.1, bad)


# --- properties -------------------------------------------------------------------------------


@given(pairs, st.floats(0.001, 1), st.integers(1, 200), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_interval_excludes_zero_exactly_when_the_e_value_reaches_its_bar(
    differences: list[float], ss: float, df: int, alpha: float
) -> None:
    seen = look(differences, pooled_ss=ss, pooled_df=df, seeds=SEEDS.model_copy(update={"alpha": alpha}))
    assume(abs(seen.e_value * alpha - 1) > 1e-6)
    excludes_zero = seen.low is not None and seen.high is not None and not seen.low <= 0 <= seen.high
    assert excludes_zero == (seen.e_value >= 1 / alpha)


@given(pairs, st.floats(0.001, 1), st.integers(1, 200), st.sampled_from([-1.0, 0.001, 1000.0]))
def test_evidence_does_not_depend_on_the_unit_and_flipping_the_sign_flips_the_interval(
    differences: list[float], ss: float, df: int, unit: float
) -> None:
    plain = look(differences, pooled_ss=ss, pooled_df=df, seeds=SEEDS)
    other = look([unit * d for d in differences], pooled_ss=unit**2 * ss, pooled_df=df, seeds=SEEDS)
    assert math.log(other.e_value) == pytest.approx(math.log(plain.e_value), rel=1e-6, abs=1e-6)
    if plain.low is not None and other.low is not None and other.high is not None:
        assert (other.low if unit > 0 else other.high) == pytest.approx(unit * plain.low, rel=1e-6, abs=1e-9)


@given(pairs, st.floats(0, 1), st.integers(0, 200))
def test_every_look_is_finite_and_its_sentence_carries_the_mean(differences: list[float], ss: float, df: int) -> None:
    seen = look(differences, pooled_ss=ss if df else 0.0, pooled_df=df, seeds=SEEDS)
    assert math.isfinite(seen.e_value)
    assert 0 <= seen.chance_worth <= 1
    assert any(differences) is False or f"{seen.mean:+.5f} bpb" in seen.reason
    assert seen.decision != "continue" or seen.n < SEEDS.max_pairs


# --- does it hold what it promises? -------------------------------------------------------------


@pytest.mark.parametrize("df", [0, 5, 100])
def test_looking_after_every_pair_forever_stays_below_alpha(df: int) -> None:
    """P(sup e >= 20) over 60 looks under no effect; the bound is 0.05, with 4 standard errors of slack."""
    rng, num_campaigns, crossed = Random(7), 4_000, 0
    for _ in range(num_campaigns):
        ss, total, squares = _chi_square(rng, df), 0.0, 0.0
        for n in range(1, 61):
            value = rng.gauss(0, 1)
            total, squares = total + value, squares + value * value
            residual = ss + max(0.0, squares - total * total / n)
            evidence = statistics._Evidence(n, total / n, residual, df + n - 1)
            if statistics._e_value(evidence) >= 20:
                crossed += 1
                break
    assert crossed / num_campaigns <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / num_campaigns)
    assert crossed > 0, "a rule that never fires promises nothing"


@dataclass(frozen=True, kw_only=True)
class Tally:
    false_keeps: float  # among proposals without effect
    power: float  # keeps among those that help
    mean_pairs: float
    share_false: float  # of keeps, those that do not help
    pairs_per_true_keep: float


def simulate(num_proposals: int, seeds: SeedPolicy, draw_noise: Callable[[Random], tuple[float, int]]) -> Tally:
    rng, spent = Random(20), 0
    outcomes: list[tuple[float, bool]] = []
    for _ in range(num_proposals):
        effect, (ss, df) = _draw_effect(rng), draw_noise(rng)
        differences: list[float] = []
        while True:
            differences.append(rng.gauss(effect, 1))
            seen = look(differences, pooled_ss=ss, pooled_df=df, seeds=seeds)
            if seen.decision != "continue":
                break
        spent += len(differences)
        outcomes.append((effect, seen.decision == "keep"))
    none = [kept for effect, kept in outcomes if effect == 0]
    helps = [kept for effect, kept in outcomes if effect < 0]
    keeps = sum(kept for _, kept in outcomes)
    return Tally(
        false_keeps=sum(none) / len(none),
        power=sum(helps) / len(helps),
        mean_pairs=spent / num_proposals,
        share_false=(keeps - sum(helps)) / keeps,
        pairs_per_true_keep=spent / sum(helps),
    )


def _draw_effect(rng: Random) -> float:
    kind = rng.random()
    if kind < 0.55:
        return 0.0
    return abs(rng.gauss(1.5, 1)) if kind < 0.83 else -abs(rng.gauss(1.2, 0.6))


def _chi_square(rng: Random, df: int) -> float:
    return rng.gammavariate(df / 2, 2) if df else 0.0


def _policy(max_pairs: int) -> SeedPolicy:
    return SeedPolicy(min_pairs=3, max_pairs=max_pairs, alpha=0.05, min_effect_bpb=0.25)


@pytest.mark.parametrize(
    ("max_pairs", "df", "power", "most_pairs"),
    [(6, 200, 0.42, 3.7), (12, 200, 0.60, 4.2), (12, 20, 0.58, 4.3), (6, 0, 0.22, 4.0)],
)
def test_alice_gets_her_real_wins_kept_at_few_pairs_and_few_false_ones(
    max_pairs: int, df: int, power: float, most_pairs: float
) -> None:
    tally = simulate(3_000, _policy(max_pairs), lambda rng: (_chi_square(rng, df), df))
    assert tally.false_keeps < 0.025, "alpha / 2"
    assert tally.power > power
    assert tally.mean_pairs < most_pairs
    assert tally.share_false < 0.14


def test_pooling_the_residuals_of_stopped_proposals_does_not_inflate_false_keeps() -> None:
    """80 campaigns of 40 proposals without any effect; each is judged by the noise of those before it."""
    rng, kept, judged = Random(3), 0, 0
    for _ in range(80):
        ss, df = 0.0, 0
        for _ in range(40):
            differences: list[float] = []
            decision = "continue"
            while decision == "continue":
                differences.append(rng.gauss(0, 1))
                decision = look(differences, pooled_ss=ss, pooled_df=df, seeds=_policy(6)).decision
            own_ss, own_df = pool([differences])
            ss, df = ss + own_ss, df + own_df
            kept, judged = kept + (decision == "keep"), judged + 1
    assert judged == 3_200
    assert kept / judged < 0.025


# --- and where the noise is only roughly known? -----------------------------------------------------


@pytest.mark.parametrize(("num_pooled", "plugged_in"), [(5, 0.117), (10, 0.052), (20, 0.028)])
def test_noise_of_few_pooled_pairs_is_counted_as_the_guess_that_it_is(num_pooled: int, plugged_in: float) -> None:
    """Looked at after each of 12 pairs without any effect, level 5 %: the same mixture with the pooled sd taken for the
    truth is wrong as often as ``plugged_in`` says (20,000 proposals each); ours never more than 2 %."""
    rng, num_proposals, by_us, by_plugging_in = Random(11), 2_000, 0, 0
    for _ in range(num_proposals):
        df = num_pooled - 1
        ss, differences = _chi_square(rng, df), [rng.gauss(0, 1) for _ in range(12)]
        evidence = [_evidence(differences[:n], ss, df) for n in range(1, 13)]
        by_us += any(statistics._e_value(one) >= 20 for one in evidence)
        by_plugging_in += any(_known_sd_e_value(one, ss / df) >= 20 for one in evidence)
    slack = 4 * math.sqrt(plugged_in / num_proposals)
    assert by_us / num_proposals <= 0.02 + 4 * math.sqrt(0.02 / num_proposals)
    assert by_plugging_in / num_proposals == pytest.approx(plugged_in, abs=slack), "what we would be without it"


def _evidence(differences: list[float], ss: float, df: int) -> statistics._Evidence:
    n = len(differences)
    return statistics._Evidence(n, sum(differences) / n, ss + statistics._residual_ss(differences), df + n - 1)


def _known_sd_e_value(evidence: statistics._Evidence, variance: float) -> float:
    """The normal mixture's e-value (Robbins 1970) where the variance is thought to be known."""
    return math.exp(min(0.5 * evidence.q * (1 - 1 / evidence.growth) / variance, 700)) / math.sqrt(evidence.growth)


# Seen over seeds: pairs with a learning rate 10 % apart correlate with 0.999, of depth 2 and 3 with 0.89. A pair's
# variance is 2 sigma² (1 - r), so noise that was pooled over the former is this much too small for the latter.
LOUDER = math.sqrt((1 - 0.89) / (1 - 0.999))


@pytest.mark.parametrize("df", [20, 100])
@pytest.mark.parametrize("louder", [2.0, 3.0, LOUDER])
def test_a_loud_change_without_effect_is_not_kept_because_quiet_ones_came_before_it(louder: float, df: int) -> None:
    """Before its own pairs were asked: 0.06 and 0.09, 0.12 and 0.19, 0.22 and 0.28 (8,000 proposals each)."""
    rng, num_proposals, kept = Random(5), 2_000, 0
    for _ in range(num_proposals):
        ss, differences, decision = _chi_square(rng, df) / louder**2, list[float](), "continue"
        while decision == "continue":
            differences.append(rng.gauss(0, 1))
            decision = look(differences, pooled_ss=ss, pooled_df=df, seeds=_policy(6)).decision
        kept += decision == "keep"
    assert kept / num_proposals <= 0.05 + 2 * math.sqrt(0.05 / num_proposals)


def test_bob_reads_whose_noise_was_counted() -> None:
    quiet, loud = (-0.010, -0.011, -0.009), (-0.010, -0.110, 0.015)
    pooled = 20 * 0.001**2
    assert look_at(*quiet, ss=pooled, df=20).sd == pytest.approx(0.001, rel=0.05)
    assert "only their own noise" not in look_at(*quiet, ss=pooled, df=20).reason
    seen = look_at(*loud, ss=pooled, df=20)
    assert seen.sd == mean_sd(loud)[1]
    assert seen.decision == "continue"
    assert seen.reason.endswith(
        "Its pairs scatter more than those of earlier proposals, so only their own noise is counted."
    )


def test_pairs_that_agree_or_a_single_one_deny_no_pool() -> None:
    assert look_at(-0.125, -0.125, ss=0.02, df=20).sd == pytest.approx(math.sqrt(0.02 / 21))
    assert look_at(-0.5, ss=0.02, df=20).sd == pytest.approx(math.sqrt(0.02 / 20))
    assert look_at(-0.5, -0.4, ss=0.0, df=20).sd == mean_sd([-0.5, -0.4])[1]


# --- noise and Student's t ------------------------------------------------------------------------


def test_pool_adds_residuals_about_each_proposals_own_mean() -> None:
    ss, df = pool([[1.0, 3.0], [10.0, 10.0, 13.0], [5.0], []])
    assert ss == pytest.approx(2.0 + 6.0)
    assert df == 3


def test_a_proposal_that_changed_nothing_does_not_make_the_noise_look_smaller() -> None:
    assert pool([[0.01, 0.03], [0.0, 0.0, 0.0]]) == pool([[0.01, 0.03]])


def test_mean_sd_of_one_value_has_no_spread() -> None:
    assert mean_sd([2.0]) == (2.0, None)
    assert mean_sd([0.0, 0.0]) == (0.0, 0.0)
    assert mean_sd([1.0, 2.0, 3.0])[1] == pytest.approx(1.0)


def test_pairing_is_worth_what_the_correlation_says() -> None:
    assert paired_correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1.0)
    assert paired_correlation([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]) == pytest.approx(-0.5)
    assert paired_correlation([1.0, 2.0], [2.0, 4.0]) is None
    assert paired_correlation([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]) is None


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [(6.313751514675, 1, 0.95), (2.570581835636, 5, 0.975), (-1.724718242921, 20, 0.05), (1.983971518523, 100, 0.975)],
)
def test_t_cdf_matches_the_tables(t: float, df: int, p: float) -> None:
    assert t_cdf(t, df) == pytest.approx(p, abs=1e-10)


@given(st.floats(-50, 50), st.integers(1, 500))
def test_t_cdf_is_a_symmetric_distribution_and_exact_for_one_and_two_degrees(t: float, df: int) -> None:
    assert t_cdf(t, df) + t_cdf(-t, df) == pytest.approx(1.0)
    assert t_cdf(t, df) <= t_cdf(t + 0.5, df)
    assert t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-7)
    assert t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-7)


def test_regularised_beta_matches_its_closed_forms() -> None:
    assert regularised_beta(0.3, 1, 1) == pytest.approx(0.3)
    assert regularised_beta(0.3, 2, 3) == pytest.approx(1 - 0.7**4 - 4 * 0.3 * 0.7**3)
    assert regularised_beta(0.9, 0.5, 0.5) == pytest.approx(2 / math.pi * math.asin(math.sqrt(0.9)))


# --- from val to sealed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "val", "sealed", "carries_over", "said"),
    [
        (-0.05, -0.05, -0.05, True, "It carries over: -0.05000 bpb on the sealed text"),
        (-0.05, 0.01, 0.012, True, "a gap of +0.00200"),  # an unlucky seed, on both texts alike
        (-0.05, -0.05, 0.0, False, "It does not carry over to the sealed text: +0.00000"),
        (-0.05, -0.05, 0.02, False, "It does not carry over to the sealed text: +0.02000"),
        (-0.05, -0.05, -0.11, False, "where most of the gain is another one"),
    ],
)
def test_an_effect_on_val_carries_over_when_the_gap_is_smaller_than_itself(
    mean: float, val: float, sealed: float, carries_over: bool, said: str
) -> None:
    found = statistics.transfer(mean, val=val, sealed=sealed)
    assert found.carries_over == carries_over
    assert said in found.reason
    assert found.effect_bpb == pytest.approx(mean + sealed - val)


def test_the_seeds_luck_cancels_so_one_pair_tells_much_more_than_its_sealed_difference() -> None:
    """Seeds scatter by 0.02, texts by 0.002, as at our size: four pairs of val and one on both."""
    draw = Random(7)
    effect, estimates, alone, kept = -0.02, [], [], 0
    for _ in range(4_000):
        pairs = [draw.gauss(effect, 0.02) for _ in range(4)]
        luck = draw.gauss(effect, 0.02)
        val, sealed = luck + draw.gauss(0, 0.002), luck + draw.gauss(0, 0.002)
        found = statistics.transfer(sum(pairs) / 4, val=val, sealed=sealed)
        estimates.append(found.effect_bpb)
        alone.append(sealed)
        kept += found.carries_over
    assert statistics.mean_sd(estimates)[0] == pytest.approx(effect, abs=1e-3)
    sd, sd_alone = statistics.mean_sd(estimates)[1], statistics.mean_sd(alone)[1]
    assert sd is not None
    assert sd_alone is not None
    assert sd < 0.6 * sd_alone  # 0.0104 against 0.0201
    assert kept > 0.94 * 4_000  # what is lost are means that were hardly below 0, or above it
