"""dana asks from a shell what there is to train on: ``manage.py dataset``."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from tests import builders

pytestmark = pytest.mark.django_db


def dataset(*words: str) -> str:
    out = io.StringIO()
    call_command("dataset", *words, stdout=out)
    return out.getvalue()


def test_dana_lists_datasets_and_looks_at_one() -> None:
    assert "No worker has one yet." in dataset("list")
    campaign = builders.make_campaign()
    builders.make_manifest(builders.make_worker())
    builders.make_worker(name="gpu-2", datasets={"stdlib": "e" * 64})
    first, second = dataset("list").strip().splitlines()
    assert first.split() == "stdlib dddddddddddd 9,660,771 tokens box (2 different ones)".split()
    assert second.split() == "stdlib eeeeeeeeeeee not described gpu-2 (2 different ones)".split()
    shown = dataset("show", "stdlib")
    assert "405,399 tokens, 405,399 bytes of text in 35 documents" in shown
    assert "0.7 % of val’s runs of 13 words stand in the training text, too (72 of 9,700)." in shown
    assert "no worker has described it yet" in shown
    described, other = json.loads(dataset("show", "stdlib", "--json"))
    assert described["summary"]["splits"]["val"]["num_tokens"] == 405_399
    assert (described["workers"], described["campaigns"], described["described_by"]) == (
        ["box"],
        [campaign.slug],
        "box",
    )
    assert (other["summary"], other["described_by"], other["num_manifests_of_this_name"]) == (None, None, 2)
    assert len(json.loads(dataset("list", "--json"))) == 2
    with pytest.raises(CommandError, match="there is no dataset 'pile'; there are: stdlib"):
        dataset("show", "pile")
