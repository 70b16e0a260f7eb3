"""Published data sets over HTTP: upload by a protocol, features, a head, the paper's rows.

Each is a small copy in the official layout, whose images show what their labels say (a colour a
class), so that a head that was given the wrong rows, labels or regions would not get them right.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from offshelf.cli import app
from offshelf.datasets.protocols import voc, voc_action
from offshelf_client import ChooseC, Client, InvalidParameterError, JobFailedError, ProtocolSplit
from tests.serving import Service
from tests.unit.datasets.protocols import (
    test_caltech101,
    test_cub200,
    test_mit67,
    test_sun397,
    test_voc,
    test_voc_action,
)
from tests.unit.datasets.protocols.copies import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offshelf_client import Dataset, Head

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

RANDOM = np.random.default_rng(0)


def colour(number: int) -> np.ndarray:
    """A colour of its own for each of 27 classes."""
    return np.array([number % 3, number // 3 % 3, number // 9 % 3]) * 100 + 20


def picture(colours: list[np.ndarray], width: int = 48) -> bytes:
    """Vertical stripes of these colours, as many as there are, with some noise."""
    stripes = np.repeat(colours, -(-width // len(colours)), axis=0)[:width]
    pixels = np.broadcast_to(stripes, (40, width, 3)) + RANDOM.integers(0, 20, (40, width, 3))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def paint(name: str, root: Path) -> None:
    """Give every image of a single-label copy the colour of its class."""
    found = protocol(name)
    data = found.read(root)
    for item in data.items:
        (found.locate(root) / item.path).write_bytes(picture([colour(item.labels[0])]))


def trained(client: Client, dataset: Dataset, number: int = 1, **more: Any) -> Head:
    """A head of embednet's features of a split."""
    settings = {"tap": "pool5", "view": "warp", "normalize": "l2", **more}
    job = client.heads.train(dataset, split=ProtocolSplit(number), **settings)
    return job.wait(timeout=120).head()


def figures(head: Head) -> dict[str, float]:
    report = head.report.protocol
    assert report is not None
    assert report.unscored == 0
    evaluation = head.evaluation()
    for metric, value in report.figures.items():
        assert getattr(evaluation, metric) == pytest.approx(value)
    assert evaluation.images == report.tested
    return report.figures


def sources(head: Head) -> set[str]:
    assert head.report.protocol is not None
    return {row.source for row in head.report.protocol.table}


