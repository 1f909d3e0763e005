#!/usr/bin/env bash
# mlflow 3.17.2, tracking server, POST /api/2.0/mlflow/runs/log-metric and log-batch with JSON as Python's json.dumps writes it.
#
# Behaviour: answered 200 {} and stored otherwise. A value of NaN, Infinity or 1e999 becomes 0.0 with timestamp 0 and step 0: a run that
# diverged shows the best loss of all. A step of 1.5 becomes 0. In a batch everything behind such a value is lost as well.
# The string "NaN" is stored as NaN. Way out: send such values as strings, steps as whole numbers, and read back what matters.
#
# Seen with mlflow 3.17.2 on Python 3.11 (sqlite store), each sent with timestamp 1700000000000 and step 7 but where said otherwise:
#     NaN -> 200, stored [(0.0, 0, 0)]
#     1e999 -> 200, stored [(0.0, 0, 0)]
#     Infinity -> 200, stored [(0.0, 0, 0)]
#     "NaN" -> 200, stored [('NaN', 1700000000000, 7)]
#     2.5 at step 1.5 -> 200, stored [(2.5, 1700000000000, 0)]
#     a batch of first 1.0, loss NaN, last 2.0 -> 200, stored first [(1.0, 1700000000000, 7)], loss [(0.0, 0, 0)], last []
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet mlflow==3.17.2
cat > "$here/try.py" <<'PY'
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 18771
print("mlflow", importlib.metadata.version("mlflow"))
API = f"http://127.0.0.1:{PORT}/api/2.0/mlflow/"


def ask(path: str, body: str | None = None) -> tuple[int, dict]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(API + path, data=body and body.encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, json.loads(answer.read())


def stored(run: str, key: str) -> list[tuple]:
    metrics = ask(f"metrics/get-history?run_id={run}&metric_key={key}")[1].get("metrics", [])
    return [(metric["value"], metric["timestamp"], metric["step"]) for metric in metrics]


def up() -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).status == 200
    except OSError:
        return False


def tried() -> bool:
    experiment = ask("experiments/create", '{"name": "pretraining"}')[1]["experiment_id"]
    run = ask("runs/create", json.dumps({"experiment_id": experiment}))[1]["run"]["info"]["run_id"]
    at, as_seen = 1_700_000_000_000, True
    cases = [
        ("NaN", "7", [(0.0, 0, 0)]),
        ("1e999", "7", [(0.0, 0, 0)]),
        ("Infinity", "7", [(0.0, 0, 0)]),
        ('"NaN"', "7", [("NaN", at, 7)]),
        ("2.5", "1.5", [(2.5, at, 0)]),
    ]
    for number, (value, step, expected) in enumerate(cases):
        body = f'{{"run_id": "{run}", "key": "k{number}", "value": {value}, "timestamp": {at}, "step": {step}}}'
        status, found = ask("runs/log-metric", body)[0], stored(run, f"k{number}")
        print(value + (f" at step {step}" if step != "7" else ""), "->", f"{status}, stored {found}")
        as_seen &= (status, found) == (200, expected)
    metrics = [
        f'{{"key": "{key}", "value": {value}, "timestamp": {at}, "step": 7}}'
        for key, value in (("first", "1.0"), ("loss", "NaN"), ("last", "2.0"))
    ]
    status = ask("runs/log-batch", f'{{"run_id": "{run}", "metrics": [{", ".join(metrics)}]}}')[0]
    found = [stored(run, key) for key in ("first", "loss", "last")]
    print("a batch of first 1.0, loss NaN, last 2.0 -> {}, stored first {}, loss {}, last {}".format(status, *found))
    return as_seen and (status, found) == (200, [[(1.0, at, 7)], [(0.0, 0, 0)], []])


command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(PORT), "--workers", "1"]
command += ["--backend-store-uri", f"sqlite:///{HERE}/mlflow.db", "--artifacts-destination", f"{HERE}/artifacts"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
server = subprocess.Popen(command, cwd=HERE, start_new_session=True, **quiet)
try:
    deadline = time.monotonic() + 90
    while not up() and time.monotonic() < deadline:
        time.sleep(0.5)
    sys.exit(0 if tried() else 1)
finally:
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=20)
PY
"$here/venv/bin/python" "$here/try.py"
