#!/usr/bin/env bash
# datasets 5.2.0, load_dataset("json") with two files of {"text": ...}: whether the text of a file changes depends on the other files and
# their order.
#
# Behaviour: pyarrow's JSON reader takes a column in which every string is an ISO date for timestamps, file by file. Where a file with
# ordinary text comes first the dates are cast back to strings, in another spelling: "2024-01-01" is trained on as
# "2024-01-01 00:00:00", ten characters as nineteen, without a word. Where the file of dates comes first loading fails, and alone its text
# is no string. Declaring the column a string by features= changes only the error: the text is rewritten then, too.
# Way out: Dataset.from_generator over json.loads, or Parquet with a string column.
#
# Seen with datasets 5.2.0 and pyarrow 26.0.1 on Python 3.11:
#     dates alone: timestamp[s] [datetime.datetime(2024, 1, 1, 0, 0)]
#     words, then dates: string ['hello', '2024-01-01 00:00:00']
#     dates, then words: DatasetGenerationError
#     words, then dates, with features: string ['hello', '2024-01-01 00:00:00']
#     dates alone, with features: string ['2024-01-01 00:00:00']
#     dates alone, by json.loads: string ['2024-01-01']
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cat > "$here/try.py" <<'PY'
import importlib.metadata
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{HERE}/home"}
import datasets  # noqa: E402

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("datasets", "pyarrow")))
datasets.disable_progress_bars()
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
for name, text in (("words", "hello"), ("dates", "2024-01-01")):
    with open(f"{HERE}/{name}.jsonl", "w") as lines:
        lines.write(json.dumps({"text": text}) + "\n")
STRINGS = datasets.Features({"text": datasets.Value("string")})


def loaded(*names: str, features: datasets.Features | None = None) -> str:
    files = [f"{HERE}/{name}.jsonl" for name in names]
    try:
        found = datasets.load_dataset("json", data_files=files, split="train", features=features)
    except datasets.exceptions.DatasetGenerationError as error:
        return type(error).__name__
    return f"{found.features['text'].dtype} {found[:]['text']}"


def by_hand(name: str) -> str:
    with open(f"{HERE}/{name}.jsonl") as lines:
        found = datasets.Dataset.from_list([json.loads(line) for line in lines])
    return f"{found.features['text'].dtype} {found[:]['text']}"


seen = {
    "dates alone": loaded("dates"),
    "words, then dates": loaded("words", "dates"),
    "dates, then words": loaded("dates", "words"),
    "words, then dates, with features": loaded("words", "dates", features=STRINGS),
    "dates alone, with features": loaded("dates", features=STRINGS),
    "dates alone, by json.loads": by_hand("dates"),
}
for how, what in seen.items():
    print(f"{how}: {what}")
expected = [
    "timestamp[s] [datetime.datetime(2024, 1, 1, 0, 0)]",
    "string ['hello', '2024-01-01 00:00:00']",
    "DatasetGenerationError",
    "string ['hello', '2024-01-01 00:00:00']",
    "string ['2024-01-01 00:00:00']",
    "string ['2024-01-01']",
]
sys.exit(0 if list(seen.values()) == expected else 1)
PY
"$here/venv/bin/python" "$here/try.py"
