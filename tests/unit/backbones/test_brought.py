"""Networks that an operator brings by a card file, against networks that torchvision builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from offshelf.backbones.brought_card import head_taps
from offshelf.backbones.card_file import CardFile
from offshelf.backbones.catalogue import Catalogue
from offshelf.backbones.head import head_modules
from offshelf.backbones.interface import BACKBONES, arranged_shape
from offshelf.backbones.networks.skeleton import skeleton
from offshelf.backbones.tracing import Shapes
from offshelf.backbones.weights import BROUGHT_LICENCE, load, locate
from offshelf.engine.interface import Output
from offshelf.engine.residency import Residency
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import UnknownName, WeightsMissing
from offshelf.settings import Settings
from tests.reference.pictures import picture
from tests.reference.plain import forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from offshelf.backbones.interface import Build, Card, Tap
    from offshelf.engine.interface import Pixels, Resident

FLOWERS = """
# Fine-tuned by somebody.
architecture = "squeezenet1_0"
weights = "flowers.pth"
classes = ["rose", "tulip", "daisy"]
licence = "CC-BY-4.0"
paper = "arXiv:0000.00000"

[preprocessing]
resize = 200
crop = 192
interpolation = "bicubic"
mean = [0.5, 0.4, 0.3]
std = [1, 0.5, 0.25]
"""


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def seeded(build: Any, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build(weights=None, **options).eval()


def normalised(pixels: Pixels, resident: Resident) -> Tensor:
    pre = resident.card.preprocessing
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(pre.mean).view(3, 1, 1)) / torch.tensor(pre.std).view(3, 1, 1)


@pytest.fixture
def flowers(tmp_path: Path) -> nn.Module:
    network = seeded(models.squeezenet1_0, num_classes=3)
    torch.save(network.state_dict(), tmp_path / "flowers.pth")
    put(tmp_path, "flowers", FLOWERS)
    return network


def test_a_card_file_makes_a_card_like_any_other(tmp_path: Path, flowers: nn.Module) -> None:
    catalogue = Catalogue(tmp_path)
    card, base = catalogue.get("flowers"), BACKBONES.get("squeezenet1_0")
    assert "flowers" in catalogue.names()
    assert catalogue.get("flowers") is card
    assert (card.name, card.classes, card.paper) == ("flowers", 3, "arXiv:0000.00000")
    assert card.class_names == ("rose", "tulip", "daisy")
    assert [tap.name for tap in card.taps] == [tap.name for tap in base.taps]
    assert card.taps[-1].shape == (3,)
    assert card.taps[-2].shape == (3, 11, 11)
    pre = card.preprocessing
    assert (pre.resize, pre.crop, pre.interpolation) == (200, 192, "bicubic")
    assert (pre.mean, pre.std, pre.channels) == ((0.5, 0.4, 0.3), (1.0, 0.5, 0.25), "rgb")
    loaded = load(card, None, Settings(weights_dir=tmp_path))
    assert (loaded.label, loaded.licence) == ("flowers.pth", "CC-BY-4.0")
    assert loaded.source == "directory"


def test_its_features_are_those_of_the_network(tmp_path: Path, flowers: nn.Module) -> None:
    resident = TorchEngine(Settings(device="cpu", weights_dir=tmp_path)).load("flowers", None)
    pixels = np.array(picture(1, 192, 192))[np.newaxis]
    x = normalised(pixels, resident)
    with torch.inference_mode():
        wanted = flowers(x)[0].numpy()
    for tap in resident.card.taps:
        (row,) = forward(resident, pixels, [Output(tap.name)])[Output(tap.name)]
        assert row.shape == tap.shape
    assert np.linalg.norm(row - wanted) <= 1e-5 * np.linalg.norm(wanted)


def traced(build: Build, taps: Sequence[Tap], base: Card) -> list[tuple[int, ...]]:
    """What the nodes of taps give, laid out as they are handed out."""
    shapes = Shapes(build, base.preprocessing.crop)
    return [arranged_shape(tap.layout, shapes.shape(tap.node)) for tap in taps]


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_registered_network_can_have_other_classes_or_none(name: str, tmp_path: Path) -> None:
    put(tmp_path, "more", f'architecture = "{name}"\nweights = "x.pth"\nclasses = 7')
    put(tmp_path, "none", f'architecture = "{name}"\nweights = "x.pth"\nheadless = true')
    base, more = BACKBONES.get(name), Catalogue(tmp_path).get("more")
    assert traced(more.build, more.taps, base) == [tap.shape for tap in more.taps]
    assert more.taps[-1].shape == (7,)
    headless = Catalogue(tmp_path).get("none")
    assert headless.classes == 0
    assert {t.name for t in base.taps} - {t.name for t in headless.taps} == head_taps(base)
    assert "logits" in head_taps(base)
    assert {a.tap for a in headless.aliases.values()} <= {tap.name for tap in headless.taps}
    assert traced(headless.build, headless.taps, base) == [tap.shape for tap in headless.taps]
    heads = tuple(f"{module}." for module in head_modules(base.build))
    with_head, without = (skeleton(card.build).state_dict() for card in (base, headless))
    assert {n for n in with_head if not n.startswith(heads)} == set(without)


def self_supervised(network: nn.Module) -> dict[str, Tensor]:
    """What MoCo v2's training script keeps under `state_dict`, but for the numbers."""
    state = {n: t for n, t in network.state_dict().items() if not n.startswith("fc.")}
    query = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()}
    key = {f"module.encoder_k.{name}": tensor + 1 for name, tensor in state.items()}
    head = {"module.encoder_q.fc.0.weight": torch.ones(4, 4), "module.queue": torch.ones(2, 8)}
    return query | key | head


