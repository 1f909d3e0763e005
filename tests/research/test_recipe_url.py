"""A recipe from another machine, where the operator allows its address: git's own smart HTTP, on a real socket."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from research.models import Campaign
from research.record import repository
from tests import builders

pytestmark = pytest.mark.django_db
WORDS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
AUTHOR = ("-c", "user.name=alice", "-c", "user.email=a@lab.example")


def handler_for(root: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """git http-backend(1), which speaks CGI."""

        def do_GET(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def serve(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            env = WORDS | {
                "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "CONTENT_LENGTH": str(len(body)),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, timeout=30)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            lines = [line.decode().partition(": ") for line in head.split(b"\r\n") if line]
            status = next((int(value.split()[0]) for name, _, value in lines if name == "Status"), 200)
            self.send_response(status)
            for name, _, value in lines:
                if name != "Status":
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of the forge's one repository, and the folder that is pushed to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hers = tmp_path / "forge" / "nano"
    hers.mkdir(parents=True)
    (hers / "recipe.toml").write_text('[recipe]\nname = "nano"\neditable = ["train.py"]\n')
    (hers / "train.py").write_text("def train(run):\n    pass\n")
    commit(hers, "init", "-q", "-b", "main")
    save(hers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(tmp_path / "forge"))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/nano/.git", hers
    server.shutdown()
    server.server_close()


def commit(at: Path, *words: str) -> None:
    subprocess.run(["git", *AUTHOR, *words], cwd=at, env=WORDS, check=True, capture_output=True, timeout=30)


def save(at: Path) -> None:
    commit(at, "add", "--all")
    commit(at, "commit", "-qm", "as it is")


def test_a_recipe_is_fetched_at_the_branch_that_alice_names(forge: tuple[str, Path], settings: Any) -> None:
    url, hers = forge
    settings.RECIPE_URLS = (url.removesuffix("nano/.git"),)
    commit(hers, "branch", "older")
    (hers / "train.py").write_text("def train(run):\n    raise SystemExit\n")
    save(hers)
    for slug, at, word in (("now", "", "raise"), ("before", "older", "pass")):
        campaign = builders.make_campaign(slug=slug, recipe=url, recipe_commit=at)
        assert word in repository.files_at(campaign, campaign.incumbent.commit)["train.py"]
        assert (campaign.recipe, campaign.origin, len(campaign.origin_commit)) == ("nano", url, 40)
    with pytest.raises(ValueError, match=r"recipe: git could not fetch it: .*elsewhere"):
        builders.make_campaign(slug="third", recipe=url, recipe_commit="elsewhere")


def test_more_than_the_cap_is_not_fetched_and_nothing_is_left(forge: tuple[str, Path], settings: Any) -> None:
    url, hers = forge
    settings.RECIPE_URLS, settings.RECIPE_MB = (url,), 1
    (hers / "data.bin").write_bytes(os.urandom(3_000_000))
    save(hers)
    with pytest.raises(ValueError, match=r"recipe: it is larger than 1 MB .COUNTERSIGN_RECIPE_MB"):
        builders.make_campaign(recipe=url)
    assert not Campaign.objects.exists()
    assert not Path(settings.REPOSITORIES).exists() or not list(Path(settings.REPOSITORIES).iterdir())
