"""The four processes of one machine: their commands, and which environment variables each gets.

redis     carries the doorbell and the nudges
web       pages, sockets, the worker API
control   proposes, gates, judges, delivers webhooks
worker    trains and scores; gets no secret but its own token
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import sys
from functools import partial
from pathlib import Path

from django.conf import settings

from research.record.rights import Part
from research.runs import workers
from webapp.house import redis_server
from webapp.house.supervisor import Child

# What a worker may know of our environment: where its tools and its GPU are. Never a key, a password, the database.
WORKER_KNOWS = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
WORKER_KNOWS_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH_", "PYTORCH_", "TRITON_")
WORKER_SETTINGS = {
    "COUNTERSIGN_DATASETS",
    "COUNTERSIGN_SANDBOX",
    "COUNTERSIGN_KEEP_RUNS",
    "COUNTERSIGN_LOG_LEVEL",
    "COUNTERSIGN_ENVIRONMENTS",
}
WEB_ANSWERS_WITHIN_S = 3.0


def children(*, without: set[str]) -> list[Child]:
    """The processes in the order in which they need each other."""
    redis_url = settings.REDIS_URL or redis_server.url(redis_server.socket_path(settings.HOME))
    members = member_environment(redis_url)
    made = [web(members), control(members)]
    if not settings.REDIS_URL:
        made.insert(0, redis())
    if "worker" not in without:
        made.append(worker(redis_url))
    return [child for child in made if child.name not in without]


def redis() -> Child:
    path = redis_server.socket_path(settings.HOME)
    return Child(
        name="redis",
        command=redis_server.command(redis_server.find(), path),
        environment={name: value for name, value in os.environ.items() if name in WORKER_KNOWS},
        answers=partial(redis_server.answers, path),
        start_within_s=redis_server.START_WITHIN_S,
        stop_within_s=3.0,
    )


def web(environment: dict[str, str]) -> Child:
    command = [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--host", settings.BIND]
    command += ["--port", str(settings.PORT), "--no-access-log", "--lifespan", "off"]
    command += ["--http", "webapp.house.doorstep:Doorstep", "--ws", "webapp.house.doorstep:LiveStep"]
    command += ["--ws-max-size", "4096"]
    command += proxies()
    command += ["--timeout-graceful-shutdown", "3", "--log-level", _log_level()]
    return Child(name="web", command=command, environment=environment, answers=web_answers, stop_within_s=6.0)


def proxies() -> list[str]:
    """uvicorn's arguments: the proxies whose headers it trusts. Its default trusts every process on this machine."""
    return ["--forwarded-allow-ips", ",".join(settings.PROXIES)] if settings.PROXIES else ["--no-proxy-headers"]


def control(environment: dict[str, str]) -> Child:
    command = [sys.executable, "-m", "celery", "-A", "webapp.celery", "worker", "-Q", "control", "-n", "control@%h"]
    command += ["-P", "threads", "-c", "4", "-B", "-s", str(settings.HOME / "run" / "beat")]
    command += ["--without-gossip", "--without-mingle", f"--loglevel={_log_level()}"]
    return Child(name="control", command=command, environment=environment, stop_within_s=12.0)


def worker(redis_url: str) -> Child:
    name = worker_name()
    told = {
        "COUNTERSIGN_HOME": str(settings.HOME),
        "COUNTERSIGN_URL": own_url(),
        "COUNTERSIGN_BROKER_URL": broker_url(redis_url),
        "COUNTERSIGN_WORKER_NAME": name,
        "COUNTERSIGN_WORKER_TOKEN": workers.enrol(name, by=Part("up")),  # a fresh one every start; the last one ends
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "gpu_runner", "worker"]
    return Child(name="worker", command=command, environment=what_a_worker_knows() | told, stop_within_s=10.0)


def member_environment(redis_url: str) -> dict[str, str]:
    """The environment of web and control: all of ours, and the addresses that `up` has chosen."""
    told = {
        "COUNTERSIGN_HOME": str(settings.HOME),
        "COUNTERSIGN_REDIS_URL": redis_url,
        "COUNTERSIGN_URL": settings.PUBLIC_URL,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "PYTHONUNBUFFERED": "1",
    }
    return {name: value for name, value in os.environ.items() if name != "COUNTERSIGN_WORKER_TOKEN"} | told


def what_a_worker_knows() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in WORKER_KNOWS or name in WORKER_SETTINGS or name.startswith(WORKER_KNOWS_PREFIXES)
    }


def broker_url(redis_url: str) -> str:
    """The Redis URL in kombu's spelling."""
    return os.environ.get("COUNTERSIGN_BROKER_URL") or redis_url.replace("unix://", "redis+socket://", 1)


def own_url() -> str:
    """The web process's address for processes of this machine, past any proxy."""
    host = "127.0.0.1" if settings.BIND in ("0.0.0.0", "::") else settings.BIND  # noqa: S104 - compared, not bound
    return f"http://{host}:{settings.PORT}"


def web_answers() -> bool:
    """Whether the login page answers, with anything but a crash."""
    line = http.client.HTTPConnection(own_url().partition("://")[2], timeout=WEB_ANSWERS_WITHIN_S)
    try:
        line.request("GET", "/login/")
        return line.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def worker_name() -> str:
    """This machine's name, in characters that the contract allows."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", os.environ.get("COUNTERSIGN_WORKER_NAME") or socket.gethostname())
    return plain.strip("-._")[:64] or "this-machine"


def _log_level() -> str:
    name = logging.getLevelName(logging.getLogger().getEffectiveLevel())
    return str(name).lower()


def log_dir() -> Path:
    return Path(settings.HOME) / "logs"
