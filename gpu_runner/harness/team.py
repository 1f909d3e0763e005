"""The processes that train one model together: one GPU each, started by torchrun.

A recipe is written once for any number of them. It computes gradients on its own rows and says

    shard = run.team.mean_shard(stack)      # begins: this process's part of the mean over the team
    ... shard.wait() ...                    # [ceil(N / size), ...]; the others' parts are elsewhere
    whole = run.team.gather(part, N)        # begins: the parts of all, put together again

so that every process keeps the optimizer's state for its own part only (ZeRO stage 2, Rajbhandari et al.
2020; batched by shape as in nanochat's DistMuon). Both start a transfer and return at once, so that it runs
while the recipe computes; in a team of one, both return their input.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Pending:
    """A tensor under way; ``wait`` returns it when it is complete."""

    tensor: Tensor
    on_its_way: Any = None  # torch.distributed.Work

    def wait(self) -> Tensor:
        if self.on_its_way is not None:
            self.on_its_way.wait()
        return self.tensor


class Team:
    """``rank`` of ``size`` processes. All of them must make the same calls in the same order."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which alone reports, evaluates and writes the checkpoint."""
        return self.rank == 0

    def part_of(self, num: int) -> slice:
        """Indices of this process's part of ``num`` things: equal parts in order; the last may be short or empty."""
        each = -(-num // self.size)
        return slice(min(self.rank * each, num), min((self.rank + 1) * each, num))

    def mean_shard(self, stack: Tensor) -> Pending:
        """Start averaging stack [N, ...] over the team; gives [ceil(N / size), ...], padded with zeros.

        ``stack`` is overwritten.
        """
        if self.size == 1:
            return Pending(stack)
        padded = _padded(stack, self.size)
        mine = padded.new_empty(padded.size(0) // self.size, *padded.shape[1:])
        on_its_way = _reduce_scatter(mine, padded.div_(self.size), async_op=True)
        return Pending(mine, on_its_way)

    def gather(self, mine: Tensor, num: int) -> Pending:
        """Start putting all parts, up to [ceil(num / size), ...] each, together; gives [num, ...]."""
        if self.size == 1:
            return Pending(mine)
        each = -(-num // self.size)
        if len(mine) < each:
            mine = torch.cat([mine, mine.new_zeros(each - len(mine), *mine.shape[1:])])
        whole = mine.new_empty(each * self.size, *mine.shape[1:])
        return Pending(whole[:num], _all_gather(whole, mine.contiguous(), async_op=True))

    def mean(self, tensors: Iterable[Tensor]) -> list[Pending]:
        """Start averaging whole tensors in place: for tensors too small to split."""
        if self.size == 1:
            return [Pending(tensor) for tensor in tensors]
        return [Pending(t, dist.all_reduce(t.div_(self.size), async_op=True)) for t in tensors]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the team, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def same_for_all(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite with the first process's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def part(self) -> None:
        """Leave the team; afterwards it is a team of one."""
        if self.size > 1:
            dist.destroy_process_group()


def join(device: str) -> Team:
    """The team that torchrun's environment variables name (RANK, WORLD_SIZE, ...); a team of one without them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Team(dist.get_rank(), dist.get_world_size())


def _padded(stack: Tensor, size: int) -> Tensor:
    """stack [N, ...] with zeros appended, so that ``size`` parts have one length."""
    missing = -stack.size(0) % size
    return torch.cat([stack, stack.new_zeros(missing, *stack.shape[1:])]) if missing else stack


def _named(new: str, old: str) -> Callable[..., Any]:
    """A collective by its name: torch 2.13 renamed both and warns of the old names; 2.11 has only those."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(dist, new, None) or getattr(dist, old)  # type: ignore[no-any-return]


_reduce_scatter = _named("reduce_scatter_single", "reduce_scatter_tensor")
_all_gather = _named("all_gather_single", "all_gather_into_tensor")
