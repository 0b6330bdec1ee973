"""A ledger copied into a fresh one in a fixed order: the same content gives the same bytes.

On the way texts are replaced, keys follow their requests, and what may not be given on is left out.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from deltascale import ledger
from deltascale.archive.scrub import Scrub
from deltascale.errors import Mistake
from deltascale.records import Cell, Failure, Reply, Request

__all__ = ["Rules", "copy", "fork", "has_bomb", "texts"]

_DAY_S = 86_400.0
_VERSION_AT = 96
"""Where SQLite notes its own version in a file: four bytes that say nothing of the content."""

_decode_request = msgspec.json.Decoder(Request).decode
_decode_reply = msgspec.json.Decoder(Reply).decode
_decode_failure = msgspec.json.Decoder(Failure).decode
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Rules:
    """What changes on the way.

    `may_show(key)` says whether the texts of a call or observation may be given on; `withheld` are
    the datasets whose answers may not. `renamed(key)` is the new key of a failed call or of an
    observation, which can't be computed from what is on record. With `coarse`, times are days and
    wire bodies are left out: the hour of work tells a time zone, and bodies hold ids of requests
    and organisations.
    """

    scrub: Scrub
    coarse: bool = False
    withheld: frozenset[str] = frozenset()
    may_show: Callable[[bytes], bool] = field(default=lambda _: True)
    renamed: Callable[[bytes], bytes] = field(default=lambda key: key)

    def time(self, at: float) -> float:
        return at - at % _DAY_S if self.coarse else at


def copy(source: Path, target: Path, rules: Rules) -> None:
    """Copy the ledger, in the current schema. Streams; also while a run writes to the source.

    Calls that are open become failures of unknown fate, as they would for the next run: so the
    copy holds no reservation and says of the money what the source says.

    Raises LedgerMistake where the source is no ledger.
    """
    with ledger.write(target):
        pass
    Path(f"{target}.lock").unlink(missing_ok=True)
    with ledger.read(source), TemporaryDirectory(prefix="deltascale-") as folder:
        current = source
        if _schema(source) != ledger.SCHEMA_VERSION:
            current = Path(folder) / "ledger.db"
            ledger.migrate(source, current)
        with closing(ledger.connect_to_read(current)) as old, closing(_open(target)) as new:
            new.execute("PRAGMA journal_mode=DELETE")
            new.execute("PRAGMA synchronous=OFF")
            new.execute("CREATE TEMP TABLE renamed(old TEXT PRIMARY KEY, new TEXT) WITHOUT ROWID")
            old.execute("BEGIN")
            new.execute("BEGIN")
            _copy_calls(old, new, rules)
            _copy_failures(old, new, rules)
            _copy_observations(old, new, rules)
            _copy_samples(old, new, rules)
            new.execute("COMMIT")
    with target.open("r+b") as file:
        file.seek(_VERSION_AT)
        file.write(bytes(4))


def fork(source: Path, target: Path) -> None:
    """Begin a new ledger with the calls and observations of another, and with nothing else.

    Raises LedgerMistake where the source is no ledger, Mistake where there is a target already.
    """
    if target.exists():
        raise Mistake(
            "there is a ledger already", where=str(target), remedy="choose a new --out for a fork"
        )
    with ledger.read(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        ledger.migrate(source, target)
    with closing(_open(target)) as connection:
        for table in ("failures", "reservations", "turns", "samples", "cells", "items"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own


def has_bomb(path: Path, most: int) -> bool:
    """Whether a prompt or body in the ledger unpacks to more than so many bytes."""
    with closing(_open(path)) as connection:
        for blobs in connection.execute("SELECT request,raw FROM calls"):
            for blob in blobs:
                unpacker = zlib.decompressobj()
                if len(unpacker.decompress(blob, most + 1)) > most:
                    return True
    return False


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Every text in a ledger, with the table it stands in: for looking for what must not be."""
    with closing(_open(path)) as connection:
        for request, reply, raw, model in connection.execute(
            "SELECT request,reply,raw,model FROM calls ORDER BY id"
        ):
            for blob in (zlib.decompress(request), reply, zlib.decompress(raw)):
                yield "calls", _decoded(blob)
            yield "calls", model
        for failure, model in connection.execute("SELECT failure,model FROM failures"):
            yield "failures", f"{model} {_decoded(failure)}"
        for (model,) in connection.execute("SELECT model FROM reservations"):
            yield "reservations", model
        for row in connection.execute("SELECT tool,arguments,result FROM observations"):
            yield "observations", " ".join(row)
        for table, columns in (
            ("cells", "model,dataset,protocol"),
            ("items", "dataset,id,cluster,stratum,unit"),
            ("turns", "COALESCE(answer,''),others,detail"),
        ):
            for row in connection.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608
                yield table, " ".join(row)