@pytest.fixture(scope="module")
def caltech(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("caltech")
    test_caltech101.copy(root, {test_caltech101.BACKGROUND: 33, "ant": 32, "bass": 36})
    paint("caltech101-decaf", root)
    return client.datasets.upload(root, protocol="caltech101-decaf")


def test_caltech101_as_decaf_splits_it(client: Client, caltech: Dataset) -> None:
    assert caltech.protocol is not None
    assert [(s.train, s.val, s.test) for s in caltech.protocol.splits] == [(75, 15, 11)] * 5
    assert caltech.counts == {test_caltech101.BACKGROUND: 33, "ant": 32, "bass": 36}
    for number in (1, 5):
        head = trained(client, caltech, number)
        assert head.report.protocol is not None
        assert (head.report.protocol.trained, head.report.protocol.tested) == (90, 11)
        assert figures(head) == {"mean_class_accuracy": 1.0, "accuracy": 1.0}
        assert "Donahue et al. 2013, arXiv:1310.1531v1" in sources(head)
        first, second = head.report.protocol.table[:2]
        assert (first.method, first.value) == ("embednet pool5, svm", 100.0)
        assert (second.method, second.value) == ("DeCAF6, SVM with dropout", 86.91)


def test_mit67_by_its_official_lists(client: Client, tmp_path: Path) -> None:
    train = [f"{scene}/train {i}.jpg" for scene in ("airport_inside", "bakery") for i in range(6)]
    test = [f"{scene}/test.jpg" for scene in ("airport_inside", "bakery")]
    test_mit67.copy(tmp_path, train, test)
    paint("mit67", tmp_path)
    (tmp_path / "Images" / "bakery" / "in no list.jpg").write_bytes(b"and no image")
    dataset = client.datasets.upload(tmp_path, protocol="mit67")
    assert dataset.total == 14
    head = trained(client, dataset, kind="logreg")
    assert figures(head)["mean_class_accuracy"] == 1.0
    assert "Razavian et al. 2014, CVPR Workshops" in sources(head)


def test_reproduce_prints_the_paper_s_table_with_our_row(
    client: Client, service: Service, tmp_path: Path
) -> None:
    test_caltech101.copy(tmp_path, {"ant": 17, "bass": 18, "crab": 17})
    paint("caltech101-15", tmp_path)
    command = ["reproduce", "caltech101-15", "--data", str(tmp_path), "--url", service.url,
               "--tap", "pool5", "--normalize", "l2", "--splits", "2"]  # fmt: skip
    first = CliRunner().invoke(app, [*command, "--json"])
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert told["figures"]["mean_class_accuracy"] == {"mean": 1.0, "deviation": 0.0}
    assert [(split["trained"], split["tested"]) for split in told["splits"]] == [(45, 7)] * 2
    made = {dataset.id for dataset in client.datasets.list()}
    assert told["dataset"] in made
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert "100.00 +- 0  this run" in again.stdout
    assert "3 classes (official: 101)" in again.stdout
    assert {dataset.id for dataset in client.datasets.list()} == made


def test_sun397_by_an_official_partition(client: Client, tmp_path: Path) -> None:
    test_sun397.copy(tmp_path, "Partitions/", partitions=10, per_class=3)
    paint("sun397", tmp_path)
    dataset = client.datasets.upload(tmp_path, protocol="sun397")
    assert dataset.protocol is not None
    assert len(dataset.protocol.splits) == 10
    assert dataset.classes == ("abbey", "apse/indoor", "zoo")
    head = trained(client, dataset, 10)
    assert head.report.protocol is not None
    assert (head.report.protocol.split, head.report.protocol.trained) == ("10", 9)
    assert figures(head) == {"accuracy": 1.0, "mean_class_accuracy": 1.0}
    assert len(sources(head)) > 1


def voc_copy(root: Path, year: int) -> Path:
    """Images with stripes of one or two of three classes; some show difficult objects alone."""
    names = ("bird", "cow", "sofa")
    sets: dict[str, dict[str, dict[str, int]]] = {}
    painted = {}
    for side, first in (("train", 0), ("val", 10), ("test", 20)):
        sets[side] = {}
        for n in range(10):
            pair = [names[n % 3], names[n // 3 % 3]]
            image = f"{first + n:06d}"
            sets[side][image] = dict.fromkeys(pair, 1)
            painted[image] = [colour(voc.CLASSES.index(name)) for name in pair]
        # Grey images in which every sofa is difficult: no evidence for or against sofas.
        sets[side][f"{first + 100:06d}"] = {"sofa": 0, "bird": -1}
        painted[f"{first + 100:06d}"] = [np.array([128, 128, 128])]
    sets["trainval"] = sets["train"] | sets["val"]
    test_voc.write(root, test_voc.lists(year, sets))
    base = f"VOCdevkit/VOC{year}/JPEGImages"
    test_voc.write(root, {f"{base}/{name}.jpg": picture(c) for name, c in painted.items()})
    return root


def test_voc2007_with_labels_that_do_not_count(client: Client, tmp_path: Path) -> None:
    root = voc_copy(tmp_path, 2007)
    dataset = client.datasets.upload(root, protocol="voc2007")
    assert dataset.protocol is not None
    assert dataset.protocol.multi_label
    assert dataset.counts["bird"] == 18
    head = trained(client, dataset)
    # Only three of the classes have a positive, so the mean is over three.
    assert figures(head) == pytest.approx({"map_11pt": 1.0, "map_all_point": 1.0})
    test = head.report.test
    assert test is not None
    assert (test.accuracy, test.map_11pt) == (None, pytest.approx(1.0))
    sofa, dog = test.precision["sofa"], test.precision["dog"]
    assert (sofa.positives, sofa.negatives, sofa.left_out) == (5, 5, 1)
    assert (dog.positives, dog.ap_11pt) == (0, None)
    assert "no positive, or no negative, training image of: aeroplane" in head.info.warnings[0]
    told = "no published figure compares: this copy has 11 train (official: 2501)"
    assert head.info.warnings[-1].startswith(told)
    assert "Oquab et al. 2014, CVPR" in sources(head)
    (prediction,) = head.predict([picture([colour(voc.CLASSES.index("cow"))])])
    assert prediction.scores["cow"] > 0 > prediction.scores["bird"]
    # The same images under another protocol: what is difficult is a negative in training.
    strict = trained(client, client.datasets.upload(root, protocol="voc2007-vissl"), kind="logreg")
    assert next(iter(figures(strict))) == "map_all_point"
    assert strict.report.train.precision["sofa"].left_out == 0
    assert head.report.train.precision["sofa"].left_out == 2
    (prediction,) = strict.predict([picture([colour(voc.CLASSES.index("cow"))])])
    assert max(prediction.scores, key=prediction.scores.__getitem__) == "cow"
    assert all(0 <= score <= 1 for score in prediction.scores.values())


def test_voc2007_with_a_c_for_each_class_by_its_validation_images(
    client: Client, tmp_path: Path
) -> None:
    dataset = client.datasets.upload(voc_copy(tmp_path, 2007), protocol="voc2007")
    chosen = ChooseC("vissl", "val", per_class=True)
    head = trained(client, dataset, C=chosen, calibrate="platt")
    choice, calibration = head.info.choice, head.info.calibration
    assert choice is not None
    assert (choice.metric, choice.held_out) == ("map_11pt", "validation images")
    assert set(choice.by_class) == {"bird", "cow", "sofa"}, "those that can be learned"
    assert choice.scores_by_class["bird"] == pytest.approx(1.0)
    assert head.report.protocol is not None
    assert head.report.protocol.trained == 22, "on train and val"
    assert figures(head) == pytest.approx({"map_11pt": 1.0, "map_all_point": 1.0})
    assert calibration is not None
    assert calibration.images == 11 * len(head.classes) - 1, "without the difficult sofa"
    (prediction,) = head.predict([picture([colour(voc.CLASSES.index("cow"))])])
    assert prediction.probabilities is not None
    assert prediction.probabilities["cow"] > 0.5 > prediction.probabilities["bird"]
    assert prediction.probabilities["dog"] < 0.2


def test_voc2012_has_no_labels_for_its_test_and_says_so(client: Client, tmp_path: Path) -> None:
    root = voc_copy(tmp_path, 2012)
    for file in (root / "VOCdevkit/VOC2012/ImageSets/Main").glob("*_test.txt"):
        file.unlink()
    unscored = trained(client, client.datasets.upload(root, protocol="voc2012"))
    assert unscored.report.protocol is None
    assert "the test of split train/test has no label" in unscored.info.warnings[-1]
    scored = trained(client, client.datasets.upload(root, protocol="voc2012-val"))
    assert figures(scored)["map_all_point"] == pytest.approx(1.0)


def test_voc2012_actions_are_of_people_by_their_boxes(client: Client, tmp_path: Path) -> None:
    """Two people in an image, each its own stripe: whole images would tell nothing."""
    base = tmp_path / test_voc_action.BASE
    actions = voc_action.CLASSES[:2]
    for side, first in (("train", 0), ("val", 10)):
        people = {(f"2010_{first + n}", k): actions[(n + k) % 2] for n in range(5) for k in (1, 2)}
        files = {f"ImageSets/Action/{side}.txt": "".join(f"{i} {k}\n" for i, k in people)}
        for cls in voc_action.CLASSES:
            files[f"ImageSets/Action/{cls}_{side}.txt"] = "".join(
                f"{i} {k} {1 if cls == does else -1:>2}\n" for (i, k), does in people.items()
            )
        for image in dict.fromkeys(image for image, _ in people):
            colours = [colour(actions.index(people[image, k])) for k in (1, 2)]
            files[f"JPEGImages/{image}.jpg"] = picture(colours)
            boxes = ((1, 24), (25, 48))
            files[f"Annotations/{image}.xml"] = "<annotation>{}</annotation>".format(
                "".join(
                    f"<object><name>person</name><bndbox><xmin>{left}</xmin><ymin>1</ymin>"
                    f"<xmax>{right}</xmax><ymax>40</ymax></bndbox></object>"
                    for left, right in boxes
                )
            )
        test_voc_action.write(base, files)
    dataset = client.datasets.upload(tmp_path, protocol="voc2012-action-val")
    assert (dataset.total, dataset.protocol and dataset.protocol.regions) == (20, ("person",))
    head = trained(client, dataset)
    assert figures(head) == pytest.approx({"map_all_point": 1.0})


def test_cub200_boxes_and_parts(client: Client, tmp_path: Path) -> None:
    """What is around the bird goes with its class in training, and against it in the test."""
    root = test_cub200.copy(tmp_path)
    base = root / test_cub200.BASE
    boxes = {image: f"{image} 60 20 40 20\n" for image in test_cub200.IMAGES}
    test_cub200.write(base, {"bounding_boxes.txt": "".join(boxes.values())})
    for image, path in test_cub200.IMAGES.items():
        bird = 0 if path.startswith("001") else 1
        around = 1 - bird if image == "2" else bird
        pixels = np.tile(colour(around), (60, 160, 1))
        pixels[15:45, 50:110] = colour(bird + 3)  # the box, 1.5 times as wide and high
        Image.fromarray(pixels.astype(np.uint8)).save(base / "images" / path, "PNG")
    head = trained(client, client.datasets.upload(root, protocol="cub200"))
    assert head.info.regions == ("object",)
    assert figures(head) == {"accuracy": 1.0, "mean_class_accuracy": 1.0}
    assert "Donahue et al. 2013, arXiv:1310.1531v1" in sources(head)
    whole = trained(client, client.datasets.upload(root, protocol="cub200-image"))
    assert whole.info.regions == ()
    assert figures(whole)["accuracy"] == 0.0
    parts = trained(client, client.datasets.upload(root, protocol="cub200-parts"))
    # The test image has no part in sight: two of its three blocks are zeros.
    assert parts.info.regions == ("body", "head", "object")
    assert figures(parts)["accuracy"] == 1.0
    assert sources(parts) == {"this run"}
    with pytest.raises(InvalidParameterError, match="the regions body, head, object of each"):
        parts.predict([picture([colour(0)])])


def test_an_upload_that_is_not_the_data_set_says_what_is_missing(
    client: Client, tmp_path: Path
) -> None:
    root = test_voc.copy(tmp_path)
    (root / "VOCdevkit/VOC2007/ImageSets/Main/dog_test.txt").unlink()
    with pytest.raises(InvalidParameterError, match=r"missing files: ImageSets/Main/dog_test\.txt"):
        client.datasets.upload(root, protocol="voc2007")


def test_a_split_that_is_not_there_is_told(client: Client, caltech: Dataset) -> None:
    job = client.heads.train(caltech, split=ProtocolSplit(6))
    with pytest.raises(JobFailedError, match="no split 6: caltech101-decaf has 5 here"):
        job.wait(timeout=60)


@pytest.fixture(scope="module")
def with_weights(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"weights_dir": shared_data / "weights"}
    data_dir = tmp_path_factory.mktemp("weights") / "data"
    with Service(data_dir, settings) as service, Client(service.url) as connected:
        yield connected


def test_real_voc_images_reach_the_figures_of_an_independent_script(
    with_weights: Client, shared_data: Path
) -> None:
    root = shared_data / "data" / "voc2012-mini"
    dataset = with_weights.datasets.upload(root, protocol="voc2012")
    head = trained(with_weights, dataset, backbone="squeezenet1_0", tap="fire9", pool="avg")
    test = head.report.test
    assert test is not None
    assert test.images == 191
    common = [
        name
        for name, row in test.precision.items()
        if min(row.positives, head.report.train.precision[name].positives) >= 5
    ]
    assert len(common) == 14
    eleven, area = (
        100 * np.mean([getattr(test.precision[name], rule) for name in common])
        for rule in ("ap_11pt", "ap_all_point")
    )
    print(f"mAP of 14 classes: {area:.2f} at all points, {eleven:.2f} at 11 points")
    assert area == pytest.approx(57.0, abs=0.5)
    assert eleven == pytest.approx(57.2, abs=0.5)


@pytest.mark.large
def test_real_caltech_images_reach_the_figure_of_an_independent_script(
    with_weights: Client, shared_data: Path
) -> None:
    root = shared_data / "data" / "caltech101-40"
    dataset = with_weights.datasets.upload(root, protocol="caltech101-15")
    settings = {"backbone": "squeezenet1_0", "tap": "fire9", "pool": "avg"}
    found = [
        100 * figures(trained(with_weights, dataset, number, **settings))["mean_class_accuracy"]
        for number in (1, 2, 3)
    ]
    print(f"caltech101-15: {np.mean(found):.2f} +- {np.std(found):.2f}")
    assert np.mean(found) == pytest.approx(89.9, abs=0.5)
