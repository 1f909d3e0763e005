"""Before the clock: compiles, takes a few steps on dummy tokens, and undoes them.

A GPU always trains compiled. On a CPU compiling costs 40 to 60 s and saves about a third of every
step, or nothing. So eager steps are timed first; compiling is tried when the whole budget is long enough, and undone
when eager was faster. A compiler that fails costs speed and not the run, unless compiling was asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from gpu_runner.harness.failures import NoCompiler, is_machines, is_out_of_memory
from gpu_runner.harness.pipe import Pipe

NUM_STEPS = 3
COMPILE_FROM_S = 240.0  # of eager training on a CPU; compiling takes 40 s and saves a third

# On a CPU a recipe may use threads. Kernels that are called one by one from Python keep its lock, and two threads
# took 41 ms for what took one of them 28; called from C++ the lock is free, and both together take 27 ms.
OPTIONS: dict[str, dict[str, str | int | bool | Callable[..., Any]]] = {"cpu": {"cpp_wrapper": True}, "cuda": {}}

Mode = Literal["auto", "always", "never"]


class Compiled:
    """A function that runs eager until it is told to compile, and can go back."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.plain = self.function = function

    def compile(self, device: str) -> None:
        self.function = torch.compile(self.plain, dynamic=False, options=OPTIONS[device])

    def fall_back(self) -> None:
        self.function = self.plain

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class WarmUp:
    """Compiles a recipe's functions and times steps; ``take`` leaves every tensor as it was."""

    def __init__(self, compiled: Sequence[Compiled], *, mode: Mode, device: str, pipe: Pipe) -> None:
        self.compiled, self.mode, self.device, self.pipe = compiled, mode, device, pipe
        self.is_compiled = False
        self.eager_s = math.inf  # one step, where it was measured
        self.seconds = 0.0

    def take(self, step: Callable[[], object], tensors: Sequence[torch.Tensor], num_planned: float) -> None:
        """``step`` is one dummy step; ``num_planned`` of them, or seconds if negative, is the whole budget.

        Raises NoCompiler when compiling was asked for and cannot be done.
        """
        began = time.monotonic()
        # On the host: a second copy of weights and state would raise a GPU's peak memory.
        kept = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
        # How many dummy steps there are is told by the clock: drawn numbers, such as dropout's, must not follow it.
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if self.device == "cuda" else []):
            if self.mode != "never" and self.compiled and self._pays(step, num_planned):
                self._compile(step, lambda: put_back(tensors, kept))
            elif math.isinf(self.eager_s):
                self._steps(step)
        put_back(tensors, kept)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.seconds = time.monotonic() - began

    def _pays(self, step: Callable[[], object], num_planned: float) -> bool:
        if self.mode == "always" or self.device == "cuda":
            return True
        self.eager_s = self._steps(step)
        return (num_planned * self.eager_s if num_planned > 0 else -num_planned) >= COMPILE_FROM_S

    def _compile(self, step: Callable[[], object], undo: Callable[[], None]) -> None:
        try:
            for function in self.compiled:
                function.compile(self.device)
            compiled_s = self._steps(step)
            if compiled_s < self.eager_s or self.mode == "always":
                self.is_compiled = True
            else:
                self._go_back(
                    "info", f"Compiled, a step takes {compiled_s:.3f} s; eager {self.eager_s:.3f} s: eager it is."
                )
        except Exception as error:
            if is_out_of_memory(error) or is_machines(error):
                raise  # eager would be measured by other numbers than its pair, and fail at the checkpoint
            why = f"{type(error).__name__}: {error}"[:1_500]
            if self.mode == "always":
                raise NoCompiler(f"torch.compile failed: {why}") from error
            self._go_back("warning", f"torch.compile failed, training eager: {why}")
            undo()
            self._steps(step)

    def _go_back(self, level: str, why: str) -> None:
        self.pipe.log(level, why)
        for function in self.compiled:
            function.fall_back()

    def _steps(self, step: Callable[[], object]) -> float:
        """Seconds of the fastest of a few steps; the first one includes lazy initialisation."""
        took = []
        for _ in range(NUM_STEPS):
            began = time.monotonic()
            step()
            if self.device == "cuda":
                torch.cuda.synchronize()
            took.append(time.monotonic() - began)
        return min(took)


@torch.no_grad()
def put_back(tensors: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]) -> None:
    """Copy the kept values back in place, since a compiled graph refers to the tensor itself."""
    for tensor, old in zip(tensors, kept, strict=True):
        tensor.copy_(old)
        tensor.grad = None
