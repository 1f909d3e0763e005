"""What makes a newcomer's minute count: n-gram embeddings, gradients written by hand, one core for half of the rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpu_runner.harness.loading import load_recipe
from gpu_runner.harness.team import Team
from tests.gpu_runner.training import RECIPE


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load_recipe(RECIPE)


def n_grams(recipe: Any, **over: Any) -> Any:
    grams = recipe.NGrams({"ngram_order": 4, "ngram_rows": 1024, "width": 8} | over)
    torch.nn.init.normal_(grams.table, generator=torch.Generator().manual_seed(0))
    return grams


def test_an_n_gram_is_the_same_wherever_it_stands_and_never_sees_what_follows(recipe: Any) -> None:
    grams = n_grams(recipe)
    tokens = torch.tensor([list(b"import os; import re"), list(b"xxxxxxxxxxximport os")])
    meant = grams(tokens)
    # The last three of "import": four tokens of past are the same.
    assert torch.equal(meant[0, 3:6], meant[0, 14:17])
    assert torch.equal(meant[0, 3:9], meant[1, 14:20])
    changed = tokens.clone()
    changed[:, 10:] = 7
    assert torch.equal(grams(changed)[:, :10], meant[:, :10])
    assert not torch.equal(grams(changed)[:, 10], meant[:, 10])


def test_a_row_of_the_table_belongs_to_one_order(recipe: Any) -> None:
    rows = n_grams(recipe).rows(torch.randint(50_000, (4, 64)))
    assert torch.equal(rows // 1024, torch.arange(3).expand(4, 64, 3))
    assert rows.unique().numel() > 500  # of 3 x 256 looked up: they are spread


def test_an_n_gram_never_seen_says_nothing(recipe: Any) -> None:
    fresh = recipe.NGrams({"ngram_order": 3, "ngram_rows": 64, "width": 8})
    assert not fresh(torch.arange(10)[None]).any()


def test_looking_only_at_touched_rows_is_looking_at_all(recipe: Any) -> None:
    """On a GPU the gradient is dense, on a CPU it is not: the same steps."""
    tokens = [torch.randint(256, (2, 16)) for _ in range(3)]
    sparse, dense = n_grams(recipe), n_grams(recipe)
    optimizers = [recipe.RowAdagrad(g.table, 0.3, SimpleNamespace(team=Team())) for g in (sparse, dense)]
    wanted = torch.randn(2, 16, 8)
    for batch in tokens:
        for grams, optimizer in zip((sparse, dense), optimizers, strict=True):
            (grams(batch) * wanted).sum().backward()
            assert grams.table.grad.is_sparse
            if grams is dense:
                grams.table.grad = grams.table.grad.to_dense()
            optimizer.send()
            optimizer.compute(0, 1.0)
            grams.table.grad = None
    assert not torch.equal(sparse.table, n_grams(recipe).table)
    torch.testing.assert_close(sparse.table, dense.table, rtol=1e-5, atol=1e-6)


def test_the_first_step_of_a_row_is_the_learning_rate_and_later_ones_are_smaller(recipe: Any) -> None:
    table = torch.nn.Parameter(torch.zeros(4, 8))
    optimizer = recipe.RowAdagrad(table, 0.5, SimpleNamespace(team=Team()))
    moved = []
    for _ in range(4):
        before = table.detach().clone()
        table.grad = torch.zeros(4, 8).index_fill_(0, torch.tensor([2]), 1e-4)
        optimizer.send()
        optimizer.compute(0, 1.0)
        moved.append((table.detach() - before).norm(dim=-1) / 8**0.5)
    steps = torch.stack(moved)
    torch.testing.assert_close(steps[:, 2], 0.5 / torch.arange(1, 5).sqrt(), rtol=1e-4, atol=0)
    assert not steps[:, [0, 1, 3]].any()


def as_written_out(recipe: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    """The same operation as autograd differentiates it."""
    if name == "RMSNorm":
        return x * (x.square().mean(-1, keepdim=True).sqrt() + 1e-6).reciprocal()
    if name == "ReluSquared":
        return torch.relu(x).square()
    cos, sin = (table[..., :4] for table in recipe.rotary_tables(5, 8, 100.0))
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


@pytest.mark.parametrize("name", ["RMSNorm", "ReluSquared", "Rotate"])
def test_gradients_written_by_hand_are_autograds(recipe: Any, name: str) -> None:
    x = torch.randn(2, 5, 3, 8, requires_grad=True)
    tables = recipe.rotary_tables(5, 8, 100.0) if name == "Rotate" else ()
    upstream = torch.randn(2, 5, 3, 8)
    ours, theirs = getattr(recipe, name).apply(x, *tables), as_written_out(recipe, name, x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, x, upstream)[0], torch.autograd.grad(theirs, x, upstream)[0], rtol=1e-4, atol=1e-5
    )


def test_a_crew_gives_back_in_order_and_leaves_every_operation_one_thread(recipe: Any) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        crew = recipe.Crew(SimpleNamespace(device="cpu"))
        assert crew.size == 2
        assert list(crew.map(lambda part: (part, torch.get_num_threads()), range(4))) == [(i, 1) for i in range(4)]
        crew.pool.shutdown()
    finally:
        torch.set_num_threads(before)


def test_a_crew_passes_on_what_went_wrong(recipe: Any) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        crew = recipe.Crew(SimpleNamespace(device="cpu"))
        with pytest.raises(ZeroDivisionError):
            list(crew.map(lambda part: 1 / part, [1, 0]))
        crew.pool.shutdown()
    finally:
        torch.set_num_threads(before)
