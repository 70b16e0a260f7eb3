"""Archives of every kind are read alike, and hostile ones are refused with the reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as under
from hypothesis import strategies as st

from offshelf.datasets import interface
from offshelf.datasets.archive import read_archive
from offshelf.datasets.interface import ImportLimits, clean_path
from offshelf.errors import InvalidParameter, OffshelfError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = ImportLimits(max_bytes=100_000, max_files=20, max_image_bytes=50_000)
FILES = {"a/1.jpg": b"one", "a/2.jpg": b"two" * 500, "b/3.jpg": b""}


def zipped(files: dict[str, bytes] | list[tuple[Any, bytes]], **options: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return out.getvalue()


def member(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tarred(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    return tarred([(member(name, len(data)), data) for name, data in files.items()])


def link_in_zip() -> bytes:
    info = zipfile.ZipInfo("a/link.jpg")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return zipped([(info, b"/etc/passwd")])


def encrypted() -> bytes:
    data = bytearray(zipped({"a/1.jpg": b"x"}))
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags_at] |= 1
    return bytes(data)


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def many_entries() -> bytes:
    """A zip that claims few entries but whose directory holds many."""
    data = bytearray(zipped({f"a/{i:050}.jpg": b"" for i in range(100)}))
    at = data.rindex(b"PK\x05\x06")
    data[at + 8 : at + 12] = struct.pack("<2H", 1, 1)
    return bytes(data)


def zip64(entries: int) -> bytes:
    """A zip whose directory is described in the form for more than 65,535 entries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
        return zipped({f"a/{i}.jpg": b"x" for i in range(entries)})


def long_header() -> bytes:
    """A tar whose PAX header says that it is 1 GiB long."""
    info = member("pax", 1 << 30, type=tarfile.XHDTYPE)
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def chained(kind: bytes, count: int) -> bytes:
    """A tar with many headers before its only member."""
    header = member("x", type=kind).tobuf(tarfile.USTAR_FORMAT)
    return header * count + tar_of({"a/1.jpg": b"x"})


def sparse(version: str) -> bytes:
    """A tar with a sparse member in one of the four ways to write one."""
    if version == "old":
        return member("a", type=tarfile.GNUTYPE_SPARSE).tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    headers = {
        "0.0": {"GNU.sparse.size": "9"},
        "0.1": {"GNU.sparse.map": "0,1"},
        "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    }[version]
    entries = b"20000\n" + b"0\n" * 40_000
    return tarred([(member("a", len(entries), pax_headers=headers), entries)])


def decoy_zip64() -> bytes:
    """A zip64 whose locator points at a small record, while zipfile reads a large one."""
    whole, small = zip64(21), zip64(2)
    record = small.rindex(b"PK\x06\x06")
    decoy = small[record : record + 56]
    locator = whole.rindex(b"PK\x06\x07")
    pointing = whole[: locator + 8] + struct.pack("<Q", len(whole)) + whole[locator + 16 : -2]
    return pointing + struct.pack("<H", len(decoy)) + decoy


def attributes(data: bytes) -> bytes:
    """A tar whose PAX header holds this."""
    header = member("pax", len(data), type=tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    return header + data + bytes(-len(data) % 512) + tar_of({"a/1.jpg": b"x"})


def many_globals() -> bytes:
    out = io.BytesIO()
    attributes = {f"k{i}": "v" for i in range(65)}
    with tarfile.open(fileobj=out, mode="w", pax_headers=attributes) as archive:
        archive.addfile(member("a/1.jpg", 1), io.BytesIO(b"x"))
    return out.getvalue()


def read(data: bytes, limits: ImportLimits = LIMITS) -> dict[str, bytes]:
    return {m.path: m.open().read() for m in read_archive(io.BytesIO(data), limits)}


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zipped,
    "zip, deflated": lambda files: zipped(files, compression=zipfile.ZIP_DEFLATED),
    "zip with a comment": lambda files: zipped(files)[:-2] + b"\x05\x00hello",
    "tar": tar_of,
    "tar.gz": lambda files: gzip.compress(tar_of(files)),
    "tar.bz2": lambda files: bz2.compress(tar_of(files)),
    "tar.xz": lambda files: lzma.compress(tar_of(files)),
    "tar, GNU": lambda files: tarred(
        [(member(name, len(data)), data) for name, data in files.items()], tarfile.GNU_FORMAT
    ),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_file_that_could_be_written_to_is_only_read(kind: str) -> None:
    data = PACKERS[kind](FILES)
    with tempfile.SpooledTemporaryFile(mode="w+b") as file:
        file.write(data)
        assert {m.path: m.open().read() for m in read_archive(file, LIMITS)} == FILES
        file.seek(0)
        assert file.read() == data


@pytest.mark.parametrize("kind", PACKERS)
def test_every_kind_of_archive_gives_its_files(kind: str) -> None:
    assert read(PACKERS[kind](FILES)) == FILES


@pytest.mark.parametrize("kind", PACKERS)
def test_members_may_be_left_unread(kind: str) -> None:
    members = read_archive(io.BytesIO(PACKERS[kind](FILES)), LIMITS)
    assert {m.path: m.size for m in members} == {k: len(v) for k, v in FILES.items()}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.2, 0.25, 0.3])
