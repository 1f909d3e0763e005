"""What alice's machine has: the standard library as a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_runner.data.prepare import prepare


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once for all of them: whoever changes a file of it copies it first."""
    return prepare(tmp_path_factory.mktemp("datasets"))
