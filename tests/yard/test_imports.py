"""The shape of the house: who imports whom."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count. CycleError names the modules of the circle."""
    graph = grimp.build_graph("webapp", "research", "gpu_runner", cache_dir=None)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
