"""Reports over HTTP: figures as JSON, a page that holds everything, and what is not there."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import sklearn.metrics as skm
from PIL import Image

from offshelf.api.app import create_app
from offshelf.core.scoring import reliability
from offshelf.datasets.sources import Sources
from offshelf.heads import names
from offshelf.schemas.datasets import DatasetItem
from offshelf.schemas.heads import ProtocolReport, PublishedRow
from offshelf.schemas.learning import Calibration
from offshelf.schemas.reports import HeadReport, LowShotCurve, LowShotPoint, Spread
from offshelf.store import layout
from tests.unit.api.report.made import (
    jpeg,
    keep_dataset,
    of_classes,
    of_labels,
    put_dataset,
    put_head,
)

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.core.boxes import Box
    from offshelf.settings import Settings
    from tests.unit.api.conftest import Ports

NAMES = ["ant", "bee", "cow"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}' onmouseover='alert(3)",
]
VOID = {"meta", "img", "br", "link", "input", "hr"}
CURVE = LowShotCurve(
    draws=2, seed=3, sampling="k <random> images", C=1.0,
    points=[
        LowShotPoint(
            shots=k,
            figures={"accuracy": Spread(mean=k / 10, deviation=0.01, values=[k / 10] * 2)},
        )
        for k in (1, 2, 4)
    ],
)  # fmt: skip


class Page(HTMLParser):
    """Reads a page: its elements, and whether each is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


async def page(http: httpx.AsyncClient) -> Page:
    answer = await http.get("/v1/heads/h1/report?format=html")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


async def test_the_figures_are_scikit_learn_s(http: httpx.AsyncClient, ports: Ports) -> None:
    made = of_classes()
    put_head(ports.store, NAMES, made)
    put_dataset(ports.store, [f"{n}.jpg" for n in range(30)], [b"x"] * 30, NAMES)
    answer = await http.get("/v1/heads/h1/report")
    assert answer.headers["content-type"] == "application/json"
    report = HeadReport.model_validate_json(answer.text)
    test, predicted = report.test, made.scores.argmax(axis=1)
    assert test is not None
    assert test == HeadReport(**answer.json()).test
    assert (report.dataset, report.tested, report.unscored) == ("pets", 30, 0)
    told = answer.json()["test"]
    assert told["accuracy"] == pytest.approx(skm.accuracy_score(made.truth, predicted))
    assert told["mean_class_accuracy"] == pytest.approx(
        skm.balanced_accuracy_score(made.truth, predicted)
    )
    assert told["confusion"] == skm.confusion_matrix(made.truth, predicted).tolist()
    assert [row["k"] for row in told["top_k"]] == [1, 2]
    assert len(told["hardest"]) == (predicted != made.truth).sum()
    for miss in told["hardest"]:
        row = miss["number"]
        assert miss["path"] == f"{row}.jpg"
        assert (miss["truth"], miss["predicted"]) == (NAMES[made.truth[row]], NAMES[predicted[row]])
    assert report.reliability is None
    assert "no probabilities" in report.reliability_missing


