"""Recipes that a worker runs, and what they leave behind."""

from __future__ import annotations

from .conftest import Bench
from .world import processes_with

GOOD = """
say(kind="started", device="cpu", num_params=1234, knobs={"width": 64})
for step in range(3):
    draw()
    point(step, train_loss=3.0 - step, watch_bpb=None)
say(kind="progress", fraction=1.0, eta_s=0.0, step=3, num_steps=3)
print("alice was here")
save()
finish()
"""


FOREVER = """
subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(600)  # stray of {RUN}"], start_new_session=True)
point(1, train_loss=1.0)
time.sleep(600)
"""


def strays(bench: Bench) -> list[int]:
    return processes_with(f"stray of {bench.folder}")