def _decoded(blob: bytes) -> str:
    """JSON as its texts read: without the escapes that would hide a path or a name."""
    text = blob.decode("utf-8", "replace")
    try:
        return "\n".join(_strings(msgspec.json.decode(blob)))
    except msgspec.MsgspecError:
        return text


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _copy_calls(old: sqlite3.Connection, new: sqlite3.Connection, rules: Rules) -> None:
    nothing = zlib.compress(b"", 1)
    rows = old.execute("SELECT key,request,reply,raw,cost_nusd,at FROM calls ORDER BY key")
    for number, (key, request, reply, raw, cost_nusd, at) in enumerate(rows, 1):
        before = _decode_request(zlib.decompress(request))
        said_before = _decode_reply(reply)
        asked, said = rules.scrub.value(before), rules.scrub.value(said_before)
        if not rules.may_show(key):
            # The key stays, so that turns still name their call; it can't be computed any more.
            asked, said = replace(asked, messages=(), tools=()), _silent(said)
            new_key, raw = key, nothing
        else:
            new_key = key if asked is before else asked.key
        if asked is not before:
            request = zlib.compress(_encode(asked), 1)
        if said is not said_before:
            reply = _encode(said)
        if rules.coarse:
            raw = nothing
        elif raw != nothing:
            raw = _scrubbed_body(raw, rules.scrub)
        if new_key != key:
            new.execute("INSERT INTO renamed VALUES(?,?)", (key.hex(), new_key.hex()))
        new.execute(
            "INSERT INTO calls VALUES(?,?,?,?,?,?,?,?)",
            (number, new_key, asked.model, request, reply, raw, cost_nusd, rules.time(at)),
        )


def _silent(reply: Reply) -> Reply:
    return replace(reply, text="", tool_calls=())


def _scrubbed_body(raw: bytes, scrub: Scrub) -> bytes:
    body = zlib.decompress(raw).decode("utf-8", "surrogateescape")
    changed = scrub.text(body)
    return raw if changed == body else zlib.compress(changed.encode("utf-8", "surrogateescape"), 1)


def _copy_failures(old: sqlite3.Connection, new: sqlite3.Connection, rules: Rules) -> None:
    failed = old.execute("SELECT key,model,kind,failure,cost_nusd,at FROM failures ORDER BY id")
    lost = old.execute(
        "SELECT key,model,?,?,cost_nusd,at FROM reservations ORDER BY at,key",
        (ledger.LOST.kind, _encode(ledger.LOST)),
    )
    rows = enumerate(chain(failed, lost), 1)
    for number, (key, model, kind, failure, cost_nusd, at) in rows:
        before = _decode_failure(failure)
        after = rules.scrub.value(before)
        if rules.withheld:
            after = replace(after, message="")
        known = bytes.fromhex(_renamed(new, key.hex()))
        kept = (known if known != key else rules.renamed(key), rules.scrub.text(model), kind)
        new.execute(
            "INSERT INTO failures VALUES(?,?,?,?,?,?,?)",
            (number, *kept, failure if after is before else _encode(after), cost_nusd,
             rules.time(at)),
        )  # fmt: skip


def _copy_observations(old: sqlite3.Connection, new: sqlite3.Connection, rules: Rules) -> None:
    rows = old.execute("SELECT key,tool,arguments,result,at FROM observations ORDER BY key")
    for key, tool, arguments, result, at in rows:
        if not rules.may_show(key):
            arguments = result = ""
        kept = (rules.scrub.text(text) for text in (tool, arguments, result))
        new.execute(
            "INSERT OR IGNORE INTO observations VALUES(?,?,?,?,?)",
            (rules.renamed(key), *kept, rules.time(at)),
        )


def _copy_samples(old: sqlite3.Connection, new: sqlite3.Connection, rules: Rules) -> None:
    text = rules.scrub.text
    rows = old.execute("SELECT * FROM items ORDER BY dataset,position")
    for dataset, position, *names, chance in rows:
        new.execute(
            "INSERT INTO items VALUES(?,?,?,?,?,?,?)",
            (text(dataset), position, *map(text, names), chance),
        )
    cells: dict[str, tuple[str, bool]] = {}
    for row in old.execute("SELECT * FROM cells ORDER BY dataset,protocol,temperature,model"):
        identity, model, dataset, protocol, temperature, *planned = row
        cell = Cell(text(model), text(dataset), text(protocol), temperature)
        cells[identity] = cell.id, dataset in rules.withheld
        new.execute(
            "INSERT INTO cells VALUES(?,?,?,?,?,?,?,?)",
            (cell.id, cell.model, cell.dataset, cell.protocol, temperature, *planned),
        )
    samples = old.execute("SELECT id,cell,item,epoch,outcome FROM samples ORDER BY cell,item,epoch")
    for number, (identity, cell_id, item, epoch, outcome) in enumerate(samples, 1):
        renamed, is_withheld = cells[cell_id]
        new.execute(
            "INSERT INTO samples VALUES(?,?,?,?,?)", (number, renamed, text(item), epoch, outcome)
        )
        turns = old.execute(
            "SELECT answer,call,detail,turn,outcome,score,others,n_calls,input_tokens,"
            "cached_input_tokens,output_tokens,cost_nusd FROM turns WHERE sample=? ORDER BY turn",
            (identity,),
        )
        for answer, call, detail, *rest in turns:
            if answer is not None:
                answer = _hidden(answer) if is_withheld else text(answer)
            detail = "" if is_withheld else text(detail)
            new.execute(
                "INSERT INTO turns(sample,answer,call,detail,turn,outcome,score,others,n_calls,"
                "input_tokens,cached_input_tokens,output_tokens,cost_nusd)"
                " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (number, answer, _renamed(new, call), detail, *rest),
            )


def _hidden(answer: str) -> str:
    """What tells two answers apart and tells nothing else."""
    return f"withheld:{hashlib.sha256(answer.encode()).hexdigest()[:16]}"


def _renamed(new: sqlite3.Connection, key: str) -> str:
    row = new.execute("SELECT new FROM renamed WHERE old=?", (key,)).fetchone()
    return key if row is None else str(row[0])


def _schema(path: Path) -> int:
    with closing(ledger.connect_to_read(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA temp_store=FILE")
    return connection
