"""Getting benchmark files onto this machine, checked by size and checksum. Knows no benchmark.

The only module of the datasets that opens a socket. A file is downloaded beside its place as
`*.part`, resumed where it broke off, checked, flushed to disk and only then renamed, so a file in
the cache is always whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urlsplit

from deltascale.errors import DatasetMistake

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["Cache", "Remote", "fetch"]

ATTEMPTS = 4
REDIRECTS = 5
TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 18
_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Cache:
    """Where downloads are kept and whether they may be made.

    `mirror_base` (for example `http://127.0.0.1:8000/mirror`) rewrites every `https://HOST/PATH` to
    `{mirror_base}/HOST/PATH`. `offline` True: use what the directory holds, open no socket.
    """

    directory: Path
    mirror_base: str = ""
    offline: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Cache:
        """Read DELTASCALE_CACHE, DELTASCALE_MIRROR and DELTASCALE_OFFLINE.

        Without DELTASCALE_CACHE the directory is `deltascale` in the user's cache directory.

        Raises:
            DatasetMistake: DELTASCALE_OFFLINE or DELTASCALE_MIRROR can't be understood.
        """
        offline = environ.get("DELTASCALE_OFFLINE", "").strip().lower()
        if offline not in _ON | _OFF:
            raise DatasetMistake(
                f"{offline!r} is neither yes nor no",
                where="DELTASCALE_OFFLINE",
                remedy="set it to 1 or 0",
            )
        mirror = environ.get("DELTASCALE_MIRROR", "").strip().rstrip("/")
        if mirror and urlsplit(mirror).scheme not in {"http", "https"}:
            raise DatasetMistake(
                f"{mirror!r} is not an http(s) address",
                where="DELTASCALE_MIRROR",
                remedy="write it like http://127.0.0.1:8000/mirror",
            )
        return cls(_directory(environ), mirror, offline in _ON)

    def path(self, remote: Remote) -> Path:
        """Where the file is kept: under its host and path, whether it is there or not."""
        parts = urlsplit(remote.url)
        names = [quote(name, safe="+=@,()") for name in parts.path.split("/")]
        if parts.query:
            names.append(hashlib.sha256(parts.query.encode()).hexdigest()[:16])
        kept = [name for name in names if name.strip(".")]
        return self.directory.joinpath(parts.netloc.replace(":", "_"), *kept)


def _directory(environ: Mapping[str, str]) -> Path:
    named = environ.get("DELTASCALE_CACHE", "").strip()
    if named:
        return Path(named).expanduser()
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        parent = environ.get(variable, "").strip()
        if parent and Path(parent).is_absolute():
            return Path(parent) / "deltascale"
    return Path.home() / ".cache" / "deltascale"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on the web at a fixed version.

    `size` in bytes. Where no checksum is published, the first download's is kept beside the file
    and every later one is held against it. `instead` is what else may be done where it can't be
    downloaded, for the remedy of the mistake.
    """

    url: str
    size: int | None = None
    sha256: str = ""
    md5: str = ""
    instead: str = ""


class _BrokenOffError(Exception):
    """The transfer ended early or the server was not well: worth another attempt."""