async def test_a_logistic_head_has_its_own_probabilities(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    made = of_classes()
    put_head(ports.store, NAMES, made, kind="logreg")
    told = (await http.get("/v1/heads/h1/report")).json()
    exp = np.exp(made.scores.astype(np.float64))
    sure = (exp / exp.sum(axis=1, keepdims=True)).max(axis=1)
    for row in told["reliability"]["bins"]:
        inside = (sure > row["low"]) & (sure <= row["high"])
        assert row["count"] == inside.sum()
        if inside.any():
            assert row["confidence"] == pytest.approx(sure[inside].mean(), abs=1e-6)
    for miss in told["test"]["hardest"]:
        assert miss["probability"] == pytest.approx(sure[miss["number"]], abs=1e-6)
    assert told["reliability_missing"] == ""


async def test_the_report_says_which_calibration_its_probabilities_are_of(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    """And that is the one that is drawn, referred to by the head's name and version."""
    made = of_classes()
    figures = dict.fromkeys(("ece_before", "ece_after", "nll_before", "nll_after"), 0.1)
    cooled = Calibration(method="temperature", temperature=0.2, held_out="5 folds", images=9,
                         **figures)  # fmt: skip
    put_head(ports.store, NAMES, made, calibration=cooled, name="ants", version=1)
    assert names.claim(ports.store, "default", "ants", "h1") == 1
    told = (await http.get("/v1/heads/ants:1/report")).json()["reliability"]
    exp = np.exp(made.scores.astype(np.float64) / 0.2)
    sure = exp / exp.sum(axis=1, keepdims=True)
    assert told["by"] == "temperature"
    assert told["ece"] == pytest.approx(reliability(made.truth, sure).ece, abs=1e-6)
    answer = await http.get("/v1/heads/ants/report?format=html")
    assert "calibrated on 5 folds of the training side (temperature)" in answer.text


async def test_labels_have_precisions_and_the_ends_of_their_rankings(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    made = of_labels()
    head = put_head(ports.store, NAMES, made)
    told = (await http.get("/v1/heads/h1/report")).json()
    assert head.card.test is not None
    assert told["test"]["map_11pt"] == head.card.test.map_11pt
    assert told["test"]["map_all_point"] == head.card.test.map_all_point
    assert [row["name"] for row in told["test"]["labels"]] == NAMES
    assert [len(row["worst_positives"]) for row in told["test"]["extremes"]] == [5, 5, 5]
    assert told["test"]["extremes"][0]["best_negatives"][0]["path"] is None
    text = " ".join((await page(http)).text)
    assert "Where the ranking fails" in text
    assert "the dataset is gone" in text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json, text/html;q=0.5", "application/json"),
    ],
)
async def test_accept_chooses_the_form(
    accept: str | None, kind: str, http: httpx.AsyncClient, ports: Ports
) -> None:
    put_head(ports.store, NAMES, of_classes())
    headers = {} if accept is None else {"Accept": accept}
    answer = await http.get("/v1/heads/h1/report", headers=headers)
    assert (answer.headers["content-type"], answer.headers["vary"]) == (kind, "Accept")


async def test_other_forms_are_refused(http: httpx.AsyncClient, ports: Ports) -> None:
    put_head(ports.store, NAMES, of_classes())
    answer = await http.get("/v1/heads/h1/report", headers={"Accept": "application/pdf"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    answer = await http.get("/v1/heads/h1/report?format=pdf")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "format")


async def test_a_head_without_a_test_has_training_figures_and_says_why(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    put_head(ports.store, NAMES, None)
    told = (await http.get("/v1/heads/h1/report")).json()
    assert (told["test"], told["training"]["accuracy"]) == (None, 1.0)
    assert "without a test side" in told["test_missing"]
    text = " ".join((await page(http)).text)
    assert "There are no test figures: the head was trained without a test side" in text
    assert "Hardest errors" not in text


async def test_unpublished_labels_are_told(http: httpx.AsyncClient, ports: Ports) -> None:
    made = of_labels()
    put_head(ports.store, NAMES, replace(made, truth=np.zeros_like(made.truth)))
    told = (await http.get("/v1/heads/h1/report")).json()
    assert (told["test"], told["tested"]) == (None, 30)
    assert "not published" in told["test_missing"]


async def test_heads_from_before_evaluations_and_unknown_ones_are_404(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    put_head(ports.store, NAMES, of_classes())
    ports.store.delete(layout.head_evaluation("default", "h1"))
    answer = await http.get("/v1/heads/h1/report")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_name")
    assert "before the scores of its test were kept" in answer.json()["detail"]
    assert "train it again" in answer.json()["detail"]
    answer = await http.get("/v1/heads/h2/report", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "no head named 'h2'; there are: none",
    )


async def test_samples_without_features_are_counted_apart(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    made = of_classes()
    scores = made.scores.copy()
    scores[4] = -np.inf
    put_head(ports.store, NAMES, replace(made, scores=scores))
    told = (await http.get("/v1/heads/h1/report")).json()
    assert (told["tested"], told["unscored"], told["test"]["images"]) == (30, 1, 29)
    assert "1 of 30 test samples had no features" in " ".join((await page(http)).text)


async def test_deleting_a_head_deletes_its_evaluation(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    put_head(ports.store, NAMES, of_classes())
    assert (await http.delete("/v1/heads/h1")).status_code == 204
    assert not ports.store.exists(layout.head_evaluation("default", "h1"))


async def test_names_from_outside_are_text_and_nothing_else(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    """Class names, paths, a data set's and a head's name, a protocol's rows and warnings."""
    made = replace(of_classes(ahead=0.0), low_shot=CURVE)
    row = PublishedRow(
        method=HOSTILE[0], value=1.0, metric="accuracy", source=HOSTILE[1], note=HOSTILE[2]
    )
    protocol = ProtocolReport(
        protocol=HOSTILE[0], split=HOSTILE[1], number=1, trained=1, tested=30, unscored=0,
        figures={"accuracy": 0.5}, table=[row],
    )  # fmt: skip
    put_head(
        ports.store, HOSTILE, made, name=HOSTILE[1], protocol=protocol, warnings=HOSTILE,
        versions={HOSTILE[0]: HOSTILE[1]}, kind="logreg", regions=HOSTILE[:1],
    )  # fmt: skip
    paths = [f"{HOSTILE[n % 3]}/{n}.jpg" for n in range(30)]
    put_dataset(ports.store, paths, [jpeg((9, 9, 9))] * 30, HOSTILE)
    found = await page(http)
    assert len(found.all("script")) == 1
    handlers = [name for _, attributes in found.elements for name in attributes if name[:2] == "on"]
    assert handlers == []
    sources = [image["src"] or "" for image in found.all("img")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    text = " ".join(found.text)
    for name in HOSTILE:
        assert name in text
    assert "49" not in [piece.strip() for piece in found.text]
    alts = {image["alt"] for image in found.all("img")}
    assert any(HOSTILE[1] in (alt or "") for alt in alts)


async def test_the_page_needs_no_other_file_and_runs_no_other_script(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    put_head(ports.store, NAMES, replace(of_classes(), low_shot=CURVE), kind="logreg")
    answer = await http.get("/v1/heads/h1/report?format=html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    found = Page(answer.text)
    (meta,) = [m for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert f"sha256-{digest}" in (meta["content"] or "")
    for tag, attributes in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in answer.text
    assert "@import" not in answer.text


async def test_pictures_are_small_and_upright_and_broken_ones_are_told(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg((200, 0, 0), (64, 32), exif=exif)
    wide = jpeg((0, 0, 200), (640, 8), quality=50)
    images = [turned, b"no picture", wide]
    made = of_classes(images=3)
    scores = np.where(np.eye(3, dtype=bool)[made.truth], -1.0, 1.0).astype(np.float32)
    put_head(ports.store, NAMES, replace(made, scores=scores))
    dataset = put_dataset(ports.store, ["a.jpg", "b.jpg", "c.jpg"], images, NAMES)
    found = await page(http)
    pictures = [
        Image.open(io.BytesIO(base64.b64decode((image["src"] or "").partition(",")[2])))
        for image in found.all("img")
    ]
    assert sorted(picture.size for picture in pictures) == [(32, 64), (160, 2)]
    assert [picture.format for picture in pictures] == ["JPEG", "JPEG"]
    upright = next(picture for picture in pictures if picture.size == (32, 64))
    assert np.abs(np.asarray(upright)[32, 16].astype(int) - (200, 0, 0)).max() < 8
    text = " ".join(found.text)
    assert "not an image that can be read" in text
    ports.store.delete(layout.blob(dataset.items[0].sha256))
    assert "the store has lost the image" in " ".join((await page(http)).text)


async def test_a_sample_that_is_a_region_shows_the_region(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    made = of_classes(images=2)
    scores = np.where(np.eye(3, dtype=bool)[made.truth], -1.0, 1.0).astype(np.float32)
    put_head(ports.store, NAMES, replace(made, scores=scores))
    boxes: list[list[Box | None]] = [[(-5.0, 3.0, 12.5, 99.0)], [None]]
    put_dataset(ports.store, ["a", "b"], [jpeg((0, 9, 0)), jpeg((9, 0, 0))], NAMES, boxes)
    sizes = {(image["width"], image["height"]) for image in (await page(http)).all("img")}
    assert sizes == {("13", "27"), ("40", "30")}


async def test_images_that_stayed_where_they_are_are_shown_from_there(
    ports: Ports, settings: Settings, tmp_path: Path
) -> None:
    """A dataset registered from a folder has no copies in the store."""
    folder = tmp_path / "pets"
    folder.mkdir()
    items = []
    for name in "abc":
        (folder / name).write_bytes(image := jpeg((0, 9, 0), (20, 10)))
        digest = hashlib.sha256(image).hexdigest()
        items.append(DatasetItem(name, NAMES[0], digest, len(image), source=str(folder / name)))
    made = of_classes(images=3)
    scores = np.where(np.eye(3, dtype=bool)[made.truth], -1.0, 1.0).astype(np.float32)
    put_head(ports.store, NAMES, replace(made, scores=scores))
    keep_dataset(ports.store, items, NAMES)
    (folder / "b").unlink()
    (folder / "c").write_bytes(jpeg((9, 9, 9), (20, 10)))
    allowed = replace(ports.services(), sources=Sources([str(folder)]))
    for services, pictures, told in (
        (allowed, 1, ("the file is gone", "its bytes are others")),
        (ports.services(), 0, ("may not read where the dataset was registered",)),
    ):
        transport = httpx.ASGITransport(create_app(services, settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            found = await page(http)
        assert len(found.all("img")) == pictures
        for reason in told:
            assert reason in " ".join(found.text)


@pytest.mark.parametrize("classes", [2, 3, 60, 120, 400])
async def test_any_number_of_classes_fits(
    classes: int, http: httpx.AsyncClient, ports: Ports
) -> None:
    names = [f"class {n}" for n in range(classes)]
    put_head(ports.store, names, of_classes(classes, 20 * classes, ahead=2.0))
    answer = await http.get("/v1/heads/h1/report?format=html")
    found = Page(answer.text)
    (matrix,) = [svg for svg in found.all("svg") if svg["class"] == "confusion"]
    assert matrix["role"] == "img"
    assert len(answer.content) < 1_000_000
    rows = [attributes for tag, attributes in found.elements if tag == "bdi"]
    assert len(rows) >= classes


async def test_one_class_that_is_never_wrong_and_tests_of_one_image(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    put_head(ports.store, NAMES, of_classes(images=1, ahead=50.0), kind="logreg")
    text = " ".join((await page(http)).text)
    assert "Every test image got its class." in text
    assert "No image was taken for one of another class." in text
