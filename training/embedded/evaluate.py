"""Judge the packed file on images it was trained near (Tiny-ImageNet) and never saw (the rest)."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cache import decode_split, normalise
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import alexnet

from offshelf.backbones.networks.embednet import INPUT_SIDE, PACKED, embednet, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Matrix = NDArray[np.float32]
TAPS = {
    "pool5": "pool5", "fc6:pre": "fc6", "fc6": "relu6", "fc7:pre": "fc7", "fc7": "relu7",
}  # fmt: skip
TRAINED_A_CLASS = 15
SPLITS = 3
FEWEST_POSITIVES = 5


def network(path: Path | None) -> nn.Module:
    """The network with the weights of a file (packed or float32), or random ones (seed 0)."""
    torch.manual_seed(0)
    net = embednet().eval()
    if path is not None:
        net.load_state_dict(unpack(path))
    return net


def warped(paths: list[Path], side: int) -> Tensor:
    """The images with both sides resized (antialiased bilinear), as bytes, N x 3 x side x side."""
    pixels = np.empty((len(paths), 3, side, side), np.uint8)
    for row, path in enumerate(paths):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        pixels[row] = np.asarray(small).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


@torch.inference_mode()
def features(net: nn.Module, pixels: Tensor) -> dict[str, Matrix]:
    """L2-normalised features of every tap of `TAPS`."""
    kept: dict[str, list[Tensor]] = {tap: [] for tap in TAPS}
    hooks = [
        net.get_submodule(node).register_forward_hook(
            lambda _module, _inputs, out, tap=tap: kept[tap].append(out.flatten(1).clone())
        )
        for tap, node in TAPS.items()
    ]
    for batch in pixels.split(128):
        net(normalise(batch))
    for hook in hooks:
        hook.remove()
    return {tap: functional.normalize(torch.cat(parts)).numpy() for tap, parts in kept.items()}


def all_features(path: Path, pixels: Tensor) -> Iterator[tuple[str, Matrix]]:
    """The file's taps, those of random weights, and the pixels themselves."""
    yield from features(network(path), pixels).items()
    for tap, rows in features(network(None), pixels).items():
        yield f"random {tap}", rows
    yield "pixels", functional.normalize(pixels.float().flatten(1) / 255 - 0.5).numpy()


def svm() -> LinearSVC:
    """The linear machine of both protocols."""
    return LinearSVC(C=1.0, random_state=0)


@torch.inference_mode()
def tiny_top1(net: nn.Module, data: Path, cache: Path) -> float:
    """Accuracy on the 5,000 validation images, resized from 64 pixels to the input size."""
    pixels, labels = decode_split(data, "val", cache)
    right = 0
    for start in range(0, len(labels), 250):
        batch = torch.from_numpy(np.array(pixels[start : start + 250])).float()
        batch = functional.interpolate(batch, size=INPUT_SIDE, mode="bilinear", align_corners=False)
        right += int((net(normalise(batch)).argmax(1).numpy() == labels[start : start + 250]).sum())
    return right / len(labels)


