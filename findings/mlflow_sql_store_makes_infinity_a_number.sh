#!/usr/bin/env bash
# mlflow 3.17.2, MlflowClient.log_metric and get_run, a SQL store against the file store.
#
# Behaviour: what log_metric(..., math.inf) stores depends on where: the file store gives back inf, a SQL store the largest finite
# number, 1.7976931348623157e+308, of either sign, as do search_runs and its CSV. math.isinf and pandas' isinf no longer find a run that
# diverged, and a mean over runs is inf or a huge number instead of a warning. Moving a file store to a database changes such values.
# NaN comes back as NaN from both. Way out: treat what is above 1.79e308 as infinity when reading.
#
# Seen with mlflow 3.17.2 on Python 3.11:
#     file {'inf': inf, 'ninf': -inf, 'nan': nan}
#     sqlite {'inf': 1.7976931348623157e+308, 'ninf': -1.7976931348623157e+308, 'nan': nan}
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet mlflow==3.17.2
cat > "$here/try.py" <<'PY'
import logging
import math
import os
import sys

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow

HERE = os.path.dirname(os.path.abspath(__file__))
logging.disable(logging.INFO)
print("mlflow", mlflow.__version__)
LOGGED = {"inf": math.inf, "ninf": -math.inf, "nan": math.nan}


def given_back(kind: str, address: str) -> dict[str, float]:
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment("demo")
    with mlflow.start_run() as run:
        for name, value in LOGGED.items():
            mlflow.log_metric(name, value)
    found = mlflow.get_run(run.info.run_id).data.metrics
    said = {name: found[name] for name in LOGGED}
    print(kind, said)
    return said


files = given_back("file", f"file://{HERE}/mlruns")
sql = given_back("sqlite", f"sqlite:///{HERE}/mlflow.db")
as_seen = files["inf"] == math.inf and files["ninf"] == -math.inf and math.isnan(files["nan"]) and math.isnan(sql["nan"])
sys.exit(0 if as_seen and (sql["inf"], sql["ninf"]) == (sys.float_info.max, -sys.float_info.max) else 1)
PY
"$here/venv/bin/python" "$here/try.py" 2>/dev/null
