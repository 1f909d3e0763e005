"""Does the patch hold a key, a token or a password? It would be in git for ever, and in every prompt.

Patterns as the vendors document them; the test for random text is Shannon's entropy, as in detect-secrets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from research.gates.found import Context, Found, Remark

NAME = "secrets"
KNOWN = {
    "an Anthropic key": r"sk-ant-[A-Za-z0-9_-]{16,}",
    "an OpenAI key": r"\bsk-(?:proj-)?[A-Za-z0-9_-]{20,}",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a Google key": r"\bAIza[A-Za-z0-9_-]{35}",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "a Weights & Biases or hex key": r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]+:[^\s/@'\"]+@",
    "a password": r"(?i)\b(?:password|passwd|secret|api_?key|auth_?token|access_?token)\b['\"]?\s*[:=]\s*['\"][^'\"\s]{8,}['\"]",  # noqa: E501
}
_PATTERNS = {what: re.compile(pattern) for what, pattern in KNOWN.items()}
_WORD = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
MIN_BITS = 4.2  # per character; English words and identifiers of this length stay below 4


def check(context: Context) -> Found:
    remarks = [remark for file in context.change.files for remark in _in_lines(min(file.paths, default=""), file.added)]
    num_lines = sum(len(file.added) for file in context.change.files)
    return Found.of(remarks, f"none in {num_lines} added lines" if num_lines else "no line is added")


def _in_lines(path: str, added: list[tuple[int, str]]) -> Iterator[Remark]:
    for number, text in added:
        if (what := _what(text)) is not None:
            # The line itself is not repeated: this row is read by many, and by the proposer.
            yield Remark(
                severity="block",
                rule="secret",
                sentence=f"The line holds what looks like {what}; take it out, and revoke it if it is real.",
                path=path,
                line=number,
                snippet=f"{text.strip()[:12]}…",
            )


def _what(text: str) -> str | None:
    for what, pattern in _PATTERNS.items():
        if pattern.search(text):
            return what
    return "random text" if any(map(_is_random, _WORD.findall(text))) else None


def _is_random(word: str) -> bool:
    """Many different characters, and digits among letters of both cases: no identifier looks like it."""
    mixed = any(c.isdigit() for c in word) and any(c.isupper() for c in word) and any(c.islower() for c in word)
    counts = Counter(word).values()
    bits = -sum(n / len(word) * math.log2(n / len(word)) for n in counts)
    return mixed and bits >= MIN_BITS
