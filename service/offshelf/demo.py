"""`offshelf demo`: the main job on real images, told step by step; read it to learn the SDK.

It starts a service of its own, uploads scikit-learn's 1,797 handwritten digits as image files,
has their features extracted at four taps in one pass, trains linear heads on each through the
queue, and prints their accuracy beside that of the same models on raw pixels. Then it looks at
the features of two photographs and predicts digits that were not learned from.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.commands import digits as real_digits
from offshelf.commands.output import percent, table
from offshelf.commands.own_service import own_service
from offshelf_client import Client, RandomSplit

if TYPE_CHECKING:
    from offshelf.commands.digits import Digits
    from offshelf_client import Backbone, Dataset, Head, HeadKind, Job

TAPS: Final = ("fc6:pre", "fc6", "fc7:pre", "fc7")
KINDS: Final[tuple[HeadKind, ...]] = ("svm", "logreg")
SPLIT: Final = RandomSplit(train_per_class=40, seed=0)
C: Final = 10.0
SHOWN: Final = 8  # held-out digits that are read one by one
JOB_S: Final = 1800.0


def run(data_dir: Path, backbone: str | None = None) -> None:
    """Run the demo; what it makes is kept in `data_dir`, so that the next run is faster."""
    started_s = time.monotonic()
    data_dir = data_dir.absolute()
    digits = real_digits.write(data_dir / "digits")
    say("Starting a service (queue, worker, API)")
    with own_service(data_dir / "service", data_dir / "service.log") as url, Client(url) as client:
        print(f"It is ready at {url}; its log is {data_dir / 'service.log'}")
        chosen = client.backbone(backbone) if backbone else default_of(client)
        weights = None if chosen.has_weights else "random:0"
        if weights:
            warn_of_random_weights(chosen)
        dataset = client.datasets.upload(data_dir / "digits", name="digits", progress=True)
        print(f"Uploaded {dataset.total} digits in {len(dataset.classes)} classes")
        extract(client, dataset, chosen, weights)
        heads = train(client, dataset, chosen, weights)
        compare(heads, digits)
        look_at_photographs(client, chosen, weights)
        read_digits(heads["fc7", "logreg"], digits)
    say(f"The service has stopped cleanly; everything took {time.monotonic() - started_s:.0f} s")
    if weights:
        warn_of_random_weights(chosen)


def default_of(client: Client) -> Backbone:
    """The backbone that answers where none is named."""
    found = client.backbones()
    return next((backbone for backbone in found if backbone.default), found[0])


def extract(client: Client, dataset: Dataset, backbone: Backbone, weights: str | None) -> None:
    """Have the service extract and keep all taps in one pass over the images."""
    say(f"Features of all digits: {backbone.name}, {', '.join(TAPS)}, in one pass")
    started_s = time.monotonic()
    job = client.feature_sets.create(
        dataset, backbone=backbone.name, taps=TAPS, weights=weights, normalize="l2"
    )
    job.wait(progress=True, timeout=JOB_S)
    kept = client.feature_sets.get(job.result["feature_set"])
    took_s = time.monotonic() - started_s
    print(f"{len(kept.kept)} of {kept.total} images in {took_s:.1f} s (a later run reuses them)")


def train(
    client: Client, dataset: Dataset, backbone: Backbone, weights: str | None
) -> dict[tuple[str, str], Head]:
    """Queue a head for each tap and kind, then wait for all of them."""
    say(f"Linear SVM and logistic regression on each tap, {SPLIT.train_per_class} images a class")
    started_s = time.monotonic()
    jobs: dict[tuple[str, str], Job] = {
        (tap, kind): client.heads.train(
            dataset,
            backbone=backbone.name,
            tap=tap,
            normalize="l2",  # as Razavian et al. and VGG have it; it also makes fitting fast
            kind=kind,
            C=C,
            weights=weights,
            split=SPLIT,
        )
        for tap in TAPS
        for kind in KINDS
    }
    heads = {which: job.wait(timeout=JOB_S).head() for which, job in jobs.items()}
    print(f"Trained {len(heads)} heads through the queue in {time.monotonic() - started_s:.1f} s")
    return heads


def compare(heads: dict[tuple[str, str], Head], digits: Digits) -> None:
    """Print the accuracy on the digits that did not train, beside raw pixels."""
    say("Accuracy on the digits that were not learned from")
    raw = [real_digits.accuracy_of_pixels(digits, SPLIT, kind) for kind in KINDS]
    rows = [["raw pixels", *map(percent, raw)]]
    for tap in TAPS:
        reports = [heads[tap, kind].report.test for kind in KINDS]
        rows.append([tap, *(percent(report.accuracy) if report else "-" for report in reports)])
    print(table(("features", "linear SVM", "logistic regression"), rows))


def look_at_photographs(client: Client, backbone: Backbone, weights: str | None) -> None:
    """Show what the features of scikit-learn's two photographs are like."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images()
    names = [Path(name).name for name in photographs.filenames]
    say(f"Features of two photographs, {' and '.join(names)}")
    taps = [*TAPS, "logits"]
    features = client.features(
        photographs.images, backbone=backbone.name, taps=taps, weights=weights
    )
    rows = [
        (
            tap,
            "x".join(map(str, array.shape)),
            percent(float(np.mean(array == 0))),
            features.fingerprints[tap],
        )
        for tap, array in features.items()
    ]
    print(table(("tap", "shape", "zeros", "fingerprint"), rows))
    if weights is None:
        for name, logits in zip(names, features["logits"], strict=True):
            best = [f"{i} ({logits[i]:.1f})" for i in np.argsort(-logits)[:3]]
            print(f"{name}: best classes (logits) {', '.join(best)}")


def read_digits(head: Head, digits: Digits) -> None:
    """Ask a head for digits that it did not learn from."""
    _, test = real_digits.split(digits, SPLIT)
    held_out = test[:: len(test) // SHOWN][:SHOWN]
    say(f"Head {head.id} reads {len(held_out)} digits it has never seen")
    predictions = head.predict([digits.files[i] for i in held_out])
    for truth, prediction in zip(digits.labels[held_out], predictions, strict=True):
        label, score = prediction.top(1)[0]
        verdict = "right" if label == str(truth) else f"wrong: it is {truth}"
        print(f"{prediction.name}: {label} ({percent(score)}), {verdict}")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def warn_of_random_weights(backbone: Backbone) -> None:
    """Say loudly that nothing here was ever learned."""
    lines = (
        f"RANDOM WEIGHTS: this machine has no trained weights for {backbone.name}.",
        "Everything works, but the features come from a network that never saw an image.",
        "`offshelf weights list` says where weights are looked for (OFFSHELF_WEIGHTS_DIR).",
    )
    width = max(map(len, lines))
    box = "\n".join(f"# {line.ljust(width)} #" for line in lines)
    print(f"\n{'#' * (width + 4)}\n{box}\n{'#' * (width + 4)}", flush=True)
