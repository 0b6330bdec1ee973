"""deltascale having the conversations of a job, kept in a ledger on the disk.

Reads a job from stdin and prints one line of JSON. `live` asks over HTTP, `replay` fills a ledger
in process and times the runs after that, `memory` has one long run in process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

from deltascale import engine, ledger, protocols, scorers
from deltascale.datasets import Loaded
from deltascale.engine import Connect, Progress
from deltascale.plan import Plan
from deltascale.protocols.review import REVIEW
from deltascale.providers import Caller
from deltascale.records import (
    DatasetSpec,
    Item,
    Limits,
    ModelSpec,
    Price,
    Question,
    Reply,
    Request,
    Size,
    Study,
    Usage,
    user,
)

__all__ = ["FORMAT", "Job", "review_prompt"]

FORMAT = 'End with a line "#### <number>".'
_PRICE = Price(150_000, 75_000, 600_000, "benchmark", "2026-01-01")
_Told = dict[str, list[float]]
"""Figures by name, one a round."""

_TEXT = "The two boxes hold 36 pencils; 30 are left.\n#### 15"


class Job(TypedDict):
    """`mode` is live, replay or memory; `rounds` is how often a replay is timed."""

    mode: str
    base_url: str
    prompts: list[str]
    epochs: int
    turns: int
    connections: int
    max_tokens: int
    rounds: int


def review_prompt() -> str:
    """What the review protocol says before every further turn."""
    return REVIEW.replace("{answer_format}", FORMAT)


def _plan(job: Job, prompts: list[str]) -> Plan:
    model = ModelSpec(
        id="openai/loopback",
        provider="openai",
        name="loopback",
        size=Size("published", 1e9, citation="made up for a benchmark"),
        price=_PRICE,
        base_url=job["base_url"],
        limits=Limits(connections=job["connections"]),
    )
    spec = DatasetSpec("boxes")
    study = Study(
        name="benchmark",
        models=(model,),
        datasets=(spec,),
        protocols=("review",),
        turns=job["turns"],
        epochs=job["epochs"],
        max_tokens=job["max_tokens"],
    )
    items = tuple(
        Item(f"boxes/{number:06d}", Question((user(prompt),), FORMAT), "15")
        for number, prompt in enumerate(prompts)
    )
    loaded = Loaded(spec, items, "numeric", len(items), "", "made up", 95)
    scored = {"boxes": scorers.find("numeric")}
    return Plan(study, (loaded,), {"review": protocols.find("review")}, scored)


def _run(plan: Plan, path: Path, connect: Connect | None = None) -> Progress:
    """From an open ledger to a closed one: all that was kept is on the disk at the end."""

    async def run() -> Progress:
        progress = Progress()
        with ledger.write(path) as book:
            stop = asyncio.Event()
            await engine.run(plan, book, environ={}, stop=stop, progress=progress, connect=connect)
        if sum(progress.missing.values()) or sum(progress.done.values()) != plan.n_samples:
            raise SystemExit("samples are missing")
        return progress

    return asyncio.run(run())


async def _answer(request: Request) -> Reply:
    return Reply(_TEXT, "stop", Usage(120, 95), model_served="loopback")


@asynccontextmanager
async def _in_process(_: ModelSpec) -> AsyncIterator[Caller]:
    yield _answer


def _live(job: Job, folder: Path) -> _Told:
    _run(_plan(job, [f"{prompt} Once more." for prompt in job["prompts"][:16]]), folder / "warm.db")
    plan = _plan(job, job["prompts"])
    wall, cpu = time.perf_counter(), time.process_time()
    progress = _run(plan, folder / "ledger.db")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"n_calls": [progress.n_calls], "wall_s": [wall], "cpu_s": [cpu]}


def _replay(job: Job, folder: Path) -> _Told:
    plan = _plan(job, job["prompts"])
    _run(plan, folder / "ledger.db", _in_process)
    walls, cpus = [], []
    for _ in range(job["rounds"]):
        wall, cpu = time.perf_counter(), time.process_time()
        progress = _run(plan, folder / "ledger.db")
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        if progress.n_calls or progress.n_replayed != plan.n_samples * job["turns"]:
            raise SystemExit("a finished study was asked again")
    n_calls = plan.n_samples * job["turns"]
    return {"n_calls": [n_calls] * job["rounds"], "wall_s": walls, "cpu_s": cpus}


def _memory(job: Job, folder: Path) -> _Told:
    """Peak memory in MB, and what of it is memory of our own (Linux tells; else NaN)."""
    plan = _plan(job, job["prompts"])
    before = _own_mb()
    progress = _run(plan, folder / "ledger.db", _in_process)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "n_calls": [progress.n_calls],
        "peak_mb": [peak / (1e6 if sys.platform == "darwin" else 1e3)],
        "before_mb": [before],
        "own_mb": [_own_mb()],
        "ledger_mb": [(folder / "ledger.db").stat().st_size / 1e6],
    }


def _own_mb() -> float:
    """Anonymous memory in use: without the pages of files, which the system may take back."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next(
        (int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon")), float("nan")
    )


def main() -> None:
    job: Job = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        modes = {"live": _live, "replay": _replay, "memory": _memory}
        print(json.dumps(modes[job["mode"]](job, Path(folder))))


if __name__ == "__main__":
    main()
