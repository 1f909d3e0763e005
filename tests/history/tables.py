"""Histories as loops leave them, made up: nobody's own."""

from __future__ import annotations

from research.history import reader
from research.history.past import Reading, Wanted

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
ROWS = (
    "a1b2c3d\t1.500000\t12.0\tkeep\tbaseline",
    "b2c3d4e\t1.480000\t12.1\tkeep\twarm up for longer",
    "c3d4e5f\t1.490000\t12.1\tdiscard\tdeeper by two",
    "d4e5f60\t0.000000\t0.0\tcrash\twider (out of memory)",
    "e5f6071\t1.470000\t13.0\tkeep\thalf the batch",
)


def results_tsv(*rows: str, header: str = HEADER, end: str = "\n") -> bytes:
    """A results.tsv of these rows, or of ROWS."""
    return end.join([header, *(rows or ROWS), ""]).encode()


def make_reading(*rows: str, name: str = "results.tsv", wanted: Wanted | None = None) -> Reading:
    return reader.read("autoresearch", results_tsv(*rows), name, wanted)
