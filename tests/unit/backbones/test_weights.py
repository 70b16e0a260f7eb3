from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.records import record, record_of, recorded
from offshelf.backbones.weights import (
    BROUGHT_LICENCE,
    Location,
    digest,
    download_folder,
    load,
    locate,
    provenance,
)
from offshelf.errors import ErrorInfo, InvalidParameter, WeightsMissing, without_folder
from offshelf.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

CARD = BACKBONES.get("squeezenet1_0")
OFFICIAL = "squeezenet1_0-b66bff10.pth"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Folders of one's own, and a mirror where nobody listens."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "weights").mkdir()
    return Settings(weights_dir=tmp_path / "weights", weights_mirror="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return dict(CARD.build().state_dict())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder(settings: Settings) -> Path:
    assert settings.weights_dir is not None
    return settings.weights_dir


def test_all_places_are_looked_at_in_order(settings: Settings, state: dict[str, Tensor]) -> None:
    assert locate(CARD, settings) is None
    places = [
        ("hub-cache", settings.hub_cache / OFFICIAL),
        ("package", Path(folder(settings)).parent / "packaged.safetensors"),
        ("directory", folder(settings) / OFFICIAL),
        ("directory", folder(settings) / "squeezenet1_0.safetensors"),
    ]
    digests = set()
    for source, path in places:  # from the last resort to the first choice
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
        prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        published = replace(CARD.weights, packaged=places[1][1], sha256_prefix=prefix)
        card = replace(CARD, weights=published)
        found = locate(card, settings)
        assert found is not None
        assert (found.source, found.path) == (source, path)
        loaded = load(card, None, settings)
        assert loaded.source == source
        digests.add(loaded.digest)
    assert len(digests) == 1  # a .pth and a .safetensors of one network agree


def test_missing_weights_name_the_variable_but_no_secret_of_the_mirror(settings: Settings) -> None:
    secret = settings.model_copy(update={"weights_mirror": "http://me:s3cret@127.0.0.1:9/w"})
    with pytest.raises(WeightsMissing, match=OFFICIAL) as caught:
        load(CARD, None, secret)
    public = ErrorInfo.of(caught.value).message
    assert "OFFSHELF_WEIGHTS_DIR" in public
    assert "http://127.0.0.1:9/w" in public
    assert "s3cret" not in public


def test_the_hub_cache_is_torchs_own(settings: Settings) -> None:
    assert settings.hub_cache == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/x/cache"}, {"TORCH_HOME": "~/t"}])
def test_the_hub_cache_follows_the_variables_that_torch_follows(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().hub_cache == Path(torch.hub.get_dir()) / "checkpoints"


def test_weights_of_the_old_file_format_are_read(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    torch.save(state, folder(settings) / OFFICIAL, _use_new_zipfile_serialization=False)
    network = load(CARD, None, settings).network
    assert all(torch.equal(t, state[name]) for name, t in network.state_dict().items())


def test_loaded_networks_are_in_eval_mode_and_need_no_gradient(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    torch.save(state, folder(settings) / OFFICIAL)
    for network in (load(CARD, None, settings).network, load(CARD, "random:1", settings).network):
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_only_the_published_file_carries_the_published_name(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    path = folder(settings) / OFFICIAL
    torch.save(state, path)
    brought = load(CARD, None, settings)
    assert brought.label == OFFICIAL
    assert "brought" in brought.licence
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    card = replace(CARD, weights=replace(CARD.weights, sha256_prefix=prefix))
    official = load(card, None, settings)
    assert (official.label, official.licence) == ("IMAGENET1K_V1", CARD.weights.licence)


def test_half_precision_files_are_widened(settings: Settings, state: dict[str, Tensor]) -> None:
    half = {name: tensor.half() for name, tensor in state.items()}
    save_file(half, folder(settings) / "squeezenet1_0.safetensors")
    network = load(CARD, None, settings).network
    assert {t.dtype for t in network.state_dict().values()} == {torch.float32}


def test_a_counter_of_batch_norm_may_be_missing_and_does_not_count(settings: Settings) -> None:
    card = BACKBONES.get("resnet50")
    state = card.build().state_dict()
    old = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    digests = []
    for tensors in (state, old):
        torch.save(tensors, folder(settings) / card.weights.filename)
        digests.append(load(card, None, settings).digest)
    assert digests[0] == digests[1]


def changed(state: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    merged = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: tensor for name, tensor in merged.items() if tensor is not None}


def test_what_does_not_fit_is_named(settings: Settings, state: dict[str, Tensor]) -> None:
    wrong = changed(
        state, features__0__bias=None, extra=torch.ones(1), features__0__weight=torch.ones(2, 2)
    )
    path = folder(settings) / OFFICIAL
    torch.save(wrong, path)
    with pytest.raises(WeightsMissing) as told:
        load(CARD, None, settings)
    message = str(told.value)
    assert str(path) in message
    assert "missing: features.0.bias" in message
    assert "unexpected: extra" in message
    assert "features.0.weight is (2, 2), not (96, 3, 7, 7)" in message


def test_weights_of_another_network_are_refused_without_a_flood(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    torch.save(state, folder(settings) / "resnet50-0676ba61.pth")
    with pytest.raises(WeightsMissing, match=r"and 2\d\d more") as told:
        load(BACKBONES.get("resnet50"), None, settings)
    assert len(str(told.value)) < 1500


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a pickle ran')",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (OFFICIAL, b""),
        (OFFICIAL, b"garbage"),
        (OFFICIAL, pickle.dumps({"weight": 1}, protocol=2)),
        (OFFICIAL, pickle.dumps(Evil(), protocol=2)),
        ("squeezenet1_0.safetensors", b""),
        ("squeezenet1_0.safetensors", b"garbage" * 10),
    ],
)
def test_files_that_are_no_weights_are_refused(
    settings: Settings, name: str, content: bytes
) -> None:
    (folder(settings) / name).write_bytes(content)
    with pytest.raises(WeightsMissing, match=name):
        load(CARD, None, settings)


def test_no_pickle_is_run_from_torchs_format(settings: Settings) -> None:
    torch.save({"weight": Evil()}, folder(settings) / OFFICIAL)
    with pytest.raises(WeightsMissing, match="cannot be read as weights"):
        load(CARD, None, settings)


@pytest.mark.parametrize("kept", [100, 100_000, -1000])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_truncated_file_is_refused(
    settings: Settings, state: dict[str, Tensor], kept: int, new_format: bool
) -> None:
    path = folder(settings) / OFFICIAL
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsMissing, match="cannot be read"):
        load(CARD, None, settings)


def test_a_file_that_is_not_the_one_on_record_is_refused_with_both_hashes(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    path = folder(settings) / OFFICIAL
    torch.save(state, path)
    first = sha256(path)
    record(path, first)
    assert load(CARD, None, settings).label == OFFICIAL
    torch.save(changed(state, features__0__bias=torch.ones(96)), path)
    with pytest.raises(WeightsMissing) as told:
        load(CARD, None, settings)
    for said in (str(path), sha256(path), first, "weights pull squeezenet1_0", "delete the record"):
        assert said in str(told.value)
    record_of(path).unlink()
    assert load(CARD, None, settings).label == OFFICIAL


def test_a_change_that_hides_its_time_is_seen(settings: Settings, state: dict[str, Tensor]) -> None:
    path = folder(settings) / "squeezenet1_0.safetensors"
    save_file(state, path)
    record(path, sha256(path))
    load(CARD, None, settings)
    about = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(WeightsMissing, match="its record"):
        load(CARD, None, settings)


def test_a_damaged_file_in_torchs_cache_is_refused_by_its_name(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    path = settings.hub_cache / OFFICIAL
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    with pytest.raises(WeightsMissing, match=r"its name says b66bff10\.\.\."):
        load(CARD, None, settings)


@pytest.mark.parametrize("text", ["", "nonsense", "ab  " + OFFICIAL, "a" * 64 + "  other.pth"])
def test_a_bad_record_is_told_and_does_not_stop_the_listing(
    settings: Settings, state: dict[str, Tensor], text: str
) -> None:
    path = folder(settings) / OFFICIAL
    torch.save(state, path)
    record_of(path).write_text(text)
    with pytest.raises(WeightsMissing, match="is not a record of " + OFFICIAL):
        load(CARD, None, settings)
    assert provenance(CARD, Location("directory", path)) == (OFFICIAL, BROUGHT_LICENCE)


def test_sha256sum_reads_our_records_and_we_read_its(
    settings: Settings, state: dict[str, Tensor]
) -> None:
    path = folder(settings) / OFFICIAL
    torch.save(state, path)
    record(path, sha256(path))
    done = subprocess.run(
        ["sha256sum", "-c", record_of(path).name], cwd=path.parent, capture_output=True, check=False
    )
    assert done.returncode == 0
    for flag in ("--text", "--binary"):
        printed = subprocess.run(
            ["sha256sum", flag, OFFICIAL], cwd=path.parent, capture_output=True, check=True
        ).stdout
        record_of(path).write_bytes(printed)
        assert recorded(path) == sha256(path)


def test_nothing_is_downloaded_offline(settings: Settings) -> None:
    offline = settings.model_copy(update={"offline": True})
    with pytest.raises(WeightsMissing, match="OFFSHELF_OFFLINE is set"):
        load(CARD, None, offline)


def test_downloads_go_to_the_weights_directory_if_it_can_be_written_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download_folder(settings) == folder(settings)
    assert download_folder(settings.model_copy(update={"weights_dir": None})) == settings.hub_cache
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert download_folder(settings) == settings.hub_cache


def test_missing_weights_name_the_file_and_every_place(settings: Settings) -> None:
    with pytest.raises(WeightsMissing) as told:
        load(CARD, None, settings)
    message = str(told.value)
    put = (
        f"Put {OFFICIAL} or squeezenet1_0.safetensors into the folder that OFFSHELF_WEIGHTS_DIR "
        f"names (now {folder(settings)}), or {OFFICIAL} into {settings.hub_cache}. "
    )
    for place in (
        put,
        "http://127.0.0.1:9/" + OFFICIAL,
        "random:0",
    ):
        assert place in message
    without = Settings(weights_mirror="http://127.0.0.1:9")
    with pytest.raises(WeightsMissing, match=r"OFFSHELF_WEIGHTS_DIR names \(not set now\)"):
        load(CARD, None, without)


def test_random_weights_are_seeded_and_leave_the_global_state_alone(settings: Settings) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        load(CARD, f"random:{seed}", settings).digest for seed in ("1", "1", "2")
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_random_weights_are_the_same_in_another_process(settings: Settings) -> None:
    script = (
        "from offshelf.backbones.interface import BACKBONES\n"
        "from offshelf.backbones.weights import load\n"
        "from offshelf.settings import Settings\n"
        "print(load(BACKBONES.get('squeezenet1_0'), 'random:7', Settings()).digest)"
    )
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    ).stdout.strip()
    loaded = load(CARD, "random:007", settings)
    assert loaded.digest == there
    assert (loaded.source, loaded.label) == ("random", "random:7")


@pytest.mark.parametrize("text", ["random", "random:", "random:x", "random:-1", "trained", ""])
def test_other_weights_than_random_cannot_be_named(text: str, settings: Settings) -> None:
    with pytest.raises(InvalidParameter, match="random:<seed>"):
        load(CARD, text, settings)


def test_the_digest_is_of_names_shapes_and_values(state: dict[str, Tensor]) -> None:
    network = torch.nn.Linear(2, 2)
    base = digest(network)
    assert digest(network.to(memory_format=torch.preserve_format)) == base
    total = hashlib.sha256()
    for name, tensor in (("bias", network.bias), ("weight", network.weight)):
        shape = "(2,)" if name == "bias" else "(2, 2)"
        total.update(f"{name}\0float32\0{shape}\0".encode())
        total.update(tensor.detach().numpy().astype("<f4").tobytes())
    assert base == total.hexdigest()
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert digest(network) != base


def test_clients_read_no_folder_of_this_machine(
    settings: Settings, state: dict[str, Tensor], tmp_path: Path
) -> None:
    def refused() -> tuple[str, str]:
        with pytest.raises(WeightsMissing) as told:
            load(CARD, None, settings)
        return str(told.value), ErrorInfo.of(told.value).message

    def check(*names: str) -> None:
        full, public = refused()
        assert str(tmp_path) in full
        assert str(tmp_path) not in public
        assert all(name in public for name in names), public

    check(OFFICIAL, "squeezenet1_0.safetensors", "OFFSHELF_WEIGHTS_DIR")
    path = folder(settings) / OFFICIAL
    part = settings.model_copy(update={"weights_dir": folder(settings) / "file"})
    (folder(settings) / "file").write_bytes(b"no folder")
    with pytest.raises(WeightsMissing, match="cannot write") as told:
        load(CARD, None, part)
    assert f"cannot write {OFFICIAL}" in told.value.public_message
    assert str(tmp_path) not in told.value.public_message
    path.write_bytes(b"nonsense")
    check(f"{OFFICIAL} cannot be read as weights")
    torch.save({"a": torch.zeros(1)}, path)
    check(f"{OFFICIAL} does not hold the weights of squeezenet1_0")
    record(path, "0" * 64)
    check(f"{OFFICIAL} has sha256", "delete the record")
    record_of(path).write_text("nonsense")
    check(f"{OFFICIAL}.sha256 is not a record")


def test_only_whole_folders_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    text = f"{tmp_path}/a.pth, {tmp_path}/link/b.pth, in {tmp_path}/link"
    assert without_folder(text, tmp_path / "link") == "a.pth, b.pth, in link"
    for harmless in (Path("/"), Path(tmp_path.anchor)):
        assert without_folder("a/b.c and /d", harmless) == "a/b.c and /d"
