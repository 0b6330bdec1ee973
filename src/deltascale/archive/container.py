"""The zip of a pack: written the same for the same content, read as if somebody meant harm.

Every byte is covered: members by the manifest, and the whole file by a seal, the SHA-256 of all
that comes before it, at its very end. Knows nothing of what the members are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from deltascale.errors import Mistake

__all__ = ["MANIFEST", "Manifest", "Member", "is_sealed", "reseal", "unpack", "write"]

MANIFEST = "manifest.json"
_SEAL = b"deltascale pack, sha256 of all before: "
_SEAL_LENGTH = len(_SEAL) + 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,7}")
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_MOST_MEMBERS = 2_000
_MOST_DIRECTORY_BYTES = 1 << 20
_MOST_MANIFEST_BYTES = 1 << 20
_MOST_RATIO = 200
"""A member may unpack to so many times its size; deflate could do 1030 times."""
_MOST_BYTES = 1 << 38
_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_BIG = 0xF000_0000
"""Beyond this many bytes a member needs zip64, which is the only extra field that may be there."""


class Member(msgspec.Struct, frozen=True):
    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What is in a pack. `left_out` says, a line each, what is not and what follows from that.

    `replaced` counts, by kind, the names that stand for others. `withheld` are the datasets whose
    text is not here. `items` gives each dataset's file of items, `dates` the first and last call.
    """

    format: int
    deltascale: str
    study: str
    anonymous: bool
    members: tuple[Member, ...]
    items: dict[str, str]
    withheld: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    replaced: dict[str, int] = {}


# --- writing -------------------------------------------------------------------------------------


