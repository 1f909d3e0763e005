#!/usr/bin/env bash
# torch 2.13.0 on a CPU: the gradient of a table in bfloat16 counts 256 uses of a row in a batch and no more, in float16 2,048.
#
# Behaviour: the backward pass of F.embedding, F.embedding_bag and table[tokens] adds a row's uses up one by one in the table's own dtype, where
# a sum that has reached 256 stands still when 1 is added. torch's other sums over the same numbers (sum, cumsum, index_add_, and the
# gradients of index_select and gather) are exact. A token that is frequent may learn too little; casting a float32 table before it is read
# (F.embedding(tokens, table.bfloat16())) is no better. Way out: look up in float32 and cast what was read, or use index_select.
#
# Seen with torch 2.13.0 on Python 3.11, a row that is used 4,096 times with a gradient of 1 each:
#     bfloat16: embedding 256, embedding_bag 256, table[tokens] 256, index_select 4096, gather 4096, index_add_ 4096
#     float16: embedding 2048, embedding_bag 2048, table[tokens] 2048, index_select 4096, gather 4096, index_add_ 4096
#     float32: embedding 4096, embedding_bag 4096, table[tokens] 4096, index_select 4096, gather 4096, index_add_ 4096
#     float32, cast to bfloat16 before the lookup 256, after it 4096
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$here/try.py" <<'PY'
import sys

import torch
import torch.nn.functional as F

print("torch", torch.__version__)
USES, ROW = 4096, 3
TOKENS = torch.full((USES,), ROW)
READS = {
    "embedding": lambda table: F.embedding(TOKENS, table),
    "embedding_bag": lambda table: F.embedding_bag(TOKENS[:, None], table, mode="sum"),
    "table[tokens]": lambda table: table[TOKENS],
    "index_select": lambda table: table.index_select(0, TOKENS),
    "gather": lambda table: table.gather(0, TOKENS[:, None]),
}


def counted(read, dtype: torch.dtype) -> int:
    table = torch.zeros(8, 1, dtype=dtype, requires_grad=True)
    read(table).sum().backward()
    return int(table.grad[ROW])


seen = {}
for dtype in (torch.bfloat16, torch.float16, torch.float32):
    counts = {name: counted(read, dtype) for name, read in READS.items()}
    added = torch.zeros(8, 1, dtype=dtype).index_add_(0, TOKENS, torch.ones(USES, 1, dtype=dtype))
    counts["index_add_"] = int(added[ROW])
    seen[dtype] = list(counts.values())
    print(f"{str(dtype).removeprefix('torch.')}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
before = counted(lambda table: F.embedding(TOKENS, table.bfloat16()), torch.float32)
after = counted(lambda table: F.embedding(TOKENS, table).bfloat16(), torch.float32)
print(f"float32, cast to bfloat16 before the lookup {before}, after it {after}")
expected = {
    torch.bfloat16: [256] * 3 + [USES] * 3,
    torch.float16: [2048] * 3 + [USES] * 3,
    torch.float32: [USES] * 6,
}
sys.exit(0 if seen == expected and (before, after) == (256, USES) else 1)
PY
"$here/venv/bin/python" "$here/try.py"
