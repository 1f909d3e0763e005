"""A Python file for the gate "code": its tree, the scopes of its names, and which module a name leads to."""

from __future__ import annotations

import ast
import warnings
from collections import defaultdict
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from research.gates.code.flows import Target, flows, names_bound

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Kind = type[ast.AST]


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


def parse(text: str) -> ast.Module:
    """Parsed, never run. Raises SyntaxError, ValueError, RecursionError or MemoryError as ``ast.parse`` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape is Python's business
        return ast.parse(text)


@lru_cache(maxsize=8)  # of a recipe's files a patch changes one or two; nobody writes into a tree
def alone(text: str) -> Source:
    """A file by itself, walked through once for all recipes that hold it. Raises as ``parse`` does."""
    source = Source(text, parse(text))
    assert source.nodes
    return source


def together(texts: dict[str, str]) -> dict[str, Source]:
    """The files of a recipe by path, each of which knows all of them by module name. Raises as ``parse`` does."""
    known = {path: alone(text) for path, text in texts.items()}
    modules = {path.removesuffix(".py").replace("/", "."): source for path, source in known.items()}
    return {path: source.among(modules) for path, source in known.items()}


@dataclass
class Source:
    """A parsed file.

    ``siblings`` are the recipe's other files by module name; their names may be used, private ones too.
    """

    text: str
    tree: ast.Module
    siblings: dict[str, Source] = field(default_factory=dict)
    _of_kind: dict[tuple[Kind, ...], list[ast.AST]] = field(default_factory=dict)
    _known_dotted: dict[ast.AST, set[str]] = field(default_factory=dict)
    _known_local: dict[tuple[str, Function | None], bool] = field(default_factory=dict)
    _known_scopes: dict[tuple[str, Function | None], Function | None] = field(default_factory=dict)

    def among(self, siblings: dict[str, Source]) -> Source:
        """The same file in a recipe."""
        assert not self.siblings, "what was found out of a file among others does not hold among these"
        source = copy(self)
        source.siblings = siblings
        return source

    @property
    def nodes(self) -> list[ast.AST]:
        return self._walked[0]

    @property
    def parents(self) -> dict[ast.AST, ast.AST]:
        return self._walked[1]

    @cached_property
    def _walked(self) -> tuple[list[ast.AST], dict[ast.AST, ast.AST]]:
        """All nodes as ``ast.walk`` goes, but for Load, Store and Del, which are one object each; and their parents."""
        nodes: list[ast.AST] = [self.tree]
        parents: dict[ast.AST, ast.AST] = {}
        for node in nodes:
            for name in node._fields:
                value = getattr(node, name, None)
                for child in value if type(value) is list else (value,):
                    if isinstance(child, ast.AST) and not isinstance(child, ast.expr_context):
                        nodes.append(child)
                        parents[child] = node
        return nodes, parents

    def of_kind(self, *kinds: Kind) -> list[ast.AST]:
        """The nodes of these very classes, in the order of ``nodes``: most rules look at few of them."""
        if kinds not in self._of_kind:
            wanted = frozenset(kinds)
            self._of_kind[kinds] = [node for node in self.nodes if type(node) in wanted]
        return self._of_kind[kinds]

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
        if not isinstance(node, ast.Attribute | ast.Name):
            return set()
        if node not in self._known_dotted:
            self._known_dotted[node] = self._dotted(node)
        return self._known_dotted[node]

    def _dotted(self, node: ast.AST) -> set[str]:
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
        key = name, self._inside.get(node)
        if key not in self._known_local:
            self._known_local[key] = self._is_local(*key)
        return self._known_local[key]

    def _is_local(self, name: str, function: Function | None) -> bool:
        while function is not None:
            if name in self._globals_of[function]:
                return False
            if name in self._locals(function):
                return True
            function = self._inside.get(function)
        return False

    def scope(self, name: str, node: ast.AST) -> ast.AST | None:
        """The function whose variable ``name`` is where ``node`` stands; None: the file's."""
        key = name, self._inside.get(node)
        if key not in self._known_scopes:
            self._known_scopes[key] = self._scope(*key)
        return self._known_scopes[key]

    def _scope(self, name: str, function: Function | None) -> Function | None:
        while function is not None and (name in self._globals_of[function] or name not in self._bound(function)):
            function = self._inside.get(function)
        return function

    def is_the_files(self, name: str, node: ast.AST) -> bool:
        """Whether a name that ``node`` binds is the file's or a class's, not a variable of a function around it."""
        function = self._inside.get(node)
        return function is None or name in self._globals_of[function]

    @cached_property
    def _inside(self) -> dict[ast.AST, Function | None]:
        """The innermost function in whose body a node stands; what is read outside of it is not in its body."""
        inside: dict[ast.AST, Function | None] = {}
        for node, parent in self.parents.items():  # every parent comes before its children
            if isinstance(parent, _FUNCTIONS) and _is_in_body(node, parent):
                inside[node] = parent
            else:
                inside[node] = inside.get(parent)
        return inside

    def _bound(self, function: Function) -> set[str]:
        return self._bound_names[function]

    @cached_property
    def _bound_names(self) -> dict[ast.AST, set[str]]:
        """Function -> its parameters, and what is bound in the function itself."""
        bound: dict[ast.AST, set[str]] = defaultdict(set)
        elsewhere: dict[ast.AST, set[str]] = defaultdict(set)
        for node, function in self._runs_in.items():
            bound[function].update(names_bound(node))
            if isinstance(node, ast.Global | ast.Nonlocal):
                elsewhere[function].update(node.names)
        functions = [node for node in self.nodes if isinstance(node, _FUNCTIONS)]
        return {f: _parameters(f) | bound[f] - elsewhere[f] for f in functions}

    @cached_property
    def _runs_in(self) -> dict[ast.AST, Function]:
        """What runs in a function itself, not in a scope inside it; and which function that is."""
        runs: dict[ast.AST, Function] = {}
        for node, parent in self.parents.items():  # every parent comes before its children
            if isinstance(parent, _FUNCTIONS):
                if _is_in_body(node, parent):
                    runs[node] = parent
            elif parent in runs and not isinstance(parent, _SCOPES):
                runs[node] = runs[parent]
        return runs

    def _locals(self, function: Function) -> set[str]:
        if function not in self._local_names:
            self._local_names[function] = self._bound(function) - self._led_somewhere(function)
        return self._local_names[function]

    def _led_somewhere(self, function: Function) -> set[str]:
        """Variables that are given what an import leads to (``def f(t): t = torch``), here or by ``nonlocal``."""
        leading = {t for t, v in self._flows_under[function] if isinstance(t, str) and _dotted(v, self.aliases)}
        imported = {name for n, f in self._imports_in_functions if f is function for name in names_bound(n)}
        return leading | imported | (self._handed_out & self.aliases.keys())

    @cached_property
    def _imports_in_functions(self) -> list[tuple[ast.AST, Function]]:
        return [(node, function) for node, function in self._runs_in.items() if isinstance(node, _IMPORTS)]

    @cached_property
    def _flows_under(self) -> dict[ast.AST, list[tuple[Target, ast.expr]]]:
        """Function -> all that is given a name or a place in it or in its head."""
        under: dict[ast.AST, list[tuple[Target, ast.expr]]] = defaultdict(list)
        for target, value, where in self.flows:
            for function in (node for node in (where, *self.above(where)) if isinstance(node, _FUNCTIONS)):
                under[function].append((target, value))
        return under

    @cached_property
    def _globals_of(self) -> dict[ast.AST, set[str]]:
        """Function -> the names that it declares global."""
        declared: dict[ast.AST, set[str]] = defaultdict(set)
        for node in self.nodes:
            if isinstance(node, ast.Global):
                function = next((f for f in self.above(node) if isinstance(f, _FUNCTIONS)), self.tree)
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
        names = self.own | {name for n in self.nodes if not isinstance(n, _IMPORTS) for name in names_bound(n)}
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
        return self._methods.get(node)

    @cached_property
    def _methods(self) -> dict[ast.AST, str | None]:
        methods: dict[ast.AST, str | None] = {}
        for node, parent in self.parents.items():  # every parent comes before its children
            if isinstance(node, ast.FunctionDef) and isinstance(parent, ast.ClassDef):
                methods[node] = node.name
            else:
                methods[node] = methods.get(parent)
        return methods


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


_IMPORTS = (ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _parameters(function: Function) -> set[str]:
    a = function.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
    return {arg.arg for arg in given}
