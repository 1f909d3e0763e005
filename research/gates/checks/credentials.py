"""Gate: does the patch hold a key, a token or a password? It would stay in git for ever, and in every prompt.

Patterns as the vendors document them; the test for random text is Shannon's entropy, as in detect-secrets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from research.gates.outcome import Context, GateResult, Remark

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
    "a Google secret": r"\b(?:GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,})",
    "a key of a model's or a cloud's vendor": r"\b(?:gsk_|xai-|r8_|pplx-|nvapi-|dapi|dop_v1_|sbp_|shp(?:at|ca|pa|ss)_|lin_api_|ntn_|glsa_|dckr_pat_|hvs\.|tskey-|sq0[a-z]{3}-|PMAK-|rnd_|phc_)[A-Za-z0-9._-]{20,}",  # noqa: E501
    "a package index's token": r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{16,})",
    "a SendGrid key": r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "a Telegram token": r"\b\d{8,10}:[A-Za-z0-9_-]{35}\b",
    "a Slack webhook": r"hooks\.slack\.com/services/\w+/\w+/\w+",
    "an Azure key": r"\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}",
    "an age key": r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}",
    "a bearer token": r"(?i)\b(?:bearer|basic|token)\s+(?=[^\s]*\d|[^\s]{24})[A-Za-z0-9._~+/-]{20,}=*(?![\w(])",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    # 0x... is a number of code, and a commit may be linked to.
    "a Weights & Biases or hex key": r"(?<![0-9a-fx])(?<!commit[ /])(?<!^From )(?<!blob/)(?<!tree/)"
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![0-9a-f])",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@'\"]+:[^\s/@'\"]+@",
    "a password": r"(?i)(?:password|passwd|passphrase|secret|api_?key|auth_?token|access_?token|_token_?key)\b['\"]?(?:\s*:\s*\w+)?\s*[:=]\s*['\"][^'\"\s]{8,}['\"]",  # noqa: E501
}
_PATTERNS = {what: re.compile(pattern) for what, pattern in KNOWN.items()}
_LINK = re.compile(r"\bhttps://(?:[a-z0-9-]+\.)+[a-z]{2,10}/[\w./#~-]*")  # without a query, where keys may stand
_WORD = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
MAX_READ = 1_000  # characters; longer lines are refused by their length
MIN_BITS = 4.2  # per character; English words and identifiers of this length stay below 4


def check(context: Context) -> GateResult:
    remarks = [remark for file in context.change.files for remark in _in_lines(min(file.paths, default=""), file.added)]
    remarks += _in_lines("", context.change.asides)
    num_lines = sum(len(file.added) for file in context.change.files)
    return GateResult.of(
        remarks, f"none in {num_lines} added line{'s' * (num_lines != 1)}" if num_lines else "no line is added"
    )


def _in_lines(path: str, added: list[tuple[int, str]]) -> Iterator[Remark]:
    for number, text in added:
        if (what := _what(text[:MAX_READ])) is not None:
            # The line itself is not repeated: this row is read by many, and by the proposer.
            yield Remark(
                severity="block",
                rule="secret",
                sentence=f"The line holds what looks like {what}; take it out, and revoke it if it is real.",
                path=path,
                line=number,
                snippet=f"{text.strip()[:12]}…",
            )


def blanked(text: str) -> str:
    """``text`` with every line left out that holds what looks like a credential, for texts that are not refused."""
    lines = text.split("\n")
    return "\n".join(
        f"{line[:1] if line[:1] in '+- ' else ''}(left out: {what})" if (what := _what(line[:MAX_READ])) else line
        for line in lines
    )


def _what(text: str) -> str | None:
    for what, pattern in _PATTERNS.items():
        if pattern.search(text):
            return what
    return "random text" if any(map(_is_random, _WORD.findall(_without_links(text)))) else None


def _without_links(text: str) -> str:
    """The text with links cut at each slash: whole they are long and of mixed case, as keys are."""
    return _LINK.sub(lambda link: link[0].replace("/", " "), text)


def _is_random(word: str) -> bool:
    """Whether a word has many different characters, with digits and letters of both cases, as no identifier has."""
    mixed = any(c.isdigit() for c in word) and any(c.isupper() for c in word) and any(c.islower() for c in word)
    counts = Counter(word).values()
    bits = -sum(n / len(word) * math.log2(n / len(word)) for n in counts)
    return mixed and bits >= MIN_BITS