def test_an_archive_cut_short_is_refused(kind: str, keep: float) -> None:
    data = PACKERS[kind](FILES)
    with pytest.raises(InvalidParameter):
        read(data[: int(len(data) * keep)])


def test_a_tar_cut_between_two_members_is_refused() -> None:
    whole = tar_of(FILES)
    with pytest.raises(InvalidParameter, match="no end mark"):
        read(whole[: 2 * 512])


def test_long_and_foreign_names_are_kept() -> None:
    names = {f"klasse/{'ä' * 200}.jpg": b"x", "猫/1.jpg": b"y"}
    for kind in ("zip", "tar", "tar, GNU"):
        assert read(PACKERS[kind](names)) == names


def test_folders_and_the_dot_of_tar_are_no_members() -> None:
    entries = [
        (member(".", type=tarfile.DIRTYPE), b""),
        (member("./a", type=tarfile.DIRTYPE), b""),
        (member("./a/1.jpg", 1), b"x"),
    ]
    assert read(tarred(entries)) == {"a/1.jpg": b"x"}
    assert read(zipped({"a/": b"", "a/1.jpg": b"x"})) == {"a/1.jpg": b"x"}


def test_zip64_is_read() -> None:
    assert read(zip64(3)) == {f"a/{i}.jpg": b"x" for i in range(3)}


def test_zips_of_windows_may_have_backslashes() -> None:
    data = zipped({"a/1.jpg": b"x"}).replace(b"a/1.jpg", b"a\\1.jpg")
    assert read(data) == {"a/1.jpg": b"x"}


