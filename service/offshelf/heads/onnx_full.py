"""Makes a head with its network and preprocessing into one ONNX file, and tries it out.

Run as `python -m offshelf.heads.onnx_full <workdir> <parent>`, so that it can be killed, as
`heads.fit` is. It reads `head.safetensors` (an exported head), `settings.json`, and in `store` the
whitenings that the head's normalisation names; it writes `model.onnx` and, last, `report.json`.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import onnx
from onnx import helper
from PIL import Image

from offshelf.core.batching import Lane
from offshelf.engine.extractor import Extractor
from offshelf.engine.onnx.features import FEATURES, INPUTS, FeatureNetwork, exported
from offshelf.engine.onnx.nodes import Nodes, tensor
from offshelf.engine.onnx.views import add_view
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import TooLarge, WorkerError
from offshelf.heads import whitening
from offshelf.heads.exports.safetensors_file import unpack
from offshelf.heads.fit import run_child
from offshelf.heads.model import params_of
from offshelf.heads.onnx_scores import IMAGES, SCORES, add_head, metadata_of
from offshelf.settings import Settings
from offshelf.store.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from offshelf.engine.extractor import Plan
    from offshelf.engine.torch_resident import TorchResident
    from offshelf.heads.model import LinearHead

# One file of protobuf ends at 2 GB.
MAX_WEIGHT_BYTES: Final = 1_900_000_000
INPUT: Final = "images"
TOLERANCE: Final = 1e-4  # of scores, or of the largest where that is more than 1
TRIED_SIZES: Final = ((301, 227), (130, 411))  # width and height: landscape, and a tall one
ANSWER_S: Final = 300.0


def export_in(workdir: Path) -> None:
    """Export the head in a working directory."""
    head = unpack((workdir / "head.safetensors").read_bytes())
    settings = Settings.model_validate_json((workdir / "settings.json").read_text())
    store = ObjectStore.open((workdir / "store").as_uri())
    on_cpu = settings.model_copy(update={"device": "cpu"})
    extractor = Extractor(TorchEngine(on_cpu), on_cpu, whitenings=partial(whitening.load, store))
    try:
        with extractor.resolve(params_of(head.card)) as plan:
            made = assembled(head, plan)
            (workdir / "model.onnx").write_bytes(made.SerializeToString(deterministic=True))
            deviation = tried(made, extractor, plan, head)
    finally:
        extractor.close(ANSWER_S)
    report = {"deviation": deviation, "versions": versions()}
    (workdir / "report.json").write_text(json.dumps(report))


def assembled(head: LinearHead, plan: Plan) -> ModelProto:
    """One model from `images` (N, H, W, 3) uint8 RGB to what `heads.onnx_scores` gives.

    Raises FingerprintMismatch where the plan's features are not the head's, TooLarge for weights
    that one file cannot hold, and InvalidParameter for what has no ONNX form.
    """
    ((tap, spec),) = plan.specs.items()
    head.check(spec)
    resident = cast("TorchResident", plan.resident)
    _check_size(resident)
    pre = resident.card.preprocessing
    before, after = Nodes("view"), Nodes("head")
    before.op("Identity", add_view(before, INPUT, plan.view, pre), output=INPUTS)
    network = FeatureNetwork(resident, plan.outputs[tap])
    made = exported(network, plan.view.inputs, pre.crop)
    outputs = add_head(after, FEATURES, head)
    graph = made.graph
    inner = list(graph.node)
    for old, new in (
        (graph.node, [*before.nodes, *inner, *after.nodes]),
        (graph.input, [tensor(INPUT, np.uint8, [IMAGES, "height", "width", 3])]),
        (graph.output, outputs),
    ):
        del old[:]
        old.extend(new)
    graph.initializer.extend([*before.constants, *after.constants])
    graph.name = made.producer_name = "offshelf"
    helper.set_model_props(made, metadata_of(head))
    onnx.checker.check_model(made)
    return made


def tried(made: ModelProto, extractor: Extractor, plan: Plan, head: LinearHead) -> float:
    """The largest difference of its scores from the service's, on pictures of noise.

    WorkerError where that is beyond `TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    differences = []
    for picture in _pictures():
        scores = session.run([SCORES], {INPUT: picture[np.newaxis]})[0]
        expected = _served(extractor, plan, head, picture)
        scale = max(1.0, float(np.abs(expected).max()))
        differences.append(float(np.abs(scores - expected).max()))
        if differences[-1] > TOLERANCE * scale:
            raise WorkerError(
                f"the exported file of head {head.card.id} gives scores that differ by "
                f"{differences[-1]:.2e} from the service's, of up to {scale:.2e}"
            )
    return max(differences)


def versions() -> dict[str, str]:
    """What a file was made with: the packages that may change it."""
    from offshelf import __version__

    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "pillow", "numpy")
    return {"offshelf": __version__, **{p: importlib.metadata.version(p) for p in packages}}


def _served(
    extractor: Extractor, plan: Plan, head: LinearHead, picture: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Scores (1, K) of a picture by way of the worker's extractor."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    (features,) = extractor.submit(file.getvalue(), plan, Lane.BULK).result(ANSWER_S).values()
    return head.scores(features[np.newaxis])


def _pictures() -> Iterator[NDArray[np.uint8]]:
    """Coarse and fine noise together, so that every part of a network has something to do."""
    rng = np.random.default_rng(0)
    for width, height in TRIED_SIZES:
        coarse = rng.integers(0, 256, (9, 9, 3), np.uint8)
        large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        fine = rng.integers(-20, 21, (height, width, 3))
        yield np.clip(np.asarray(large, np.int64) + fine, 0, 255).astype(np.uint8)


def _check_size(resident: TorchResident) -> None:
    if resident.nbytes > MAX_WEIGHT_BYTES:
        raise TooLarge(
            f"the weights of {resident.card.name} take {resident.nbytes:,} bytes, and one ONNX "
            f"file holds up to {MAX_WEIGHT_BYTES:,}; the formats safetensors, python and onnx hold "
            "the head alone"
        )


if __name__ == "__main__":
    sys.exit(run_child(export_in, sys.argv[1:]))
