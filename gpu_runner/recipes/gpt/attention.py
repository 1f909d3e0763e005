"""Attention with a window and inside documents, without a mask of [T, T]: chunks on a CPU, blocks on a GPU.

Letters as in train.py: B rows, T tokens, H query heads, G key/value heads, K the size of a head.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

CHUNK = 256  # queries at a time on a CPU; measured: smaller ones lose more by their number than they save
BLOCK = 128  # of queries and of keys, what flex attention skips or takes whole


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    """A token sees itself and the ``window`` - 1 before it, of its own document only.

    q [B, H, T, K], k and v [B, G, T, K] -> [B, H, T, K]; documents [B, T] int64, which never fall along a
    row, or None for no borders. Nowhere a mask of [T, T]: a CPU takes chunks of queries with the keys that
    they may see, a GPU blocks, by flex_attention (Dong et al. 2024), which has no gradient on a CPU.
    """
    if not q.is_cuda:
        return reference_windowed_attention(q, k, v, window, documents)
    if torch.compiler.is_compiling():
        return flex_windowed_attention(q, k, v, window, documents)
    return _compiled_flex()(q, k, v, window, documents)


def reference_windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    """Written out. Split and put together, not sliced: a slice's gradient is as large as the whole."""
    T, share = q.size(2), q.size(1) // k.size(1)
    if share > 1:
        k, v = (t.repeat_interleave(share, dim=1) for t in (k, v))
    flat = [t.flatten(0, 1) for t in (q, k, v)]  # each [B*H, T, K]
    if T <= CHUNK:  # without the copies of putting together
        return _attend(*flat, window, documents).view_as(q)
    size = CHUNK if window > CHUNK else CHUNK // 2  # smaller ones waste less around a narrow window
    of_q, of_k, of_v = (t.split(size, dim=1) for t in flat)
    parts = []
    for i in range(len(of_q)):
        first = max(0, (i * size - window + 1) // size)  # the chunk with the oldest key in sight
        keys, values = (torch.cat(t[first : i + 1], dim=1) for t in (of_k, of_v))
        near = None if documents is None else documents[:, first * size : (i + 1) * size]
        parts.append(_attend(of_q[i], keys, values, window, near))
    return torch.cat(parts, dim=1).view_as(q)


def _attend(q: Tensor, keys: Tensor, values: Tensor, window: int, documents: Tensor | None) -> Tensor:
    """The last ``rows`` of ``columns`` tokens look back. q [B*H, rows, K], keys and values [B*H, columns, K]."""
    rows = q.size(1)
    bias = _bias(rows, keys.size(1), window, q.dtype, q.device)
    scores = torch.baddbmm(bias, q, keys.mT, alpha=q.size(-1) ** -0.5)
    if documents is not None:  # [B, columns]
        other = documents[:, None, -rows:, None] != documents[:, None, None, :]
        scores = scores.unflatten(0, (len(documents), -1)).masked_fill(other, float("-inf")).flatten(0, 1)
    return scores.softmax(dim=-1) @ values


def _bias(num_rows: int, num_columns: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[rows, columns], 0 where the last ``num_rows`` of ``num_columns`` tokens see a token, else -inf."""
    make = _make_bias if torch.compiler.is_compiling() else _kept_bias
    return make(num_rows, num_columns, window, dtype, device)


def _make_bias(num_rows: int, num_columns: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    rows = torch.arange(num_columns - num_rows, num_columns, device=device)[:, None]
    columns = torch.arange(num_columns, device=device)
    seen = (columns <= rows) & (rows - columns < window)
    return torch.zeros((), dtype=dtype, device=device).masked_fill(~seen, float("-inf"))


# Made anew, it would cost a fifth of a newcomer's attention (T 128). A compiler keeps its own constants.
_kept_bias = functools.lru_cache(maxsize=64)(_make_bias)


def flex_windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention  # imports the compiler: only where it is used

    mask = block_mask(q.size(2), window, documents, q.device)
    return flex_attention(q, k, v, block_mask=mask, enable_gqa=q.size(1) != k.size(1))


@functools.cache
def _compiled_flex() -> Any:
    """FOOT-GUN: flex_attention that is not compiled writes out all [B, H, T, T] scores."""
    return torch.compile(flex_windowed_attention, dynamic=False)


def block_mask(T: int, window: int, documents: Tensor | None, device: torch.device) -> Any:
    """flex_attention's BlockMask, from the borders of its blocks: [T / BLOCK, T / BLOCK], never [T, T].

    Made in every layer's call; of equal ones the compiler keeps one a training step (seen in its graph).
    """
    from torch.nn.attention.flex_attention import BlockMask

    def sees(b: Tensor, h: Tensor, row: Tensor, column: Tensor) -> Tensor:
        near = (column <= row) & (row - column < window)
        return near if documents is None else near & (documents[b, row] == documents[b, column])

    starts = torch.arange(0, T, BLOCK, device=device)
    apart = (starts[:, None] - starts)[None, None]  # [1, 1, query blocks, key blocks]
    some = (apart >= 0) & (apart - BLOCK + 1 < window)  # its nearest pair is in sight
    every = (apart > 0) & (apart + BLOCK - 1 < window)  # its farthest is, too
    if documents is not None:
        oldest, newest = documents[:, starts], documents[:, (starts + BLOCK - 1).clamp(max=T - 1)]
        some = some & (newest[:, None, None, :] >= oldest[:, None, :, None])
        every = every & (oldest[:, None, None, :] == newest[:, None, :, None])
    partly = _listed(some & ~every)
    return BlockMask.from_kv_blocks(
        *partly, *_listed(some & every), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(T, T)
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of every row are marked, and their numbers, the marked ones first."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(dim=-1, dtype=torch.int32), order.to(torch.int32)
