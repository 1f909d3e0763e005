"""Judges what a name leads to: the thing itself and where it was defined, whatever path led to it.

``leads`` checks the path against the tables; here the installed packages are asked (``packages``). Refused are modules
that another one merely imports, what was defined where edited code may not reach, and what does not exist.
"""

from __future__ import annotations

from collections.abc import Callable

from research.gates.code import allowed, packages, refused
from research.gates.code.packages import Step

Objection = tuple[str, str] | None  # (severity, why)

# Asked about; of Python's own modules what is public is known without asking (``leads``).
ASKED = frozenset({"torch", "numpy", "triton", "typing_extensions", "random", "warnings"})
# Where torch, Triton and numpy make what they give out under other names.
SOFT = frozenset({"triton.language.core", "triton.runtime", "numpy.lib"})
CALCULATE = tuple(
    "torch._C._fft. torch._C._linalg. torch._C._nn. torch._C._nested. torch._C._sparse. torch._C._special. "
    "torch._VariableFunctionsClass. torch.functional. torch._linalg_utils. torch._lowrank. torch._dynamo.decorators. "
    "torch._jit_internal.boolean_dispatch. torch.nn.init. torch._assert torch._higher_order_ops.while_loop. "
    "torch._C.Generator torch._C._LinAlgError".split()
)
# Values whose kind nobody can do anything with but calculate.
PLAIN = frozenset("int float complex bool str tuple NoneType".split())
MODULE_FAMILIES = (
    "torch.nn.", "torch.optim.", "torch.distributions.", "torch.autograd.", "torch.amp.", "torch.cuda.amp.",
    "torch.backends.", "torch.sparse.", "torch.signal.", "torch.masked.", "torch.utils.checkpoint", "torch.ops.",
    "torch.jit.", "torch.linalg.", "torch.nested.", "numpy.polynomial",
)  # fmt: skip
MORE_MODULES = frozenset(
    "torch.functional torch.accelerator torch.version torch.torch_version torch.return_types torch.quasirandom "
    "torch.utils.flop_counter torch.cuda.graphs torch.cuda.random torch.cuda.streams torch.cuda.sparse "
    "torch.cuda.memory torch._inductor torch._inductor.config torch._dynamo.config "
    "triton.errors triton.language.random triton.language.standard triton.language.target_info "
    "numpy.exceptions numpy.version numpy.strings".split()
)
ROOTS = ("torch", "numpy", "triton", "builtins")  # where their own things are made


def steps(parts: list[str]) -> tuple[Step, ...]:
    """A Step for every part of the name, up to the first that is missing or unseen. Raises packages.CannotTell."""
    return packages.installed().steps(".".join(parts))


def is_module(parts: list[str]) -> bool:
    walked = steps(parts)
    return len(walked) == len(parts) and walked[-1].kind == "module"


def objection(parts: list[str], by_path: Callable[[str], Objection]) -> Objection:
    """What is said against a name whose first part is in ASKED. ``by_path`` judges a path.

    Raises packages.CannotTell.
    """
    walked = steps(parts)
    for n, step in enumerate(walked[1:], start=1):
        so_far, inside = ".".join(parts[: n + 1]), walked[n - 1]
        if step.kind == "unseen" or inside.home.startswith("torch.ops."):
            return None  # known only when the code runs
        if step.kind == "missing":
            return "block", _not_there(so_far, parts[0])
        is_module = step.kind == "module"
        found = _of_module(so_far, step, by_path) if is_module else _of_thing(so_far, step, inside, by_path)
        if found is not None:
            return found
    return None


def _not_there(so_far: str, package: str) -> str:
    version = packages.installed().versions().get(package)
    which = f"{package} {version}" if version else "Python"
    return f"there is no {so_far} in {which}, which is installed here; use a name that it has"


def _of_module(so_far: str, step: Step, by_path: Callable[[str], Objection]) -> Objection:
    """A module under another name than its own is judged by its own name."""
    real, package, found = step.home, so_far.split(".")[0], by_path(step.home)
    is_refused = found is not None and found[0] == "block"
    if real.split(".")[0] != package:
        advice = "" if is_refused else "; import it by its own name"
        return "block", f"{so_far} is the module {real}, which {package} only imports{advice}"
    if real != so_far and found is not None and is_refused:
        return "block", f"{so_far} is the module {real}: {found[1]}"
    if real in allowed.MODULES or real in MORE_MODULES or real.startswith(MODULE_FAMILIES):
        return None
    return "block", f"{real} is not among the modules that edited code may use"


def _of_thing(so_far: str, step: Step, inside: Step, by_path: Callable[[str], Objection]) -> Objection:
    home, is_listed = step.home, step.is_listed is True
    if why := _refused_by_home(home, is_listed=is_listed):
        return "block", f"{so_far} is {home}: {why}"
    if inside.kind != "module":  # a member of a class that was judged before it
        is_ours = home.split(".")[0] in (*ROOTS, "typing", "collections", "enum", "random", "object", "type")
        return None if is_ours else ("block", f"{so_far} is {home}, which is made elsewhere")
    if step.kind == "value" and home.removeprefix("builtins.") in PLAIN:
        return None
    if home.split(".")[0] in ROOTS and not home.startswith("builtins.") and (is_listed or _is_known(home, inside)):
        return None
    if is_listed and inside.home in ("random", "warnings"):
        return None
    if _is_a_type(step) and (is_listed or home.startswith(("types.", "typing."))):
        return None
    if (found := by_path(home)) is None or found[0] == "warn":
        return None
    return "block", f"{so_far} is {home}, which {inside.home} has for itself; use what it gives out under its own name"


def _is_a_type(step: Step) -> bool:
    """Whether it is a type that is no class (``numpy.typing.ArrayLike``), or another constant of its own kind."""
    return step.kind == "value" and not step.home.startswith("builtins.")


def _is_known(home: str, inside: Step) -> bool:
    return home.startswith((f"{inside.home}.", *CALCULATE))


def _refused_by_home(home: str, *, is_listed: bool) -> str | None:
    parts = home.split(".")
    found = longest(parts, refused.REFUSED)
    if found is None or len(longest(parts, refused.EXCEPTIONS) or "") >= len(found):
        return None
    return None if found in SOFT and is_listed else refused.REFUSED[found]


def longest(parts: list[str], table: dict[str, str] | frozenset[str]) -> str | None:
    """The longest beginning of ``parts`` that is in ``table``."""
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in table), None)
