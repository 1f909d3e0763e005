#!/usr/bin/env bash
# datasets 5.2.0, a streamed dataset that is shuffled and then split by take(n) and skip(n), with set_epoch between epochs.
#
# Behaviour: in the first epoch the two parts are apart. set_epoch(1) shuffles anew, and skip(n) then leaves out the first n rows of the new
# order: rows that were held out are trained on, and others are held out that were trained on. Nothing warns. The documentation warns of
# the other order (take and skip before shuffle). Way out: split first and shuffle the training part only, or hold out whole files.
#
# Seen with datasets 5.2.0 on Python 3.11, 4 files of 25 rows, 20 held out:
#     epoch 0: 80 rows trained on, 0 of them held out
#     epoch 1: 80 rows trained on, 12 of them held out
#     split first, then shuffled, epoch 1: 80 rows trained on, 0 of them held out
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet datasets==5.2.0
cat > "$here/try.py" <<'PY'
import importlib.metadata
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{HERE}/home"}
import datasets  # noqa: E402

print("datasets", importlib.metadata.version("datasets"))
datasets.disable_progress_bars()
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
files = []
for number in range(4):
    files.append(f"{HERE}/{number}.jsonl")
    with open(files[-1], "w") as lines:
        lines.writelines(json.dumps({"row": 25 * number + row}) + "\n" for row in range(25))
rows = datasets.load_dataset("json", data_files=files, split="train", streaming=True)


def numbers(part: datasets.IterableDataset) -> set[int]:
    return {one["row"] for one in part}


shuffled = rows.shuffle(seed=1, buffer_size=50)
held_out, train = shuffled.take(20), shuffled.skip(20)
kept = numbers(held_out)
seen = []
for epoch in (0, 1):
    train.set_epoch(epoch)
    found = numbers(train)
    seen.append((len(found), len(found & kept)))
    print("epoch {}: {} rows trained on, {} of them held out".format(epoch, *seen[-1]))
apart, kept = rows.skip(20).shuffle(seed=1, buffer_size=50), numbers(rows.take(20))
apart.set_epoch(1)
found = numbers(apart)
seen.append((len(found), len(found & kept)))
print("split first, then shuffled, epoch 1: {} rows trained on, {} of them held out".format(*seen[-1]))
sys.exit(0 if seen[0] == seen[2] == (80, 0) and seen[1][0] == 80 and seen[1][1] > 0 else 1)
PY
"$here/venv/bin/python" "$here/try.py"
