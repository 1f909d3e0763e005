#!/usr/bin/env bash
# wandb 0.31.0, run.summary against run.log, in an offline run.
#
# Behaviour: NaN that is logged is kept as NaN, in the history and in the summary. NaN that is set in run.summary is gone at once: the
# key is not in the running process's own summary any more, and the run file holds null. Infinity is kept by both ways. So a script that
# ends with run.summary["best"] = best says nothing at all where best is NaN, and a table of runs shows an empty cell, as for a run that
# never got there. Way out: log it, or set the string "NaN".
#
# Seen with wandb 0.31.0 on Python 3.11:
#     logged: nan
#     set: missing
#     set, infinity: inf
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet wandb==0.31.0
cat > "$here/try.py" <<'PY'
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": HERE}
import wandb

print("wandb", wandb.__version__)
run = wandb.init(project="demo", dir=HERE)
run.log({"logged": math.nan})
run.summary["set"] = math.nan
run.summary["huge"] = math.inf
summary = dict(run.summary)
run.finish()
logged, was_set, huge = (summary.get(name, "missing") for name in ("logged", "set", "huge"))
print("logged:", logged)
print("set:", was_set)
print("set, infinity:", huge)
sys.exit(0 if isinstance(logged, float) and math.isnan(logged) and was_set == "missing" and huge == math.inf else 1)
PY
cd "$here" && "$here/venv/bin/python" "$here/try.py"
