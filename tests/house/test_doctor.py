"""The doctor names the lack, the cost and the way out, and never a secret."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.house.processes import manage
from tests.ports import free_port
from webapp.house import doctor


def test_alice_reads_every_part_as_json_and_her_key_is_not_among_it(tmp_path: Path) -> None:
    secret = "sk-ant-very-secret"
    said = manage(
        "doctor", "--json", COUNTERSIGN_HOME=str(tmp_path), ANTHROPIC_API_KEY=secret, COUNTERSIGN_PORT=free_port()
    )
    assert said.returncode == 0, said.stdout
    checks = {check["name"]: check for check in json.loads(said.stdout)}
    assert len(checks) == len(doctor.ALL)
    assert checks["Anthropic key"]["ok"]
    assert all(check["ok"] or (check["costs"] and check["todo"]) for check in checks.values())
    assert secret not in said.stdout + said.stderr


def test_without_git_the_doctor_fails_and_says_how_to_get_it(tmp_path: Path) -> None:
    said = manage("doctor", COUNTERSIGN_HOME=str(tmp_path), PATH="/nonexistent", COUNTERSIGN_PORT=free_port())
    assert said.returncode == 1
    assert "missing git            There is no git in PATH." in said.stdout
    assert "apt install git" in said.stdout


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PATH": "/nonexistent"}, "There is no git in PATH. Install git"),
        ({"COUNTERSIGN_PORT": "99999"}, "99999: not a port."),
        ({"COUNTERSIGN_PORT": "many"}, "COUNTERSIGN_PORT: must be a whole number, not 'many'"),
        ({"COUNTERSIGN_HOME": "/proc/countersign"}, "/proc/countersign: "),
        ({"COUNTERSIGN_DATABASE_URL": "mysql://db/x"}, "COUNTERSIGN_DATABASE_URL: scheme must be postgresql"),
    ],
    ids=["no git", "no such port", "a port in letters", "a home that cannot be made", "another database"],
)
def test_up_refuses_with_one_sentence(tmp_path: Path, environment: dict[str, str], sentence: str) -> None:
    said = manage("up", **({"COUNTERSIGN_HOME": str(tmp_path / "home"), "COUNTERSIGN_PORT": free_port()} | environment))
    assert said.returncode == 1
    assert said.stderr.startswith("Countersign cannot run: ")
    assert sentence in said.stderr
    assert said.stderr.count("\n") == 1


def test_a_taken_port_names_another_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        said = manage("up", COUNTERSIGN_HOME=str(tmp_path), COUNTERSIGN_PORT=str(number))
    assert said.returncode == 1
    assert f"127.0.0.1:{number}: Address already in use. Stop the program" in said.stderr
    assert f"COUNTERSIGN_PORT={number % 60_000 + 1} make run" in said.stderr


def test_a_full_disk_is_essential_and_names_the_home() -> None:
    check = doctor.disk(needed_bytes=10**18)
    assert (check.ok, check.essential) == (False, True)
    assert "set COUNTERSIGN_HOME to a folder on another disk" in check.todo


def test_without_a_sandbox_no_worker_is_started_before_the_operator_says_so(tmp_path: Path) -> None:
    """As on a Mac, or on an old kernel without bubblewrap. Said by the doctor and by `up`, with the way out."""
    said = manage("doctor", COUNTERSIGN_HOME=str(tmp_path), COUNTERSIGN_SANDBOX="jail", COUNTERSIGN_PORT=free_port())
    assert "'jail' is not one of auto, bubblewrap, landlock, none." in said.stdout
    assert "No worker starts here." in said.stdout
    said = manage("doctor", COUNTERSIGN_HOME=str(tmp_path), COUNTERSIGN_SANDBOX="none", COUNTERSIGN_PORT=free_port())
    assert "none, as you said." in said.stdout
    assert "Proposed code runs with this account's rights" in said.stdout
