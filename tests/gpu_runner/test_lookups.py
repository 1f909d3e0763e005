"""On alice's CPU a table in 16 bits counts 256 uses of a row and no more: who is told, and is it true?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as everybody writes it
from torch import Tensor, nn

from gpu_runner.contract import parse_recipe
from gpu_runner.harness import lookups
from gpu_runner.harness.loading import load_recipe
from tests.gpu_runner.training import RECIPE, TINY, listen, make_run_dir

USES = 4_096
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


class Reads(nn.Module):
    """A table of one token and how it is read: tokens [B, T] -> [B, T, 1]."""

    def __init__(self, dtype: torch.dtype, read: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, 1, dtype=dtype))
        self.read = read

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(tokens, self.table)

    def counted(self) -> float:
        """How many of USES uses of one row its gradient holds."""
        self(torch.full((1, USES), 3)).sum().backward()
        grad = self.table.grad
        assert grad is not None
        return (grad.coalesce().to_dense() if grad.is_sparse else grad)[3].item()


def bag(tokens: Tensor, table: Tensor) -> Tensor:
    return F.embedding_bag(tokens.view(-1, 1), table, mode="sum").view(*tokens.shape, -1)


def sparse_bag(tokens: Tensor, table: Tensor) -> Tensor:
    return F.embedding_bag(tokens.view(-1, 1), table, mode="sum", sparse=True).view(*tokens.shape, -1)


def selected(tokens: Tensor, table: Tensor) -> Tensor:
    return table.index_select(0, tokens.flatten()).view(*tokens.shape, -1)


def taken(tokens: Tensor, table: Tensor) -> Tensor:
    return torch.take(table, tokens).unsqueeze(-1)


@pytest.mark.parametrize(("dtype", "most"), [(BF16, 256), (F16, 2_048)])
@pytest.mark.parametrize(
    "read",
    [F.embedding, bag, sparse_bag, lambda tokens, table: table[tokens], taken],
    ids=["embedding", "embedding_bag", "sparse", "index", "take"],
)
def test_a_narrow_lookup_counts_as_many_uses_as_we_say_and_no_more(
    read: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, most: int
) -> None:
    assert lookups.count_to(Reads(dtype, read), torch.zeros(1, 8, dtype=torch.long)) == most
    assert Reads(dtype, read).counted() == most
    if dtype == BF16 and read is not sparse_bag:  # a table in float32 that is cast before it is read is no better
        cast = Reads(F32, lambda tokens, table: read(tokens, table.to(BF16)))
        assert lookups.count_to(cast, torch.zeros(1, 8, dtype=torch.long)) == cast.counted() == most


@pytest.mark.parametrize(
    ("dtype", "read"),
    [
        (F32, F.embedding),
        (F32, lambda tokens, table: F.embedding(tokens, table).to(BF16)),
        (F32, bag),
        (BF16, selected),
        (BF16, lambda tokens, table: F.one_hot(tokens, 4).to(BF16) @ table),
    ],
    ids=["float32", "cast-after", "bag", "index_select", "one-hot"],
)
def test_what_we_say_nothing_about_counts_them_all(
    dtype: torch.dtype, read: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = Reads(dtype, read)
    assert lookups.count_to(model, torch.zeros(1, 8, dtype=torch.long)) is None
    assert model.counted() == USES


def test_looking_draws_no_random_number_and_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Embedding(4, 2, dtype=BF16), nn.Dropout(0.5)).train()
    before = torch.get_rng_state()
    assert lookups.count_to(model, torch.zeros(1, 8, dtype=torch.long)) == 256
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_shipped_recipes_tables_count_every_use_where_it_computes_in_bfloat16() -> None:
    """A row's gradient is the sum over all its uses, taken here in float64 from what reached each of them."""
    recipe = load_recipe(RECIPE)
    knobs = parse_recipe((RECIPE / "recipe.toml").read_text()).effective(TINY | {"seq_len": 2_048})
    about = {"width": 64, "vocab_size": 256, "separator": 0, "dtype": "bfloat16", "attention": "math", "fp8": False}
    model = recipe.build_model({key: knobs[key] for key in recipe.MODEL_KNOBS} | about)
    recipe.init_weights(model, knobs | {"zero_init_proj": False}, 64)
    reached: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, read: Tensor) -> None:
        read.retain_grad()
        reached.append(read)

    model.embed.register_forward_hook(keep)
    tokens = torch.full((1, 2_048), 32)
    tokens[0, ::8] = 101
    nats, _ = recipe.losses(model, 0.0, tokens, tokens.roll(-1, 1))
    nats.backward()
    for token in (32, 101):  # 1,792 and 256 uses
        uses = reached[0].grad
        assert uses is not None
        here = uses[tokens == token].double().sum(0)
        torch.testing.assert_close(model.embed.weight.grad[token].double(), here, rtol=1e-3, atol=1e-7)


CAST_FIRST = (
    "x = self.embed(tokens)  # [B, T, D]",
    "x = F.embedding(tokens, self.embed.weight.to(torch.bfloat16)).float()",
)


@pytest.mark.parametrize(("edits", "most"), [((CAST_FIRST,), 256), ((), None)], ids=["cast-first", "shipped"])
def test_alices_run_says_so_in_its_log_and_when_it_starts(
    dataset: Path, tmp_path: Path, edits: tuple[tuple[str, str], ...], most: int | None
) -> None:
    heard = listen(make_run_dir(tmp_path / "run", dataset, edits=edits, dtype="bfloat16"))
    assert heard.code == 0, heard.stderr
    assert heard.of("started")[0]["lookups_count_to"] == most
    warned: list[Any] = [line["text"] for line in heard.of("log") if line["level"] == "warning"]
    assert len(warned) == (most is not None)
    assert all("of more than 256 uses in a batch it counts 256. Keep the table in float32" in text for text in warned)
