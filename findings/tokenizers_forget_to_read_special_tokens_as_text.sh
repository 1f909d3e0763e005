#!/usr/bin/env bash
# tokenizers 0.23.3: encode_special_tokens = True, which makes text that looks like a special token stay text, is not part of the tokenizer.
#
# Behaviour: the switch keeps "<|endoftext|>" in a document (a page about language models, a chat log) from becoming the separator of
# documents. It is lost by to_str, save, and pickle, so worker processes and whoever loads the saved file split that document in two, and
# decode() with skip_special_tokens then drops the words. Nothing warns. Way out: set it again after every load, in every process.
#
# Seen with tokenizers 0.23.3 on Python 3.11, for "say <|endoftext|> twice", where 0 is the separator:
#     as set: True, separators 0
#     after to_str: False, separators 1
#     after save: False, separators 1
#     after pickle: False, separators 1
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet tokenizers==0.23.3
cat > "$here/try.py" <<'PY'
import importlib.metadata
import os
import pickle
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
print("tokenizers", importlib.metadata.version("tokenizers"))
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
tokenizer.train_from_iterator(["say what you like"], trainer)
tokenizer.encode_special_tokens = True
tokenizer.save(f"{HERE}/tokenizer.json")
ways = {
    "as set": tokenizer,
    "after to_str": Tokenizer.from_str(tokenizer.to_str()),
    "after save": Tokenizer.from_file(f"{HERE}/tokenizer.json"),
    "after pickle": pickle.loads(pickle.dumps(tokenizer)),
}
seen = {}
for way, one in ways.items():
    ids = one.encode("say <|endoftext|> twice").ids
    seen[way] = (one.encode_special_tokens, ids.count(one.token_to_id("<|endoftext|>")))
    print(f"{way}: {seen[way][0]}, separators {seen[way][1]}")
expected = {"as set": (True, 0)} | dict.fromkeys(("after to_str", "after save", "after pickle"), (False, 1))
sys.exit(0 if seen == expected else 1)
PY
"$here/venv/bin/python" "$here/try.py"
