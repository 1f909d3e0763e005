"""Charlie's code is let loose inside, at every level, as root and as an ordinary account: it gets hold of nothing."""

from __future__ import annotations

import pytest

from tests.sandbox import trials
from tests.sandbox.everything import ALL


@pytest.mark.parametrize("account", trials.ACCOUNTS)
@pytest.mark.parametrize("level", trials.LEVELS)
@pytest.mark.parametrize("attack", ALL)
def test_charlies_attack_is_denied(attack: str, level: str, account: str) -> None:
    came = trials.trial(level, account)[attack]
    assert came.startswith("denied"), came


@pytest.mark.parametrize("attack", ALL)
def test_outside_of_a_sandbox_the_same_attack_works(attack: str) -> None:
    """The negative control, in private namespaces: an attack that fails anywhere would prove nothing."""
    if attack in trials.ONLY_ROOT_CAN and "root" not in trials.ACCOUNTS:
        assert trials.trial("control", "ordinary")[attack].startswith("denied"), "the file is root's"
        return
    came = trials.trial("control", trials.ACCOUNTS[0])[attack]
    assert came.startswith("GOT"), came
