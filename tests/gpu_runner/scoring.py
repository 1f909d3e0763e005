"""Models for the scorer that need no training, and how they are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gpu_runner.contract import Score
from gpu_runner.harness import checkpoint
from gpu_runner.scorer import score

# A recipe of a few lines, so that each cheat is one line: what forward() gives for tokens [B, T].
CHEAT = """
import contextlib, os, sys, time, torch
from torch import nn

def forge():
    for fd in range(3, 20):
        with contextlib.suppress(OSError):
            os.write(fd, b"z" * 64)

RAMP = torch.arange(256)

def hot(tokens):
    return nn.functional.one_hot(tokens, 256)

def past(tokens, n):
    return nn.functional.pad(tokens, (n, 0))[:, :-n]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(256, 256))
        self.num_calls = self.seen = 0
        self.register_buffer("zeros", torch.{zeros}(256), persistent=False)
        self.register_buffer("counts", torch.tensor(0), persistent=False)

    def forward(self, tokens):
        self.num_calls += 1
        honest = self.table[tokens]
        {forward}

def build_model(config):
    {build}
    return Model()

def train(run): ...
"""


def measure(folder: Path, dataset: Path, **over: Any) -> Score:
    how: dict[str, Any] = {"num_tokens": 8_192, "num_challenges": 256, "level": "none", "device": "cpu"} | over
    return score.score(folder / "source", folder / "out" / "checkpoint", dataset, **how)


def make_model(folder: Path, *, forward: str = "return honest", build: str = "pass", zeros: str = "zeros") -> Path:
    """A run folder whose recipe is CHEAT and whose checkpoint is a table of zeros: 8 bits a byte when honest."""
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "train.py").write_text(CHEAT.format(forward=forward, build=build, zeros=zeros))
    model = torch.nn.Module()
    model.register_parameter("table", torch.nn.Parameter(torch.zeros(256, 256)))
    checkpoint.save(folder / "out", model, {"seq_len": 32, "vocab_size": 256})
    return folder
