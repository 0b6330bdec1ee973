"""Fetching over real HTTP on loopback: checked, resumed, mirrored, offline, and told in a line."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deltascale.datasets.fetch import ATTEMPTS, Cache, Remote, fetch
from deltascale.errors import DatasetMistake

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()
URL = "https://data.example/some/path/file.bin"
REMOTE = Remote(URL, size=len(BODY), sha256=SHA256)


@dataclass
class Web:
    """A server whose next answers are scripted: what is not, is the file."""

    base: str = ""
    body: bytes = BODY
    script: list[str] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's own name
        pass

    def do_GET(self) -> None:
        web, ranged = self.web, self.headers.get("Range", "")
        web.seen.append((self.path, ranged))
        act = web.script.pop(0) if web.script else "file"
        start = int(ranged.removeprefix("bytes=").removesuffix("-")) if ranged else 0
        if act.isdigit():
            self.send_response(int(act))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif act.startswith("to "):
            self.send_response(302)
            self.send_header("Location", act.removeprefix("to "))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif act == "html":
            self._send(200, b"<html>quota exceeded</html>", "text/html; charset=utf-8")
        elif act == "whole":
            self._send(200, web.body)
        elif act == "elsewhere":
            self._send(206, web.body, ranged=f"bytes 0-{len(web.body) - 1}/{len(web.body)}")
        elif act.startswith("cut "):
            n_bytes = int(act.removeprefix("cut "))
            self._send(206 if start else 200, web.body[start:], start=start, n_bytes=n_bytes)
        elif start >= len(web.body) and start:
            self._send(416, b"")
        else:
            self._send(206 if start else 200, web.body[start:], start=start)

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "application/octet-stream",
        *,
        start: int = 0,
        n_bytes: int | None = None,
        ranged: str = "",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            end = start + len(body)
            self.send_header("Content-Range", ranged or f"bytes {start}-{end - 1}/{end}")
        self.end_headers()
        self.wfile.write(body[:n_bytes])
        if n_bytes is not None:
            self.close_connection = True


@pytest.fixture
def web() -> Iterator[Web]:
    script = Web()
    handler = type("Scripted", (Handler,), {"web": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.base = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(web: Web, tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", mirror_base=f"{web.base}/mirror")


def get(remote: Remote, cache: Cache) -> tuple[bytes, list[float]]:
    slept: list[float] = []
    return fetch(remote, cache, sleep=slept.append).read_bytes(), slept


def told(remote: Remote, cache: Cache) -> str:
    with pytest.raises(DatasetMistake) as caught:
        get(remote, cache)
    text = str(caught.value)
    assert "\n" not in text
    return text


def parts(cache: Cache) -> list[Path]:
    return list(cache.directory.rglob("*.part"))


def test_a_file_comes_once_and_then_from_the_cache(web: Web, cache: Cache) -> None:
    assert get(REMOTE, cache) == (BODY, [])
    assert web.seen == [("/mirror/data.example/some/path/file.bin", "")]
    assert get(REMOTE, replace(cache, offline=True)) == (BODY, [])
    assert len(web.seen) == 1
    assert parts(cache) == []


def test_without_a_mirror_the_address_is_the_files_own(web: Web, tmp_path: Path) -> None:
    own = Remote(f"{web.base}/own/file", size=len(BODY), sha256=SHA256)
    assert get(own, Cache(tmp_path))[0] == BODY
    assert web.seen == [("/own/file", "")]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(web: Web, cache: Cache) -> None:
    web.script = ["cut 300000", "cut 400000"]
    assert get(REMOTE, cache) == (BODY, [1.0, 2.0])
    assert [ranged for _, ranged in web.seen] == ["", "bytes=300000-", "bytes=700000-"]


def test_the_next_run_goes_on_where_the_last_one_gave_up(web: Web, cache: Cache) -> None:
    web.script = ["cut 100"] + ["503"] * (ATTEMPTS - 1)
    assert f"failed {ATTEMPTS} times" in told(REMOTE, cache)
    assert [part.stat().st_size for part in parts(cache)] == [100]
    assert get(REMOTE, cache)[0] == BODY
    assert web.seen[-1][1] == "bytes=100-"


@pytest.mark.parametrize("act", ["whole", "elsewhere", "416"])
def test_a_server_that_can_not_resume_sends_it_all(web: Web, cache: Cache, act: str) -> None:
    web.script = ["cut 300000", act]
    assert get(REMOTE, cache)[0] == BODY


def test_a_part_file_that_is_too_long_is_begun_anew(web: Web, cache: Cache) -> None:
    path = cache.path(REMOTE)
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".part").write_bytes(BODY + b"more")
    assert get(REMOTE, cache)[0] == BODY


@pytest.mark.parametrize("status", ["500", "502", "503", "429", "408"])
def test_a_busy_server_is_asked_again(web: Web, cache: Cache, status: str) -> None:
    web.script = [status]
    assert get(REMOTE, cache) == (BODY, [1.0])


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "410"])
def test_a_refusal_is_told_at_once(web: Web, cache: Cache, status: str) -> None:
    web.script = [status]
    text = told(REMOTE, cache)
    assert text.startswith(f"{web.base}/mirror/data.example/some/path/file.bin: ")
    assert f"the server answered {status}" in text
    assert len(web.seen) == 1


def test_a_web_page_is_no_file(web: Web, cache: Cache) -> None:
    web.script = ["html"]
    assert "a web page instead of the file" in told(REMOTE, cache)
    assert get(REMOTE, cache)[0] == BODY


def test_redirects_are_followed_a_few_times(web: Web, cache: Cache) -> None:
    web.script = [f"to {web.base}/a", f"to {web.base}/b"]
    assert get(REMOTE, cache)[0] == BODY
    web.script = [f"to {web.base}/{n}" for n in range(20)]
    other = replace(REMOTE, url=URL + "2")
    assert "more than 5 redirects" in told(other, cache)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_redirects_stay_on_the_web(web: Web, cache: Cache, target: str) -> None:
    web.script = [f"to {target}"] * ATTEMPTS
    told(REMOTE, cache)
    assert not cache.path(REMOTE).exists()


def test_the_wrong_file_is_told_with_both_values_and_not_kept(web: Web, cache: Cache) -> None:
    web.body = BODY[:-1] + b"!"
    text = told(REMOTE, cache)
    assert SHA256 in text
    assert hashlib.sha256(web.body).hexdigest() in text
    assert not any(path.is_file() for path in cache.directory.rglob("*"))


def test_the_wrong_size_is_told_with_both_values(web: Web, cache: Cache) -> None:
    web.body = BODY + b"!"
    text = told(REMOTE, cache)
    assert f"{len(BODY) + 1} bytes instead of {len(BODY)}" in text


def test_a_damaged_file_in_the_cache_is_fetched_again(web: Web, cache: Cache) -> None:
    path = fetch(REMOTE, cache)
    path.write_bytes(b"damaged")
    text = told(REMOTE, replace(cache, offline=True))
    assert "is damaged in the cache" in text
    assert get(REMOTE, cache)[0] == BODY


def test_md5_is_checked_where_that_is_all_there_is(web: Web, cache: Cache) -> None:
    right = Remote(URL, md5=hashlib.md5(BODY).hexdigest())
    assert get(right, cache)[0] == BODY
    wrong = Remote(URL + "2", md5=hashlib.md5(b"").hexdigest())
    assert "md5" in told(wrong, cache)


def test_without_a_checksum_the_first_download_is_the_measure(web: Web, cache: Cache) -> None:
    unpinned = Remote(URL)
    path = fetch(unpinned, cache)
    path.unlink()
    web.body = BODY + b"changed"
    text = told(unpinned, cache)
    assert "delete" in text
    assert str(cache.directory) in text
    web.body = BODY
    assert get(unpinned, cache)[0] == BODY


def test_an_unreadable_record_of_a_checksum_is_told(web: Web, cache: Cache) -> None:
    path = fetch(Remote(URL), cache)
    path.with_name(path.name + ".sha256.json").write_text("{}")
    assert "can't be read; delete it" in told(Remote(URL), cache)


def test_offline_nothing_is_asked(web: Web, cache: Cache) -> None:
    text = told(REMOTE, replace(cache, offline=True))
    assert "is not in the cache" in text
    assert "DELTASCALE_OFFLINE" in text
    assert str(cache.path(REMOTE)) in text
    assert web.seen == []


def test_a_server_that_is_not_there(cache: Cache) -> None:
    nowhere = replace(cache, mirror_base="http://127.0.0.1:9")
    text = told(REMOTE, nowhere)
    assert "refused" in text
    assert "check the connection" in text


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_a_cache_that_can_not_be_written(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = replace(cache, directory=tmp_path / "file" / "cache")
    assert "DELTASCALE_CACHE" in told(REMOTE, blocked)


def test_a_read_only_cache_that_is_warm_is_enough(web: Web, cache: Cache) -> None:
    path = fetch(REMOTE, cache)
    path.parent.chmod(0o500)
    try:
        assert get(REMOTE, cache)[0] == BODY
    finally:
        path.parent.chmod(0o700)


def test_many_at_once_fetch_it_once(web: Web, cache: Cache) -> None:
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(fetch(REMOTE, cache).read_bytes()))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [BODY] * 6
    assert parts(cache) == []
    assert len(web.seen) == 1


def test_files_of_one_path_but_another_query_are_kept_apart(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    one, two = cache.path(Remote(f"{URL}?id=1")), cache.path(Remote(f"{URL}?id=2"))
    assert one != two


@pytest.mark.parametrize("url", ["https://h/../../x", "https://h/a/%2e%2e/x", "https://h/./x"])
def test_no_address_leads_out_of_the_cache(tmp_path: Path, url: str) -> None:
    path = Cache(tmp_path).path(Remote(url))
    assert path.resolve().is_relative_to(tmp_path / "h")


def test_what_the_environment_says(tmp_path: Path) -> None:
    named = {"DELTASCALE_CACHE": str(tmp_path / "a"), "XDG_CACHE_HOME": str(tmp_path / "b")}
    assert Cache.from_environ(named) == Cache(tmp_path / "a")
    del named["DELTASCALE_CACHE"]
    assert Cache.from_environ(named).directory == tmp_path / "b" / "deltascale"
    assert Cache.from_environ({}).directory == Path.home() / ".cache" / "deltascale"
    mirrored = Cache.from_environ({"DELTASCALE_MIRROR": "http://m/x/", "DELTASCALE_OFFLINE": "Yes"})
    assert (mirrored.mirror_base, mirrored.offline) == ("http://m/x", True)


@pytest.mark.parametrize(
    "environ", [{"DELTASCALE_OFFLINE": "perhaps"}, {"DELTASCALE_MIRROR": "localhost:8000"}]
)
def test_what_the_environment_can_not_mean(environ: dict[str, str]) -> None:
    with pytest.raises(DatasetMistake, match=next(iter(environ))):
        Cache.from_environ(environ)
