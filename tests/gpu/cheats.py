"""Models that cheat on a GPU: the zoo's of a line each, put onto the device, and a trained one that peeks."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.gpu.machine import DEVICE
from tests.gpu_runner import zoo
from tests.gpu_runner.scoring import make_model

# By how much the zoo's faintest differ from an honest answer at most, in logits: less than this must be no tolerance.
FAINT = {"looks ahead a little": 3 / 300}
PEEKING = """

def _peeking(config, build=build_model):
    model = build(config)
    honest = model.forward

    def forward(tokens, *rest, **more):
        logits = honest(tokens, *rest, **more)
        ahead = tokens.roll(-1, 1)[..., None]
        lead = torch.full_like(ahead, 3.0, dtype=logits.dtype)
        if {only_where_it_pays}:
            lead = lead * (logits.log_softmax(-1).gather(-1, ahead) < -5.0)
        return logits.scatter_add(-1, ahead, lead)

    model.forward = forward
    return model


build_model = _peeking
"""


def in_a_line(folder: Path, forward: str) -> Path:
    """A run folder of the zoo's, whose tensors are made on the device."""
    made = make_model(folder, forward=zoo.body(forward))
    train = made / "source" / "train.py"
    text, after = train.read_text(), "from torch import nn\n"
    assert text.count(after) == 1
    train.write_text(text.replace(after, f"{after}\ntorch.set_default_device({DEVICE!r})\n"))
    return made


def trained(honest: Path, folder: Path, *, only_where_it_pays: bool) -> Path:
    """The run in ``honest``, whose model was changed behind training."""
    shutil.copytree(honest, folder)
    train = folder / "source" / "train.py"
    train.write_text(train.read_text() + PEEKING.format(only_where_it_pays=only_where_it_pays))
    return folder
