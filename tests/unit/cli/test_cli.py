"""The command line against a service in memory: output, files, exit codes."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import offshelf_client
import offshelf_client as sdk
from offshelf import __version__, bootstrap
from offshelf.cli import app
from offshelf.commands.serving import settings_with
from offshelf.core.spec import FeatureSpec, Preprocessing
from offshelf.errors import NoWorker
from offshelf.heads.comparing import compared
from offshelf.schemas.features import FeaturesAnswer
from offshelf.schemas.heads import Head, HeadRequest
from tests.unit.client.fake_service import (
    FakeService,
    backbone_body,
    head_card,
    job_body,
    problem,
    transform_card,
)
from tests.unit.client.test_boxes import boxed_answer
from tests.unit.client.test_datasets_and_heads import DATASET, predictions

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.settings import Settings

SPEC = FeatureSpec(
    "alexnet",
    "0" * 64,
    "fc7",
    "center",
    Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.2,) * 3),
).to_dict()
JOB = job_body(state="succeeded", total=2, done=2, result={"head": "h1"})
MADE = job_body(state="succeeded", total=2, done=2, result={"feature_set": "f1"})
FITTED = job_body(state="succeeded", result={"transform": "w1", "step": "whiten:w1"})
COMMANDS = [
    "", "serve", "api", "worker", "health", "features", "train", "predict", "weights",
    "weights list", "weights pull", "weights verify", "backbones", "jobs", "jobs list", "jobs show",
    "jobs wait", "jobs cancel", "heads", "heads list", "heads show", "heads delete", "datasets",
    "heads tag", "heads untag", "heads compare", "heads export",
    "datasets protocols", "datasets verify", "demo", "transforms", "transforms fit",
    "transforms list", "transforms show", "transforms delete", "selftest",
    "extract", "feature-sets", "feature-sets list", "feature-sets show", "feature-sets download",
    "feature-sets delete", "datasets upload", "datasets list", "datasets show",
    "datasets register", "datasets add", "datasets delete", "reproduce", "search", "heads report",
]  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """A service that every client of the command line speaks with."""
    fake = FakeService(
        routes={
            ("GET", "/v1/backbones"): answer({"items": [backbone_body()], "has_more": False}),
            ("GET", "/v1/backbones/alexnet"): answer(backbone_body()),
            ("POST", "/v1/datasets"): answer(DATASET, 201),
            ("POST", "/v1/heads"): answer(JOB, 202),
            ("GET", "/v1/heads/h1"): answer(head_card()),
            ("GET", "/v1/heads"): answer({"items": [head_card()], "has_more": False}),
            ("DELETE", "/v1/heads/h1"): lambda _: httpx.Response(204),
            ("POST", "/v1/heads/h1/predict"): predictions,
            ("POST", "/v1/feature-sets"): answer(MADE, 202),
            ("POST", "/v1/transforms"): answer(FITTED, 202),
            ("GET", "/v1/transforms/w1"): answer(transform_card()),
            ("GET", "/v1/transforms"): answer({"items": [transform_card()], "has_more": False}),
            ("GET", "/v1/transforms/w2"): lambda _: problem(404, "unknown_name"),
            ("DELETE", "/v1/transforms/w1"): lambda _: httpx.Response(204),
            ("GET", "/v1/jobs"): answer({"items": [JOB], "has_more": False}),
            ("GET", "/v1/jobs/j1"): answer(JOB),
            ("DELETE", "/v1/jobs/j1"): answer(JOB, 202),
            ("GET", "/readyz"): answer({"status": "ready"}),
            ("GET", "/livez"): answer({"status": "alive"}),
        }
    )
    retry = offshelf_client.Retry(attempts=1)
    made = partial(offshelf_client.Client, transport=fake.transport)
    monkeypatch.setattr(
        offshelf_client, "Client", lambda url=None, **more: made(url, **{"retry": retry, **more})
    )
    return fake


def answer(body: Any, status: int = 200) -> Any:
    """A route that always gives this."""
    return lambda _: httpx.Response(status, json=body)


def run(*arguments: str | Path) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images and one file that is none."""
    for i in (1, 2):
        Image.new("RGB", (8, 4), (i, 2 * i, 3 * i)).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_loading_the_service(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert "--help" in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"offshelf {__version__}\n"


def test_features_of_several_taps_go_into_an_npz(fake: FakeService, photos: Path) -> None:
    out = photos / "out.npz"
    result = run("features", photos / "1.png", photos / "2.png", "--tap", "fc6", "--tap", "fc7:pre",
                 "-o", out, "--backbone", "vgg16", "--weights", "random:0")  # fmt: skip
    assert result.exit_code == 0, result.output
    with np.load(out) as npz:
        assert npz["fc6"].tolist() == [[1, 2, 3, 8, 4], [2, 4, 6, 8, 4]]
        assert npz["fc7:pre"].shape == (2, 5)
        meta = json.loads(npz["meta"].tobytes())
    assert meta["backbone"] == "vgg16"
    assert meta["taps"]["fc6"]["fingerprint"] == "print-fc6"
    assert [item["name"] for item in meta["items"]] == [
        str(photos / "1.png"),
        str(photos / "2.png"),
    ]
    FeaturesAnswer.model_validate(meta)  # what the service's own npz has
    assert "fc7:pre  2x5" in result.stdout
    assert "RANDOM WEIGHTS" in result.stdout
    assert sorted(p.name for p in photos.iterdir()) == ["1.png", "2.png", "bad.png", "out.npz"]


def test_features_of_one_tap_go_into_an_npy(fake: FakeService, photos: Path) -> None:
    out = photos / "out.npy"
    assert run("features", photos / "2.png", "--tap", "fc6", "-o", out).exit_code == 0
    assert np.load(out).tolist() == [[2, 4, 6, 8, 4]]


def test_failed_images_end_it_or_are_skipped(fake: FakeService, photos: Path) -> None:
    result = run("features", photos, "--tap", "fc6", "-o", photos / "out.npz")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: 1 of 3 images failed: image 2 (bad.png): not an image [invalid_image]\n"
    )
    assert not (photos / "out.npz").exists()
    result = run("features", photos, "--tap", "fc6", "-o", photos / "out.npz", "--on-error", "skip")
    assert result.exit_code == 0
    assert "skipped image 2 (bad.png)" in result.stderr
    with np.load(photos / "out.npz") as npz:
        assert npz["fc6"].shape == (2, 5)
        items = json.loads(npz["meta"].tobytes())["items"]
    assert [i["name"] for i in items if i["status"] == "error"] == [str(photos / "bad.png")]


