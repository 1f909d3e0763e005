"""Tokens per second, FLOPs used and memory beside peers' own trainers, at equal shape, in the same minutes.

Without a peer's checkout ours is measured at its shape alone: another table, which replaces no comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.benchmarks.checkouts import folder_of_peers, is_there
from tests.benchmarks.measuring import Rounds, contest, disturbance, interleave, ratio
from tests.benchmarks.order import Shape
from tests.benchmarks.record import Record
from tests.gpu.conftest import TokenFiles
from tests.gpu.machine import (
    ALONE,
    DRY,
    FILES,
    LENGTH,
    Length,
    mfu_percent,
    percent,
    shape_here,
    verdict,
)
from tests.gpu.matches import MATCHES, NO_NGRAMS, Match, make_order

pytestmark = pytest.mark.gpu


D24 = Shape(depth=24, width=1536, head_dim=128, vocab=32768, seq_len=2048, batch_rows=64, micro_rows=16)
D24_MFU_PERCENT = 52


@pytest.mark.parametrize("name", MATCHES)
def test_tokens_per_second_beside(name: str, dataset: Path, token_files: TokenFiles, tmp_path: Path) -> None:
    match, has_peer = MATCHES[name], is_there(MATCHES[name].peer)
    shape = shape_here(match.shape)
    tokens, length = token_files[shape.vocab], LENGTH if has_peer else ALONE
    orders = {}
    if has_peer:
        folder = str(folder_of_peers(match.peer))
        orders[match.peer] = make_order(match.peer, shape, tmp_path, dataset, tokens, peers=folder)
    orders["ours"] = make_order("ours", shape, tmp_path, dataset, tokens, knobs=match.knobs)
    with contest(orders, warm_up_s=length.warm_up_s) as contenders:
        rounds = interleave(contenders, num_turns=length.num_turns, seconds=length.round_s)
    ours, peer = rounds["ours"], rounds.get(match.peer)
    assert learns(ours, shape)
    if peer is None:
        _publish_alone(name, match, shape, ours)
        return
    assert ours.built["flops_per_token"] == pytest.approx(peer.built["flops_per_token"], rel=0.03)
    assert ours.built["tokens_per_step"] == peer.built["tokens_per_step"]
    assert learns(peer, shape)
    _publish(name, match, shape, ours, peer)


def test_flops_used_by_24_layers(dataset: Path, token_files: TokenFiles, tmp_path: Path) -> None:
    """In bfloat16, so that the number is comparable; and in fp8 where the GPU has it, labelled."""
    shape = shape_here(D24)
    orders = {}
    for fp8 in ("off", "auto"):
        knobs = NO_NGRAMS | {"fp8": fp8}
        orders[f"fp8 {fp8}"] = make_order("ours", shape, tmp_path / fp8, dataset, token_files[shape.vocab], knobs=knobs)
    with contest(orders, warm_up_s=ALONE.warm_up_s) as contenders:
        rounds = interleave(contenders, num_turns=ALONE.num_turns, seconds=ALONE.round_s)
    assert all(learns(one, shape) for one in rounds.values())
    Record(
        name=f"{FILES}-24-layers",
        title="Ours, 24 layers, 1536 wide, T 2048",
        columns=COLUMNS,
        rows=[_row(one, rounds["fp8 off"]) for one in rounds.values()],
        notes=[
            f"Target: {D24_MFU_PERCENT} % in bfloat16: {verdict(_mfu(rounds['fp8 off']), D24_MFU_PERCENT)}."
            " Under fp8 the FLOPs used are bf16-equivalent.",
            how(ALONE),
        ],
        raw={"shape": asdict(shape), "rounds": {one.name: asdict(one) for one in rounds.values()}},
    ).publish()


def learns(one: Rounds, shape: Shape) -> bool:
    """Every loss is a number, and below that of guessing: Zipf's tokens are no even draw."""
    losses = one.of("loss").values
    return all(math.isfinite(loss) for loss in losses) and losses[-1] < math.log(shape.vocab)


COLUMNS = ("trainer", "tokens/s", "x", "FLOPs used", "peak MiB", "parameters", "what it does")


def how(length: Length) -> str:
    return (
        f"{length.num_turns} turns of {length.round_s:g} s each, interleaved: median (lowest to highest); x is turn by"
        f" turn. FLOPs: 6 per matrix weight, head included, and 12 D T per layer, of the dense bf16 peak.{DRY}"
    )


def _mfu(one: Rounds) -> float | None:
    return mfu_percent(one.of("tokens_per_s").median, one.built["flops_per_token"])


def _row(one: Rounds, base: Rounds) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.of('tokens_per_s'):,.0f}",
        f"{ratio(one, base):.3f}",
        percent(_mfu(one)),
        f"{max(one.of('peak_memory_mib').values):,.0f}",
        f"{one.built['num_params']:,}",
        one.built["about"],
    )


def _publish(name: str, match: Match, shape: Shape, ours: Rounds, peer: Rounds) -> None:
    Record(
        name=f"{FILES}-beside-{name}",
        title=f"Beside {name}: {shape.depth} layers, {shape.width} wide, T {shape.seq_len}, V {shape.vocab}",
        columns=COLUMNS,
        rows=[_row(one, peer) for one in (peer, ours)],
        notes=[*_targets(match, ours, peer), disturbance({o.name: o for o in (ours, peer)}), how(LENGTH)],
        raw={"shape": asdict(shape), "knobs": match.knobs, "rounds": {o.name: asdict(o) for o in (peer, ours)}},
    ).publish()


def _publish_alone(name: str, match: Match, shape: Shape, ours: Rounds) -> None:
    left_out = f"Not compared: {match.peer}'s own trainer is not here; PEERS=FOLDER holds the checkouts."
    Record(
        name=f"{FILES}-alone-{name}",
        title=f"In {name}'s shape: {shape.depth} layers, {shape.width} wide, T {shape.seq_len}, V {shape.vocab}",
        columns=COLUMNS,
        rows=[_row(ours, ours)],
        notes=[*_flops_target(match, ours), left_out, how(ALONE)],
        raw={"shape": asdict(shape), "knobs": match.knobs, "rounds": {"ours": asdict(ours)}},
    ).publish()


def _flops_target(match: Match, ours: Rounds) -> Iterator[str]:
    if match.mfu_percent is not None:
        used = _mfu(ours)
        yield f"Target: {match.mfu_percent} % of the FLOPs: {verdict(used, match.mfu_percent)} ({percent(used)})."


def _targets(match: Match, ours: Rounds, peer: Rounds) -> Iterator[str]:
    times = ratio(ours, peer).median
    yield f"Target: {match.times} x the tokens/s: {verdict(times, match.times)} ({times:.3f})."
    yield from _flops_target(match, ours)
    memory, allowed = (max(one.of("peak_memory_mib").values) for one in (ours, peer))
    yield f"Target: no more memory: {verdict(allowed, memory)} ({memory:,.0f} of {allowed:,.0f} MiB)."
