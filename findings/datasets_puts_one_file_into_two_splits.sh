#!/usr/bin/env bash
# datasets 5.2.0 (and 4.4.1), load_dataset of a folder with a file whose name holds the words of two splits ("train_val-00000.jsonl").
#
# Behaviour: each split looks for its own words, and nobody compares what was found: the file's rows stand in train and in
# validation, whole, without a word. Whoever trains on the one and measures on the other measures memory. A file whose
# name holds none of the words is left out unsaid, where another's does. Way out: data_files names each split's files.
#
# Seen with datasets 5.2.0 (pyarrow 26.0.1) on Python 3.11:
#     rows of train: a b c d
#     rows of validation: c d
#     rows of no split: e f
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
mkdir "$here/texts"
printf '{"text": "a"}\n{"text": "b"}\n' > "$here/texts/train-00000.jsonl"
printf '{"text": "c"}\n{"text": "d"}\n' > "$here/texts/train_val-00000.jsonl"
printf '{"text": "e"}\n{"text": "f"}\n' > "$here/texts/shard-00000.jsonl"
cat > "$here/try.py" <<'PY'
import os
import sys

import datasets

here = os.path.dirname(os.path.abspath(__file__))
datasets.disable_progress_bars()
splits = datasets.load_dataset(os.path.join(here, "texts"), cache_dir=os.path.join(here, "cache"))
rows = {name: sorted(split["text"]) for name, split in splits.items()}
neither = sorted(set("abcdef") - {row for found in rows.values() for row in found})
for name, found in rows.items():
    print(f"rows of {name}:", *found)
print("rows of no split:", *neither)
sys.exit(0 if (rows, neither) == ({"train": [*"abcd"], "validation": [*"cd"]}, [*"ef"]) else 1)
PY
HF_HUB_OFFLINE=1 HF_HOME="$here/home" "$here/venv/bin/python" "$here/try.py"