def _members_of(folder: Path) -> tuple[Member, ...]:
    """Every file of the folder but the manifest, by name, with size and digest."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name == MANIFEST:
            continue
        if wrong := _wrong_name(name):
            raise Mistake(f"a file can't be packed: {wrong}", where=name, remedy="rename it")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append(Member(name, path.stat().st_size, digest))
    return tuple(found)


def write(folder: Path, target: Path, manifest: Manifest) -> Manifest:
    """Write the folder as a pack; returns the manifest with its members. Streams.

    The manifest comes first, then the members by name; no timestamps, no permissions of anybody.
    """
    manifest = msgspec.structs.replace(manifest, members=_members_of(folder))
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=True) as archive:
        archive.comment = _SEAL + b"0" * 64
        for name in (MANIFEST, *(member.name for member in manifest.members)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            info.file_size = (folder / name).stat().st_size
            big = info.file_size > _BIG
            with (
                (folder / name).open("rb") as source,
                archive.open(info, "w", force_zip64=big) as sink,
            ):
                shutil.copyfileobj(source, sink, _CHUNK)
    reseal(target)
    return manifest


def reseal(path: Path) -> None:
    """Write the seal anew at the end of a pack whose comment has room for it."""
    with path.open("r+b") as file:
        digest = _digest_before_seal(file)
        file.seek(-64, os.SEEK_END)
        file.write(digest.encode("ascii"))


def is_sealed(path: Path) -> bool:
    """Whether every byte of the file is as it was when it was sealed."""
    with path.open("rb") as file:
        if path.stat().st_size < _SEAL_LENGTH:
            return False
        file.seek(-_SEAL_LENGTH, os.SEEK_END)
        end = file.read()
        return end == _SEAL + _digest_before_seal(file).encode("ascii")


def _digest_before_seal(file: BinaryIO) -> str:
    left = os.fstat(file.fileno()).st_size - 64
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


# --- reading -------------------------------------------------------------------------------------


def unpack(path: Path, folder: Path) -> tuple[Manifest, tuple[str, ...]]:
    """Unpack into an empty folder: the manifest, and the members that are not what it says.

    Raises Mistake, with one line, for a file that is no pack or that could do harm: nothing is ever
    written outside the folder, and no more than the members' declared sizes.
    """
    where = path.name
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            _look_at_end(file, size, where)
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
                _look_at_members(infos, where)
                _look_at_layout(file, infos, archive.start_dir, where)
                free = shutil.disk_usage(folder).free
                if sum(info.file_size for info in infos) > min(free, _MOST_BYTES):
                    raise _refused("it unpacks to more than there is room for", where)
                digests = {info.filename: _extract(archive, info, folder) for info in infos}
    except OSError as error:
        raise Mistake(f"it can't be read ({error.strerror})", where=where) from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise _refused(f"it is damaged ({_line(error)})", where) from None
    manifest = _manifest(folder / MANIFEST, where)
    return manifest, tuple(_differing(manifest, digests, folder))


def _differing(manifest: Manifest, digests: dict[str, str], folder: Path) -> Iterator[str]:
    wanted = {member.name: member for member in manifest.members}
    for name in sorted({*wanted, *digests} - {MANIFEST}):
        if name not in digests:
            yield f"{name}: the manifest names it, but it is not here"
        elif name not in wanted:
            yield f"{name}: the manifest does not name it"
        elif wanted[name].sha256 != digests[name] or (
            wanted[name].size != (folder / name).stat().st_size
        ):
            yield f"{name}: its SHA-256 is not the manifest's"


def _look_at_end(file: BinaryIO, size: int, where: str) -> None:
    """The end of the directory must be where a pack has it, and the directory right before it."""
    start = size - _END.size - _SEAL_LENGTH
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        raise _refused("it does not begin as a zip does", where)
    comment = _SEAL_LENGTH
    for comment in (_SEAL_LENGTH, 0):
        start = size - _END.size - comment
        if start < 0:
            continue
        file.seek(start)
        end = file.read(_END.size)
        if end[:4] == b"PK\x05\x06":
            break
    else:
        raise _refused(
            "it does not end as a pack does: cut short, or with something after it", where
        )
    _, disk, first_disk, here, total, length, offset, told = _END.unpack(end)
    if told != comment:
        raise _refused("it does not end as a pack does", where)
    if disk or first_disk or here != total:
        raise _refused("it is one of several parts", where)
    if total > _MOST_MEMBERS or (length != 0xFFFFFFFF and length > _MOST_DIRECTORY_BYTES):
        raise _refused(f"it has more than {_MOST_MEMBERS} members", where)
    is_zip64 = 0xFFFFFFFF in (length, offset) or total == 0xFFFF
    if not is_zip64 and offset + length != start:
        raise _refused("there is something between its directory and its end", where)


def _look_at_members(infos: Sequence[zipfile.ZipInfo], where: str) -> None:
    seen: set[str] = set()
    folders: set[str] = set()
    for info in infos:
        name = info.orig_filename
        if wrong := _wrong_name(name) or _wrong_kind(info):
            raise _refused(wrong, where)
        key = name.lower()
        if key in seen:
            raise _refused(f"it has two members called {_shown(name)}", where)
        seen.add(key)
        parts = key.split("/")
        folders.update("/".join(parts[:n]) for n in range(1, len(parts)))
    if clash := seen & folders:
        raise _refused(f"{_shown(min(clash))} is a file and a folder", where)
    if MANIFEST not in seen:
        raise _refused(f"it has no {MANIFEST}: it is a zip, but not a pack", where)
    if next(info for info in infos if info.filename == MANIFEST).file_size > _MOST_MANIFEST_BYTES:
        raise _refused("its manifest is too long", where)


def _wrong_name(name: str) -> str:
    shown = _shown(name)
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return f"the path {shown} is absolute"
    if ".." in re.split(r"[/\\]", name):
        return f"the path {shown} leaves the folder"
    if "\\" in name:
        return f"the path {shown} has a backslash"
    if len(name) > 200 or not _NAME.fullmatch(name):
        return f"the path {shown} is not one that a pack has"
    if any(_RESERVED.fullmatch(part) or part.endswith(".") for part in name.split("/")):
        return f"the path {shown} means a device or nothing on some systems"
    return ""


def _wrong_kind(info: zipfile.ZipInfo) -> str:
    shown = _shown(info.filename)
    kind = info.external_attr >> 28
    if kind == 0o12:
        return f"{shown} is a link"
    if kind not in (0, 0o10):
        return f"{shown} is not a plain file"
    if info.flag_bits & 0x1:
        return f"{shown} is encrypted"
    if info.flag_bits & ~0x806:
        return f"{shown} has flags that a pack never has"
    if info.comment or (info.extra and not info.extra.startswith(b"\x01\x00")):
        return f"{shown} has a comment or extra fields"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"{shown} is compressed in a way that a pack never is"
    if info.file_size > _MOST_RATIO * info.compress_size + (64 << 10):
        return f"{shown} unpacks to more than {_MOST_RATIO} times its size"
    return ""


def _look_at_layout(
    file: BinaryIO, infos: Sequence[zipfile.ZipInfo], directory: int, where: str
) -> None:
    """Members follow each other without gap or overlap, from the first byte to the directory."""
    at = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        shown = _shown(info.filename)
        if info.header_offset != at:
            raise _refused(f"{shown} overlaps another member, or leaves a gap", where)
        file.seek(at)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size:
            raise _refused(f"{shown} is cut short", where)
        signature, *_, name_length, extra_length = _LOCAL.unpack(header)
        name = file.read(name_length)
        if signature != b"PK\x03\x04" or name != info.orig_filename.encode():
            raise _refused(f"{shown} has another name where its data begin", where)
        if extra_length and extra_length != 20:
            raise _refused(f"{shown} has extra fields", where)
        at += _LOCAL.size + name_length + extra_length + info.compress_size
    if at != directory:
        raise _refused("there is something between its members and its directory", where)


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> str:
    """Unpack one member and return its digest; never more bytes than it declares."""
    target = folder / info.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    left = info.file_size
    try:
        with archive.open(info) as source, target.open("xb") as sink:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise zipfile.BadZipFile("it unpacks to more than it declares")
                digest.update(chunk)
                sink.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _refused(
            f"{info.filename} is damaged ({_line(error)})", _archive_name(archive)
        ) from None
    if left:
        raise _refused(f"{info.filename} is shorter than it declares", _archive_name(archive))
    return digest.hexdigest()


def _archive_name(archive: zipfile.ZipFile) -> str:
    return Path(archive.filename or "the pack").name


def _manifest(path: Path, where: str) -> Manifest:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _refused(f"{MANIFEST} can't be read ({_line(error)})", where) from None
    if found.format != 1:
        raise Mistake(
            f"{MANIFEST}: the pack has format {found.format}, this deltascale reads 1",
            where=where,
            remedy="verify it with the deltascale that wrote it, or a newer one",
        )
    return found


def _refused(what: str, where: str) -> Mistake:
    return Mistake(what, where=where, remedy="get the pack again from where it is published")


def _line(error: BaseException) -> str:
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
    return text[:160]


def _shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}...'"
