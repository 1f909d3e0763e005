#!/usr/bin/env bash
# optuna 5.0.0: a study's record of a trial's parameters is not what the trial was given.
#
# Behaviour: parameters are stored as one float. A categorical choice is stored by its index, found with ==, so of the choices 1, True
# and 1.0, which are equal in Python, the first one is recorded whichever the trial got; and an integer above 2**53 is recorded as
# the nearest float. No warning. Whoever trains by what suggest_*() answered and later repeats best_params trains something
# else. Way out: give choices as strings, keep seeds below 2**53, and log what was really used.
#
# Seen with optuna 5.0.0 on Python 3.11, in memory, SQLite and journal file alike:
#     memory: given {'seed': 9007199254740993, 'flag': True}, recorded {'seed': 9007199254740992, 'flag': 1}
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet optuna==5.0.0
cat > "$here/try.py" <<'PY'
import os
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

HERE = os.path.dirname(os.path.abspath(__file__))
optuna.logging.set_verbosity(optuna.logging.ERROR)
print("optuna", optuna.__version__)
STORAGES = {
    "memory": None,
    "sqlite": f"sqlite:///{HERE}/study.db",
    "journal": JournalStorage(JournalFileBackend(f"{HERE}/study.journal")),
}
as_seen = True
for name, storage in STORAGES.items():
    study = optuna.create_study(storage=storage)
    study.enqueue_trial({"seed": 2**53 + 1, "flag": True})
    trial = study.ask()
    given = {
        "seed": trial.suggest_int("seed", 2**53, 2**53 + 101),
        "flag": trial.suggest_categorical("flag", [1, True, 1.0]),
    }
    study.tell(trial, 0.5)
    recorded = study.best_params
    print(f"{name}: given {given}, recorded {recorded}")
    as_seen &= repr(given) == "{'seed': 9007199254740993, 'flag': True}"
    as_seen &= repr(recorded) == "{'seed': 9007199254740992, 'flag': 1}"
sys.exit(0 if as_seen else 1)
PY
"$here/venv/bin/python" "$here/try.py"
