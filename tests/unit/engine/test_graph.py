from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from offshelf.engine.graph import Traced


class Writer(nn.Module):
    """Writes in place in every way that torch has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.relu(x)
        y = self.second(y)
        y += x  # x was overwritten by the ReLU
        z = self.relu(y - 0.3)
        z *= 2.0
        z = F.leaky_relu(z - 0.2, 0.1, True)
        z = F.hardtanh(z - 0.1, -1.0, 1.0, inplace=True)
        z = torch.relu_(z + 0.05)
        z = F.relu_(z - 0.05)
        t = z - 0.1
        t.mul_(3.0)  # the result is not even named
        return t.clamp_(min=-0.2)


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc6, self.relu = nn.Linear(8, 8), nn.ReLU(inplace=True)
        self.fc7 = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.fc7(self.relu(self.fc6(x))))
        return y


def test_inplace_relu_does_not_leak_into_pre() -> None:
    # thingsvision#44, captum#156, caffe#3366: a hook saw what the ReLU had left.
    torch.manual_seed(0)
    network, x = Chain(), torch.randn(32, 8)
    want = network.fc6(x)
    traced = Traced(network)
    nodes = [traced.before("relu"), traced.node("relu"), traced.before("relu_1")]
    with torch.inference_mode():
        before, after, before_7 = traced.program(nodes)(x)
    assert torch.equal(before, want)
    assert (before < 0).any()
    assert torch.equal(after, want.relu())
    assert (before_7 < 0).any()


def test_out_of_place_computes_what_in_place_computed() -> None:
    torch.manual_seed(0)
    network, x = Writer(), torch.randn(64, 6)
    with torch.inference_mode():
        want = network(x.clone())
        traced = Traced(network)
        last = next(n for n in traced._graph.nodes if n.op == "output").all_input_nodes[0]
        every = [n for n in traced._graph.nodes if n.op not in ("output", "placeholder")]
        values = dict(zip(every, traced.program(every)(x), strict=True))
    assert torch.equal(values[last], want)
    copies = {id(v): v.clone() for v in values.values()}
    with torch.inference_mode():
        again = traced.program(every)(x)
    assert all(torch.equal(a, copies[id(v)]) for a, v in zip(again, values.values(), strict=True))
    assert len({v.data_ptr() for v in values.values()}) == len(values)


def test_layers_beyond_the_deepest_tap_are_not_computed() -> None:
    traced = Traced(Chain())
    program = traced.program([traced.before("relu")])
    assert [n.target for n in program.graph.nodes if n.op == "call_module"] == ["fc6"]


def test_parts_share_their_parameters() -> None:
    network = Chain()
    traced = Traced(network)
    program = traced.program([traced.node("relu_1")])
    assert program.fc6.weight is network.fc6.weight


def test_dropout_is_off_though_the_network_came_in_training_mode() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.9)).train()
    traced = Traced(network)
    x = torch.randn(4, 8)
    (dropped,) = traced.program([traced.node("1")])(x)
    assert torch.equal(dropped, network[0](x))


class AssignsPart(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[:, 0] = 0
        return x


def test_what_cannot_be_rewritten_is_refused() -> None:
    with pytest.raises((ValueError, TypeError), match="assign"):
        Traced(AssignsPart())


def test_a_relu_writes_in_place_only_where_its_input_is_not_wanted() -> None:
    torch.manual_seed(0)
    network, x = Chain(), torch.randn(4, 8)
    traced = Traced(network)
    fc6, fc7 = traced.before("relu"), traced.before("relu_1")

    def in_place(nodes: list[torch.fx.Node]) -> int:
        return sum(node.target is torch.relu_ for node in traced.program(nodes).graph.nodes)

    relu7 = traced.node("relu_1")
    assert [in_place(nodes) for nodes in ([relu7], [relu7, fc6], [relu7, fc6, fc7])] == [2, 1, 0]
    before = x.clone()
    with torch.inference_mode():
        alone, beside = traced.program([relu7])(x)[0], traced.program([relu7, fc6, fc7])(x)[0]
    assert torch.equal(alone, beside)
    assert torch.equal(x, before)


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x, inplace=True)


@pytest.mark.parametrize(
    ("activation", "writes"),
    [
        (nn.ReLU(), True),
        (nn.ReLU6(inplace=True), True),
        (nn.SiLU(), True),
        (nn.Hardswish(inplace=True), True),
        (Functional(), True),
        (nn.GELU(), False),
        (nn.LeakyReLU(inplace=True), False),
        (nn.Sigmoid(), False),
    ],
)
def test_every_activation_leaves_its_input_alone_where_that_is_wanted(
    activation: nn.Module, writes: bool
) -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(8, 8), activation, nn.Linear(8, 8)), torch.randn(16, 8)
    with torch.inference_mode():
        want = network[0](x)
        traced = Traced(network)
        linear = traced.node("0")
        (after,) = linear.users
        name = traced.name(after)
        assert traced.is_activation(name)
        before, both = traced.program([linear, after])(x)
        alone_program = traced.program([after])
        (alone,) = alone_program(x)
    assert torch.equal(before, want)
    assert torch.equal(both, alone)
    assert not torch.equal(before, both)
    in_place = [n for n in alone_program.graph.nodes if n.op == "call_function"]
    assert bool(in_place) == writes


def test_a_network_runs_while_another_thread_traces_one() -> None:
    traced = Traced(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
    program = traced.program([traced.node("1")])
    inside, go_on = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside.set()
            assert go_on.wait(60)
            return x + 1

    x = torch.ones(1, 3, 2, 2)
    with ThreadPoolExecutor(1) as pool:
        try:
            tracing = pool.submit(Traced, Slow())
            assert inside.wait(60)
            (found,) = program(x)
        finally:
            go_on.set()
        assert tracing.result(timeout=60).names() == ["x", "add"]
    assert torch.equal(found, program(x)[0])