def test_progress_goes_to_stderr_when_forced(fake: FakeService, photos: Path) -> None:
    result = run("features", photos / "1.png", "--tap", "fc6", "--progress")
    assert "images: 1/1 images" in result.stderr
    assert run("features", photos / "1.png", "--tap", "fc6").stderr == (
        "nothing was saved: name a file with --output (-o) to keep these\n"
    )


def test_features_of_a_folder_without_images_is_misuse(fake: FakeService, tmp_path: Path) -> None:
    result = run("features", tmp_path)
    assert (result.exit_code, fake.requests) == (2, [])
    assert "there are no images in" in result.stderr


def training(fake: FakeService) -> dict[str, Any]:
    """The body that asked for a head."""
    (asked,) = [r for r in fake.requests if (r.method, r.url.path) == ("POST", "/v1/heads")]
    body: dict[str, Any] = json.loads(asked.content)
    return body


@pytest.mark.parametrize("command", ["train", "extract"])
def test_a_wrong_name_is_told_before_anything_is_uploaded(
    fake: FakeService, photos: Path, tmp_path: Path, command: str
) -> None:
    fake.routes["POST", "/v1/features"] = lambda _: problem(404, "unknown_name")
    output = ["-o", tmp_path / "out"] if command == "extract" else []
    result = run(command, photos, "--tap", "fc99", *output)
    assert result.exit_code == 1
    assert "told unknown_name" in result.stderr
    assert "/v1/datasets" not in {request.url.path for request in fake.requests}


