"""Fold batch norm, pack the weights as int8 and write them into the package with their card."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from offshelf.backbones.networks.embednet import INPUT_SIDE, PACKED, unpack

LAYERS = {f"conv{i}": f"bn{i}" for i in range(1, 6)} | {"fc6": "bn6", "fc7": "bn7"}
KEPT_WHOLE = ("conv1",)  # 4,800 weights straight on the pixels: not worth rounding
EPSILON = 1e-5  # torch's default, which training uses


def read_average(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The moving average of the weights in a checkpoint, and the checkpoint's facts."""
    with safe_open(checkpoint, "pt") as file:
        names = [name for name in file.keys() if name.startswith("average.")]  # noqa: SIM118
        tensors = {name.removeprefix("average."): file.get_tensor(name) for name in names}
        return tensors, file.metadata()


def fold(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the inference network: every batch norm worked into its layer."""
    folded = {name: trained[name].double() for name in ("logits.weight", "logits.bias")}
    for layer, norm in LAYERS.items():
        weight = trained[f"{layer}.weight"].double()
        gain = trained[f"{norm}.weight"].double()
        gain = gain / (trained[f"{norm}.running_var"].double() + EPSILON).sqrt()
        folded[f"{layer}.weight"] = weight * gain.view(-1, *[1] * (weight.ndim - 1))
        mean = trained[f"{norm}.running_mean"].double()
        folded[f"{layer}.bias"] = trained[f"{norm}.bias"].double() - mean * gain
    return {name: value.float() for name, value in folded.items()}


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as int8 with a scale per output channel, biases and the first layer as float32."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        layer = name.removesuffix(".weight")
        if layer == name or layer in KEPT_WHOLE:
            packed[name] = value.contiguous()
            continue
        scale = value.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        steps = value / scale.view(-1, *[1] * (value.ndim - 1))
        packed[name] = steps.round().to(torch.int8).contiguous()
        packed[f"{layer}.scale"] = scale
    return packed


def tensors_digest(state: dict[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of each tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].contiguous().numpy()
        digest.update(f"{name} {array.dtype.str} {list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def commit() -> str:
    """The commit of the working tree, and whether these scripts stood in it as they are."""
    here = Path(__file__).parent
    ask = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=here)
    try:
        head = ask(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = ask(["git", "status", "--porcelain", "."]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return f"{head}, with uncommitted changes to the scripts" if changed else head


def provenance(out: Path, facts: dict[str, str], log: Path, data: Path) -> dict[str, Any]:
    """What a reader must know to judge, use or remake the file."""
    epochs = [json.loads(line) for line in log.read_text().splitlines()]
    classes = pd.read_csv(data / "tiny-imagenet-200" / "classes.csv")
    return {
        "name": "embednet",
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "file": {
            "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
            "bytes": out.stat().st_size,
            "tensors_sha256": tensors_digest(unpack(out)),
            "format": "safetensors; int8 weights with a float32 scale per output channel; "
            "conv1 and biases float32; batch norm folded; run in float32",
        },
        "input": {
            "side": INPUT_SIDE,
            "resize": INPUT_SIDE,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear, antialiased",
        },
        "data": {
            "labels": "Tiny-ImageNet-200: 70,000 training images of 64x64 (350 a class, WebP), "
            "5,000 held-out images for validation",
            "teacher": "SqueezeNet 1.0 trained on ILSVRC-2012 (the Deep-Compression release of "
            "S. Han et al.): its last maps on the same training images enlarged to 128 pixels",
            "never_seen": "Caltech-101, Pascal VOC",
        },
        "licence": {
            "code": "Apache-2.0, as the rest of the project",
            "teacher": "BSD, S. Han et al.",
            "terms": "Learned from images of ImageNet, whose terms allow non-commercial research "
            "and education only and give no rights in the images. Whether weights inherit such "
            "terms is unsettled; treat these as for non-commercial research, or retrain them.",
        },
        "training": {
            "recipe": json.loads(facts["recipe"]),
            "steps": int(facts["step"]),
            "epochs_done": epochs[-1]["epoch"],
            "seconds": round(sum(line["seconds"] for line in epochs)),
            "threads": epochs[-1]["threads"],
            "torch": torch.__version__,
            "commit": commit(),
            "code": "training/embedded",
            "log": "embednet.log.jsonl",
        },
        "figures": {},
        "classes": classes[["wnid", "name"]].to_numpy().tolist(),
    }


def main() -> None:
    """Export a training run's moving average."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="train.py's --out")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PACKED)
    parser.add_argument("--whole", type=Path, help="also write the float32 weights here")
    args = parser.parse_args()
    trained, facts = read_average(args.run / "checkpoint.safetensors")
    state = fold(trained)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(pack(state), args.out)
    if args.whole:
        save_file(state, args.whole)
    shutil.copyfile(args.run / "log.jsonl", args.out.with_suffix(".log.jsonl"))
    card = provenance(args.out, facts, args.run / "log.jsonl", args.data)
    args.out.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card["file"] | {"step": facts["step"]}))


if __name__ == "__main__":
    main()
