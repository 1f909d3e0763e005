"""The recipe that alice's campaign starts from: every knob does something, nothing looks ahead, nothing is clamped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpu_runner.contract import Knob, KnobValue, Recipe, parse_recipe
from gpu_runner.harness.__main__ import run_recipe
from gpu_runner.harness.failures import BadOverride, RunFailed
from gpu_runner.harness.loading import load_recipe
from gpu_runner.harness.pipe import Pipe
from gpu_runner.harness.team import Team
from tests.gpu_runner.training import RECIPE, TINY, make_run_dir

SHIPPED: Recipe = parse_recipe((RECIPE / "recipe.toml").read_text())
# A knob that only matters beside another one is tried beside it.
WINDOW: dict[str, KnobValue] = {"seq_len": 64, "window": 32}
BESIDE: dict[str, dict[str, KnobValue]] = {
    "cautious_decay": {"weight_decay": 5.0},
    "window": {"seq_len": 64},
    "full_every": WINDOW,
    "document_mask": {"seq_len": 1024},  # long enough that a row holds the end of a file
}
# Twice or half the default is out of bounds, or too little to be seen in five steps.
OTHER: dict[str, KnobValue] = {"adam_eps": 1e-3, "adam_beta2": 0.6, "grad_clip": 0.1, "warmup_fraction": 0.2}
OTHER |= {"window": 32, "full_every": 1, "micro_batch": 2}
NEEDS_A_GPU = {"fp8"}


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load_recipe(RECIPE)


Trained = tuple[RunFailed | None, list[float]]
Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def train(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Five steps in this process; the failure if there was one, and every number that was reported."""

    @cache
    def _train(**overrides: KnobValue) -> Trained:
        folder = make_run_dir(tmp_path_factory.mktemp("run") / "7", dataset, overrides=TINY | overrides, max_steps=5)
        reports = os.open(folder / "out" / "reports", os.O_CREAT | os.O_WRONLY)
        failure, *_ = run_recipe(folder, Pipe(reports))
        os.close(reports)
        lines = [json.loads(line) for line in (folder / "out" / "reports").read_text().splitlines()]
        metrics = [line["metrics"] for line in lines if line["kind"] == "point"]
        return failure, [m[name] for m in metrics for name in ("train_loss", "watch_bpb") if name in m]

    return _train


def other_values(knob: Knob) -> list[KnobValue]:
    """Every other choice, or one other number inside the bounds."""
    if knob.type == "bool":
        return [not knob.default]
    if knob.type == "choice":
        return [choice for choice in knob.choices if choice != knob.default]
    if knob.key in OTHER:
        return [OTHER[knob.key]]
    here = TINY.get(knob.key, knob.default)
    doubled = here * 2 if here else knob.high
    assert knob.high is not None
    value = doubled if doubled <= knob.high else here * 0.5
    return [int(value) if knob.type == "int" else float(value)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(k.key, v, id=f"{k.key}={v}")
        for k in SHIPPED.knobs
        if k.key not in NEEDS_A_GPU
        for v in other_values(k)
    ],
)
def test_every_knob_changes_what_is_learned(train: Train, key: str, value: KnobValue) -> None:
    beside = BESIDE.get(key, {})
    failure, numbers = train(**beside, **{key: value})
    assert failure is None
    assert numbers != train(**beside)[1]
    assert len(numbers) == len(train(**beside)[1]) == 6


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"kv_share": 4}, "kv_share: 2 heads"),
        ({"warmup_fraction": 0.4, "cooldown_fraction": 0.7}, "warmup_fraction"),
        ({"aspect": 4096}, "aspect: 4096 is above"),
        ({"dropout": 0.1}, "dropout: not declared"),
        ({"fp8": "on"}, "fp8: this machine's device has no fp8"),
        ({"micro_batch": 3}, "micro_batch: 3 does not divide"),
    ],
)
def test_knobs_that_do_not_fit_are_refused_by_name_and_never_clamped(
    train: Train, overrides: dict[str, Any], named: str
) -> None:
    failure, numbers = train(**overrides)
    assert isinstance(failure, BadOverride)
    assert named in str(failure)
    assert numbers == []


