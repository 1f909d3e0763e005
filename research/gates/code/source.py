"""A Python file for the gate "code": its tree, the scopes of its names, and which module a name leads to."""

from __future__ import annotations

import ast
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

from research.gates.code.flows import Target, flows, names_bound

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


MAX_MEANINGS = 32  # of one name; a file whose names double their meanings line by line would fill the memory


class TooTangled(ValueError):
    """A name may lead to too many things to be followed; ``lineno`` is where."""

    def __init__(self, why: str, node: ast.expr) -> None:
        super().__init__(why)
        self.lineno = node.lineno


@dataclass(frozen=True)
class Sighting:
    """What a rule found in a file. ``said`` is compared with the base's, to see whether it is new."""

    severity: str  # block | warn
    rule: str
    node: ast.AST
    said: str
    sentence: str

    @property
    def line(self) -> int:
        return getattr(self.node, "lineno", 1)

    @property
    def column(self) -> int:
        return getattr(self.node, "col_offset", 0) + 1


@lru_cache(maxsize=8)  # of a recipe's files a patch changes one or two; nobody writes into a tree
def parse(text: str) -> ast.Module:
    """Parsed, never run. Raises SyntaxError, ValueError, RecursionError or MemoryError as ``ast.parse`` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape is Python's business
        return ast.parse(text)


@dataclass
class Source:
    """A parsed file.

    ``siblings`` are the recipe's other files by module name; their names may be used, private ones too.
    """

    text: str
    tree: ast.Module
    siblings: dict[str, Source] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent

    # --- names

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Local name -> the dotted names that any import in the file binds it to."""
        bound: dict[str, set[str]] = defaultdict(set)
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for name in node.names:
                    bound[name.asname or name.name.split(".")[0]].add(
                        name.name if name.asname else name.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                for name in node.names:
                    bound[name.asname or name.name].add(f"{node.module or ''}.{name.name}")
        return bound

    @cached_property
    def aliases(self) -> dict[str, set[str]]:
        """Local name -> dotted names: of imports, and of names assigned from them (``load = torch.load``)."""
        bound = defaultdict(set, {name: set(dotted) for name, dotted in self.imports.items()})
        for _ in range(3):
            for target, value in self.plain_assignments:
                bound[target] |= _dotted(value, bound)
                if len(bound[target]) > MAX_MEANINGS:
                    raise TooTangled(f"{target} may mean more than {MAX_MEANINGS} things", value)
        return {name: dotted for name, dotted in bound.items() if dotted}

    @cached_property
    def flows(self) -> list[tuple[Target, ast.expr, ast.AST]]:
        """(target, value, where) of every value that is bound to a name or stored in a place."""
        return [(target, value, node) for node in self.nodes for target, value in flows(node)]

    @cached_property
    def plain_assignments(self) -> list[tuple[str, ast.expr]]:
        """(name, value) of every value that is bound to a name, in whatever way."""
        return [(target, value) for target, value, _ in self.flows if isinstance(target, str)]

    def dotted(self, node: ast.AST) -> set[str]:
        """Dotted names that a name or chain of attributes leads to: {"torch.nn.functional.relu"}; else empty."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or self.is_local(root.id, root):
            return set()
        return _dotted(node, self.aliases)

    def meant(self, node: ast.AST) -> set[str]:
        """As ``dotted``, and through the recipe's other files: ``kernels.torch.library`` is ``torch.library``."""
        found = set[str]()
        for first, _, rest in (dotted.partition(".") for dotted in self.dotted(node)):
            name, _, tail = rest.partition(".")
            theirs = self.siblings[first].imports.get(name, ()) if first in self.siblings else ()
            found |= {f"{one}.{tail}".rstrip(".") for one in theirs} or {f"{first}.{rest}".rstrip(".")}
        return {_last_root(dotted) for dotted in found}

    def is_local(self, name: str, node: ast.AST) -> bool:
        """Whether ``name`` at ``node`` is a variable of a function around it, as Python decides by the text alone.

        Defaults, decorators and annotations are read outside of the function: in ``def f(open=open)`` the second
        ``open`` is the builtin. ``global`` leads past every function around it.
        """
        for inner, outer in pairwise([node, *self.above(node)]):
            if not isinstance(outer, Function) or not _is_in_body(inner, outer):
                continue
            if name in self._globals_of[outer]:
                return False
            if name in self._locals(outer):
                return True
        return False

    def scope(self, name: str, node: ast.AST) -> ast.AST | None:
        """The function whose variable ``name`` at ``node`` is; None for the file's."""
        for inner, outer in pairwise([node, *self.above(node)]):
            if not isinstance(outer, Function) or not _is_in_body(inner, outer):
                continue
            if name not in self._globals_of[outer] and name in self._bound(outer):
                return outer
        return None

    def is_the_files(self, name: str, node: ast.AST) -> bool:
        """Whether the name that ``node`` binds is the file's or a class's, not a variable of a function around it."""
        for inner, outer in pairwise([node, *self.above(node)]):
            if isinstance(outer, Function) and _is_in_body(inner, outer):
                return name in self._globals_of[outer]
        return True

    def _bound(self, function: Function) -> set[str]:
        if function not in self._bound_names:
            self._bound_names[function] = _bound_in(function)
        return self._bound_names[function]

    @cached_property
    def _bound_names(self) -> dict[ast.AST, set[str]]:
        return {}

    def _locals(self, function: Function) -> set[str]:
        if function not in self._local_names:
            self._local_names[function] = self._bound(function) - self._led_somewhere(function)
        return self._local_names[function]

    def _led_somewhere(self, function: Function) -> set[str]:
        """Variables that are given something imported (``def f(t): t = torch``), here or by ``nonlocal``."""
        leading = {
            t for n in ast.walk(function) for t, v in flows(n) if isinstance(t, str) and _dotted(v, self.aliases)
        }
        imported = {name for n in _own_nodes(function) if isinstance(n, _IMPORTS) for name in names_bound(n)}
        return leading | imported | (self._handed_out & self.aliases.keys())

    @cached_property
    def _globals_of(self) -> dict[ast.AST, set[str]]:
        """Function -> the names that it declares global."""
        declared: dict[ast.AST, set[str]] = defaultdict(set)
        for node in self.nodes:
            if isinstance(node, ast.Global):
                function = next((f for f in self.above(node) if isinstance(f, Function)), self.tree)
                declared[function] |= set(node.names)
        return declared

    @cached_property
    def _handed_out(self) -> set[str]:
        return {name for n in self.nodes if isinstance(n, ast.Nonlocal) for name in n.names}

    @cached_property
    def _local_names(self) -> dict[ast.AST, set[str]]:
        return {}

    @cached_property
    def defined(self) -> set[str]:
        """Every name that the file gives to a function, a class, a variable or an attribute."""
        names = {n.name for n in self.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        names |= {name for n in self.nodes if not isinstance(n, _IMPORTS) for name in names_bound(n)}
        return names | {n.attr for n in self.nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}

    @cached_property
    def own(self) -> set[str]:
        """Functions and classes that the file defines."""
        return {n.name for n in self.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}

    @cached_property
    def kept(self) -> set[str]:
        """Variables of the file itself, which live as long as the process."""
        return {name for n in self.tree.body for name in _stored_by(n)}

    @cached_property
    def bases(self) -> set[str]:
        """Last parts of the names of all base classes in the recipe's files."""
        files = [self, *self.siblings.values()]
        classes = [n for f in files for n in f.nodes if isinstance(n, ast.ClassDef)]
        return {ast.unparse(base).split(".")[-1] for n in classes for base in n.bases}

    def knows(self, private: str) -> bool:
        return private in self.defined or any(private in sibling.defined for sibling in self.siblings.values())

    # --- places

    @cached_property
    def docstrings(self) -> set[ast.AST]:
        """Strings that stand alone, docstrings among them; code does not read them."""
        return {n.value for n in self.nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}

    def method(self, node: ast.AST) -> str | None:
        """The name of the method around ``node``; None outside of a class."""
        around = [node, *self.above(node)]
        for inner, outer in pairwise(around):
            if isinstance(inner, ast.FunctionDef) and isinstance(outer, ast.ClassDef):
                return inner.name
        return None


def _dotted(node: ast.AST, bound: dict[str, set[str]]) -> set[str]:
    tail = ""
    while isinstance(node, ast.Attribute):
        tail, node = f".{node.attr}{tail}", node.value
    if not isinstance(node, ast.Name):
        return set()
    return {root + tail for root in bound.get(node.id, ())}


def _last_root(dotted: str) -> str:
    """The name from its last package root on: ``torch.nn.functional.torch.load`` is ``torch.load``."""
    parts = dotted.split(".")
    starts = [n for n, part in enumerate(parts) if part in ("torch", "numpy", "triton")]
    return ".".join(parts[starts[-1] :]) if starts else dotted


def _stored_by(statement: ast.stmt) -> set[str]:
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return set()
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _body(function: Function) -> list[ast.AST]:
    return [function.body] if isinstance(function, ast.Lambda) else [*function.body]


def _is_in_body(child: ast.AST, function: Function) -> bool:
    return any(child is statement for statement in _body(function))


_IMPORTS = ast.Import | ast.ImportFrom
_SCOPES = Function | ast.ClassDef | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """Nodes of the function itself, without scopes inside it."""
    rest = _body(function)
    while rest:
        node = rest.pop()
        yield node
        if not isinstance(node, _SCOPES):
            rest += ast.iter_child_nodes(node)


def _bound_in(function: Function) -> set[str]:
    """Parameters and names that the function itself binds."""
    nodes = list(_own_nodes(function))
    stored = {name for n in nodes for name in names_bound(n)}
    elsewhere = {name for n in nodes if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names}
    return _parameters(function) | stored - elsewhere


def _parameters(function: Function) -> set[str]:
    a = function.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
    return {arg.arg for arg in given}