def test_train_uploads_trains_and_prints_the_metrics(fake: FakeService, photos: Path) -> None:
    result = run("train", photos, "--tap", "fc7", "--kind", "logreg", "-C", "0.5",
                 "--train-per-class", "3", "--seed", "7")  # fmt: skip
    assert result.exit_code == 0, result.output
    body = training(fake)
    assert body["taps"] == ["fc7"]
    assert (body["kind"], body["C"]) == ("logreg", 0.5)
    assert body["split"] == {"train_per_class": 3, "test_per_class": None, "seed": 7}
    assert "head h1" in result.stdout
    assert "test        4    75.0 %           70.0 %" in result.stdout


@pytest.mark.parametrize("kind", get_args(sdk.HeadKind))
def test_train_offers_every_kind(fake: FakeService, photos: Path, kind: str) -> None:
    result = run("train", photos, "--kind", kind)
    assert result.exit_code == 0, result.output
    assert training(fake)["kind"] == kind


def test_train_takes_every_option_of_a_training(fake: FakeService, photos: Path) -> None:
    result = run(
        "train", photos, "-C", "0.1,1,10", "--folds", "3", "--per-class", "--metric", "map_11pt",
        "--class-weight", "a=2", "--class-weight", "b=0.5", "--positive-weight", "3",
        "--standardise", "--intercept", "regularised", "--intercept-scale", "10", "--dropout",
        "0.25", "--learning-seed", "7", "--calibrate", "platt",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    body = training(fake)
    assert HeadRequest.model_validate(body) == HeadRequest(
        dataset=body["dataset"],
        C={"choose": [0.1, 1, 10], "folds": 3, "per_class": True, "metric": "map_11pt"},
        class_weight={"a": 2, "b": 0.5}, positive_weight=3, standardise=True,
        intercept="regularised", intercept_scale=10, dropout=0.25, seed=7, calibrate="platt",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-C", "many"], "'many' is no number, and none of kornblith, vissl, clip"),
        (["-C", "1", "--folds", "3"], "--folds is of a choice: give several"),
        (["-C", "clip", "--folds", "few"], "'few' is neither a number nor val"),
        (["--class-weight", "a"], "'a': balanced alone, or CLASS=FACTOR"),
        (["--class-weight", "balanced", "--class-weight", "a=2"], "'balanced': balanced alone"),
    ],
)
def test_train_refuses_options_that_mean_nothing(
    options: list[str], why: str, photos: Path
) -> None:
    result = run("train", photos, *options)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())


def test_train_shows_the_choice_and_the_calibration(fake: FakeService, photos: Path) -> None:
    points = [
        {"C": 0.5, "mean": 0.8, "deviation": 0.02, "folds": [0.8]},
        {"C": 1.0, "mean": 0.9, "deviation": None, "folds": [0.9]},
    ]
    choice = {"metric": "accuracy", "held_out": "5 folds", "path": points, "score": 0.9}
    calibration = {
        "method": "temperature", "temperature": 0.5, "held_out": "5 folds", "images": 9,
        "ece_before": 0.25, "ece_after": 0.0125, "nll_before": 1.0, "nll_after": 0.5,
    }  # fmt: skip
    card = head_card() | {"choice": choice, "calibration": calibration}
    fake.routes["GET", "/v1/heads/h1"] = answer(card)
    told = run("train", photos, "-C", "vissl").stdout
    assert "C by accuracy on 5 folds" in told
    assert [line.split() for line in told.splitlines() if "80.0 %" in line or "90.0 %" in line] == [
        ["0.5", "80.0", "%", "2.0", "%"], [">", "1", "90.0", "%", "-"],
    ]  # fmt: skip
    assert "temperature 0.5 on 5 folds: ECE 0.2500 before, 0.0125 after" in told


