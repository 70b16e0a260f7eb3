from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from offshelf.engine.host_tier import HostTier, Kept
from offshelf.engine.interface import Output, WeightsInfo
from offshelf.engine.machine import host_memory
from offshelf.engine.torch_engine import TorchEngine
from offshelf.settings import Settings
from tests.reference.pictures import picture
from tests.reference.plain import forward

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

INFO = WeightsInfo("random", "random:0", "d" * 64, "none")


def kept(numbers: int) -> Kept:
    return Kept(INFO, {"w": torch.zeros(numbers)})


def test_those_unused_longest_go_and_what_is_too_large_never_comes() -> None:
    tier = HostTier(100)
    tier.keep(("a", None), kept(10))
    tier.keep(("b", None), kept(10))
    assert tier.get(("a", None)) is not None
    tier.keep(("c", None), kept(10))
    assert [tier.get((name, None)) is not None for name in "abc"] == [True, False, True]
    tier.keep(("d", None), kept(26))
    assert tier.get(("d", None)) is None
    assert tier.get(("a", None)) is not None


def test_nothing_is_kept_with_no_memory_for_it() -> None:
    tier = HostTier(0)
    tier.keep(("a", None), kept(1))
    assert tier.get(("a", None)) is None


def test_a_backbone_returns_from_the_host_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(Settings(device="cpu"))
    engine._host = HostTier(1 << 30)
    batch = np.array(picture(1, 224, 224))[np.newaxis]
    output = Output("logits")
    first = engine.load("squeezenet1_0", "random:7")
    wanted = forward(first, batch, [output])[output]
    first.close()
    monkeypatch.setattr("offshelf.engine.torch_engine.load", None)  # it is not read again
    again = engine.load("squeezenet1_0", "random:7")
    np.testing.assert_array_equal(forward(again, batch, [output])[output], wanted)
    assert again.weights == first.weights
    assert again.nbytes == first.nbytes > 4e6


def test_on_a_cpu_the_host_keeps_nothing_twice() -> None:
    engine = TorchEngine(Settings(device="cpu"))
    engine.load("squeezenet1_0", "random:7")
    assert engine._host.get(("squeezenet1_0", "random:7")) is None


def test_the_memory_is_the_containers_where_it_has_less(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    whole = host_memory(())
    assert whole > 1 << 28
    for text, expected in (("1000000\n", 1_000_000), ("max\n", whole), (f"{whole * 2}", whole)):
        limit.write_text(text)
        assert host_memory((tmp_path / "nothing", limit)) == expected