def test_the_schedule_warms_up_stays_and_cools_down(recipe: Any) -> None:
    knobs = {"warmup_fraction": 0.1, "cooldown_fraction": 0.4, "final_lr_fraction": 0.05, "cooldown_shape": "linear"}
    assert 0 < recipe.lr_scale(0.0, knobs) < 0.1
    assert recipe.lr_scale(0.1, knobs) == recipe.lr_scale(0.59, knobs) == 1
    assert recipe.lr_scale(0.8, knobs) == pytest.approx(0.525)
    assert recipe.lr_scale(0.7, knobs | {"cooldown_fraction": 0.3}) == 1  # where 1 - 0.7 is more than 0.3
    for shape in ("linear", "cosine", "sqrt"):
        falling = [recipe.lr_scale(0.6 + 0.4 * i / 50, knobs | {"cooldown_shape": shape}) for i in range(51)]
        assert falling == sorted(falling, reverse=True)
        assert falling[0] == pytest.approx(1)
        assert falling[-1] == pytest.approx(0.05)


def small_config(**over: Any) -> dict[str, Any]:
    config = {key: SHIPPED.effective(TINY)[key] for key in load_recipe(RECIPE).MODEL_KNOBS}
    about = {"width": 64, "vocab_size": 256, "separator": 0, "dtype": "float32", "attention": "math", "fp8": False}
    return config | about | over


def lively(recipe: Any, config: dict[str, Any]) -> torch.nn.Module:
    """A model whose logits depend on everything: no projection at zero, no small head."""
    torch.manual_seed(3)
    model = recipe.build_model(config)
    recipe.init_weights(model, SHIPPED.effective(TINY | {"zero_init_proj": False, "init_scale": 2.0}), config["width"])
    model.head.weight.data.mul_(100)
    return model.eval()


@pytest.mark.parametrize(
    ("over", "width", "num_heads"),
    [
        ({}, 128, 2),
        ({"depth": 12}, 768, 12),
        ({"depth": 3, "aspect": 50}, 192, 3),
        ({"depth": 26, "head_dim": 128}, 1664, 13),
    ],
)
def test_depth_sizes_the_model_in_whole_heads(recipe: Any, over: dict[str, Any], width: int, num_heads: int) -> None:
    machine = SimpleNamespace(vocab_size=256, separator=0, dtype="float32", attention="math", has_fp8=False)
    run = SimpleNamespace(knobs=SHIPPED.effective(over), team=Team(), **vars(machine))
    config = recipe.model_config(run)
    assert (config["width"], config["width"] // config["head_dim"]) == (width, num_heads)


def test_a_model_that_learned_in_8_bits_answers_every_row_for_itself(recipe: Any) -> None:
    """One scale for a whole batch would let rows round each other: the scorer would dispute it."""
    model = lively(recipe, small_config(fp8=True))
    torch.manual_seed(4)
    tokens = torch.randint(1, 256, (4, 32))
    among_others, alone = model(tokens)[:1], model(tokens[:1])
    assert torch.allclose(among_others, alone, atol=1e-4)
    assert torch.equal(among_others, lively(recipe, small_config())(tokens)[:1]), "as one that learned without"
    in_training = model.train()
    assert not torch.allclose(in_training(tokens)[:1], in_training(tokens[:1]), atol=1e-4)


@pytest.mark.parametrize("attention", ["math", "sdpa"])
def test_a_windowed_layer_sees_no_further_than_its_window(recipe: Any, attention: str) -> None:
    config = small_config(attention=attention, smear=False, depth=3, window=8, full_every=3)
    assert [recipe.window_of(config, layer) for layer in range(3)] == [8, 8, 0]
    model = lively(recipe, config)
    model.blocks[2] = torch.nn.Identity()  # the one that looks all the way
    model.blocks[2].forward = lambda x, value_embedding, place: x
    tokens = torch.randint(1, 256, (1, 32))
    changed = tokens.clone()
    changed[0, 0] = 256 - changed[0, 0]
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    # Two layers that see themselves and the 7 before reach 14 places back.
    assert torch.equal(before[0, 15:], after[0, 15:])
    assert not torch.equal(before[0, 14], after[0, 14])


@pytest.mark.parametrize("attention", ["math", "sdpa"])
def test_with_a_document_mask_nothing_is_seen_of_the_file_before(recipe: Any, attention: str) -> None:
    config = small_config(attention=attention, document_mask=True, smear=False)
    tokens = torch.randint(1, 256, (2, 32))
    tokens[:, 12] = 0  # the end of a file
    changed = tokens.clone()
    changed[0, :12] = torch.randint(1, 256, (12,))
    with torch.no_grad():
        before, after = (lively(recipe, config)(t) for t in (tokens, changed))
    assert torch.equal(before[0, 13:], after[0, 13:])
    assert not torch.allclose(before[0, :13], after[0, :13])


@pytest.mark.parametrize("attention", ["math", "sdpa"])
@pytest.mark.parametrize("kv_share", [1, 2])
def test_no_position_sees_a_later_one_and_no_row_another(recipe: Any, attention: str, kv_share: int) -> None:
    model = lively(recipe, small_config(attention=attention, kv_share=kv_share))
    tokens = torch.randint(256, (3, 32))
    changed = tokens.clone()
    changed[0, 20:] = torch.randint(256, (12,))
    changed[1] = torch.randint(256, (32,))
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :20], after[0, :20])
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[0, 20:], after[0, 20:])


