"""Small studies for tests: real items of arithmetic, scripted or loopback models."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deltascale import analysis, engine, frame, ledger, protocols, scorers
from deltascale.analysis import CellResult
from deltascale.datasets import Loaded
from deltascale.engine import Progress
from deltascale.plan import Plan
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
    Turn,
    Usage,
    user,
)

PRICE = Price(150_000, 75_000, 600_000, "test", "2026-01-01")
FORMAT = 'End with a line "#### <number>".'


def items(n: int, *, shift: int = 0) -> tuple[Item, ...]:
    """n sums; `shift` is added to every target and to nothing else."""
    return tuple(
        Item(
            f"sums/{number:03d}",
            Question((user(f"What is {number} + {2 * number}? {FORMAT}"),), FORMAT),
            str(3 * number + shift),
        )
        for number in range(1, n + 1)
    )


def model(
    name: str = "toy",
    *,
    base_url: str = "http://127.0.0.1:9/v1",
    connections: int = 8,
    price: Price = PRICE,
    timeout_s: float = 20.0,
) -> ModelSpec:
    return ModelSpec(
        id=f"openai/{name}",
        provider="openai",
        name=name,
        size=Size("published", 1e9, citation="made up for a test"),
        price=price,
        base_url=base_url,
        limits=Limits(connections=connections, timeout_s=timeout_s),
    )


def plan(
    models: Sequence[ModelSpec],
    *,
    n_items: int = 12,
    names: Sequence[str] = ("review", "critique", "resample", "vote", "oracle"),
    turns: int = 3,
    epochs: int = 1,
    budget_nusd: int | None = None,
    max_tokens: int = 64,
    temperatures: tuple[float, ...] = (0.7,),
    shift: int = 0,
) -> Plan:
    spec = DatasetSpec("sums")
    study = Study(
        name="test",
        models=tuple(models),
        datasets=(spec,),
        protocols=tuple(names),
        turns=turns,
        epochs=epochs,
        temperatures=temperatures,
        max_tokens=max_tokens,
        items=n_items,
        budget_nusd=budget_nusd,
    )
    loaded = Loaded(spec, items(n_items, shift=shift), "numeric", n_items, "digest", "test", 20)
    return Plan(
        study,
        (loaded,),
        {name: protocols.find(name) for name in names},
        {"sums": scorers.find("numeric")},
    )


def answer(text: str) -> str:
    """A reply that a hash of the prompt makes right, wrong or without an answer."""
    found = re.search(r"What is (\d+) \+ (\d+)\?", text)
    assert found is not None, text
    right = int(found.group(1)) + int(found.group(2))
    drawn = hashlib.sha256(text.encode()).digest()
    if drawn[0] < 12:
        return "I can't say."
    number = right if drawn[0] < 160 else right + 1 + drawn[1] % 3
    return f"I add them ({drawn.hex()[:6]}).\n#### {number}"


def answered(body: Mapping[str, object]) -> str:
    """`answer` for a request body of the chat completions dialect."""
    messages = body["messages"]
    assert isinstance(messages, list)
    return answer("\n".join(f"{one['role']}: {one['content']}" for one in messages))


async def reply(request: Request) -> Reply:
    """`answer` for a request, in process; draws and epochs differ."""
    spoken = "\n".join(f"{one.role}: {one.content}" for one in request.messages)
    text = answer(f"{spoken}\n{request.draw} {request.epoch}")
    return Reply(text, "stop", Usage(len(spoken) // 4, len(text) // 4 + 1), model_served="toy-1")


def connecting(
    call: Callable[[Request], Awaitable[Reply]],
) -> Callable[[ModelSpec], object]:
    """A `connect` for the engine that gives this caller to every model."""

    @asynccontextmanager
    async def connect(_: ModelSpec) -> AsyncIterator[Caller]:
        yield call

    return connect


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


def run(
    wanted: Plan,
    path: Path,
    *,
    call: Callable[[Request], Awaitable[Reply]] | None = None,
    stop: asyncio.Event | None = None,
) -> Progress:
    """Run the plan to its end in one ledger; over HTTP unless a caller is given."""
    return asyncio.run(run_async(wanted, path, call=call, stop=stop))


async def run_async(
    wanted: Plan,
    path: Path,
    *,
    call: Callable[[Request], Awaitable[Reply]] | None = None,
    stop: asyncio.Event | None = None,
) -> Progress:
    progress = Progress()
    with ledger.write(path) as book:
        await engine.run(
            wanted,
            book,
            environ={"OPENAI_API_KEY": "sk-test"},
            stop=stop or asyncio.Event(),
            progress=progress,
            connect=connecting(call) if call else None,  # type: ignore[arg-type]
            sleep=no_wait,
            seed=0,
        )
    return progress


def turns(path: Path) -> dict[tuple[str, str, int, int], Turn]:
    """Every turn on record, by cell, item position, epoch and turn."""
    found = {}
    with ledger.read(path) as book:
        for planned in book.cells():
            for position, epoch, turn in book.turns(planned.cell):
                found[planned.cell.id, str(position), epoch, turn.turn] = turn
    return found


def results(path: Path, study: Study) -> tuple[CellResult, ...]:
    with ledger.read(path) as book:
        return analysis.cells(frame.load(book), study)
