"""Is the patch small plain text? Modes, symlinks, binaries and characters that hide are refused by kind."""

from __future__ import annotations

import re
import unicodedata

from research.gates.found import Context, Found

NAME = "size and shape"
MAX_BYTES = 100_000
MAX_LINES = 1_500
_SPECIAL = re.compile(
    r"^(new file mode|deleted file mode|old mode|new mode|rename |copy |GIT binary|Binary files|similarity )", re.M
)


def check(context: Context) -> Found:
    patch = context.revision.patch
    if not patch and not context.revision.overrides:
        return Found.bad("It changes nothing: there is neither an override nor an edit.")
    num_bytes, num_lines = len(patch.encode()), patch.count("\n")
    if num_bytes > MAX_BYTES or num_lines > MAX_LINES:
        return Found.bad(
            f"The patch has {num_lines:,} lines, {num_bytes:,} bytes; at most {MAX_LINES:,} and {MAX_BYTES:,}."
        )
    if special := _SPECIAL.search(patch):
        return Found.bad(f"The patch does more than change lines of text: {special.group(0).strip()!r}.")
    if hidden := _hidden(patch):
        return Found.bad(f"The patch holds characters that a reader cannot see: {', '.join(hidden)}.")
    changed = sum(1 for line in patch.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---"))
    return Found.ok(
        f"{changed} changed lines" if patch else "no code is changed", num_bytes=num_bytes, num_changed=changed
    )


def _hidden(patch: str) -> list[str]:
    """Control, format (bidi, zero-width), private and unassigned characters, by code point."""
    bad = {
        c for c in patch if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") and c not in "\n\t"
    }
    return [f"U+{ord(c):04X}" for c in sorted(bad)][:8]
