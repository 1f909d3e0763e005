"""The private Redis: reachable through its socket by its owner, and in no other way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import redis
from kombu import Connection

from webapp.house import redis_server


@pytest.mark.parametrize(
    "folder", ["home", "a home with spaces", "deep/" * 25], ids=["plain", "spaces", "too long for a socket"]
)
def test_redis_and_celery_reach_it_wherever_the_home_is(tmp_path: Path, folder: str) -> None:
    home = tmp_path / folder
    with redis_server.private(home) as url:
        client = redis.Redis.from_url(url, socket_timeout=5)
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("save") == {"save": ""}
        client.close()
        with Connection(url.replace("unix://", "redis+socket://"), connect_timeout=5) as celery:
            celery.ensure_connection(max_retries=1, timeout=5)
    run_dir = redis_server.socket_path(home).parent
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700


def test_a_path_that_fits_nowhere_says_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "LONGEST_SOCKET_PATH", 20)
    with pytest.raises(ValueError, match=r"COUNTERSIGN_HOME: .* is too long a path for a unix socket .* or set TMPDIR"):
        redis_server.socket_path(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_short_folder_that_charlie_made_first_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    home = tmp_path / ("x" * 100)
    short = redis_server.socket_path(home).parent
    os.chown(short, 12_345, 12_345)
    with pytest.raises(ValueError, match="belongs to somebody else"):
        redis_server.socket_path(home)


def test_without_any_redis_alice_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"apt install redis-server.*COUNTERSIGN_REDIS_URL"):
        redis_server.find()
