"""The worker's side of the wire (docs/architecture.md, "The wire").

How it can end badly:

    WireError
     ├─ Unreachable   no answer, 5xx, or what is no answer of the web side's (a proxy's page, whatever its status):
     │                ask again, and not before ``retry_after_s``
     ├─ Refused       400, 401, 403, 404, or an answer outside the contract: asking again changes nothing
     └─ Superseded    409: the fence is old, the run is somebody else's now; drop it
"""

from __future__ import annotations

import ipaddress
import re
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from gpu_runner import contract
from gpu_runner.plain import plain

CONNECT_S = 5.0
ANSWER_S = 30.0
REPORT_S = 10.0
SOURCE_S = 120.0
MAX_SOURCE_BYTES = 256 << 20
RETRY_AFTER_AT_MOST_S = 60.0  # a web side that is up again is not kept waiting by what a proxy said
BUNDLE = re.compile(rb"# v\d+ git bundle\n")

W = TypeVar("W", bound=contract.Wire)


class WireError(Exception):
    """Ends one request; ``str()`` is a sentence."""


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
    """As ``auth=`` and not as a header: requests would let a .netrc entry overrule the header."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Wire:
    """Requests with one bearer token. Not shared between threads."""

    def __init__(self, url: str, token: str) -> None:
        self.url = checked_url(url)
        self._session = requests.Session()
        self._session.auth = _Bearer(token)
        self._session.trust_env = not _is_loopback(self.url)  # a proxy cannot reach this machine's own web side

    def post(self, path: str, body: contract.Wire, *, timeout_s: float = ANSWER_S) -> requests.Response:
        """POST ``body`` as JSON; the answer of 200 or 204. Raises a WireError."""
        return self._ask("POST", path, body.model_dump_json().encode(), timeout_s)

    def get(self, path: str, *, timeout_s: float = ANSWER_S) -> requests.Response:
        return self._ask("GET", path, None, timeout_s)

    def _ask(self, verb: str, path: str, body: bytes | None, timeout_s: float) -> requests.Response:
        timeout = (min(CONNECT_S, timeout_s), timeout_s)
        try:
            answer = self._session.request(
                verb,
                self.url + path,
                data=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=timeout,
                allow_redirects=False,  # a redirected POST becomes a GET
            )
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} does not answer ({type(error).__name__})") from error
        return _checked(answer)


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


def _checked(answer: requests.Response) -> requests.Response:
    if answer.status_code in (200, 204):
        return answer
    said = _own_words(answer)
    sentence = f"{answer.status_code}: {said}"
    if said is None or answer.status_code >= 500 or answer.status_code in (408, 429):
        asked_for_s = contract.retry_after_s(answer.headers, at_most_s=RETRY_AFTER_AT_MOST_S)
        raise Unreachable(sentence if said else _stranger(answer), retry_after_s=asked_for_s or 0.0)
    if answer.status_code == 409:
        raise Superseded(sentence)
    raise Refused(answer.status_code, sentence)


def _own_words(answer: requests.Response) -> str | None:
    """The web side's own ``{"error": sentence}``; None where somebody else has answered."""
    try:
        said = answer.json()
    except (requests.JSONDecodeError, RecursionError):
        return None
    error = said.get("error") if isinstance(said, dict) else None
    return error[:500] if isinstance(error, str) else None


def _stranger(answer: requests.Response) -> str:
    """A proxy restarts, is told of no web side, or wants a sign-in: it passes, or a person has to see to it."""
    where, kind = answer.headers.get("Location", ""), answer.headers.get("Content-Type", "")
    said = f"{answer.request.method} {answer.url} answered {answer.status_code}" + (f", to {where}" if where else "")
    return plain(f"{said}, and not as the web side does ({kind or 'no type'}): a proxy stands between")[:500]


def _parsed(kind: type[W], answer: requests.Response) -> W:
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
    """What a worker may ask with its own token: to say hello, and for work."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._wire = Wire(url, token)

    def hello(self, hello: contract.Hello) -> dict[str, str]:
        """Introduce this worker. Returns the datasets that campaigns use: name -> manifest sha256."""
        return _parsed(Welcome, self._wire.post("/api/worker/hello", hello)).datasets

    def claim(self, claim: contract.Claim) -> contract.Lease | None:
        """The next run, None when there is nothing to do."""
        answer = self._wire.post("/api/worker/claim", claim)
        return None if answer.status_code == 204 else _parsed(contract.Lease, answer)

    def line(self, lease: contract.Lease) -> RunLine:
        """The line of one lease, with that lease's token."""
        return RunLine(self.url, lease)


class RunLine:
    """What may be asked and said about one leased run."""

    def __init__(self, url: str, lease: contract.Lease) -> None:
        self._wire = Wire(url, lease.token)
        self._path = f"/api/worker/runs/{lease.spec.run_id}"

    def source(self) -> bytes:
        """A git bundle that holds the base commit."""
        answer = self._wire.get(f"{self._path}/source", timeout_s=SOURCE_S)
        bundle = answer.content
        if not BUNDLE.match(bundle):
            raise Unreachable(_stranger(answer))
        if len(bundle) > MAX_SOURCE_BYTES:
            raise Refused(200, f"the source bundle has {len(bundle):,} bytes; {MAX_SOURCE_BYTES:,} are allowed")
        return bundle

    def report(self, report: contract.Report, *, timeout_s: float = REPORT_S) -> contract.Order:
        return _parsed(contract.Order, self._wire.post(f"{self._path}/report", report, timeout_s=timeout_s))

    def beat(self, beat: contract.Beat, *, timeout_s: float = REPORT_S) -> contract.Order:
        return _parsed(contract.Order, self._wire.post(f"{self._path}/beat", beat, timeout_s=timeout_s))

    def end(self, end: contract.RunEnd, *, timeout_s: float = REPORT_S) -> None:
        """Returns when the web side has said that it heard: a page in its place must not pass for that."""
        _parsed(contract.Order, self._wire.post(f"{self._path}/end", end, timeout_s=timeout_s))
