"""What a paper tells of how a study was run, as `lock.json` keeps it; the parts it needs only."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deltascale.errors import Mistake

__all__ = ["DatasetRecord", "EnvironmentRecord", "ProtocolRecord", "Record", "ServedRecord", "read"]


class ProtocolRecord(msgspec.Struct, frozen=True):
    version: int
    regime: str
    prompts: dict[str, str] = {}


class DatasetRecord(msgspec.Struct, frozen=True):
    """`digest` is the SHA-256 of the items' ids, in their order."""

    source: str
    digest: str
    scorer: str
    scorer_version: int
    ids: tuple[str, ...]
    licence: str = ""


class EnvironmentRecord(msgspec.Struct, frozen=True):
    deltascale: str
    commit: str
    python: str
    platform: str


class ServedRecord(msgspec.Struct, frozen=True):
    model: str
    version: str
    fingerprint: str = ""
    first: str = ""
    last: str = ""


class Record(msgspec.Struct, frozen=True):
    protocols: dict[str, ProtocolRecord] = {}
    datasets: dict[str, DatasetRecord] = {}
    environments: tuple[EnvironmentRecord, ...] = ()
    served: tuple[ServedRecord, ...] = ()


def read(path: Path) -> Record:
    """The record in a lock file. Raises Mistake where there is none, or it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        raise Mistake(
            "there is no study here", where=str(path.parent), remedy="run one with --out here first"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Mistake(
            f"the lock can't be read ({error})", where=str(path), remedy="restore it from a copy"
        ) from None
