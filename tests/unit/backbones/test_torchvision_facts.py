"""What is committed of torchvision's networks is what the survey tool computes."""

from __future__ import annotations

import json

import pytest
from tools.survey_torchvision import facts_of, written

from offshelf.backbones.imagenet import FACTS, NETWORKS, facts
from offshelf.backbones.interface import BACKBONES
from tests.reference.networks import tiered


@pytest.mark.parametrize("name", tiered(n for n in BACKBONES.names() if n in NETWORKS))
def test_the_committed_facts_are_what_the_tool_computes(name: str) -> None:
    assert facts()[name] == json.loads(json.dumps(facts_of(NETWORKS[name])))


def test_the_file_is_as_the_tool_writes_it() -> None:
    assert FACTS.read_text(encoding="utf-8") == written(facts())
    assert list(facts()) == sorted(NETWORKS)
