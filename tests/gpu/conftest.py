"""The order of `make gpu`: that kernels are right comes before how fast they are; the campaign takes what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.progress import for_people
from tests.benchmarks.checkouts import is_there
from tests.benchmarks.record import Record
from tests.benchmarks.texts import write_llmc, zipf_tokens
from tests.gpu.machine import DRY, FILES, IS_DRY_RUN, LENGTH, require_gpu
from tests.gpu.stages import ORDER, TIMETABLE
from tests.sandbox import trials
from tests.worker.conftest import bench, web  # noqa: F401  # fixtures: a worker, and the web side that it talks to

OPT_IN = "equal_seconds"
CORPUS = "site-packages"
IN_A_SANDBOX = {"test_sandbox", "test_memory", "test_compile", "test_campaign"}

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
    elif not is_there("autoresearch"):
        yield "PEERS names no checkout of autoresearch", lambda item: OPT_IN in item.nodeid
    if IS_DRY_RUN:
        yield "a dry run has no GPU", lambda item: item.path.stem == "test_kernels"
    if not trials.LEVELS:
        lack = "no sandbox works here; `python -m gpu_runner.sandbox --probe` says why"
        for file in sorted(IN_A_SANDBOX):
            yield lack, lambda item, file=file: item.path.stem == file


def pytest_collection_finish(session: pytest.Session) -> None:
    """When -k has chosen, too."""
    if session.config.getoption("markexpr") == "gpu":
        TIMETABLE.plan({item.path.stem for item in session.items})


def pytest_runtest_setup(item: pytest.Item) -> None:
    TIMETABLE.enter(item.path.stem)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    TIMETABLE.leave(item.path.stem)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    not_run = [f"Not run: {line}." for line in _left_out]
    if not (rows := TIMETABLE.rows() if TIMETABLE.counts else []):
        for line in not_run:
            terminalreporter.write_line(line)
    else:
        notes = [*not_run, DRY.strip()] if DRY else not_run
        columns = ("stage", "planned", "took")
        Record(
            name=f"{FILES}-stages", title="How long each stage took", columns=columns, rows=rows, notes=notes
        ).publish()


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    require_gpu()
    TIMETABLE.counts = True


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard library: where tokens are made up, only its manifest is read."""
    return prepare(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text of the packages that are installed here: what the corpus of a GPU is."""
    return prepare(tmp_path_factory.mktemp("packages"), CORPUS, Origin(kind="packages"), for_people())


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest) -> Path:
    """What is trained on: ``packages``, and in a dry run the standard library, which is quicker to make."""
    made: Path = request.getfixturevalue("dataset" if IS_DRY_RUN else "packages")
    return made


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
