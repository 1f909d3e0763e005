#!/usr/bin/env bash
# optuna 5.0.0: a trial whose value is infinite is COMPLETE, and -inf is the best value of a study that minimises.
#
# Behaviour: tell() and optimize() refuse NaN (state FAIL, value None), but take both infinities as ordinary values. A run that overflows
# to -inf (the log of a zero, a ratio by zero) becomes best_trial for good: no later trial can beat it, and nothing is said. A
# database takes it, too. Way out: test math.isfinite before telling.
#
# Seen with optuna 5.0.0 on Python 3.11:
#     nan FAIL None
#     inf COMPLETE inf
#     -inf COMPLETE -inf
#     0.5 COMPLETE 0.5
#     best value: -inf
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet optuna==5.0.0
cat > "$here/try.py" <<'PY'
import os
import sys
import warnings

import optuna

HERE = os.path.dirname(os.path.abspath(__file__))
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")
print("optuna", optuna.__version__)
study = optuna.create_study(direction="minimize", storage=f"sqlite:///{HERE}/study.db")
seen = []
for value in (float("nan"), float("inf"), float("-inf"), 0.5):
    frozen = study.tell(study.ask(), value)
    seen.append(f"{value} {frozen.state.name} {frozen.value}")
    print(seen[-1])
print("best value:", study.best_value)
expected = ["nan FAIL None", "inf COMPLETE inf", "-inf COMPLETE -inf", "0.5 COMPLETE 0.5"]
sys.exit(0 if seen == expected and study.best_value == float("-inf") else 1)
PY
"$here/venv/bin/python" "$here/try.py"
