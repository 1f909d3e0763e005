#!/usr/bin/env bash
# duckdb 2.0.1, read_json of JSON Lines, a number whose kind shows only after line 20,480 (a training log with a line a step).
#
# Behaviour: types are those of the first 20,480 objects, and what comes later is cast without a word. Where a metric was 0 until then (a
# count of skipped steps, a penalty that is switched on late) 0.75 is read as 1 and 0.25 as 0; where it was null until then it is read
# as null for good. A key that is new is refused with an error, so the loss of values is not. Way out: sample_size=-1, or columns={...}.
#
# Seen with duckdb 2.0.1 on Python 3.11, 25,000 lines and two more that hold 0.75 and 0.25:
#     zeros first: BIGINT, the last two [1, 0]; with sample_size=-1: DOUBLE [0.75, 0.25]
#     nulls first: "NULL", the last two [None, None]; with sample_size=-1: DOUBLE [0.75, 0.25]
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet duckdb==2.0.1
cat > "$here/try.py" <<'PY'
import json
import os
import sys

import duckdb

HERE = os.path.dirname(os.path.abspath(__file__))
print("duckdb", duckdb.__version__)
LOG = f"{HERE}/points.jsonl"


def written(first: object) -> None:
    values = [first] * 25_000 + [0.75, 0.25]
    with open(LOG, "w") as lines:
        lines.writelines(json.dumps({"step": step, "penalty": value}) + "\n" for step, value in enumerate(values))


def last_two(options: str = "") -> tuple[str, list[object]]:
    rows = duckdb.sql(
        f"select typeof(penalty), penalty from read_json('{LOG}'{options}) where step >= 25000 order by step"
    ).fetchall()
    return rows[0][0], [row[1] for row in rows]


seen = []
for name, first in (("zeros", 0), ("nulls", None)):
    written(first)
    seen += [last_two(), last_two(", sample_size=-1")]
    (kind, values), (whole_kind, whole) = seen[-2:]
    print(f"{name} first: {kind}, the last two {values}; with sample_size=-1: {whole_kind} {whole}")
right = ("DOUBLE", [0.75, 0.25])
sys.exit(0 if seen == [("BIGINT", [1, 0]), right, ('"NULL"', [None, None]), right] else 1)
PY
"$here/venv/bin/python" "$here/try.py"
