"""The worker asks over HTTP: what each answer means to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_runner import contract
from gpu_runner.client import Front, Refused, Superseded, Unreachable, WireError, checked_url

from .web import WORKER_TOKEN, Web

CLAIM = contract.Claim(run_id=None, hardware_class="cpu-x86_64", sandbox_level="none", lock_sha256="")


def test_nothing_to_do_is_no_lease(web: Web) -> None:
    assert Front(web.url, WORKER_TOKEN).claim(CLAIM) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, Refused),
        (302, Refused),
        (409, Superseded),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
def test_every_answer_is_one_branch_of_the_tree(web: Web, code: int, kind: type[WireError]) -> None:
    web.answer["claim"] = (code, {"error": "bob disabled this worker"})
    with pytest.raises(kind, match="bob disabled this worker"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


def test_an_answer_outside_the_contract_is_refused(web: Web) -> None:
    web.answer["claim"] = (200, {"spec": {"run_id": "seven"}, "token": "t"})
    with pytest.raises(Refused, match="no Lease of this version's contract"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


def test_a_web_side_that_is_away_is_unreachable(web: Web) -> None:
    web.go_away()
    with pytest.raises(Unreachable, match="does not answer"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


def test_neither_netrc_nor_proxy_comes_between(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login charlie password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    Front(web.url, WORKER_TOKEN).claim(CLAIM)
    assert web.tokens == [("claim", f"Bearer {WORKER_TOKEN}")]


def test_an_address_without_a_scheme_is_named() -> None:
    with pytest.raises(ValueError, match=r"COUNTERSIGN_URL: 'gpu\.lab\.example' is not a web address"):
        checked_url("gpu.lab.example")