ATTACKS: dict[str, tuple[Callable[[], bytes], type[OffshelfError], str]] = {
    "zip, parent": (lambda: zipped({"a/../../b.jpg": b"x"}), InvalidParameter, "'..'"),
    "zip, parent of windows": (lambda: zipped({"..\\b.jpg": b"x"}), InvalidParameter, "'..'"),
    "zip, absolute": (lambda: zipped({"/etc/b.jpg": b"x"}), InvalidParameter, "absolute"),
    "zip, drive": (lambda: zipped({"C:/b.jpg": b"x"}), InvalidParameter, "absolute"),
    "zip, link": (link_in_zip, InvalidParameter, "link"),
    "zip, encrypted": (encrypted, InvalidParameter, "encrypted"),
    "zip, newline": (lambda: zipped({"a/\n.jpg": b"x"}), InvalidParameter, "control"),
    "zip, long path": (lambda: zipped({"a" * 1100: b"x"}), InvalidParameter, "1024"),
    "zip, same path": (lambda: zipped({"a/1.jpg": b"x", "./a//1.jpg": b"y"}), InvalidParameter,
                       "twice"),
    "zip, too many": (lambda: zipped({f"{i}.jpg": b"" for i in range(21)}), TooLarge, "20"),
    "zip, hidden entries": (many_entries, TooLarge, "20"),
    "zip64, too many": (lambda: zip64(21), TooLarge, "20"),
    "zip64, directory elsewhere": (lambda: changed(zip64(2), b"PK\x06\x06", b"PK\x07\x07"),
                                   InvalidParameter, "directory"),
    "zip64, a decoy": (decoy_zip64, InvalidParameter, "directory"),
    "zip, too much": (lambda: zipped({"a": b"x" * 60_000, "b": b"x" * 60_000}), TooLarge, "100000"),
    "zip, broken bytes": (lambda: changed(zipped({"a/1.jpg": b"right"}), b"right", b"wrong"),
                          InvalidParameter, "broken"),
    "zip, cut short": (lambda: zipped(FILES)[:-30], InvalidParameter, "cut short"),
    "tar, parent": (lambda: tar_of({"../b.jpg": b"x"}), InvalidParameter, "'..'"),
    "tar, absolute": (lambda: tar_of({"/b.jpg": b"x"}), InvalidParameter, "absolute"),
    "tar, same path": (lambda: tarred([(member("a", 1), b"x"), (member("a", 1), b"y")]),
                       InvalidParameter, "twice"),
    "tar, symlink": (lambda: tarred([(member("a", type=tarfile.SYMTYPE, linkname="/x"), b"")]),
                     InvalidParameter, "link"),
    "tar, hard link": (lambda: tarred([(member("a", type=tarfile.LNKTYPE, linkname="x"), b"")]),
                       InvalidParameter, "link"),
    "tar, device": (lambda: tarred([(member("a", type=tarfile.CHRTYPE), b"")]), InvalidParameter,
                    "device"),
    "tar, fifo": (lambda: tarred([(member("a", type=tarfile.FIFOTYPE), b"")]), InvalidParameter,
                  "device"),
    "tar, not UTF-8": (lambda: changed(tarred([(member("axb"), b"")], tarfile.USTAR_FORMAT),
                                       b"axb", b"a\xffb"), InvalidParameter, "readable"),
    "tar, long header": (long_header, InvalidParameter, "too long"),
    "tar, old sparse": (lambda: sparse("old"), InvalidParameter, "sparse file"),
    "tar, sparse 0.0": (lambda: sparse("0.0"), InvalidParameter, "sparse file"),
    "tar, sparse 0.1": (lambda: sparse("0.1"), InvalidParameter, "sparse file"),
    "tar, sparse 1.0": (lambda: sparse("1.0"), InvalidParameter, "sparse file"),
    "tar, chained globals": (lambda: chained(tarfile.XGLTYPE, 60), InvalidParameter,
                             "too many headers"),
    "tar, chained names": (lambda: chained(tarfile.GNUTYPE_LONGNAME, 60), InvalidParameter,
                           "too many headers"),
    "tar, negative size": (lambda: member("a", -512).tobuf(tarfile.GNU_FORMAT) + bytes(1024),
                           InvalidParameter, "negative size"),
    "tar, attributes of negative size": (
        lambda: tarred([(member("a", pax_headers={"size": "-512"}), b"")]), InvalidParameter,
        "negative size"),
    "tar, digits": (lambda: attributes(b"1" * 20_000), InvalidParameter, "digits"),
    "tar, nested attributes": (lambda: attributes(b"2 " * 2000 + b"a="), InvalidParameter,
                               "broken header"),
    "tar, attributes of no length": (lambda: attributes(b"0 a=b\n"), InvalidParameter,
                                     "broken header"),
    "tar, many globals": (many_globals, InvalidParameter, "global attributes"),
    "tar, too many": (lambda: tar_of({f"{i}.jpg": b"" for i in range(21)}), TooLarge, "20"),
    "tar, too much": (lambda: tar_of({"a": bytes(60_000), "b": bytes(60_000)}), TooLarge,
                      "100000"),
    "tar.gz, broken": (lambda: gzip.compress(tar_of(FILES))[:-9] + bytes(9), InvalidParameter,
                       "broken"),
    "tar.gz, a bomb nobody reads": (lambda: gzip.compress(tar_of({"a": bytes(200_000)})), TooLarge,
                                    "100000"),
    "empty": (lambda: b"", InvalidParameter, "empty"),
    "text": (lambda: b"hello, I am no archive", InvalidParameter, "readable"),
    "gz of text": (lambda: gzip.compress(b"hello"), InvalidParameter, "readable"),
    "zip magic only": (lambda: b"PK\x03\x04", InvalidParameter, "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_archives_are_refused_with_the_reason(attack: str) -> None:
    make, error, reason = ATTACKS[attack]
    with pytest.raises(error, match=reason):
        read(make())


@pytest.mark.parametrize("pack", ["zip, deflated", "tar.gz"])
def test_what_unpacks_to_many_times_its_size_is_refused(
    pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "FREE_BYTES", 1000)
    with pytest.raises(TooLarge, match="100 times"):
        read(PACKERS[pack]({"a/1.bmp": bytes(90_000)}))


@under(deadline=None)  # the machine is shared
@given(st.binary(max_size=600))
def test_noise_never_raises_anything_but_our_errors(noise: bytes) -> None:
    for data in (noise, b"PK\x03\x04" + noise + b"PK\x05\x06" + noise[:18].ljust(18, b"\0")):
        try:
            read(data)
        except OffshelfError:
            continue


@under(deadline=None)  # the machine is shared
@given(st.data())
def test_archives_with_flipped_bytes_never_raise_anything_but_our_errors(
    data: st.DataObject,
) -> None:
    kind = data.draw(st.sampled_from(sorted(PACKERS)))
    packed = bytearray(PACKERS[kind]({"a/1.jpg": b"one", "b/2.jpg": b"two"}))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(packed))
    except OffshelfError:
        return


@under(deadline=None)  # the machine is shared
@given(st.text(max_size=50))
def test_a_clean_path_stays_inside(raw: str) -> None:
    try:
        path = clean_path(raw)
    except InvalidParameter:
        return
    segments = path.split("/")
    assert path == clean_path(path)
    assert not {"", ".", ".."} & set(segments)
    path.encode()
