#!/usr/bin/env bash
# wandb 0.31.0 against 0.17.9, the folder that an offline run leaves.
#
# Behaviour: 0.17.9 writes files/wandb-summary.json of an offline run; 0.31.0 writes neither that nor config.yaml: settings and results
# are only in run-ID.wandb, a log of protocol buffers. A script that collects results of offline runs by their JSON files, as many do on
# machines without a network, finds none after an upgrade, and no error says so. Way out: sync the run, or read run-ID.wandb.
#
# Seen with both on Python 3.11:
#     wandb 0.17.9: wandb-metadata.json, wandb-summary.json
#     wandb 0.31.0: requirements.txt
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat > "$here/try.py" <<'PY'
import os
import sys
from pathlib import Path

HERE = sys.argv[1]
os.makedirs(HERE)
os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": HERE}
import wandb

run = wandb.init(project="demo", dir=HERE, config={"lr": 0.1})
run.log({"val_loss": 1.5})
run.finish()
(folder,) = Path(HERE, "wandb").glob("offline-run-*")
found = sorted(path.name for path in (folder / "files").iterdir() if path.is_file())
print(f"wandb {wandb.__version__}: {', '.join(found)}")
has_summary = "wandb-summary.json" in found
sys.exit(0 if has_summary == (wandb.__version__ == "0.17.9") and "config.yaml" not in found else 1)
PY
for version in 0.17.9 0.31.0; do
    python3 -m venv "$here/venv-$version"
    "$here/venv-$version/bin/pip" install --quiet "wandb==$version" "setuptools<80"
    (cd "$here" && "$here/venv-$version/bin/python" "$here/try.py" "$here/runs-$version")
done