@pytest.mark.parametrize("kv_share", [1, 2])
def test_attention_written_out_is_the_fused_kernel(recipe: Any, kv_share: int) -> None:
    tokens = torch.randint(256, (3, 32))
    with torch.no_grad():
        written_out = lively(recipe, small_config(kv_share=kv_share))(tokens)
        fused = lively(recipe, small_config(kv_share=kv_share, attention="sdpa"))(tokens)
    assert written_out.std() > 0.1
    torch.testing.assert_close(written_out, fused, rtol=1e-4, atol=1e-4)


def test_rotary_attention_knows_distances_and_not_places(recipe: Any) -> None:
    cos, sin = recipe.rotary_tables(64, 32, 10_000.0)
    q, k = torch.randn(1, 1, 1, 32), torch.randn(1, 1, 1, 32)

    def product(at_q: int, at_k: int) -> float:
        turned_q = recipe.rotate(q, cos[:, at_q : at_q + 1], sin[:, at_q : at_q + 1])
        turned_k = recipe.rotate(k, cos[:, at_k : at_k + 1], sin[:, at_k : at_k + 1])
        return float((turned_q * turned_k).sum())

    assert product(5, 2) == pytest.approx(product(60, 57), abs=1e-4)
    assert product(5, 2) != pytest.approx(product(5, 4), abs=1e-2)


def test_the_norm_is_torchs(recipe: Any) -> None:
    x = torch.randn(4, 7, 64)
    torch.testing.assert_close(recipe.rms_norm(x), torch.nn.functional.rms_norm(x, (64,)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 256, 64), (2, 64, 256)])
@pytest.mark.parametrize("polynomials", ["POLAR_EXPRESS", "NEWTON_SCHULZ"])
def test_muon_brings_every_singular_value_near_one(recipe: Any, shape: tuple[int, ...], polynomials: str) -> None:
    torch.manual_seed(0)
    spectrum = torch.linalg.svdvals(recipe.orthogonalize(torch.randn(shape), getattr(recipe, polynomials)))
    assert 0.5 < spectrum.median() < 1.5
    assert spectrum.max() < 1.5


def test_its_adamw_is_torchs_adamw(recipe: Any) -> None:
    torch.manual_seed(0)
    mine = torch.nn.Parameter(torch.randn(5, 3))
    theirs = torch.nn.Parameter(mine.detach().clone())
    knobs = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_eps": 1e-8}
    ours = recipe.AdamW([mine], 0.1, 0.01, SimpleNamespace(team=Team(), knobs=knobs))
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.01)
    for _ in range(5):
        mine.grad = torch.randn(5, 3)
        theirs.grad = mine.grad.clone()
        with torch.no_grad():
            ours.send()
            ours.compute(0, 1.0)
        reference.step()
    torch.testing.assert_close(mine, theirs)


def test_flops_are_counted_as_the_literature_counts_them(recipe: Any) -> None:
    config = small_config(value_embeddings=True)
    windowed = config | {"window": 16}  # of the two layers the last one still looks all the way
    # 2 layers x (4 attention matrices 64x64 + MLP 2 x 64x256) + head 64x256; tables and scalars are free.
    matrices = 2 * (4 * 64 * 64 + 2 * 64 * 256) + 64 * 256
    assert recipe.flops_per_token(recipe.build_model(config), config) == 6 * matrices + 12 * 2 * 32 * 64
    assert recipe.flops_per_token(recipe.build_model(windowed), windowed) == 6 * matrices + 12 * (32 + 16) * 64


def test_the_toml_recommends_a_budget_for_a_newcomer() -> None:
    assert "\nbudget_tokens = " in (RECIPE / "recipe.toml").read_text()
    assert SHIPPED.editable == ("train.py", "kernels.py", "fp8.py", "attention.py")
