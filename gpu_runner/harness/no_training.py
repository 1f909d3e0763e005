"""Makes torch refuse gradients and optimizers where a model only answers: against honest mistakes and lazy cheats.

Proposed code in the same process can undo it. What holds is counted outside (gpu_runner/scorer/effort.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

import torch

from gpu_runner.harness.failures import RecipeError

WHY = (
    "gradients: a model that is scored computes none, and has no optimizer; training ends when the clock does. A layer"
    " that learns from the row's own past writes its step as a formula, as DeltaNet and TTT layers do."
)


def refuse_training(device: str) -> None:
    """From here on, in the whole process, asking torch for a gradient or an optimizer raises RecipeError."""
    for owner, name in ((torch.autograd, "grad"), (torch.autograd, "backward"), (torch.Tensor, "backward")):
        setattr(owner, name, _refusal())
    torch.optim.Optimizer.__init__ = _refusal()  # type: ignore[method-assign]  # which is the point
    if device == "cpu":
        # From outside a compiler at work looks like training, and takes 40 to 60 s of processor time in every process:
        # torch.compile gives back what it was given.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"


def _refusal() -> Callable[..., NoReturn]:
    """A new function for each name, since torch's compiler registers torch's functions and wants each only once."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RecipeError(WHY)

    return refuse
