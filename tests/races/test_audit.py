"""The record is verified while the loop writes it: what is not finished yet is no tampering."""

from __future__ import annotations

from functools import partial

from .town import Town, at_once


def test_whoever_verifies_while_the_loop_goes_on_finds_nothing(town: Town) -> None:
    writing = partial(town.control.do, "keep_writing", for_s=3.0)
    verifying = partial(town.stage.do, "keep_verifying", for_s=3.0)
    num_written, found = at_once([writing, verifying])
    assert num_written > 20
    assert found == []
