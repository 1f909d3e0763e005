"""What every benchmark stands on: the corpus, the peers' checkouts, folders for processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_runner.data.prepare import prepare


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("datasets"))
