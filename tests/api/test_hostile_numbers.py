"""A training process may say any number; what no database column can hold is refused by its field, not with a crash."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_runner import contract
from tests import builders


@pytest.mark.parametrize(("field", "value"), [("step", 2**31), ("step", -1), ("tokens", 2**63), ("tokens", -1)])
def test_a_point_beyond_any_real_run_is_refused(field: str, value: int) -> None:
    points: dict[str, Any] = builders.make_points(n=1).model_dump() | {field: [value]}
    with pytest.raises(ValueError, match=field):
        contract.Points.model_validate(points)


@pytest.mark.parametrize(("field", "value"), [("num_steps", 2**31), ("num_tokens", 2**63), ("num_steps", -1)])
def test_an_end_beyond_any_real_run_is_refused(field: str, value: int) -> None:
    end = {"fence": 1, "outcome": "cancelled", "device_s": 1.0, field: value}
    with pytest.raises(ValueError, match=field):
        contract.RunEnd.model_validate(end)
