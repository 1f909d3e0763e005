"""The worker's HTTP client for the web side (docs/architecture.md, "The wire").

How a request can fail:

    WireError
     ├─ Unreachable   no answer, 5xx, 408, 429, or an answer that is not the web side's (a proxy's page, whatever its
     │                status): ask again, and not before ``retry_after_s``
     ├─ Refused       400, 401, 403, 404, or an answer outside the contract: asking again changes nothing
     └─ Superseded    409: the fence is old, another worker has the run now; drop it
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from gpu_runner import contract
from gpu_runner.contract.plain import plain

CONNECT_S = 5.0
ANSWER_S = 30.0
REPORT_S = 10.0
SOURCE_S = 120.0
MAX_SOURCE_BYTES = 256 << 20
MAX_ANSWER_BYTES = 32 << 20  # any other; a lease with the longest patch has some 4 MiB
MAX_ERROR_BYTES = 64 << 10  # what is longer is no sentence
READ_BYTES = 64 << 10
RETRY_AFTER_AT_MOST_S = 60.0  # a web side that is up again is not kept waiting by what a proxy said
BUNDLE = re.compile(rb"# v\d+ git bundle\n")

W = TypeVar("W", bound=contract.Wire)


class WireError(Exception):
    """A request that failed; ``str()`` is a sentence."""


class Unreachable(WireError):
    def __init__(self, sentence: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class Refused(WireError):
    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Superseded(WireError):
    pass


class _Bearer(requests.auth.AuthBase):
    """Sends the bearer token. Given as ``auth=``, since requests lets a .netrc entry overrule a plain header."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _Session(requests.Session):
    """Follows no redirect: requests would turn a POST into a GET, and read the whole body of the redirect."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole HTTP response. ``asked`` is the verb and the address of its request."""

    asked: str
    code: int
    headers: Mapping[str, str]
    content: bytes


class Wire:
    """Requests with one bearer token. Not shared between threads."""

    def __init__(self, url: str, token: str) -> None:
        self.url = checked_url(url)
        self._session = _Session()
        self._session.auth = _Bearer(token)
        self._session.trust_env = not _is_loopback(self.url)  # a proxy cannot reach this machine's own web side

    def post(self, path: str, body: contract.Wire, *, timeout_s: float = ANSWER_S) -> Answer:
        """POST ``body`` as JSON; the answer of 200 or 204. Raises a WireError."""
        return self._ask("POST", path, body.model_dump_json().encode(), timeout_s, MAX_ANSWER_BYTES)

    def get(self, path: str, *, timeout_s: float = ANSWER_S, most: int = MAX_ANSWER_BYTES) -> Answer:
        return self._ask("GET", path, None, timeout_s, most)

    def _ask(self, verb: str, path: str, body: bytes | None, timeout_s: float, most: int) -> Answer:
        asked, deadline = f"{verb} {self.url}{path}", time.monotonic() + timeout_s
        try:
            with self._session.request(
                verb,
                self.url + path,
                data=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
                stream=True,
            ) as answer:
                content = _read(answer, asked, deadline, most)
                return _checked(Answer(asked=asked, code=answer.status_code, headers=answer.headers, content=content))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{self.url} does not answer ({type(error).__name__})") from error


def _read(answer: requests.Response, asked: str, deadline: float, most: int) -> bytes:
    """The body of a response, until ``deadline`` and up to ``most`` bytes; of an error, its beginning.

    A socket's own timeout starts anew with every byte, and a proxy in the web side's place may send without end.
    """
    is_error = answer.status_code not in (200, 204)
    body = bytearray()
    while part := answer.raw.read1(READ_BYTES, decode_content=True):
        body += part
        if time.monotonic() > deadline:
            raise Unreachable(f"{asked} was not answered in time")
        if is_error and len(body) > MAX_ERROR_BYTES:
            break
        if len(body) > most:
            raise Refused(
                answer.status_code, f"{asked} was answered with more than the {most:,} bytes that are allowed"
            )
    return bytes(body)