MOCO = """
architecture = "resnet50"
weights = "moco.pth.tar"
headless = true
key = "state_dict"
prefix = "module.encoder_q."
"""


@pytest.mark.parametrize("override", ["", "\n[preprocessing]\nresize = 74\ncrop = 64"])
def test_a_self_supervised_checkpoint(tmp_path: Path, override: str) -> None:
    network = seeded(models.resnet50)
    held = {"epoch": 200, "arch": "resnet50", "state_dict": self_supervised(network)}
    torch.save(held, tmp_path / "moco.pth.tar")
    put(tmp_path, "moco", MOCO + override)
    resident = TorchEngine(Settings(device="cpu", weights_dir=tmp_path)).load("moco", None)
    assert resident.weights.licence == BROUGHT_LICENCE
    with pytest.raises(UnknownName, match="tap of moco"):
        resident.resolve_tap("logits")
    side = resident.card.preprocessing.crop
    pixels = np.array(picture(2, side, side))[np.newaxis]
    name = resident.resolve_tap("penultimate")[0]
    (row,) = forward(resident, pixels, [Output(name)])[Output(name)]
    network.fc = torch.nn.Identity()
    x = normalised(pixels, resident)
    with torch.inference_mode():
        wanted = network(x)[0].numpy()
    assert np.linalg.norm(row - wanted) <= 1e-5 * np.linalg.norm(wanted)
    receptive = {tap.name: tap.receptive_field for tap in resident.card.taps}
    assert receptive["conv5"] == 427
    assert receptive["pool5"] == (None if override else 619)


def test_what_a_training_left_beside_the_network_can_be_dropped(tmp_path: Path) -> None:
    network = seeded(models.alexnet, num_classes=4)
    state = dict(network.state_dict()) | {
        "projection.weight": torch.ones(1),
        "queue": torch.ones(1),
    }
    save_file(state, tmp_path / "a.safetensors")
    text = 'architecture = "alexnet"\nweights = "a.safetensors"\nclasses = 4\n'
    put(tmp_path, "a", text)
    settings = Settings(weights_dir=tmp_path)
    with pytest.raises(WeightsMissing, match=r"unexpected: projection\.weight, queue"):
        load(Catalogue(tmp_path).get("a"), None, settings)
    put(tmp_path, "a", text + 'drop = ["projection.", "queue"]')
    loaded = load(Catalogue(tmp_path).get("a"), None, settings).network
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in loaded.state_dict().items())


def test_a_file_that_is_otherwise_than_the_card_says_is_told(tmp_path: Path) -> None:
    settings = Settings(weights_dir=tmp_path)

    def says(text: str, held: object, said: str) -> None:
        torch.save(held, tmp_path / "x.pth")
        put(tmp_path, "x", 'architecture = "alexnet"\nweights = "x.pth"\n' + text)
        with pytest.raises(WeightsMissing, match=said):
            load(Catalogue(tmp_path).get("x"), None, settings)

    state = dict(seeded(models.alexnet).state_dict())
    says("", {"epoch": 1, "model": state}, r"these are none: epoch, model.*`key`")
    says('key = "state_dict"', {"epoch": 1, "model": state}, "no key 'state_dict'.*epoch, model")
    says('prefix = "module."', state, "begins with 'module.'; there are: features.0.weight")
    says("classes = 5", state, r"classifier.6.bias is \(1000,\), not \(5,\)")
    says("", [state], "but a list")


