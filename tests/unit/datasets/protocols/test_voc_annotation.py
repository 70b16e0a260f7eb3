"""VOC annotations: what they say, and that no file can do harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from offshelf.datasets.protocols import voc_annotation
from offshelf.datasets.protocols.voc_annotation import VocObject, read_objects
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from pathlib import Path

BOX = "<bndbox><xmax>30</xmax><xmin>11</xmin><ymax>40.5</ymax><ymin>1</ymin></bndbox>"
OBJECT = f"<object><name>dog</name>{BOX}</object>"


def written(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "a.xml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_objects_in_order_with_edges_for_pixels(tmp_path: Path) -> None:
    person = (
        "<object><name> person </name><difficult>1</difficult><truncated>1</truncated>"
        "<actions><jumping>1</jumping><running>0</running><phoning>1</phoning></actions>"
        f"<part><name>head</name>{BOX}</part>{BOX}</object>"
    )
    file = written(tmp_path, f"<?xml version='1.0'?><annotation>{OBJECT}{person}</annotation>")
    assert read_objects(file) == (
        VocObject("dog", (10, 0, 30, 40.5), False, False),
        VocObject("person", (10, 0, 30, 40.5), True, True, frozenset({"jumping", "phoning"})),
    )


def test_an_image_without_objects_has_none(tmp_path: Path) -> None:
    assert read_objects(written(tmp_path, "<annotation/>")) == ()


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize(
    "hostile",
    [
        (
            f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation><object><name>&l11;</name>'
            f"{BOX}</object></annotation>"
        ),
        (
            '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation><object><name>&f;'
            f"</name>{BOX}</object></annotation>"
        ),
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation/>',
        "<!DOCTYPE a><annotation/>",
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotation/>'.encode("utf-16"),
    ],
    ids=["laughs", "file", "remote", "bare", "utf-16"],
)
def test_a_document_type_is_refused_before_it_is_read(hostile: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="no document type"):
        read_objects(written(tmp_path, hostile))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "not a readable annotation"),
        (f"<annotation>{OBJECT}", "not a readable annotation"),
        ("<annotation>&nbsp;</annotation>", "undefined entity"),
        (b"\xff\xfe\x00", "not a readable annotation"),
        ("<?xml version='1.0' encoding='klingon'?><a/>", "not a readable annotation"),
        ("<a><object><name>dog</name></object></a>", "no <bndbox/xmin>"),
        (f"<a><object>{BOX}</object></a>", "no <name>"),
        (f"<a>{OBJECT.replace('<xmin>11', '<xmin>eleven')}</a>", "could not convert"),
        (f"<a>{OBJECT.replace('<xmin>11', '<xmin>nan')}</a>", "is nan"),
        (f"<a>{OBJECT.replace('<xmin>11', '<xmin>31')}</a>", "it has no size"),
    ],
)
def test_a_broken_annotation_is_an_error_with_the_files_name(
    content: str | bytes, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameter, match=f"a.xml .*{told}"):
        read_objects(written(tmp_path, content))


def test_a_missing_or_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameter, match=r"no annotation b\.xml: No such file"):
        read_objects(tmp_path / "b.xml")
    monkeypatch.setattr(voc_annotation, "MAX_BYTES", 20)
    with pytest.raises(InvalidParameter, match="longer than 20 bytes"):
        read_objects(written(tmp_path, f"<a>{OBJECT}</a>"))


def test_depth_does_no_harm(tmp_path: Path) -> None:
    depth = 200_000
    deep = "<annotation>" + "<a>" * depth + "</a>" * depth + OBJECT + "</annotation>"
    assert len(read_objects(written(tmp_path, deep))) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="<>/&;! annotationobjectDOCTYPE\"'[]")))
def test_whatever_the_bytes_there_is_an_answer_or_our_error(
    tmp_path: Path, content: str | bytes
) -> None:
    try:
        found = read_objects(written(tmp_path, content))
    except InvalidParameter:
        return
    assert found == ()


def test_real_boxes_lie_in_their_images(shared_data: Path) -> None:
    base = shared_data / "data" / "voc2012-mini" / "VOCdevkit" / "VOC2012"
    files = sorted((base / "Annotations").iterdir())
    assert len(files) == 491
    for file in files:
        with Image.open(base / "JPEGImages" / f"{file.stem}.jpg") as image:
            width, height = image.size
        for found in read_objects(file):
            left, top, right, bottom = found.box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
