"""May edited code use this dotted name? Checks it against the tables, and then what it leads to (``homes``)."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from research.gates.code import allowed, homes, packages, refused
from research.gates.code.homes import Objection, longest


class Sibling(Protocol):
    """Another file of the recipe."""

    @property
    def imports(self) -> dict[str, set[str]]: ...


Siblings = Mapping[str, Sibling]


def is_module(dotted: str, siblings: Siblings) -> bool:
    """Whether the name is a module's. Raises packages.CannotTell."""
    if dotted in allowed.MODULES or dotted in siblings or dotted in allowed.FOREIGN_MODULES:
        return True
    return is_asked(dotted) and homes.is_module(dotted.split("."))


def leads_to_a_class(dotted: str, siblings: Siblings) -> bool:
    """Whether it may lead to a class, or its method, of an installed package; in Python's own modules every name may.

    Refused names are not asked. Raises packages.CannotTell.
    """
    parts = dotted.split(".")
    if parts[0] in siblings:
        return False
    if is_asked(dotted):
        walked = homes.steps(parts)
        return (len(walked) == len(parts) and walked[-1].kind in ("class", "unseen")) or _is_a_method(walked, parts)
    return parts[0] in allowed.PURE


def _is_a_method(walked: Sequence[packages.Step], parts: list[str]) -> bool:
    return len(walked) == len(parts) > 1 and walked[-2].kind == "class"


def is_asked(dotted: str) -> bool:
    """Whether the installed packages are asked about it. What a table refuses is never imported."""
    found = by_path(dotted)
    return dotted.split(".")[0] in homes.ASKED and (found is None or found[0] == "warn")


def objection(dotted: str, siblings: Siblings) -> Objection:
    """(severity, why) against a dotted name that starts at an import; None when it only calculates.

    Raises packages.CannotTell.
    """
    parts = dotted.split(".")
    for start in range(len(parts) - 1, 0, -1):
        if parts[start] in ("torch", "numpy", "triton"):  # nn.functional.torch.load is torch.load
            return objection(".".join(parts[start:]), siblings)
    if parts[0] in siblings:
        return _through_a_sibling(parts, siblings)
    return (homes.objection(parts, by_path) if is_asked(dotted) else None) or by_path(dotted)


def by_path(dotted: str) -> Objection:
    """The objection of the tables alone."""
    parts = dotted.split(".")
    found = longest(parts, refused.REFUSED)
    if found is not None and len(longest(parts, refused.EXCEPTIONS) or "") < len(found):
        return "block", f"{found} {refused.REFUSED[found]}"
    if not any(".".join(parts[:n]) in allowed.MODULES for n in range(len(parts), 0, -1)):
        return "block", f"{parts[0]} is not among the modules that edited code may use"
    return _private_or_foreign(parts) or _not_public(parts) or _noted(parts)


def _through_a_sibling(parts: list[str], siblings: Siblings) -> Objection:
    if len(parts) == 1:
        return None
    for meant in siblings[parts[0]].imports.get(parts[1], ()):
        if meant.split(".")[0] != parts[0] and (found := objection(".".join([meant, *parts[2:]]), siblings)):
            return found
    return None


def _private_or_foreign(parts: list[str]) -> Objection:
    for n, part in enumerate(parts[1:], start=2):
        so_far = ".".join(parts[:n])
        if part.startswith("_") and so_far != "torch._dynamo" and not so_far.startswith(allowed.PRIVATE_TORCH):
            return "block", f"{so_far} is private"
        if part in allowed.FOREIGN_MODULES and so_far not in allowed.MODULES:
            return "block", f"{so_far} leads out of {parts[0]} to another module"
    if parts[:2] == ["torch", "ops"] and set(parts[2:3]) & allowed.TORCH_NAMESPACES - allowed.CALCULATING_NAMESPACES:
        return "block", f"torch.ops.{parts[2]} does more than calculate"
    if parts[:2] == ["torch", "_dynamo"] and not ".".join(parts).startswith(allowed.PRIVATE_TORCH):
        return "block", "torch._dynamo is private"
    return None


def _not_public(parts: list[str]) -> Objection:
    """The objection to a name that its module does not declare public, such as a module that it imports.

    Only for Python's own modules: about torch and its like the installed packages are asked (``homes``).
    """
    for n in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:n])
        if (
            module in allowed.PURE - homes.ASKED
            and parts[n] not in _public(module)
            and ".".join(parts[: n + 1]) not in allowed.MODULES
        ):
            return "block", f"{parts[n]} is not a public name of {module}"
        if module in allowed.ONLY and parts[n] not in allowed.ONLY[module]:
            return "block", f"of {module}, only {', '.join(sorted(allowed.ONLY[module]))} may be used"
    return None


@lru_cache
def _public(module: str) -> frozenset[str]:
    """The names that a module declares public. Imported for that: all of these are Python's own and do nothing then."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [n for n in dir(found) if re.match(r"[a-zA-Z]", n)]
    return frozenset(names) | {"annotations"}


def _noted(parts: list[str]) -> Objection:
    if (found := longest(parts, allowed.WARNED)) is not None:
        return "warn", f"{found}: {allowed.WARNED[found]}"
    if parts[0] in allowed.NOTED:
        return "warn", f"{parts[0]}: {allowed.NOTED[parts[0]]}"
    return None