BASE = 'architecture = "alexnet"\nweights = "x.pth"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("architecture = \nx = 1", "is not TOML: .*line 1"),
        ('weights = "x.pth"', "the field 'architecture' is missing"),
        ('architecture = "alexnett"\nweights = "x"', "line 1, field 'architecture'.*mean alexnet"),
        (BASE + 'clases = 3', "line 3, field 'clases' is unknown; did you mean 'classes'"),
        (BASE + 'zzz = 3', "field 'zzz' is unknown; there are: architecture, weights"),
        (BASE + "classes = 0", "line 3, field 'classes' should be a number above zero"),
        (BASE + "classes = true", "field 'classes' should be a number above zero"),
        (BASE + 'classes = ["a", 1]', "or a list of names"),
        (BASE + 'classes = ["a", "b", "a"]', "field 'classes' names 'a' more than once"),
        (BASE + 'classes_file = "none.txt"', "field 'classes_file' cannot be read"),
        (BASE + 'classes_file = "empty.txt"', "'empty.txt', which is empty"),
        (BASE + 'classes_file = "two.txt"\nclasses = 3', "gives 2 names, but 'classes' is"),
        (BASE + "headless = 1", "line 3, field 'headless' input should be a valid boolean"),
        (BASE + "headless = true\nclasses = 3", "field 'headless' is set, so there are no classes"),
        (BASE + 'drop = "a"', "field 'drop' should be a list"),
        (BASE + "preprocessing.mean = [1, 2]", "line 3, field 'preprocessing.mean' should"),
        (BASE + "[preprocessing]\nstd = [1, 0, 1]", "line 4, .*std' should be above zero"),
        (BASE + "[preprocessing]\nresize = 100", "leaves the crop .224. larger than resize .100."),
        (BASE + "[preprocessing]\ncrop = 8", "field 'preprocessing.crop' does not fit alexnet"),
        (BASE + "[preprocessing]\nchannels = 'rgba'", "'rgb' or 'bgr'"),
        (BASE + "[preprocessing]\nsize = 3", "'preprocessing.size' is unknown; .*resize"),
        ('architecture = "alexnet"\nweights = "/etc/passwd"', "which is not a file inside"),
        ('architecture = "alexnet"\nweights = "../x.pth"', "'../x.pth', which is not a file"),
        ('architecture = "alexnet"\nweights = "out/x.pth"', "which is not a file inside"),
        ('architecture = "alexnet"\nweights = ""', "which is not a file inside"),
        (BASE + 'classes_file = "../../etc/passwd"', "field 'classes_file' is .*not a file inside"),
        ('architecture = "alexnet"\nweights = "a\\u0000b"', "field 'weights' is"),
        ('architecture = "good"\nweights = "x.pth"', "field 'architecture' is no network"),
    ],
)  # fmt: skip
def test_a_bad_card_file_says_where_and_what_would_be_right(
    tmp_path: Path, text: str, said: str
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "empty.txt").write_text("\n")
    (folder / "two.txt").write_text("a\nb\n")
    put(folder, "good", BASE)
    path = put(folder, "bad", text)
    catalogue = Catalogue(folder)
    with pytest.raises(WeightsMissing, match=said) as told:
        catalogue.get("bad")
    assert str(path) in str(told.value)
    assert "the card file bad.toml: " in told.value.public_message
    assert str(tmp_path) not in told.value.public_message
    assert catalogue.get("good").name == "good"
    assert set(catalogue.bad_cards()) == {"bad"}
    assert "bad" not in catalogue.names()
    assert {"good", "alexnet"} <= set(catalogue.names())


def test_a_name_of_offshelfs_own_cannot_be_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "alexnet", 'architecture = "vgg16"\nweights = "x.pth"')
    catalogue = Catalogue(tmp_path)
    assert catalogue.get("alexnet") is BACKBONES.get("alexnet")
    assert "is a backbone of offshelf's own; rename the file" in str(
        catalogue.bad_cards()["alexnet"]
    )
    assert "rename the file" in caplog.text
    put(tmp_path, "a b", BASE)
    assert "'a b' is no name" in str(catalogue.bad_cards()["a b"])


def test_a_network_that_cannot_be_built_at_all_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of its own")

    monkeypatch.setattr("offshelf.backbones.brought.read_card", broken)
    put(tmp_path, "x", BASE)
    catalogue = Catalogue(tmp_path)
    assert "alexnet" in catalogue.names()
    assert "RuntimeError of its own" in str(catalogue.bad_cards()["x"])