def test_search_ranks_what_it_tried(
    fake: FakeService, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    settings = {"tap": "fc6", "view": "center", "pool": None, "normalize": "l2", "kind": "svm"}
    tried = (
        sdk.Candidate(settings, 1.0, 0.8, 0.01, "h0"),
        sdk.Candidate({**settings, "tap": "fc7"}, 10.0, 0.9, None, "h1"),
    )

    def search(heads: Any, *positional: Any, **named: Any) -> sdk.Search:
        asked.update(named, positional=positional[1:])
        return sdk.Search(tried, tried[1], heads.get("h1"))

    monkeypatch.setattr("offshelf_client._sync._heads.Heads.search", search)
    options = ["--tap", "fc6", "--tap", "fc7", "--pool", "grid:2", "--train-per-class", "3"]
    result = run("search", photos, *options, "--calibrate", "temperature")
    assert result.exit_code == 0, result.output
    assert asked["positional"] == (None, ["fc6", "fc7"], ["svm"])
    assert (asked["pools"], asked["normalizes"], asked["views"]) == (["grid:2"], ["l2"], ["center"])
    assert (asked["C"], asked["calibrate"]) == (sdk.ChooseC("vissl"), "temperature")
    assert asked["split"] == sdk.RandomSplit(3)
    ranked = [line.split() for line in result.stdout.splitlines()[:3]]
    assert [row[0] for row in ranked] == ["tap", "fc7", "fc6"]
    assert "head h1" in result.stdout
    as_json = json.loads(run("search", photos, *options, "--json").stdout)
    assert (as_json["best"]["head"], len(as_json["candidates"])) == ("h1", 2)
    refused = run("search", photos, "--tap", "fc6", "-C", "1")
    assert (refused.exit_code, "a search chooses C" in refused.stderr) == (2, True)


def test_train_refuses_other_kinds_and_names_those_there_are(photos: Path) -> None:
    result = run("train", photos, "--kind", "forest")
    assert result.exit_code == 2
    assert "nearest-mean" in result.stderr


def test_train_prints_json(fake: FakeService, photos: Path) -> None:
    assert json.loads(run("train", photos, "--json").stdout)["id"] == "h1"


def test_failed_training_is_one_line_and_exit_code_1(fake: FakeService, photos: Path) -> None:
    error = {"code": "invalid_parameter", "message": "class a has 2 images", "retryable": False}
    fake.routes["POST", "/v1/heads"] = answer(job_body(state="failed", error=error), 202)
    result = run("train", photos)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "job j1 (offshelf jobs wait j1)\nerror: job j1 failed: class a has 2 images\n"
    )


