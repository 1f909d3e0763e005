"""How often a model's gradient counts the use of a table's row: on a CPU, in 16 bits, torch stops counting early.

The gradient of a lookup (F.embedding, F.embedding_bag, table[tokens], torch.take) is the sum over a row's uses in the
batch. On a CPU torch adds them up one by one in the table's own dtype, and a sum in bfloat16 that has reached 256 times
what is added no longer changes: of 4,096 uses 256 are counted, in float16 2,048 (seen with torch 2.13; index_select and
gather add up in full). A space is used more often than that in every batch: its row may learn too little, and nothing
says so.
"""

from __future__ import annotations

import torch

LOOKUPS = (
    "EmbeddingBackward",
    "EmbeddingBagBackward",
    "IndexBackward",
    "TakeBackward",
)  # not IndexSelectBackward, which adds up in full
NARROW = (torch.bfloat16, torch.float16)


def count_to(model: torch.nn.Module, tokens: torch.Tensor) -> int | None:
    """How many uses of a row the narrowest lookup of ``model`` counts at most; None where all lookups count every use.

    Found in the graph of one forward pass over ``tokens`` [1, T]: the dtype of each lookup's output is that of its
    gradient, whether a table is kept in 16 bits or cast before it is read. In evaluation mode, so that no random
    number is drawn.
    """
    was_training = model.training
    model.eval()
    with torch.enable_grad():
        logits = model(tokens)
    model.train(was_training)
    narrow = _dtypes_of_lookups(logits.grad_fn).intersection(NARROW)
    return min((int(2 / torch.finfo(dtype).eps) for dtype in narrow), default=None)


def _dtypes_of_lookups(last: torch.autograd.graph.Node | None) -> set[torch.dtype]:
    """The dtypes of all lookups' outputs before ``last``; each gradient has the same."""
    found, seen, waiting = set[torch.dtype](), set[torch.autograd.graph.Node](), [last]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        if node.name().startswith(LOOKUPS):
            found |= {given.dtype for given in node._input_metadata}
    return found


def warning(most: int) -> str:
    return (
        f"A table is read in 16 bits: on a CPU torch adds a row's gradient up in those, and of more than {most:,} uses"
        f" in a batch it counts {most:,}. Keep the table in float32 and cast what was read, or read it by index_select."
    )
