#!/usr/bin/env bash
# numpy 2.4.6 draws seeds of 128 bits (SeedSequence().entropy), json writes them exactly, and most readers of JSON cannot give them back.
#
# Behaviour: orjson 3.13.0 (which refuses to write an integer beyond 64 bits) and duckdb 2.0.1 read it as a float without a word: a run that
# is repeated from its record has another seed, since only the first 53 bits are kept. polars 2.1.0 reads up to 127 bits and raises beyond, pandas
# 3.1.1 raises. Python's json and msgspec are exact. Way out: record seeds as strings, or draw ones below 2**53.
#
# Seen on Python 3.11 with the seed 243799254704924441050048792905230269161:
#     json: 243799254704924441050048792905230269161
#     orjson: 2.4379925470492442e+38, 243799254704924424697653937993433481216 as a seed
#     duckdb: 2.4379925470492442e+38, 243799254704924424697653937993433481216 as a seed
#     polars: ComputeError
#     pandas: ValueError
#     same stream: json True, orjson False, duckdb False
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet numpy==2.4.6 orjson==3.13.0 duckdb==2.0.1 polars==2.1.0 pandas==3.1.1
cat > "$here/try.py" <<'PY'
import io
import json
import os
import sys

import duckdb
import numpy
import orjson
import pandas
import polars

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 243799254704924441050048792905230269161  # an example of numpy's own documentation
print(*(f"{library.__name__} {library.__version__}" for library in (numpy, orjson, duckdb, polars, pandas)))
line = json.dumps({"seed": SEED}) + "\n"
with open(f"{HERE}/run.jsonl", "w") as record:
    record.write(line)
readers = {
    "json": lambda: json.loads(line)["seed"],
    "orjson": lambda: orjson.loads(line)["seed"],
    "duckdb": lambda: duckdb.sql(f"select seed from read_json('{HERE}/run.jsonl')").fetchall()[0][0],
    "polars": lambda: polars.read_ndjson(io.StringIO(line))["seed"][0],
    "pandas": lambda: pandas.read_json(io.StringIO(line), lines=True)["seed"][0],
}
first = numpy.random.default_rng(SEED).random()
seen, same = {}, {}
for name, read in readers.items():
    try:
        value = read()
    except (ValueError, polars.exceptions.ComputeError) as error:
        seen[name] = type(error).__name__
    else:
        seen[name] = repr(value) + (f", {int(value)} as a seed" if isinstance(value, float) else "")
        same[name] = numpy.random.default_rng(int(value)).random() == first
    print(f"{name}: {seen[name]}")
print("same stream: " + ", ".join(f"{name} {is_same}" for name, is_same in same.items()))
rounded = "2.4379925470492442e+38, 243799254704924424697653937993433481216 as a seed"
expected = {"json": str(SEED), "orjson": rounded, "duckdb": rounded, "polars": "ComputeError", "pandas": "ValueError"}
sys.exit(0 if seen == expected and same == {"json": True, "orjson": False, "duckdb": False} else 1)
PY
"$here/venv/bin/python" "$here/try.py"