def test_train_names_its_job_and_counts_unreadable_images(fake: FakeService, photos: Path) -> None:
    body = job_body(state="succeeded", total=9, done=7, failed=2, result={"head": "h1"})
    fake.routes["POST", "/v1/heads"] = answer(body, 202)
    spec = {"backbone": "vgg16", "tap": "conv5", "pooling": "max", "normalisation": "l2"}
    card = head_card() | {"spec": spec | {"view": "warp"}, "warnings": ["left out: bad.png"]}
    fake.routes["GET", "/v1/heads/h1"] = answer(card)
    result = run("train", photos)
    assert result.stderr.splitlines() == [
        "job j1 (offshelf jobs wait j1)", "warning: 2 of 9 images could not be read",
    ]  # fmt: skip
    assert "on vgg16/conv5 pool=max normalize=l2 view=warp (random:0" in result.stdout
    assert "warning: left out: bad.png" in result.stdout


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), offshelf_client.ConnectionFailed("gone")], ids=["ctrl-c", "lost"]
)
def test_train_that_is_left_says_that_the_job_goes_on(
    fake: FakeService, photos: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    def left(*_: Any, **__: Any) -> None:
        raise end

    monkeypatch.setattr(offshelf_client.Job, "wait", left)
    result = run("train", photos)
    assert result.exit_code != 0
    told = result.stderr.splitlines()[1]
    assert told.startswith("job j1 goes on")
    assert "offshelf jobs wait j1" in told
    assert "offshelf jobs cancel j1" in told


def test_heads_are_listed_shown_and_deleted(fake: FakeService) -> None:
    newer = head_card("h2") | {
        "created_s": 86400.0, "name": "birds", "version": 3, "tags": ["prod"], "test": None,
    }  # fmt: skip
    both = {"items": [head_card(), newer], "has_more": False}
    fake.routes["GET", "/v1/heads"] = answer(both)
    assert [line.split() for line in run("heads", "list").stdout.splitlines()[1:]] == [
        ["h2", "birds:3", "prod", "alexnet/fc7", "svm", "-", "1970-01-02", "00:00", "UTC"],
        ["h1", "-", "-", "alexnet/fc7", "svm", "75.0", "%", "accuracy", "1970-01-01", "00:00",
         "UTC"],
    ]  # fmt: skip
    assert [h["id"] for h in json.loads(run("heads", "list", "--json").stdout)] == ["h2", "h1"]
    assert run("heads", "show", "h1").stdout.startswith("head h1\n")
    assert json.loads(run("heads", "show", "h1", "--json").stdout)["id"] == "h1"
    assert run("heads", "delete", "h1").stdout == "deleted head h1\n"
    assert fake.requests[-1].method == "DELETE"


def test_heads_are_filtered_tagged_and_untagged(fake: FakeService) -> None:
    run("heads", "list", "--name", "birds", "--kind", "svm", "--dataset", "d1", "--tag", "prod")
    assert dict(fake.requests[-1].url.params) == {
        "limit": "100", "name": "birds", "kind": "svm", "dataset": "d1", "tag": "prod",
    }  # fmt: skip
    birds = head_card("h2") | {"name": "birds", "version": 3}
    fake.routes["GET", "/v1/heads/birds:3"] = answer(birds)
    fake.routes["PUT", "/v1/heads/h2/tags/prod"] = answer(birds | {"tags": ["prod"]})
    fake.routes["DELETE", "/v1/heads/h2/tags/prod"] = lambda _: httpx.Response(204)
    assert run("heads", "tag", "birds:3", "prod").stdout == "birds:prod is birds:3\n"
    assert run("heads", "untag", "birds:3", "prod").stdout == "untagged birds:3: prod\n"
    assert fake.requests[-1].method == "DELETE"
    assert run("heads", "show", "birds:3").stdout.startswith("head h2, birds:3\n")


def test_heads_are_compared(fake: FakeService) -> None:
    a = Head.model_validate(head_card("h1") | {"name": "birds", "version": 1, "spec": SPEC})
    metrics = a.train.model_copy(update={"accuracy": 0.8})
    b = a.model_copy(update={"id": "h2", "version": 2, "C": 10.0, "test": metrics})
    told = compared(a, b).model_dump(mode="json")
    told["significance"] = {"samples": 9, "a_only": 0, "b_only": 3, "p_value": 0.25}
    fake.routes["GET", "/v1/heads/compare"] = answer(told)
    result = run("heads", "compare", "h1", "h2")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert fake.requests[-1].url.query == b"head=h1&head=h2"
    assert ["test", "accuracy", "75.0", "%", "80.0", "%", "+5.00"] in lines
    assert ["training", "C", "1.0", "10.0"] in lines
    assert "right on 0 images only birds:1, on 3 only birds:2, of 9: p = 0.25" in result.stdout
    assert lines[-1] == ["fair:", "the", "same", "data", "and", "split"]
    assert json.loads(run("heads", "compare", "h1", "h2", "--json").stdout)["fair"] is True


def test_a_head_is_named(fake: FakeService) -> None:
    fake.routes["PUT", "/v1/heads/h1/name"] = lambda request: httpx.Response(
        200, json=head_card() | json.loads(request.content) | {"version": 4}
    )
    told = run("heads", "name", "h1", "flowers")
    assert told.stdout == "h1 is flowers:4\n", told.output


def test_heads_are_exported(fake: FakeService, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"weights").hexdigest()
    fake.routes["GET", "/v1/heads/h1/export"] = lambda _: httpx.Response(
        200, content=b"weights", headers={"ETag": f'"{sha256}"'}
    )
    fake.routes["POST", "/v1/heads/h1/export"] = answer(JOB, 202)
    out = tmp_path / "head"
    told = run("heads", "export", "h1", "--format", "onnx", "-o", out)
    assert told.stdout == f"{out}: h1 as onnx, 7 bytes\n", told.output
    assert out.read_bytes() == b"weights"
    assert [r.method for r in fake.requests] == ["GET", "GET"]
    assert run("heads", "export", "h1", "--format", "onnx-full", "-o", out).exit_code == 0
    assert json.loads(fake.requests[-2].content) == {"format": "onnx-full"}
    fake.routes["GET", "/v1/heads/h1/export"] = lambda _: httpx.Response(
        200, content=b"weight", headers={"ETag": f'"{sha256}"'}
    )
    broken = run("heads", "export", "h1", "-o", tmp_path / "other")
    assert (broken.exit_code, "arrived damaged" in broken.stderr) == (1, True)
    assert not (tmp_path / "other").exists()


def test_transforms_are_fitted_listed_shown_and_deleted(fake: FakeService, photos: Path) -> None:
    (photos / "a").mkdir()
    Image.new("RGB", (8, 4)).save(photos / "a" / "1.png")
    fitted = run("transforms", "fit", photos, "-k", "3", "--tap", "fc7", "--normalize", "l2",
                 "--view", "ten_crop", "--merge", "concat", "--epsilon", "0.1")  # fmt: skip
    assert fitted.exit_code == 0, fitted.output
    assert "8 numbers to 3, which keep 75.0 % of the variance of 20 features" in fitted.stdout
    assert "--normalize l2,whiten:w1" in fitted.stdout
    posts = {r.url.path: r for r in fake.requests if r.method == "POST"}
    asked = json.loads(posts["/v1/feature-sets"].content)
    assert (asked["taps"], asked["view"], asked["merge"]) == (["fc7"], "ten_crop", "concat")
    assert json.loads(posts["/v1/transforms"].content) == {
        "feature_set": "f1", "dimensions": 3, "epsilon": 0.1, "name": "",
    }  # fmt: skip
    listed = run("transforms", "list")
    assert "w1" in listed.stdout
    assert "alexnet/fc7" in listed.stdout
    assert json.loads(run("transforms", "show", "w1", "--json").stdout)["dimensions"] == 3
    assert run("transforms", "delete", "w1").stdout == "deleted transform w1\n"
    unknown = run("transforms", "show", "w2")
    assert unknown.exit_code == 1
    assert "`offshelf transforms list` shows those that there are" in unknown.stderr


def test_views_and_merging_are_passed_on(fake: FakeService, photos: Path) -> None:
    result = run("features", photos / "1.png", "--view", "ten_crop", "--merge", "stack")
    assert result.exit_code == 0, result.output
    ((_, fields),) = fake.forms()
    assert (fields["view"], fields["merge"]) == (["ten_crop"], ["stack"])


@pytest.mark.parametrize("command", ["predict h9 {image}", "heads show h9", "heads delete h9"])
def test_unknown_head_is_told_where_the_heads_are(
    fake: FakeService, photos: Path, command: str
) -> None:
    fake.replies = [problem(404, "unknown_name")]
    result = run(*command.format(image=photos / "1.png").split())
    assert result.exit_code == 1
    assert result.stderr.endswith("; `offshelf heads list` shows those that there are\n")


def test_predict_skips_bad_images_when_asked(fake: FakeService, tmp_path: Path) -> None:
    for name, content in (("a.jpg", b"a"), ("b.jpg", b"x")):
        (tmp_path / name).write_bytes(content)
    assert run("predict", "h1", tmp_path).exit_code == 1
    result = run("predict", "h1", tmp_path, "--on-error", "skip")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == f"skipped {tmp_path / 'b.jpg'}: no prediction\n"


def test_predict_prints_a_table_or_json(fake: FakeService, tmp_path: Path) -> None:
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    files[0].write_bytes(b"a")
    files[1].write_bytes(b"d")
    lines = run("predict", "h1", *files).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["image", "label", "score"],
        [str(files[0]), "b", "98.5000"],
        [str(files[1]), "a", "100.0000"],
    ]
    found = json.loads(run("predict", "h1", tmp_path, "--json").stdout)
    assert [(p["name"], p["label"]) for p in found] == [(str(files[0]), "b"), (str(files[1]), "a")]
    assert len(run("predict", "h1", *files, "--top", "2").stdout.splitlines()) == 5


