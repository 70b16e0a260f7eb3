"""Writes `service/offshelf/engine/goldens.json`: what the self-test compares features with.

    python -m tools.goldens            all backbones
    python -m tools.goldens alexnet    these; the others stay as they are

For each backbone the features of the canary under seeded random weights, and under the card's own
where they come with offshelf, as a projection of 16 numbers. Run it when a backbone is added, and
never to make a failing self-test pass: another number means other features.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Final

from offshelf.backbones.catalogue import Catalogue
from offshelf.engine.canary import canary_pixels
from offshelf.engine.goldens import FILE, TAP, key, project
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.settings import Settings

RANDOM: Final = "random:0"
DIGITS: Final = 7


def measure(engine: TorchEngine, backbone: str, weights: str | None) -> dict[str, object]:
    """The entry of a backbone under these weights."""
    resident = engine.load(backbone, weights)
    tap, _, _, pool = resident.resolve_tap(TAP)
    output = Output(tap, pool)
    (features,) = resident.forward([(canary_pixels(resident.card),)], [output])[output]
    numbers = [round(float(number), DIGITS) for number in project(features)]
    resident.close()
    gc.collect()
    return {"digest": resident.weights.digest, "numbers": numbers}


def main(names: list[str]) -> None:
    """Measure, and write the file with an entry a line."""
    engine, catalogue = TorchEngine(Settings(device="cpu")), Catalogue()
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in names or catalogue.names():
        own = [None] if catalogue.get(name).weights.packaged else []
        for weights in [RANDOM, *own]:
            known[key(name, weights)] = measure(engine, name, weights)
            print(key(name, weights), flush=True)
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(known.items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
