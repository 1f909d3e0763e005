#!/usr/bin/env bash
# duckdb 2.0.1 reads a Parquet file that pyarrow 26.0.1 or polars 2.1.0 wrote: it shows the NaN, and finds none.
#
# Behaviour: pyarrow and polars leave NaN out of a column's minimum and maximum, as the format asks for. DuckDB orders NaN above all numbers
# and takes those statistics for the truth, so a condition that only NaN meets skips the row group: isnan(loss), loss = 'nan' and
# loss > 1e300 answer 0 rows, while SELECT * shows it. max(loss) is 2.0 for pyarrow's file and nan for polars's. In a table that was
# copied from the same file all of them find it.
# Whoever counts diverged runs that way counts none. Way out: copy into a table first, or write the file by DuckDB.
#
# Seen with duckdb 2.0.1, pyarrow 26.0.1, polars 2.1.0 on Python 3.11 (rows that hold NaN: 1):
#     pyarrow: rows [2.0, nan, 1.0], isnan 0, = 'nan' 0, > 1e300 0, max 2.0; as a table: isnan 1
#     polars: rows [2.0, nan, 1.0], isnan 0, = 'nan' 0, > 1e300 0, max nan; as a table: isnan 1
#     duckdb: rows [2.0, nan, 1.0], isnan 1, = 'nan' 1, > 1e300 1, max nan; as a table: isnan 1
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0
cat > "$here/try.py" <<'PY'
import os
import sys

import duckdb
import polars
import pyarrow
import pyarrow.parquet

HERE = os.path.dirname(os.path.abspath(__file__))
LOSSES = [2.0, float("nan"), 1.0]
print("duckdb", duckdb.__version__, "pyarrow", pyarrow.__version__, "polars", polars.__version__)
pyarrow.parquet.write_table(pyarrow.table({"loss": LOSSES}), f"{HERE}/pyarrow.parquet")
polars.DataFrame({"loss": LOSSES}).write_parquet(f"{HERE}/polars.parquet")
duckdb.sql(f"copy (select unnest([2.0::double, 'nan'::double, 1.0::double]) as loss) to '{HERE}/duckdb.parquet'")


def one(sql: str) -> object:
    return duckdb.sql(sql).fetchall()[0][0]


as_seen = True
for writer, found, largest in (("pyarrow", 0, "2.0"), ("polars", 0, "nan"), ("duckdb", 1, "nan")):
    file = f"'{HERE}/{writer}.parquet'"
    rows = [row[0] for row in duckdb.sql(f"select loss from {file}").fetchall()]
    counts = [
        one(f"select count(*) from {file} where {condition}")
        for condition in ("isnan(loss)", "loss = 'nan'::double", "loss > 1e300")
    ]
    most = one(f"select max(loss) from {file}")
    duckdb.sql(f"create or replace table copied as select * from {file}")
    copied = one("select count(*) from copied where isnan(loss)")
    print(
        f"{writer}: rows {rows}, isnan {counts[0]}, = 'nan' {counts[1]}, > 1e300 {counts[2]}, max {most};"
        f" as a table: isnan {copied}"
    )
    as_seen &= str(rows) == "[2.0, nan, 1.0]" and counts == [found] * 3 and str(most) == largest and copied == 1
sys.exit(0 if as_seen else 1)
PY
"$here/venv/bin/python" "$here/try.py"
