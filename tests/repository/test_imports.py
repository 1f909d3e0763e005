"""The shape of the house: who imports whom."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter

import grimp

from tests.house.processes import ROOT


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count. CycleError names the modules of the circle."""
    graph = grimp.build_graph("webapp", "research", "gpu_runner", cache_dir=None)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_no_test_module_imports_another_one() -> None:
    """What two of them need has a place of its own, where a reader looks for it."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
        for path in (ROOT / "tests").rglob("*.py")
    }
    borrowed = {
        (name, imported)
        for name, tree in modules.items()
        for node in ast.walk(tree)
        for imported in _imported_by(node, name.rpartition(".")[0])
        if imported.rpartition(".")[2].startswith("test_") and imported in modules
    }
    assert borrowed == set()


def _imported_by(node: ast.AST, package: str) -> list[str]:
    """Dotted names, those of modules and those of what is taken from them."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom):
        module = ".".join(filter(None, (package if node.level else "", node.module)))
        return [module, *(f"{module}.{name.name}" for name in node.names)]
    return []
