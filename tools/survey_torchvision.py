"""Writes `backbones/torchvision.json`: what torchvision publishes, and what its graphs come to.

Run it after a change to a family's taps, or for another torchvision:

    PYTHONPATH=service python tools/survey_torchvision.py

It needs the `worker` extra, takes half a minute, and downloads nothing: the networks are traced
without their weights. `tests/unit/backbones/test_torchvision_facts.py` holds the file to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torchvision

from offshelf.backbones import imagenet
from offshelf.backbones.imagenet import FACTS, NETWORKS, Network
from offshelf.backbones.interface import BACKBONES
from offshelf.engine.survey import Survey


class _Everything(Mapping[str, Any]):
    """Stands for the survey of any node while the families declare themselves."""

    def __getitem__(self, key: str) -> Any:
        return {"shape": [2, 1, 1], "nbytes": 0, "nodes": self}

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Unsurveyed(Mapping[str, Any]):
    """Facts of any network with its weights alone, so that the families' modules can be loaded."""

    def __getitem__(self, name: str) -> Any:
        return {"weights": weights_of(name), "sizes": _Everything()}

    def __iter__(self) -> Iterator[str]:
        return iter(torchvision.models.list_models(module=torchvision.models))

    def __len__(self) -> int:
        return len(list(iter(self)))


def weights_of(name: str) -> list[dict[str, Any]]:
    """The published weights of a network that have a classifier, as torchvision lists them."""
    members = torchvision.models.get_model_weights(name)
    return [_weights(member) for member in members if member.meta["categories"]]


def _weights(member: Any) -> dict[str, Any]:
    preset = member.transforms()
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    return {
        "name": member.name,
        "file": member.url.rsplit("/", 1)[-1],
        "resize": resize,
        "crop": crop,
        "interpolation": preset.interpolation.value,
        "mean": list(preset.mean),
        "std": list(preset.std),
        "classes": len(member.meta["categories"]),
        "top1": member.meta["_metrics"]["ImageNet-1K"]["acc@1"],
    }


def facts_of(network: Network) -> dict[str, Any]:
    """All that the file holds of a network."""
    weights = weights_of(network.name)
    crops = sorted({w["crop"] for w in weights})
    return {"weights": weights, "sizes": {str(crop): _size(network, crop) for crop in crops}}


def _size(network: Network, crop: int) -> dict[str, Any]:
    survey = Survey(network.build(crop), crop)
    nodes = {node: _node(survey, node) for node in network.nodes()}
    return {"nbytes": survey.nbytes, "nodes": nodes}


def _node(survey: Survey, node: str) -> dict[str, Any]:
    """Without what is not defined."""
    found = survey[node]
    if found.problem:
        raise ValueError(f"{node} is no tap: {found.problem}")
    told = {
        "shape": list(found.shape),
        "stride": found.stride,
        "receptive_field": found.receptive_field,
        "offset": found.offset,
        "layout": None if found.layout == "plain" else found.layout,
        "pre": survey.traced.is_activation(node) or None,
    }
    return {key: value for key, value in told.items() if value is not None}


def written(facts: Mapping[str, Any]) -> str:
    """The facts as JSON, sorted, with a line for each set of weights and each node."""
    lines = [f"{json.dumps(name)}: {_network(facts[name])}" for name in sorted(facts)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _network(known: Mapping[str, Any]) -> str:
    weights = ",\n".join(f"  {json.dumps(w)}" for w in known["weights"])
    sizes = ",\n".join(_size_lines(crop, size) for crop, size in known["sizes"].items())
    return f'{{"weights": [\n{weights}\n ],\n "sizes": {{\n{sizes}\n}}}}'


def _size_lines(crop: str, size: Mapping[str, Any]) -> str:
    nodes = ",\n".join(f"  {json.dumps(n)}: {json.dumps(s)}" for n, s in size["nodes"].items())
    return f' "{crop}": {{"nbytes": {size["nbytes"]}, "nodes": {{\n{nodes}}}}}'


def main() -> None:
    """Survey every network that a family declares, and write the file."""
    # The cards are made of the file that is to be written: load the families without it.
    imagenet.facts = _Unsurveyed  # type: ignore[assignment]
    BACKBONES.names()
    found = {}
    for name, network in sorted(NETWORKS.items()):
        found[name] = facts_of(network)
        print(name, *found[name]["sizes"])
    FACTS.write_text(written(found), encoding="utf-8")


if __name__ == "__main__":
    main()