def checked_url(url: str) -> str:
    """``url`` without a trailing slash. Raises ValueError when it is no web address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"COUNTERSIGN_URL: {url!r} is not a web address such as http://127.0.0.1:8000")
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(answer: Answer) -> Answer:
    if answer.code in (200, 204):
        return answer
    said = _own_words(answer)
    sentence = f"{answer.code}: {said}"
    if said is None or answer.code >= 500 or answer.code in (408, 429):
        asked_for_s = contract.retry_after_s(answer.headers, at_most_s=RETRY_AFTER_AT_MOST_S)
        raise Unreachable(sentence if said else _stranger(answer), retry_after_s=asked_for_s or 0.0)
    if answer.code == 409:
        raise Superseded(sentence)
    raise Refused(answer.code, sentence)


def _own_words(answer: Answer) -> str | None:
    """The sentence in the web side's own ``{"error": sentence}``; None for any other body, such as a proxy's page."""
    try:
        said = json.loads(answer.content)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, a number of 5,000 digits, 60,000 brackets
        return None
    error = said["error"] if isinstance(said, dict) and list(said) == ["error"] else None
    return error[:500] if isinstance(error, str) else None


def _stranger(answer: Answer) -> str:
    """The message for an answer that is not the web side's: a proxy restarts, has no web side, or wants a sign-in."""
    where, kind = answer.headers.get("Location", ""), answer.headers.get("Content-Type", "")
    said = f"{answer.asked} answered {answer.code}" + (f", to {where}" if where else "")
    return plain(f"{said}, and not as the web side does ({kind or 'no type'}): a proxy stands between")[:500]


def _parsed(kind: type[W], answer: Answer) -> W:
    try:
        return contract.parse(kind, answer.content)
    except ValueError as error:
        if not answer.content.lstrip().startswith(b"{"):
            raise Unreachable(_stranger(answer)) from error
        raise Refused(200, f"the answer is no {kind.__name__} of this version's contract: {error}") from error


class Welcome(contract.Wire):
    """The answer to hello."""

    worker: int
    datasets: dict[str, str]


class Front:
    """The two requests that a worker makes with its own token: hello and claim."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._wire = Wire(url, token)

    def hello(self, hello: contract.Hello) -> dict[str, str]:
        """Introduce this worker. Returns the datasets that campaigns use: name -> manifest sha256."""
        return _parsed(Welcome, self._wire.post("/api/worker/hello", hello)).datasets

    def claim(self, claim: contract.Claim) -> contract.Lease | None:
        """The next run, None when there is nothing to do."""
        answer = self._wire.post("/api/worker/claim", claim)
        return None if answer.code == 204 else _parsed(contract.Lease, answer)

    def line(self, lease: contract.Lease) -> RunLine:
        """The client for one leased run, with that lease's token."""
        return RunLine(self.url, lease)


class RunLine:
    """The requests about one leased run, with its run token: source, report, beat and end."""

    def __init__(self, url: str, lease: contract.Lease) -> None:
        self._wire = Wire(url, lease.token)
        self._path = f"/api/worker/runs/{lease.spec.run_id}"

    def source(self) -> bytes:
        """A git bundle that holds the base commit."""
        answer = self._wire.get(f"{self._path}/source", timeout_s=SOURCE_S, most=MAX_SOURCE_BYTES)
        if not BUNDLE.match(answer.content):
            raise Unreachable(_stranger(answer))
        return answer.content

    def report(self, report: contract.Report, *, timeout_s: float = REPORT_S) -> contract.Order:
        return _parsed(contract.Order, self._wire.post(f"{self._path}/report", report, timeout_s=timeout_s))

    def beat(self, beat: contract.Beat, *, timeout_s: float = REPORT_S) -> contract.Order:
        return _parsed(contract.Order, self._wire.post(f"{self._path}/beat", beat, timeout_s=timeout_s))

    def end(self, end: contract.RunEnd, *, timeout_s: float = REPORT_S) -> None:
        """Deliver the run's end. The answer is parsed as an Order, so that a proxy's page does not pass for one."""
        _parsed(contract.Order, self._wire.post(f"{self._path}/end", end, timeout_s=timeout_s))
