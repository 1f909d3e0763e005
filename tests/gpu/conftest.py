"""The order of `make gpu`: that kernels are right comes before how fast they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_runner.data.prepare import prepare
from tests.benchmarks.texts import write_llmc, zipf_tokens
from tests.gpu.machine import IS_DRY_RUN, LENGTH, require_gpu

ORDER = ("test_kernels", "test_throughput", "test_profile", "test_equal_seconds")
OPT_IN = "equal_seconds"

_left_out: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sees the whole session's tests: those of other folders are nothing to us."""
    if config.getoption("markexpr") != "gpu":
        return
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else -1)
    for reason, is_left_out in _reasons(config):
        chosen = [item for item in items if is_left_out(item)]
        if chosen:
            _left_out.append(f"{len(chosen)} of {chosen[0].path.name}: {reason}")
        items[:] = [item for item in items if item not in chosen]


def _reasons(config: pytest.Config) -> Iterator[tuple[str, Callable[[pytest.Item], bool]]]:
    if OPT_IN not in (config.getoption("keyword") or ""):
        yield f'trains five minutes for each side; ask with ARGS="-k {OPT_IN}"', lambda item: OPT_IN in item.nodeid
    if IS_DRY_RUN:
        yield "a dry run has no GPU", lambda item: item.path.stem == "test_kernels"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _left_out:
        terminalreporter.write_line(f"Not run: {line}.")


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    require_gpu()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def token_files(tmp_path_factory: pytest.TempPathFactory) -> TokenFiles:
    return TokenFiles(tmp_path_factory.mktemp("tokens"))


class TokenFiles(dict[int, Path]):
    """By vocabulary: an llm.c file of made-up tokens, written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, vocab: int) -> Path:
        path = self.folder / f"zipf-{vocab}.bin"
        write_llmc(path, zipf_tokens(LENGTH.num_tokens, vocab))
        self[vocab] = path
        return path
