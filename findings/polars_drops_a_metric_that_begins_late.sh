#!/usr/bin/env bash
# polars 2.1.0: read_ndjson leaves out a metric that is logged for the first time after line 100, without a word.
#
# Behaviour: the columns are those of the first 100 lines. A training log whose validation loss comes every 200 steps is read as if
# it had none: no error, no warning, no column. (Had the key been there as null, an error would be raised.) scan_ndjson does the same;
# pandas, pyarrow and duckdb give all values of the same file. Way out: infer_schema_length=None, or a schema.
#
# Seen with polars 2.1.0, duckdb 2.0.1, pyarrow 26.0.1, pandas 3.1.1 on Python 3.11, of 1,000 lines with 5 validation losses:
#     polars read ['step', 'loss'], lazily ['step', 'loss'], of 1000 rows
#     validation losses: pandas 5, pyarrow 5, duckdb 5, polars with infer_schema_length=None 5
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1 pandas==3.1.1
cat > "$here/try.py" <<'PY'
import json
import os
import sys
import warnings

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.json

HERE = os.path.dirname(os.path.abspath(__file__))
warnings.simplefilter("error")
print("polars", polars.__version__, "duckdb", duckdb.__version__, "pyarrow", pyarrow.__version__, "pandas", pandas.__version__)
log = f"{HERE}/points.jsonl"
with open(log, "w") as lines:
    for step in range(1, 1001):
        point = {"step": step, "loss": 5 / step} | ({"val_loss": 6 / step} if step % 200 == 0 else {})
        lines.write(json.dumps(point) + "\n")
read, lazily = polars.read_ndjson(log), polars.scan_ndjson(log).collect()
print(f"polars read {read.columns}, lazily {lazily.columns}, of {len(read)} rows")
counts = [
    int(pandas.read_json(log, lines=True)["val_loss"].count()),
    pyarrow.json.read_json(log)["val_loss"].length() - pyarrow.json.read_json(log)["val_loss"].null_count,
    duckdb.sql(f"select count(val_loss) from read_json('{log}')").fetchall()[0][0],
    polars.read_ndjson(log, infer_schema_length=None)["val_loss"].count(),
]
print("validation losses: pandas {}, pyarrow {}, duckdb {}, polars with infer_schema_length=None {}".format(*counts))
sys.exit(0 if read.columns == lazily.columns == ["step", "loss"] and len(read) == 1000 and counts == [5] * 4 else 1)
PY
"$here/venv/bin/python" "$here/try.py"
