#!/usr/bin/env bash
# datasets 5.2.0, load_dataset of a folder in which some shards have a split in their names and others have none.
#
# Behaviour: what has none is left out without a word, be it the training text. shard_00000 and shard_00001 with 20 rows
# beside validation with 3 rows give a dataset of 3 rows, all of them validation. Where folders name splits, a file beside
# them that names one is left out as well: train/part.jsonl and val.jsonl give train alone, nothing to validate with.
# Nothing is logged at the usual level (huggingface/datasets#5021 met it with images). Whoever adds one validation file to
# a folder of shards trains on it from then on, or on nothing. Way out: name data_files for each split.
#
# Seen with datasets 5.2.0 on Python 3.11:
#     {'shard_00000': 10, 'shard_00001': 10} -> {'train': 20}, said of the shards: 0 lines
#     {'shard_00000': 10, 'shard_00001': 10, 'validation': 3} -> {'validation': 3}, said of the shards: 0 lines
#     {'train/part': 10, 'val': 3} -> {'train': 10}, said of the shards: 0 lines
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet datasets==5.2.0
cat > "$here/try.py" <<'PY'
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": tempfile.mkdtemp(dir=Path(__file__).parent)}
import datasets


def rows_of(files: dict[str, int]) -> dict[str, int]:
    """What a folder with so many rows in each file is loaded as."""
    folder = Path(tempfile.mkdtemp(dir=Path(__file__).parent))
    for name, num_rows in files.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps({"text": f"{name} {i}"}) + "\n" for i in range(num_rows)))
    said = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(said))
    warnings.simplefilter("always")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        loaded = {split: rows.num_rows for split, rows in datasets.load_dataset(str(folder)).items()}
    lines = [line for line in said.getvalue().splitlines() if any(f"{name}.jsonl" in line for name in files)]
    print(files, "->", f"{loaded}, said of the shards: {len(lines)} lines")
    return loaded if not lines else {"said": len(lines)}


shards = {"shard_00000": 10, "shard_00001": 10}
seen = [rows_of(shards), rows_of(shards | {"validation": 3}), rows_of({"train/part": 10, "val": 3})]
sys.exit(0 if seen == [{"train": 20}, {"validation": 3}, {"train": 10}] else 1)
PY
"$here/venv/bin/python" "$here/try.py"