def caltech_files(data: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """Every image of caltech101-40 in order of class and name, and its class."""
    folders = sorted(p for p in (data / "caltech101-40").iterdir() if p.is_dir())
    groups = [sorted(folder.glob("*.jpg")) for folder in folders]
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return [path for group in groups for path in group], labels


def caltech_split(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which images train: 15 of each class, drawn as the data's README says."""
    rng = np.random.RandomState(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        chosen[own[rng.permutation(len(own))[:TRAINED_A_CLASS]]] = True
    return chosen


def caltech_score(rows: Matrix, labels: NDArray[np.int64]) -> dict[str, float]:
    """Mean per-class accuracy, in percent, over three splits."""
    scores = []
    for seed in range(SPLITS):
        train = caltech_split(labels, seed)
        right = svm().fit(rows[train], labels[train]).predict(rows[~train]) == labels[~train]
        classes = np.unique(labels)
        scores.append(100 * np.mean([right[labels[~train] == c].mean() for c in classes]))
    return {"mean": round(float(np.mean(scores)), 1), "std": round(float(np.std(scores)), 1)}


def voc_files(data: Path) -> tuple[list[Path], int]:
    """The images of trainval, then those of test, and how many are trainval."""
    root = data / "voc2012-mini" / "VOCdevkit" / "VOC2012"
    names = {
        part: (root / "ImageSets" / "Main" / f"{part}.txt").read_text().split()
        for part in ("trainval", "test")
    }
    paths = [root / "JPEGImages" / f"{name}.jpg" for name in names["trainval"] + names["test"]]
    return paths, len(names["trainval"])


def voc_labels(data: Path) -> dict[str, NDArray[np.int64]]:
    """Per class, 1, 0 (difficult: not counted) or -1 for the files of `voc_files`."""
    main = data / "voc2012-mini" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    classes = sorted(p.stem.removesuffix("_test") for p in main.glob("*_test.txt"))
    return {
        name: np.array(
            [
                int(line.split()[1])
                for part in ("trainval", "test")
                for line in (main / f"{name}_{part}.txt").read_text().splitlines()
            ]
        )
        for name in classes
    }


def average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Area under the monotone precision-recall curve (all points, as VOC since 2010)."""
    hits = truth[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hits].sum() / hits.sum())


def voc_score(rows: Matrix, labels: dict[str, NDArray[np.int64]], trainval: int) -> float:
    """Mean average precision, in percent, over classes with enough positives in both parts."""
    train = np.arange(len(rows)) < trainval
    found = []
    for truth in labels.values():
        fit, held = train & (truth != 0), ~train & (truth != 0)
        if min((truth[fit] > 0).sum(), (truth[held] > 0).sum()) < FEWEST_POSITIVES:
            continue
        scores = svm().fit(rows[fit], truth[fit] > 0).decision_function(rows[held])
        found.append(average_precision(scores, truth[held] > 0))
    return round(100 * float(np.mean(found)), 1)


@torch.inference_mode()
def speed(rounds: int = 30) -> dict[str, float]:
    """Milliseconds for a batch of 16, and how many times faster than AlexNet at 224 pixels."""
    nets: dict[str, Callable[[], Tensor]] = {}
    for name, net, side in (
        ("embednet", embednet().eval(), INPUT_SIDE),
        ("alexnet", alexnet(weights=None).eval(), 224),
    ):
        batch = torch.randn(16, 3, side, side)
        nets[name] = lambda net=net, batch=batch: net(batch)
    seconds: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(rounds):  # in turn, so that a busy moment falls on both
        for name, forward in nets.items():
            forward()
            began = time.perf_counter()
            forward()
            seconds[name].append(time.perf_counter() - began)
    middle = {f"{name}_ms": 1000 * statistics.median(s) for name, s in seconds.items()}
    middle["times_faster"] = middle["alexnet_ms"] / middle["embednet_ms"]
    return {name: round(value, 2) for name, value in middle.items()}


def judge(args: argparse.Namespace) -> dict[str, Any]:
    """Every figure of the card."""
    net = network(args.file)
    found: dict[str, Any] = {"tiny_imagenet_val_top1": tiny_top1(net, args.data, args.cache)}
    if args.whole:
        net.load_state_dict(load_file(args.whole))
        found["tiny_imagenet_val_top1_float32"] = tiny_top1(net, args.data, args.cache)
    files, labels = caltech_files(args.data)
    pixels = warped(files, INPUT_SIDE)
    found["caltech101_40_svm_accuracy"] = {
        name: caltech_score(rows, labels) for name, rows in all_features(args.file, pixels)
    }
    files, trainval = voc_files(args.data)
    truth, pixels = voc_labels(args.data), warped(files, INPUT_SIDE)
    found["voc2012_mini_svm_map"] = {
        name: voc_score(rows, truth, trainval) for name, rows in all_features(args.file, pixels)
    }
    return found | {"speed_batch_of_16": speed()}


def main() -> None:
    """Print the figures, and write them into the card that lies beside the file."""
    root = Path(os.environ.get("OFFSHELF_TEST_DATA", "../shared"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=root / "data")
    parser.add_argument("--cache", type=Path, required=True, help="decoded images")
    parser.add_argument("--file", type=Path, default=PACKED)
    parser.add_argument("--whole", type=Path, help="export.py's float32 weights, to compare")
    parser.add_argument("--card", action="store_true", help="write the figures into the card")
    args = parser.parse_args()
    figures = judge(args)
    print(json.dumps(figures, indent=1))
    if args.card:
        path = args.file.with_suffix(".json")
        card = json.loads(path.read_text()) | {"figures": figures}
        path.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