def fetch(remote: Remote, cache: Cache, *, sleep: Callable[[float], object] = time.sleep) -> Path:
    """Return the path of the file in the cache, downloading it if it is not there whole.

    Raises:
        DatasetMistake: it can't be had, is not what it should be, or the cache can't be written.
    """
    path = cache.path(remote)
    found = _wrong(path, remote) if path.exists() else "not there"
    if not found:
        return path
    if cache.offline:
        what = "is not in the cache" if not path.exists() else f"is damaged in the cache ({found})"
        raise DatasetMistake(
            f"{remote.url} {what}, and downloads are off",
            where=str(path),
            remedy="unset DELTASCALE_OFFLINE, or put the file there",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with _only_writer(part) as file:
            if not path.exists() or _wrong(path, remote):
                _bring(file, part, remote, cache, sleep)
                os.replace(part, path)
                _lock(path, remote)
            else:  # another process was quicker
                part.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetMistake(
            f"the cache can't be written ({error.strerror or error})",
            where=str(cache.directory),
            remedy="make room there, or set DELTASCALE_CACHE to another directory",
        ) from error
    return path


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _lock(path: Path, remote: Remote) -> None:
    """Keep the first download's checksum where upstream publishes none."""
    if remote.sha256 or remote.md5:
        return
    kept = {"url": remote.url, "size": path.stat().st_size, "sha256": _hash(path, "sha256")}
    _lock_of(path).write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _expected(path: Path, remote: Remote) -> tuple[int | None, str, str]:
    """(size, algorithm, checksum); the algorithm is empty where nothing is known yet."""
    if remote.sha256:
        return remote.size, "sha256", remote.sha256
    if remote.md5:
        return remote.size, "md5", remote.md5
    lock = _lock_of(path)
    if not lock.exists():
        return remote.size, "", ""
    try:
        kept = json.loads(lock.read_text(encoding="utf-8"))
        return int(kept["size"]), "sha256", str(kept["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetMistake(
            "this record of a checksum can't be read",
            where=str(lock),
            remedy="delete it to accept the file as it is on the server now",
        ) from error


def _wrong(path: Path, remote: Remote, *, place: Path | None = None) -> str:
    """What is wrong with the file at `path`, in words; empty if nothing is."""
    size, algorithm, checksum = _expected(place or path, remote)
    n_bytes = path.stat().st_size
    if size is not None and n_bytes != size:
        return f"{n_bytes} bytes instead of {size}"
    if algorithm and (found := _hash(path, algorithm)) != checksum:
        return f"{algorithm} {found} instead of {checksum}"
    return ""


def _check(part: Path, remote: Remote, cache: Cache) -> None:
    if _is_page(part):  # said to be something else, and there may be no checksum to tell
        part.unlink()
        raise _web_page(_address(remote.url, cache))
    place = part.with_name(part.name.removesuffix(".part"))
    wrong = _wrong(part, remote, place=place)
    if wrong:
        part.unlink()
        locked = not (remote.sha256 or remote.md5) and _lock_of(place).exists()
        raise DatasetMistake(
            f"the download is not the file it should be: {wrong}",
            where=_address(remote.url, cache),
            remedy=(
                f"if the file was changed on purpose delete {_lock_of(place)}"
                if locked
                else "try again; if it stays so, the mirror or the proxy changes the file"
            ),
        )


def _is_page(part: Path) -> bool:
    with part.open("rb") as file:
        start = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _web_page(address: str) -> DatasetMistake:
    return DatasetMistake(
        "the server sent a web page instead of the file",
        where=address,
        remedy="open the address in a browser: a login, a quota or a proxy is in the way",
    )


def _address(url: str, cache: Cache) -> str:
    if not cache.mirror_base:
        return url
    _, _, rest = url.partition("://")
    return f"{cache.mirror_base}/{rest}"


@contextmanager
def _only_writer(part: Path) -> Iterator[IO[bytes]]:
    """The part file, open for appending; a second process waits here until the first is done."""
    with part.open("ab") as file:
        try:
            import fcntl
        except ImportError:  # Windows: two downloads at once end in a checksum mistake at worst
            yield file
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _bring(
    file: IO[bytes], part: Path, remote: Remote, cache: Cache, sleep: Callable[[float], object]
) -> None:
    """Download the part file and check it."""
    try:
        _download(file, remote, cache, sleep)
        _check(part, remote, cache)
    except DatasetMistake as mistake:
        if not remote.instead:
            raise
        remedies = [remedy for remedy in (mistake.remedy, remote.instead) if remedy]
        raise DatasetMistake(
            mistake.what, where=mistake.where, remedy=", or ".join(remedies)
        ) from mistake


def _download(
    file: IO[bytes], remote: Remote, cache: Cache, sleep: Callable[[float], object]
) -> None:
    """Fill the part file, going on where an earlier attempt broke off."""
    address = _address(remote.url, cache)
    for attempt in range(ATTEMPTS):
        try:
            _transfer(file, address, remote)
        except _BrokenOffError as broken:
            file.flush()
            if attempt == ATTEMPTS - 1:
                raise DatasetMistake(
                    f"the download failed {ATTEMPTS} times ({broken})",
                    where=address,
                    remedy="check the connection and run again: it goes on where it stopped",
                ) from broken
            sleep(2.0**attempt)
        else:
            file.flush()
            os.fsync(file.fileno())
            return


def _transfer(file: IO[bytes], address: str, remote: Remote) -> None:
    """One request; appends what is missing, or starts anew where the server can't resume.

    Raises:
        _BrokenOffError: the connection failed or ended early, or the server was busy.
        DatasetMistake: the server says no, or answers with a web page.
    """
    start = file.tell()
    if remote.size is not None and start >= remote.size:
        if start == remote.size:
            return
        start = _restart(file)
    with _open(file, address, start) as response:
        start = _begin(file, response, address, start)
        expected = response.headers.get("Content-Length")
        while chunk := _read(response):
            file.write(chunk)
        if expected is not None and file.tell() - start < int(expected):
            raise _BrokenOffError(f"it broke off after {file.tell()} bytes")


def _read(response: HTTPResponse) -> bytes:
    from http.client import HTTPException

    try:
        return response.read(CHUNK_BYTES)
    except (HTTPException, OSError) as error:
        raise _BrokenOffError(f"it broke off: {error or type(error).__name__}") from error


def _restart(file: IO[bytes]) -> int:
    file.seek(0)
    file.truncate()
    return 0


def _begin(file: IO[bytes], response: HTTPResponse, address: str, start: int) -> int:
    """Where in the file this response's body goes; what is no file is refused unwritten."""
    if address.startswith("https:") and not response.url.startswith("https:"):
        raise DatasetMistake(
            f"the server redirects to an unencrypted address, {response.url}", where=address
        )
    if response.headers.get_content_type() in {"text/html", "application/xhtml+xml"}:
        raise _web_page(address)
    if start and response.status != 206:
        return _restart(file)
    if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        _restart(file)
        raise _BrokenOffError("the server resumed at another place than asked")
    return start


def _open(file: IO[bytes], address: str, start: int) -> HTTPResponse:
    """Send the request and return the open response, of status 200 or 206."""
    from http.client import HTTPException
    from urllib import error, request

    class Redirects(request.HTTPRedirectHandler):
        max_redirections = REDIRECTS

    if urlsplit(address).scheme not in {"http", "https"}:
        raise DatasetMistake("not an http(s) address", where=address)
    headers = {"User-Agent": "deltascale", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    asked = request.Request(address, headers=headers)  # noqa: S310 - http(s), checked above
    try:
        response: HTTPResponse = request.build_opener(Redirects()).open(asked, timeout=TIMEOUT_S)
    except error.HTTPError as failure:
        with failure:
            if failure.code == 416 and start:
                _restart(file)
            else:
                _refuse(failure.code, address)
            raise _BrokenOffError(f"the server answered {failure.code}") from failure
    except error.URLError as failure:
        raise _BrokenOffError(str(failure.reason)) from failure
    except (HTTPException, OSError) as failure:
        raise _BrokenOffError(str(failure) or type(failure).__name__) from failure
    return response


def _refuse(status: int, address: str) -> None:
    """Stop for a status that another attempt can't change."""
    if status in {408, 425, 429} or status >= 500:
        return
    if 300 <= status < 400:
        raise DatasetMistake(f"more than {REDIRECTS} redirects", where=address)
    raise DatasetMistake(
        f"the server answered {status}",
        where=address,
        remedy="check DELTASCALE_MIRROR if it is set; otherwise the file has moved",
    )
