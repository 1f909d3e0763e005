#!/usr/bin/env bash
# hydra-core 1.3.8: `app.py seed=010` and a file with `seed: 010` give the run two different seeds.
#
# Behaviour: overrides on the command line have a grammar of their own, files and OmegaConf.from_dotlist are read as YAML 1.1. So the same
# text means something else by where it stands: 010 is the text "010" or the number 8, 0x10 text or 16, 12:30 text or 750, on text or
# True, nan a number or text. Whoever moves a line from a command (or from the overrides.yaml that hydra itself writes for every
# run) into a config gets another run. And in both places a commit such as 1234e567 is the number infinity.
# Way out: quote whatever is text, and write numbers in decimal.
#
# Seen with hydra-core 1.3.8 and omegaconf 2.3.1 on Python 3.11 (command line | file):
#     010: '010' | 8
#     0x10: '0x10' | 16
#     12:30: '12:30' | 750
#     on: 'on' | True
#     nan: nan | 'nan'
#     1234e567: inf | inf
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet hydra-core==1.3.8 omegaconf==2.3.1
cat > "$here/try.py" <<'PY'
import importlib.metadata
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
print(*(f"{name} {importlib.metadata.version(name)}" for name in ("hydra-core", "omegaconf")))
APP = """
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    print("GIVEN", repr(config.value))


main()
"""
os.mkdir(f"{HERE}/conf")
with open(f"{HERE}/app.py", "w") as app:
    app.write(APP)


def given(in_file: str, *overrides: str) -> str:
    with open(f"{HERE}/conf/config.yaml", "w") as config:
        config.write(f"value: {in_file}\n")
    command = [sys.executable, "app.py", *overrides, "hydra.run.dir=.", "hydra.output_subdir=null"]
    said = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60, check=True).stdout
    return next(line.removeprefix("GIVEN ") for line in said.splitlines() if line.startswith("GIVEN "))


expected = {
    "010": ("'010'", "8"),
    "0x10": ("'0x10'", "16"),
    "12:30": ("'12:30'", "750"),
    "on": ("'on'", "True"),
    "nan": ("nan", "'nan'"),
    "1234e567": ("inf", "inf"),
}
seen = {text: (given("null", f"value={text}"), given(text)) for text in expected}
for text, (by_command, by_file) in seen.items():
    print(f"{text}: {by_command} | {by_file}")
sys.exit(0 if seen == expected else 1)
PY
"$here/venv/bin/python" "$here/try.py"
