"""Exported heads say what the head says: read back, by numpy alone, and by onnxruntime."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest

from offshelf.errors import InvalidParameter, NotAcceptable
from offshelf.heads import standalone
from offshelf.heads.exports import onnx_head, python_folder, safetensors_file
from offshelf.heads.exports.interface import FORMATS, File, repr_digest
from offshelf.heads.learn import Examples, learn
from offshelf.heads.model import LinearHead
from offshelf.schemas.learning import Calibration, Learning
from tests.unit.heads.cards import SPEC, head

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.schemas.heads import HeadKind

X = np.random.default_rng(5).normal(size=(7, 2, 3)).astype(np.float32) * 3
KINDS: list[HeadKind] = ["svm", "logreg", "ridge"]
CLASSES = [["a", "b"], ["a", "b", "c"]]

# Refuses whatever is neither numpy nor Python's own, then runs the script it is given.
ALONE = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top != "numpy" and top not in sys.stdlib_module_names:
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def unpacked(made: LinearHead, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(python_folder.pack(made))) as archive:
        archive.extractall(folder)
    return folder


def alone(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", ALONE, str(folder / "head.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def run(made: LinearHead) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(onnx_head.pack(made))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"features": X.reshape(7, 6)}), strict=True))


def calibrated(made: LinearHead, **fitted: Any) -> LinearHead:
    """With a calibration in its card; `fitted` is a temperature, or slopes and offsets."""
    told = Calibration(
        **fitted, held_out="5 folds", images=9,
        ece_before=0.1, ece_after=0.1, nll_before=0.1, nll_after=0.1,
    )  # fmt: skip
    card = made.card.model_copy(update={"calibration": told})
    return LinearHead(card, made.coef, made.intercept)


def of_files(made: LinearHead) -> list[np.ndarray]:
    """The probabilities that its ONNX file and its Python folder give."""
    copy = standalone.Head(made.coef, made.intercept, json.loads(made.card.model_dump_json()))
    sure = copy.probabilities(X)
    assert sure is not None
    return [run(made)["probabilities"], sure]


def test_formats_are_found_and_the_same_head_gives_the_same_bytes() -> None:
    assert FORMATS.names() == ["onnx", "onnx-full", "python", "safetensors"]
    for name in FORMATS.names():
        write = FORMATS.get(name).write
        if write is not None:
            assert len({write(head()) for _ in range(6)}) == 1, name
    named = head(name="flowers", version=3).card
    assert FORMATS.get("python").filename(named) == "flowers-3.zip"
    assert FORMATS.get("onnx").filename(head().card) == "head-1.onnx"


def test_safetensors_are_read_back() -> None:
    made = head(name="flowers", version=2)
    read = safetensors_file.unpack(safetensors_file.pack(made))
    assert read.card == made.card
    assert np.array_equal(read.coef, made.coef)
    assert np.array_equal(read.intercept, made.intercept)
    with pytest.raises(InvalidParameter, match="not an exported head"):
        safetensors_file.unpack(b"\0" * 40)


def test_a_digest_is_what_the_header_of_rfc_9530_has() -> None:
    made = File.of(b'{"hello": "world"}\n')
    assert made.sha256 == hashlib.sha256(made.content).hexdigest()
    # Appendix B of the RFC: the digest of that text.
    assert repr_digest(made.sha256) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_every_form_gives_the_scores_of_predictions(
    kind: HeadKind, classes: list[str], multi_label: bool
) -> None:
    made = head(kind=kind, classes=classes, multi_label=multi_label)
    expected = made.scores(X)
    copy = standalone.Head(made.coef, made.intercept, json.loads(made.card.model_dump_json()))
    assert np.allclose(copy.scores(X), expected, rtol=1e-6, atol=1e-7)
    assert copy.predict(X) == [classes[k] for k in expected.argmax(1)]
    found = run(made)
    assert np.allclose(found["scores"], expected, rtol=1e-6, atol=1e-7)
    assert np.array_equal(found["label"], expected.argmax(1))
    if kind == "logreg":
        assert np.allclose(found["probabilities"], expected, rtol=1e-6, atol=1e-7)
        assert np.allclose(copy.probabilities(X), expected, rtol=1e-6, atol=1e-7)
    else:
        assert "probabilities" not in found
        assert copy.probabilities(X) is None


@pytest.mark.parametrize("multi_label", [False, True])
def test_calibrated_probabilities_are_those_of_the_formulas(multi_label: bool) -> None:
    made = head(multi_label=multi_label)
    margins = (X.reshape(7, 6) @ made.coef.T + made.intercept).astype(np.float64)
    slopes, offsets = [0.5, 2.0, 1.0], [0.1, 0.0, -1.0]
    platt = {"method": "platt", "slopes": slopes, "offsets": offsets}
    chances = 1 / (1 + np.exp(-(margins * slopes + offsets)))
    if not multi_label:
        chances /= chances.sum(1, keepdims=True)
    odds = np.exp(margins / 2.5)
    cooled = {"method": "temperature", "temperature": 2.5}
    for fitted, expected in ((platt, chances), (cooled, odds / odds.sum(1, keepdims=True))):
        told = calibrated(made, **fitted)
        assert np.allclose(run(told)["scores"], margins, rtol=1e-5, atol=1e-5)
        for found in (*of_files(told), told.probabilities(X)):
            assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("kind", ["svm", "svm-hinge", "logreg", "logreg-ovr", "ridge"])
@pytest.mark.parametrize("classes", CLASSES)
def test_trained_and_calibrated_heads_have_one_opinion(
    method: Literal["temperature", "platt"], kind: HeadKind, classes: list[str]
) -> None:
    """What a training left in the card is what predictions and files make of it."""
    rng = np.random.default_rng(1)
    y = np.arange(60) % len(classes)
    rows = (rng.normal(size=(60, 6)) + np.eye(6)[y]).astype(np.float32)
    learning = Learning(kind=kind, calibrate=method)
    learned = learn(learning, Examples(rows, y, classes, np.zeros(0, np.int64)))
    card = head(kind=kind, classes=classes, calibration=learned.calibration).card
    made = LinearHead(card, learned.fitted.coef, learned.fitted.intercept)
    expected = made.probabilities(X)
    assert np.allclose(expected.sum(axis=1), 1, atol=1e-5)
    for found in of_files(made):
        assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["svm", "logreg"])
def test_trained_and_calibrated_labels_have_one_opinion(kind: HeadKind) -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice([-1, 0, 1], size=(60, 3))
    rows = (rng.normal(size=(60, 6)) + np.pad(labels, ((0, 0), (0, 3)))).astype(np.float32)
    classes = CLASSES[1]
    learning = Learning(kind=kind, calibrate="platt")
    learned = learn(learning, Examples(rows, labels, classes, np.zeros(0, np.int64)))
    card = head(kind=kind, multi_label=True, calibration=learned.calibration).card
    made = LinearHead(card, learned.fitted.coef, learned.fitted.intercept)
    for found in of_files(made):
        assert np.allclose(found, made.probabilities(X), atol=1e-6)


def test_an_onnx_head_says_what_it_is() -> None:
    made = head()
    graph = onnx.load_from_string(onnx_head.pack(made))
    told = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(told["classes"]) == made.card.classes
    assert told["fingerprint"] == SPEC.fingerprint
    assert json.loads(told["offshelf_card"]) == json.loads(made.card.model_dump_json())
    with pytest.raises(Exception, match="Got invalid dimensions"):
        onnxruntime.InferenceSession(onnx_head.pack(made)).run(
            None, {"features": np.zeros((2, 5), np.float32)}
        )


def test_without_onnx_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(NotAcceptable, match=r"pip install 'offshelf\[onnx\]'"):
        onnx_head.pack(head())


def test_the_python_folder_predicts_where_there_is_only_numpy(tmp_path: Path) -> None:
    made = head(kind="logreg")
    folder = unpacked(made, tmp_path)
    np.save(tmp_path / "X.npy", X)
    done = alone(folder, tmp_path / "X.npy")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    scores = made.scores(X)
    assert [label for label, _ in lines] == [made.card.classes[k] for k in scores.argmax(1)]
    assert np.allclose([float(score) for _, score in lines], scores.max(1), atol=1e-6)


def test_the_python_folder_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    folder = unpacked(head(), tmp_path)
    np.save(tmp_path / "short.npy", X[:, :, :2])
    done = alone(folder, tmp_path / "short.npy")
    assert (done.returncode, done.stdout) == (1, "")
    assert "shape (7, 2, 2); this head takes numbers of shape (N, 6)" in done.stderr
    other = {**SPEC.to_dict(), "tap": "fc6"}
    meta = {"taps": {"fc6": {"fingerprint": "0" * 64, "spec": other}}}
    ours = {"taps": {"fc7": {"fingerprint": SPEC.fingerprint, "spec": SPEC.to_dict()}}}
    for name, told, tap in (("other", meta, "fc6"), ("ours", ours, "fc7")):
        bytes_ = np.frombuffer(json.dumps(told).encode(), np.uint8)
        np.savez(tmp_path / f"{name}.npz", allow_pickle=False, **{tap: X, "meta": bytes_})
    done = alone(folder, tmp_path / "other.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert "trained on other features: tap: fc7 != fc6" in done.stderr
    assert alone(folder, tmp_path / "ours.npz").returncode == 0
    assert alone(folder).returncode == 2


def test_the_python_folder_needs_nothing_but_numpy(tmp_path: Path) -> None:
    """The guard of these tests does refuse: with scipy in the script it ends in an error."""
    folder = unpacked(head(), tmp_path)
    script = folder / "head.py"
    script.write_text(script.read_text().replace("import json", "import scipy\nimport json", 1))
    assert "scipy is not to be had here" in alone(folder, "X.npy").stderr
