from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.routing import ANY, Station, Takes, route, route_of, takes

NAMES = ["alexnet", "vgg16", "resnet50", "squeezenet1_0"]
some = st.frozensets(st.sampled_from(NAMES))


@st.composite
def stations(draw: st.DrawFn) -> Station:
    serves = draw(some)
    resident = frozenset(name for name in serves if draw(st.booleans()))
    return Station(draw(st.sampled_from(NAMES)), serves, resident=resident)


def station(serves: str, resident: str = "", default: str = "alexnet") -> Station:
    return Station(default, frozenset(serves.split()), resident=frozenset(resident.split()))


def test_a_request_goes_where_somebody_can_load_it() -> None:
    workers = [station("alexnet"), station("alexnet vgg16", default="vgg16")]
    assert route("vgg16", None, workers) == "vgg16"
    assert route("resnet50", None, workers) == ANY
    assert route("no such name", None, workers) == ANY
    assert route(None, None, workers) == "alexnet"
    assert route(None, None, [station("", default="vgg16"), workers[0]]) == "alexnet"
    assert route(3, None, workers) == route([], None, []) == ANY


def test_a_worker_leaves_to_others_what_they_have_and_it_has_not() -> None:
    mine = station("alexnet vgg16 resnet50", "alexnet")
    assert takes(mine, []) == Takes((ANY, "alexnet", "resnet50", "vgg16"))
    others = [station("vgg16 alexnet", "vgg16 alexnet"), station("squeezenet1_0", "squeezenet1_0")]
    assert takes(mine, others) == Takes((ANY, "alexnet", "resnet50"), ("vgg16",))


def test_other_weights_have_a_route_of_their_own_and_random_ones_have_none() -> None:
    workers = [station("vgg16 resnet50 resnet50@IMAGENET1K_V2")]
    assert route("resnet50", "IMAGENET1K_V2", workers) == "resnet50@IMAGENET1K_V2"
    assert route("vgg16", "IMAGENET1K_V2", workers) == ANY
    assert route("vgg16", "random:3", workers) == route("vgg16", None, workers) == "vgg16"
    assert route_of("vgg16", ["no", "text"]) == "vgg16"


@given(st.lists(stations(), min_size=1, max_size=4), st.sampled_from([*NAMES, None, "nosuch"]))
def test_every_route_is_waited_on_by_somebody_who_can_serve_it(
    workers: list[Station], backbone: str | None
) -> None:
    name = route(backbone, None, workers)
    waiting = [
        one
        for place, one in enumerate(workers)
        if name in takes(one, workers[:place] + workers[place + 1 :]).own
    ]
    assert waiting
    assert name == ANY or all(name in one.serves for one in waiting)
    # Where some have it on the device, only those wait for it.
    if any(name in one.resident for one in workers):
        assert all(name in one.resident for one in waiting)
