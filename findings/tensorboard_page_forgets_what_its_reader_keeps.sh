#!/usr/bin/env bash
# tensorboard 2.21.0, a run that was resumed at an earlier step (logged to 10, gone on with from the snapshot of step 5).
#
# Behaviour: which points exist depends on who reads. The page forgets those that the resumed run wrote again (its fast loader drops every
# point at or behind a step that comes back). EventAccumulator, the reader for Python, keeps both, in the order of writing and also
# with purge_orphaned_data=True; so does the same page with --load_fast false. A curve exported by Python has steps 6 to 10 twice
# with different losses, where the page shows them once. Way out: take the last value of each step.
#
# Seen with tensorboard 2.21.0 and tensorboardX 2.6.5 on Python 3.11:
#     EventAccumulator: 17 points, steps 6 to 10 twice
#     page: 12 points, steps 6 to 10 once
#     page with --load_fast false: 17 points, steps 6 to 10 twice
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet tensorboard==2.21.0 tensorboardX==2.6.5
cat > "$here/try.py" <<'PY'
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import urllib.request

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = f"{HERE}/logs/run"
print("tensorboard", importlib.metadata.version("tensorboard"), "tensorboardX", importlib.metadata.version("tensorboardX"))
for first, last, loss in ((1, 10, 100.0), (6, 12, 200.0)):
    writer = SummaryWriter(RUN)
    for step in range(first, last + 1):
        writer.add_scalar("loss", loss + step, step)
    writer.close()
    time.sleep(1.1)  # event files are told apart by the second that is in their names


def on_the_page(fast: str, port: int) -> list[int]:
    """Steps as the page is given them; waits until the last one is there."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", f"{HERE}/logs", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*command, "--load_fast", fast, "--reload_interval", "1"], **quiet)
    steps, deadline = [], time.monotonic() + 60
    while 12 not in steps and time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            url = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=run&tag=loss"
            steps = [point[1] for point in json.load(urllib.request.urlopen(url, timeout=5))]
        except OSError:
            continue
    server.terminate()
    server.wait(timeout=20)
    return steps


def in_words(steps: list[int]) -> str:
    times = {steps.count(step) for step in range(6, 11)}
    return f"{len(steps)} points, steps 6 to 10 " + {1: "once", 2: "twice"}.get(times.pop() if len(times) == 1 else 0, "?")


reader = EventAccumulator(RUN, purge_orphaned_data=True)
reader.Reload()
seen = {
    "EventAccumulator": in_words([event.step for event in reader.Scalars("loss")]),
    "page": in_words(on_the_page("true", 18772)),
    "page with --load_fast false": in_words(on_the_page("false", 18773)),
}
for who, words in seen.items():
    print(f"{who}: {words}")
twice, once = "17 points, steps 6 to 10 twice", "12 points, steps 6 to 10 once"
sys.exit(0 if list(seen.values()) == [twice, once, twice] else 1)
PY
"$here/venv/bin/python" "$here/try.py"
