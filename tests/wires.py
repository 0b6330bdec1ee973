"""What hosts send, made from the releases' own records: Parquet as on the hub, zips, a mirror."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Row = dict[str, Any]


# --- Parquet -------------------------------------------------------------------------------------


def written(rows: Iterable[Row]) -> bytes:
    """A Parquet file of these rows."""
    import polars

    buffer = io.BytesIO()
    polars.DataFrame(list(rows), infer_schema_length=None).write_parquet(buffer)
    return buffer.getvalue()


def parquet(name: str, text: str) -> bytes:
    """A release's JSON lines as its copy on the hub holds them."""
    lines = [json.loads(line) for line in text.split("\n") if line.strip()]
    make = _LAYOUTS.get(name)
    return written(row for line in lines for row in (make(line) if make else [line]))


def _numbered(*values: object) -> Callable[[Row], list[Row]]:
    return lambda line: [{**line, "label": values.index(line["label"])}]


def _multirc(line: Row) -> list[Row]:
    return [
        {
            "paragraph": line["passage"]["text"],
            "question": question["question"],
            "answer": answer["text"],
            "idx": {
                "paragraph": line["idx"],
                "question": question["idx"],
                "answer": answer["idx"],
            },
            "label": answer["label"],
        }
        for question in line["passage"]["questions"]
        for answer in question["answers"]
    ]


def _record(line: Row) -> list[Row]:
    text = line["passage"]["text"]
    places = line["passage"]["entities"]
    names = {text[place["start"] : place["end"] + 1] for place in places}
    return [
        {
            "passage": text,
            "query": query["query"],
            "entities": sorted(names, key=hash),  # a set's order, which means nothing
            "answers": sorted({answer["text"] for answer in query["answers"]}),
            "idx": {"passage": line["idx"], "query": query["idx"]},
        }
        for query in line["qas"]
    ]


def _wsc(line: Row) -> list[Row]:
    row = {**line, **line["target"], "label": int(line["label"])}
    del row["target"]
    return [row]


_LAYOUTS: Mapping[str, Callable[[Row], list[Row]]] = {
    "BoolQ": _numbered(False, True),
    "CB": _numbered("entailment", "contradiction", "neutral"),
    "MultiRC": _multirc,
    "RTE": _numbered("entailment", "not_entailment"),
    "ReCoRD": _record,
    "WSC": _wsc,
    "WiC": _numbered(False, True),
}


# --- zips ----------------------------------------------------------------------------------------


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# --- a mirror ------------------------------------------------------------------------------------


@dataclass
class Mirror:
    """A server of files by `HOST/PATH`. `pages` are web pages; `moved` maps a path to another;
    `cut` says after how many bytes the next transfers of a path break off."""

    files: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    base: str = ""


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's own name
        pass

    def do_GET(self) -> None:
        mirror, path = self.mirror, self.path.removeprefix("/mirror/")
        ranged = self.headers.get("Range", "")
        mirror.seen.append((path, ranged))
        if path in mirror.moved:
            self.send_response(302)
            self.send_header("Location", f"{mirror.base}/{mirror.moved[path]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path in mirror.pages:
            self._send(200, mirror.pages[path], "text/html; charset=utf-8")
        elif path in mirror.files:
            start = int(ranged.removeprefix("bytes=").removesuffix("-")) if ranged else 0
            self._send(206 if start else 200, mirror.files[path][start:], start=start)
        else:
            self._send(404, b"")

    def _send(
        self, status: int, body: bytes, kind: str = "application/octet-stream", *, start: int = 0
    ) -> None:
        cuts = self.mirror.cut.get(self.path.removeprefix("/mirror/"))
        n_bytes = cuts.pop(0) if cuts else None
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            end = start + len(body)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.end_headers()
        self.wfile.write(body[:n_bytes])
        self.close_connection = n_bytes is not None


@contextmanager
def serving(mirror: Mirror) -> Iterator[Mirror]:
    """The mirror on loopback; `base` is then what DELTASCALE_MIRROR wants."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (_Handler,), {"mirror": mirror}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    mirror.base = f"http://127.0.0.1:{server.server_port}/mirror"
    try:
        yield mirror
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
