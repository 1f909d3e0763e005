"""Which file of the recipe a patch means by its names: with a/ and b/, with folders before them, or without."""

from __future__ import annotations

import re
from collections.abc import Iterable

from research.change.pasted.parts import shown, wrong

MAX_NAME = 500
NOTHING = "/dev/null"
# Behind a name ``diff`` writes a time, svn "(revision 3)", a model "(original)": after a tab, or what became of it.
_BEHIND = re.compile(
    r"(?:\s+\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*|\s+[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d.*|\s+\([^()]*\))$"
)


def said_in(line: str) -> str:
    """The name in ``--- a/train.py<tab>2026-01-01``."""
    name = line[4:].rstrip()
    if name.startswith('"'):
        return name
    name = name.partition("\t")[0].rstrip()
    return _BEHIND.sub("", name) if len(name) < MAX_NAME else name


def of_git(line: str) -> list[str]:
    """Both names of ``diff --git a/x b/x``, where x may have spaces; [] where they cannot be told apart."""
    both = line.removeprefix("diff --git ").rstrip("\r")
    middle = len(both) // 2
    one, other = both[:middle], both[middle + 1 :]
    if one[:2] == "a/" and other[:2] == "b/" and one[2:] == other[2:]:
        return [one, other]
    parts = both.split(" ")
    return parts if len(parts) == 2 else []


def meant(number: int, names: Iterable[str], known: Iterable[str], *, all_agree: bool) -> str:
    """The known file that ``names`` end in. With ``all_agree`` all must, else one is enough (the other may be a copy).

    Raises ValueError where they name no file or two, or a file that would be added or removed.
    """
    names, files = list(names), set(known)
    found = {name: _tail(number, name, files) for name in names if name != NOTHING}
    paths = {path for path in found.values() if path is not None}
    if NOTHING in names:
        verb = "removed" if names[-1] == NOTHING else "added"
        named = shown(next((name for name in names if name != NOTHING), ""))
        raise wrong(
            number, f"{named} would be {verb}: files can be edited, not {verb}; the recipe has {_listed(files)}"
        )
    if len(paths) > 1:
        raise wrong(number, f"the section names two files, {' and '.join(sorted(paths))}; give it one name")
    strange = [name for name, path in found.items() if path is None]
    if not paths or (strange and all_agree):
        raise wrong(number, _none_of(strange, files))
    return paths.pop()


def tail_of(name: str, known: Iterable[str]) -> str | None:
    """The longest end of ``name`` that is the path of a known file."""
    files, parts = set(known), name.replace("\\", "/").split("/")
    deepest = max((path.count("/") + 1 for path in files), default=0)
    tails = ["/".join(parts[-num:]) for num in range(min(deepest, len(parts)), 0, -1)]
    return next((tail for tail in tails if tail in files), None)


def _tail(number: int, name: str, files: set[str]) -> str | None:
    if name.startswith('"'):
        raise wrong(number, f"the name {shown(name)} is quoted; write it plainly, as in --- a/train.py")
    if ".." in name.replace("\\", "/").split("/"):
        raise wrong(number, f"the name {shown(name)} climbs out of its folder; write it from the recipe's folder on")
    return tail_of(name, files)


def _none_of(strange: list[str], files: set[str]) -> str:
    if not strange:
        return "it is not said which file this is for; write --- a/train.py and +++ b/train.py"
    near = next((path for path in sorted(files) for name in strange if _is_alike(name, path)), None)
    way_out = f"write {near}" if near else f"it has {_listed(files)}"
    return f"there is no such file in the recipe, {shown(strange[0])}; {way_out}"


def _is_alike(name: str, path: str) -> bool:
    return name.lower().rpartition("/")[2] == path.lower().rpartition("/")[2]


def _listed(files: Iterable[str]) -> str:
    return ", ".join(sorted(files))
