"""What a dotted name leads to in the installed packages, step by step; nothing is called."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any, Literal, NamedTuple

Kind = Literal["module", "class", "function", "value", "missing", "unseen"]
ABSENT, UNSEEN = object(), object()


class Step(NamedTuple):
    """What one more part of a dotted name leads to. ``home`` is where it was defined, whatever path led to it.

    *missing*: there is no such name. *unseen*: it is known only when the code runs (what a property gives).
    ``is_listed``: whether the module on the path has it in its ``__all__``; None where it has none.
    """

    kind: Kind
    home: str
    is_listed: bool | None


def steps(dotted: str) -> list[Step]:
    """A Step for each part of ``dotted``, up to the first that is missing or unseen.

    Raises ImportError when its first part cannot be imported.
    """
    first, *rest = dotted.split(".")
    found: Any = importlib.import_module(first)
    walked = [Step("module", first, None)]
    for name in rest:
        inside, found = found, _taken(found, name)
        walked.append(_step(inside, name, found))
        if walked[-1].kind in ("missing", "unseen"):
            break
    return walked


def _step(inside: Any, name: str, found: Any) -> Step:
    kind = _kind(found)
    is_listed = _is_listed(inside, name) if isinstance(inside, ModuleType) else None
    return Step(kind, "" if kind in ("missing", "unseen") else home(found), is_listed)


def _is_listed(module: ModuleType, name: str) -> bool | None:
    names = vars(_behind(module)).get("__all__")
    return None if names is None else name in names


# --- one step ------------------------------------------------------------------------------------


def _taken(inside: Any, name: str) -> Any:
    if isinstance(inside, ModuleType):
        return _of_module(inside, name)
    found = inspect.getattr_static(inside, name, ABSENT)
    if isinstance(found, staticmethod | classmethod):
        return found.__func__
    return UNSEEN if found is ABSENT and _makes_up(type(inside)) else found


def _makes_up(kind: type) -> bool:
    """Whether the class has a ``__getattr__``, which may answer for names that it does not have."""
    return inspect.getattr_static(kind, "__getattr__", None) is not None


def _of_module(module: ModuleType, name: str) -> Any:
    """A module's own name, or a module below it, which is imported for that. ``__getattr__`` is not called."""
    for namespace in (vars(module), vars(_behind(module))):
        if name in namespace:
            return namespace[name]
    if type(module) is not ModuleType and (found := inspect.getattr_static(type(module), name, ABSENT)) is not ABSENT:
        return found
    found = _below(module, name)
    return UNSEEN if found is ABSENT and _makes_up(type(module)) else found


def _behind(module: ModuleType) -> ModuleType:
    """The module itself; for one that torch wraps (``torch.backends.cudnn``) the module inside."""
    inner = vars(module).get("m")
    return inner if type(module) is not ModuleType and isinstance(inner, ModuleType) else module


def _below(module: ModuleType, name: str) -> Any:
    full = f"{module.__name__}.{name}"
    if "__path__" not in vars(_behind(module)):
        return ABSENT
    try:
        if full not in sys.modules and importlib.util.find_spec(full) is None:
            return ABSENT
        return importlib.import_module(full)
    except Exception:  # noqa: BLE001  a module of a package that does not import here is not there for anybody
        return ABSENT


# --- what it is ------------------------------------------------------------------------------------

_COMPUTED = (property, functools.cached_property)


def _kind(found: Any) -> Kind:
    if found is ABSENT:
        return "missing"
    if isinstance(found, ModuleType):
        return "module"
    if (
        found is UNSEEN
        or isinstance(found, _COMPUTED)
        or inspect.isgetsetdescriptor(found)
        or inspect.ismemberdescriptor(found)
    ):
        return "unseen"
    if isinstance(found, type):
        return "class"
    return "function" if inspect.isroutine(found) or _named(found) is not None else "value"


def home(found: Any) -> str:
    """The dotted name under which it was defined; for a plain value, its class's."""
    if isinstance(found, ModuleType):
        return found.__name__
    if isinstance(found, functools.partial):
        return home(found.func)
    if isinstance(found, type):
        return f"{found.__module__}.{found.__qualname__}"
    return _named(found) or (_of_routine(found) if inspect.isroutine(found) else home(type(found)))


def _named(found: Any) -> str | None:
    """The name that functions carry themselves, and so do wrappers (a cached function, a kernel of Triton's)."""
    own = getattr(found, "__dict__", {})
    if not (inspect.isfunction(found) or "__qualname__" in own or isinstance(found, functools._lru_cache_wrapper)):
        return None
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else None


def _of_routine(found: Any) -> str:
    """The name of a compiled function, which may know no module: by what it belongs to."""
    name = getattr(found, "__name__", "?")
    belongs = getattr(found, "__objclass__", None) or getattr(found, "__self__", None)
    if inspect.ismethod(found):
        return f"{home(found.__func__)}"
    module = getattr(found, "__module__", None)
    if isinstance(module, str):
        return f"{module}.{getattr(found, '__qualname__', name)}"
    if belongs is None:
        return f"?.{name}"
    if isinstance(belongs, ModuleType | type):
        return f"{home(belongs)}.{name}"
    return f"{home(type(belongs))}.{name}"
