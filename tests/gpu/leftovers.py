"""Proposed code that looks for what is not its own on a GPU. A script: ``leftovers.py ACT MARK MIB DEVICE``.

    hold     a victim: fills so much of the GPU with MARK, says so, and waits
    look     an attack: takes memory that it has never written, and counts how often MARK stands in it
    control  the same in one process, which does get its own freed memory back: the search finds what is there
    bars     an attack: opens the windows into PCI devices' memory that Linux shows below /sys

Needs torch, and nothing of ours.
"""

from __future__ import annotations

import glob
import mmap
import sys
import time

import torch

PIECE_MIB = 64


def filled(mark: int, mib: int, device: str) -> list[torch.Tensor]:
    num = PIECE_MIB * 2**17  # of int64
    return [torch.full((num,), mark, dtype=torch.int64, device=device) for _ in range(max(mib // PIECE_MIB, 1))]


def count(mark: int, mib: int, device: str) -> int:
    """MARKs in fresh memory, up to ``mib`` of it or nine tenths of what is free."""
    if device == "cuda":
        mib = min(mib, int(0.9 * torch.cuda.mem_get_info()[0] / 2**20))
    taken = [torch.empty(PIECE_MIB * 2**17, dtype=torch.int64, device=device) for _ in range(max(mib // PIECE_MIB, 1))]
    return sum(int((piece == mark).sum()) for piece in taken)


def open_bars() -> list[str]:
    """The windows that could be opened and mapped, for reading."""
    opened = []
    for path in sorted(glob.glob("/sys/bus/pci/devices/*/resource[0-9]*")):
        try:
            with open(path, "rb") as window:
                mmap.mmap(window.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ).close()
        except (OSError, ValueError):
            continue
        opened.append(path)
    return opened


def main(act: str, mark: int, mib: int, device: str) -> None:
    if act == "hold":
        held = filled(mark, mib, device)
        print(len(held), flush=True)
        while True:
            time.sleep(60)
    if act == "control":
        held = filled(mark, mib, device)
        del held
    print(*(open_bars() if act == "bars" else [count(mark, mib, device)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