def test_backbones_and_their_taps(fake: FakeService) -> None:
    listed = run("backbones").stdout.splitlines()
    assert listed[1].split() == ["alexnet", "(default)", "missing", "-", "224", "244", "fc7"]
    shown = run("backbones", "alexnet").stdout
    assert "fc7 (and :pre)  4096" in shown
    assert "= fc7" in shown
    assert "IMAGENET1K_V1 (pinned)  missing     56.5  256/224      bilinear" in shown
    assert "\nIMAGENET1K_V1, IMAGENET1K_V2: free\n" in shown
    assert json.loads(run("backbones", "alexnet", "--json").stdout)["name"] == "alexnet"
    assert json.loads(run("backbones", "--json").stdout)[0]["name"] == "alexnet"


def test_jobs(fake: FakeService) -> None:
    for command in (["list"], ["wait", "j1"], ["cancel", "j1"]):
        assert run("jobs", *command).stdout.splitlines()[1].split()[:3] == [
            "j1", "head", "succeeded",
        ]  # fmt: skip
    assert json.loads(run("jobs", "list", "--json").stdout)[0]["id"] == "j1"
    assert json.loads(run("jobs", "show", "j1").stdout)["done"] == 2


def test_ended_job_has_nothing_to_cancel(fake: FakeService) -> None:
    result = run("jobs", "cancel", "j1")
    assert result.stderr == "job j1 has ended (succeeded): there is nothing to cancel\n"
    assert [request.method for request in fake.requests] == ["GET"]
    fake.routes["GET", "/v1/jobs/j1"] = answer(job_body(state="running"))
    assert run("jobs", "cancel", "j1").stderr == ""
    assert "DELETE" in [request.method for request in fake.requests]


