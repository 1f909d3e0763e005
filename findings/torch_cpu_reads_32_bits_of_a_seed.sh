#!/usr/bin/env bash
# torch 2.13.0 on a CPU: torch.manual_seed takes 64 bits and says that it kept them, and its generator reads 32.
#
# Behaviour: seed s and s + 2**32 (and -1 and 2**32 - 1) give the same numbers bit for bit, while torch.initial_seed() tells the
# two apart and the documentation names the range [-2**63, 2**64 - 1] ("otherwise, a RuntimeError is raised"). Above 2**64 - 1 it
# is a ValueError. So whoever derives seeds from a hash of 64 bits, or counts runs in the upper half of the word, trains runs that
# look independent on the record and share their weights; numpy's default_rng reads the whole number. Way out: bound seeds to 32 bits.
#
# Seen with torch 2.13.0+cpu and numpy 2.3.5 on Python 3.11:
#     torch: 1 and 2**32 + 1 the same: True; initial_seed: 4294967297
#     torch: -1 and 2**32 - 1 the same: True
#     torch: 2**64: ValueError
#     numpy: 1 and 2**32 + 1 the same: False
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5
cat > "$here/try.py" <<'PY'
import sys

import numpy as np
import torch


def drawn(seed: int) -> list[float]:
    torch.manual_seed(seed)
    return torch.randn(1_000, device="cpu").tolist()


same = drawn(1) == drawn(2**32 + 1)
kept = torch.initial_seed()
negative = drawn(-1) == drawn(2**32 - 1)
print(f"torch: 1 and 2**32 + 1 the same: {same}; initial_seed: {kept}")
print(f"torch: -1 and 2**32 - 1 the same: {negative}")
try:
    torch.manual_seed(2**64)
    beyond = "nothing"
except Exception as error:
    beyond = type(error).__name__
print(f"torch: 2**64: {beyond}")
in_numpy = np.random.default_rng(1).random() == np.random.default_rng(2**32 + 1).random()
print(f"numpy: 1 and 2**32 + 1 the same: {in_numpy}")
expected = (same, kept, negative, beyond, in_numpy) == (True, 2**32 + 1, True, "ValueError", False)
sys.exit(0 if expected and drawn(1) != drawn(2) else 1)
PY
"$here/venv/bin/python" "$here/try.py"
