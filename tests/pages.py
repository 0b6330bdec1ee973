"""A small study with a page of its own, and a browser without a network to open it in."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deltascale import analysis, frame, ledger
from deltascale.analysis import Results, Settings
from deltascale.archive import lock
from deltascale.records import DatasetSpec, ModelSpec, Reply, Request, Size, Study, Usage
from deltascale.report import page
from tests import worlds

Call = Callable[[Request], Awaitable[Reply]]

SIZES = (0.1e9, 0.5e9, 1e9, 3e9, 8e9, 30e9, 70e9)


def models(sizes: Sequence[float] = SIZES, *, more: Sequence[ModelSpec] = ()) -> list[ModelSpec]:
    """Models of published size, called `m0`, `m1`, …, by size."""
    return [
        msgspec.structs.replace(
            worlds.model(f"m{n}"), size=Size("published", size, citation="made up for a test")
        )
        for n, size in enumerate(sizes)
    ] + list(more)


def guessed() -> list[ModelSpec]:
    """One model whose size is an estimate, and one of which nothing is known."""
    return [
        msgspec.structs.replace(
            worlds.model("guess"),
            size=Size("estimate", low=1e11, high=9e11, citation="a guess for a test"),
        ),
        msgspec.structs.replace(worlds.model("secret"), size=Size("unknown")),
    ]


def gaining(gain: float) -> Call:
    """Replies of models that are right more often the larger they are; asked again, they turn a
    share of wrong answers right that grows with `gain` and with their place in size."""

    async def call(request: Request) -> Reply:
        text = "\n".join(one.content for one in request.messages)
        found = re.findall(r"What is (\d+) \+ (\d+)\?", text)
        right = int(found[0][0]) + int(found[0][1])
        place = int(request.model[1:]) if request.model[1:].isdigit() else 4
        again = any(one.role == "assistant" for one in request.messages)
        share = 0.25 + 0.06 * place + (gain * place / 6 if again else 0.0)
        seed = f"{request.model}|{found[0]}|{request.draw}|{len(request.messages)}"
        drawn = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
        number = right if drawn < share else right + 1
        return Reply(f"I add.\n#### {number}", "stop", Usage(len(text) // 4, 8), model_served="v1")

    return call


@dataclass(frozen=True)
class Made:
    folder: Path
    results: Results
    page: Path

    def build(self, results: Results | None = None) -> Path:
        return page.build(
            results or self.results,
            self.folder / "report",
            ledger_file=self.folder / "ledger.db",
            lock_file=self.folder / lock.FILE,
        )


def make(
    folder: Path,
    call: Call,
    *,
    of: Sequence[ModelSpec],
    n_items: int = 30,
    names: Sequence[str] = ("review", "resample", "vote", "oracle"),
    turns: int = 2,
    change: Callable[[Study], Study] = lambda study: study,
) -> Made:
    """Run, lock, analyse and write the page of a study of sums."""
    plan = worlds.plan(of, n_items=n_items, names=names, turns=turns)
    plan = replace(plan, study=change(plan.study))
    # A thread of its own: the browser's driver keeps a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(worlds.run, plan, folder / "ledger.db", call=call).result()
    lock.write(folder, lock.make(plan))
    with ledger.read(folder / "ledger.db") as book:
        results = analysis.analyse(
            frame.load(book), plan.study, spent=book.spent(), settings=Settings(replicates=200)
        )
    made = Made(folder, results, folder / "report" / page.FILE)
    made.build()
    return made


def doubled(made: Made) -> Results:
    """The study with its cells on a second dataset too, `more`, which has half of the items."""
    with ledger.read(made.folder / "ledger.db") as book:
        (first,) = frame.load(book)
    cells = tuple(msgspec.structs.replace(one, dataset="more") for one in first.cells)
    kept = first.planned_CIE.copy()
    kept[:, ::2] = False
    second = replace(first, dataset="more", cells=cells, planned_CIE=kept)
    study = made.results.study
    datasets = (*study.datasets, DatasetSpec("more"))
    study = msgspec.structs.replace(study, datasets=datasets)
    return analysis.analyse((first, second), study, settings=made.results.settings)


@contextmanager
def chromium() -> Iterator[Any]:  # playwright is not installed everywhere
    """A browser; skips with the reason where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no chromium here")
    with sync_api.sync_playwright() as made:
        browser = made.chromium.launch(
            executable_path=binary, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page in the browser, and whatever it complained of or asked for."""

    page: Any
    said: list[str]
    asked: list[str]


@contextmanager
def opened(browser: Any, path: Path, *, width: int = 1280, **context: Any) -> Iterator[Opened]:
    """Open a file with the network cut."""
    made = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **context)
    try:
        tab = made.new_page()
        tab.set_default_timeout(20_000)
        found = Opened(tab, [], [])
        tab.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: found.said.append(str(error)))
        tab.on("dialog", lambda dialog: (found.said.append("a dialog"), dialog.dismiss()))
        tab.on("request", lambda request: found.asked.append(request.url))
        tab.goto(path.as_uri())
        yield found
    finally:
        made.close()