def test_service_error_is_one_line_with_its_code_and_request(fake: FakeService) -> None:
    fake.replies = [problem(404, "unknown_name")]
    result = run("backbones", "resnet5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: told unknown_name [unknown_name, request r1]\n"


def test_absent_service_is_told_with_what_to_do(fake: FakeService) -> None:
    fake.replies = [httpx.ConnectError("refused")]
    result = run("backbones")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot reach http://127.0.0.1:8765: refused; start")


def test_debug_lets_the_error_through(fake: FakeService) -> None:
    fake.replies = [problem(404, "unknown_name")]
    result = run("--debug", "backbones", "resnet5")
    assert isinstance(result.exception, offshelf_client.UnknownNameError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["features", "nowhere.png"],
        ["features", "{image}", "-o", "out.csv"],
        ["features", "{image}", "--tap", "fc6", "--tap", "fc7", "-o", "out.npy"],
        ["features", "{image}", "-o", "nowhere/out.npz"],
        ["features"],
        ["features", "{image}", "--on-error", "shrug"],
        ["train", "nowhere"],
        ["train", "{folder}", "--kind", "forest"],
        ["train", "{folder}", "--train-per-class", "0"],
        ["serve", "--port", "99999"],
        ["serve", "--log-level", "chatty"],
        ["nothing"],
        [],
    ],
    ids=" ".join,
)
def test_misuse_is_exit_code_2_and_calls_nobody(
    fake: FakeService, photos: Path, arguments: list[str]
) -> None:
    places = {"image": photos / "1.png", "folder": photos}
    result = run(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    assert fake.requests == []


@pytest.mark.parametrize(
    ("command", "function"), [("serve", "serve"), ("api", "run_api"), ("worker", "run_worker")]
)
def test_options_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, function: str
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(bootstrap, function, lambda settings: seen.append(settings) or 0)
    monkeypatch.setenv("OFFSHELF_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("OFFSHELF_LOG_LEVEL", "error")
    result = run(command, "--data-dir", tmp_path, "--redis-url", "redis://there/0")
    assert result.exit_code == 0, result.output
    (settings,) = seen
    assert (settings.data_dir, settings.redis_url) == (tmp_path, "redis://there/0")
    assert settings.log_level == "error"


def test_bad_setting_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFSHELF_PORT", "http")
    result = run("serve")
    assert result.exit_code == 2
    assert "port" in result.stderr


def test_status_of_the_worker_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "run_worker", lambda _: 3)
    assert run("worker").exit_code == 3


def test_health_is_an_exit_code(fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("health").stdout == "ok\n"
    assert run("health", "--live").exit_code == 0
    assert [request.url.path for request in fake.requests] == ["/readyz", "/livez"]
    fake.replies = [problem(503, "no_worker", retryable=True)]
    result = run("health")
    assert (result.exit_code, len(fake.requests)) == (1, 3)
    assert "told no_worker" in result.stderr

    def nobody(_: Settings) -> None:
        raise NoWorker("no live worker on this host")

    monkeypatch.setattr(bootstrap, "worker_health", nobody)
    result = run("health", "--worker")
    assert (result.exit_code, result.stderr) == (1, "error: no live worker on this host\n")


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, "127.0.0.1:8765"),
        ({"OFFSHELF_PORT": "81"}, "127.0.0.1:81"),
        ({"OFFSHELF_HOST": "10.1.2.3"}, "10.1.2.3:8765"),
        ({"OFFSHELF_HOST": "0.0.0.0"}, "127.0.0.1:8765"),
        ({"OFFSHELF_HOST": "::"}, "[::1]:8765"),
        ({"OFFSHELF_URL": "http://there:82", "OFFSHELF_PORT": "81"}, "there:82"),
    ],
)
def test_health_asks_where_the_settings_say(
    variables: dict[str, str], asked: str, fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OFFSHELF_URL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("health").stdout == "ok\n"
    assert fake.requests[0].url.netloc.decode() == asked


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEIGHTS_DIR", "REDIS_URL", "PORT", "DATA_DIR"):
        monkeypatch.setenv(f"OFFSHELF_{name}", "")
    settings = settings_with()
    assert (settings.weights_dir, settings.redis_url, settings.port) == (None, None, 8765)
    assert settings.data_dir.is_absolute()


def test_weights_list_names_every_backbone(tmp_path: Path) -> None:
    (tmp_path / "alexnet.safetensors").write_bytes(b"")
    result = run("weights", "list", "--all", "--weights-dir", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    rows = {row["backbone"]: row for row in json.loads(result.stdout)}
    assert rows["alexnet"]["file"] == str(tmp_path / "alexnet.safetensors")
    assert {"alexnet", "vgg16", "resnet50", "squeezenet1_0"} <= set(rows)
    assert "alexnet" in run("weights", "list", "--weights-dir", tmp_path).stdout


def test_features_of_boxes_are_saved_with_whose_they_are(fake: FakeService, photos: Path) -> None:
    fake.routes["POST", "/v1/features"] = boxed_answer
    out = photos / "out.npz"
    result = run("features", photos / "1.png", photos / "2.png", "--tap", "fc7", "-o", out,
                 "--box", "0,0,4,4", "--box", "1,0,8,2.5")  # fmt: skip
    assert result.exit_code == 0, result.output
    with np.load(out) as npz:
        assert npz["image_index"].tolist() == [0, 0, 1, 1]
        assert npz["boxes"].tolist() == [[0, 0, 4, 4], [1, 0, 8, 2.5]] * 2
        told = FeaturesAnswer.model_validate_json(npz["meta"].tobytes())
    assert [item.model_dump()["rows"] for item in told.items] == [2, 2]


def test_features_of_windows_are_asked_for(fake: FakeService, photos: Path) -> None:
    fake.routes["POST", "/v1/features"] = boxed_answer
    result = run("features", photos / "1.png", "--tap", "fc7", "--windows", "pyramid")
    assert result.exit_code == 0, result.output
    assert fake.forms()[0][1]["windows"] == ["pyramid"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--box", "0,0,4"], "four numbers"),
        (["--box", "0,0,4,x"], "four numbers"),
        (["--box", "0,0,4,4", "--windows", "pyramid"], "not both"),
    ],
)
def test_boxes_that_are_none_are_refused(photos: Path, options: list[str], says: str) -> None:
    result = run("features", photos / "1.png", *options)
    assert result.exit_code == 2
    assert says in result.stderr
