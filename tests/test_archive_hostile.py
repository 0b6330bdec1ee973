"""A pack is a stranger's file: whatever it tries, one line, and nothing outside its place."""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deltascale.archive import container
from deltascale.cli import main
from deltascale.errors import Mistake

MANIFEST = (
    b'{"format":1,"deltascale":"0.1.0","study":"s","anonymous":false,"members":[],"items":{}}'
)


def zipped(
    *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED
) -> bytes:
    """A zip of these members, after a manifest."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile tells of names that come twice
        with zipfile.ZipFile(sink, "w", method) as archive:
            for name, data in ((container.MANIFEST, MANIFEST), *members):
                archive.writestr(name, data)
    return sink.getvalue()


def special(name: str, *, mode: int = 0o100644, extra: bytes = b"") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    info.extra = extra
    return info


def patched(data: bytes, before: bytes, after: bytes, *, last: bool = False) -> bytes:
    """The bytes with one place changed: the first, or the last."""
    assert before in data
    if not last:
        return data.replace(before, after, 1)
    head, _, tail = data.rpartition(before)
    return head + after + tail


def renamed(before: str, after: bytes) -> bytes:
    """A name that zipfile would not write: put in afterwards, in both places."""
    assert len(before) == len(after)
    return zipped((before, b"x")).replace(before.encode(), after)


def encrypted() -> bytes:
    data = bytearray(zipped(("a.txt", b"x")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.rfind(signature) + offset
        data[place] |= 1
    return bytes(data)


def declared(size: int) -> bytes:
    """A member that unpacks to more than it declares, in both headers."""
    data = zipped(("a.txt", b"y" * 5000), method=zipfile.ZIP_DEFLATED)
    return data.replace(struct.pack("<L", 5000), struct.pack("<L", size))


def overlapping() -> bytes:
    """Two names for the same data."""
    data = zipped(("a.txt", b"same"), ("b.txt", b"same"))
    first = data.find(b"PK\x03\x04", 4)
    second = data.find(b"PK\x03\x04", first + 4)
    directory = data.rfind(b"PK\x01\x02")
    return (
        data[: directory + 42] + struct.pack("<L", first) + data[directory + 46 :]
        if second
        else b""
    )


def nested(depth: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(container.MANIFEST, b"[" * depth + b"]" * depth)
    return sink.getvalue()


def many(n: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(container.MANIFEST, MANIFEST)
        for number in range(n):
            archive.writestr(f"m{number}", b"")
    return sink.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "does not begin as a zip"),
    "text": (lambda: b"this is no zip\n" * 50, "does not begin as a zip"),
    "cut": (lambda: zipped(("a.txt", b"x" * 500))[:-40], "end as a pack"),
    "appended": (lambda: zipped(("a.txt", b"x")) + b"evil", "end as a pack"),
    "prepended": (lambda: b"#!/bin/sh\n" + zipped(("a.txt", b"x")), "does not begin as a zip"),
    "hidden zip before": (lambda: zipped(("b", b"y")) + zipped(("a.txt", b"x")), "between"),
    "up": (lambda: zipped(("../evil.txt", b"x")), "leaves the folder"),
    "up inside": (lambda: zipped(("a/../../evil.txt", b"x")), "leaves the folder"),
    "absolute": (lambda: zipped(("/tmp/evil.txt", b"x")), "is absolute"),
    "drive": (lambda: zipped(("C:/evil.txt", b"x")), "is absolute"),
    "backslash": (lambda: renamed("a_b_c.txt", b"..\\..\\b.x"), "leaves the folder"),
    "backslash inside": (lambda: renamed("a_b.txt", b"a\\b.txt"), "backslash"),
    "device": (lambda: zipped(("a/NUL.txt", b"x")), "means a device"),
    "control": (lambda: zipped(("a\x1b[2Jb", b"x")), "not one that a pack has"),
    "zero byte": (lambda: renamed("a_b.txt", b"a\x00b.txt"), "not one that a pack has"),
    "right to left": (lambda: zipped(("a\u202etxt.exe", b"x")), "not one that a pack has"),
    "hidden file": (lambda: zipped((".env", b"x")), "not one that a pack has"),
    "long name": (lambda: zipped(("a" * 5000, b"x")), "not one that a pack has"),
    "folder": (lambda: zipped(("a/", b"")), "not one that a pack has"),
    "twice": (lambda: zipped(("a.txt", b"x"), ("a.txt", b"y")), "two members called"),
    "twice by case": (lambda: zipped(("a.txt", b"x"), ("A.txt", b"y")), "two members called"),
    "file and folder": (lambda: zipped(("a", b"x"), ("a/b", b"y")), "a file and a folder"),
    "link": (lambda: zipped((special("a", mode=0o120777), b"/etc/passwd")), "is a link"),
    "pipe": (lambda: zipped((special("a", mode=0o010644), b"")), "not a plain file"),
    "device file": (lambda: zipped((special("a", mode=0o060644), b"")), "not a plain file"),
    "encrypted": (encrypted, "is encrypted"),
    "bzip2": (lambda: zipped(("a", b"x" * 900), method=zipfile.ZIP_BZIP2), "compressed in a way"),
    "bomb": (
        lambda: zipped(("a", bytes(40 << 20)), method=zipfile.ZIP_DEFLATED),
        "times its size",
    ),
    "more than declared": (lambda: declared(50), "damaged"),
    "less than declared": (lambda: declared(9000), "shorter"),
    "huge": (lambda: declared(0xFFFFFFF0), "times its size"),
    "overlap": (overlapping, "overlaps"),
    "another name inside": (
        lambda: patched(zipped(("good.txt", b"x")), b"good.txt", b"evil.txt"),
        "another name",
    ),
    "extra fields": (
        lambda: zipped((special("a", extra=b"\xfe\xca\x04\x00evil"), b"x")),
        "extra fields",
    ),
    "many members": (lambda: many(2_500), "more than"),
    "no manifest": (
        lambda: zipped(("a", b"x")).replace(b"manifest.json", b"manifest.jsom"),
        "not a pack",
    ),
    "manifest of nonsense": (lambda: zipped().replace(b'"format":1', b'"format":x'), "damaged"),
    "deep manifest": (lambda: nested(200_000), "can't be read"),
    "long manifest": (lambda: nested(600_000), "too long"),
    "newer": (lambda: nested(0), "can't be read"),
    "several parts": (
        lambda: patched(zipped(), b"PK\x05\x06\x00\x00", b"PK\x05\x06\x01\x00", last=True),
        "several parts",
    ),
}


@pytest.fixture
def walled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place with nothing in it but a temporary folder and the file to be verified."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    assert not list((tmp_path / "temporary").iterdir()), "something was left behind"


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_zip_is_one_line_and_exit_code_2(
    kind: str, walled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, says = HOSTILE[kind]
    (walled / "pack.zip").write_bytes(make())
    monkeypatch.setattr(sys, "argv", ["deltascale", "verify", "pack.zip"])
    outside = set(Path("/tmp").glob("evil*"))
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert says in said.err, said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.isprintable() or said.err.rstrip("\n").isprintable()
    assert said.out == ""
    assert sorted(os.listdir(walled)) == ["pack.zip"]
    assert sorted(os.listdir(walled.parent)) == ["here", "temporary"]
    assert set(Path("/tmp").glob("evil*")) == outside


def test_there_are_enough_kinds() -> None:
    assert len(HOSTILE) >= 15


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(Mistake, match="can't be read"):
        container.unpack(tmp_path / "nowhere.zip", tmp_path / "place")


def test_a_member_whose_data_are_wrong_is_named(tmp_path: Path) -> None:
    data = zipped(("good.txt", b"some text"))
    (tmp_path / "pack.zip").write_bytes(patched(data, b"some text", b"some tixt"))
    (tmp_path / "place").mkdir()
    with pytest.raises(Mistake, match="good.txt is damaged"):
        container.unpack(tmp_path / "pack.zip", tmp_path / "place")