def test_class_names_come_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Rose \n\nDaisy\n", encoding="utf-8")
    put(tmp_path, "x", BASE + 'classes_file = "names.txt"')
    catalogue = Catalogue(tmp_path)
    card = catalogue.get("x")
    assert (card.class_names, card.classes) == (("Rose", "Daisy"), 2)
    (tmp_path / "names.txt").write_text("Rose\nDaisy\nTulip\n")
    assert catalogue.get("x").classes == 3


def test_changes_count_without_a_restart_and_cost_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(tmp_path)
    with pytest.raises(UnknownName, match="no backbone named 'flower'"):
        catalogue.get("flower")
    path = put(tmp_path, "flower", BASE + "classes = 3")
    first = catalogue.get("flower")
    assert catalogue.get("flower") is first
    path.write_text(BASE + "classes = 4")
    os.utime(path, ns=(1, 1))
    assert catalogue.get("flower").classes == 4
    path.write_text("nonsense")
    assert "flower" in catalogue.bad_cards()
    path.write_text(BASE + "classes = 5")
    os.utime(path, ns=(2, 2))
    assert catalogue.get("flower").classes == 5
    assert "flower" not in catalogue.bad_cards()
    with pytest.raises(UnknownName, match="did you mean flower"):
        catalogue.get("flowe")
    path.unlink()
    with pytest.raises(UnknownName):
        catalogue.get("flower")


def test_a_loaded_network_is_loaded_anew_when_its_card_file_changes(
    tmp_path: Path, flowers: nn.Module
) -> None:
    residency = Residency(TorchEngine(Settings(device="cpu", weights_dir=tmp_path)), 1 << 30)
    first = residency.hold("flowers", None)
    assert residency.hold("flowers", None).resident is first.resident
    path = put(tmp_path, "flowers", FLOWERS.replace("0.25]", "0.125]"))
    os.utime(path, ns=(1, 1))
    assert residency.hold_loaded("flowers", None) is None
    second = residency.hold("flowers", None).resident
    assert second.card.preprocessing.std == (1.0, 0.5, 0.125)
    assert residency.hold("flowers", None).resident is second
    # Who holds the old one has it to the end.
    assert first.resident.card.preprocessing.std == (1.0, 0.5, 0.25)
    path.write_text("nonsense")
    with pytest.raises(WeightsMissing, match="is not TOML"):
        residency.hold("flowers", None)
    path.unlink()
    with pytest.raises(UnknownName):
        residency.hold("flowers", None)


def test_a_missing_weights_file_is_told_by_its_name(tmp_path: Path) -> None:
    put(tmp_path, "x", BASE)
    card, settings = Catalogue(tmp_path).get("x"), Settings(weights_dir=tmp_path)
    assert locate(card, settings) is None
    with pytest.raises(WeightsMissing, match=r"its card file names x\.pth, which is not there"):
        load(card, None, settings)
    assert load(card, "random:1", settings).label == "random:1"


def test_no_pickle_of_a_brought_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('a pickle ran')",)

    torch.save({"state_dict": {}, "args": Evil()}, tmp_path / "x.pth")
    put(tmp_path, "x", BASE + 'key = "state_dict"')
    with pytest.raises(WeightsMissing, match="cannot be read as weights"):
        load(Catalogue(tmp_path).get("x"), None, Settings(weights_dir=tmp_path))


def test_the_card_files_of_the_documentation_are_good(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "weights.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for number, text in enumerate(examples):
        put(tmp_path, f"example{number}", text)
    catalogue = Catalogue(tmp_path)
    assert catalogue.bad_cards() == {}
    fields = set(CardFile.model_fields) - {"preprocessing"}
    table = page.split("| field | default | |")[1].split("\n\n")[0]
    assert fields <= set(re.findall(r"`(\w+)`", table))


def test_listing_them_needs_no_torch(tmp_path: Path) -> None:
    put(tmp_path, "mine", BASE + "classes = 3\nheadless = false")
    script = (
        "import sys; sys.modules.update(torch=None, torchvision=None)\n"
        "from pathlib import Path\n"
        "from offshelf.backbones.catalogue import Catalogue\n"
        "from offshelf.backbones.inventory import inventory\n"
        "from offshelf.settings import Settings\n"
        "folder = Path(sys.argv[1])\n"
        "held = inventory(Catalogue(folder), Settings(weights_dir=folder))\n"
        "print(*[one.backbone for one in held if not one.problem])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert {"mine", "alexnet"} <= set(done.stdout.split())
