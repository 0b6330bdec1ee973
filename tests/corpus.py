"""ToolQA's corpora for tests, in upstream's layout, and a way to use tools without a model."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deltascale import datasets
from deltascale.datasets import Cache
from deltascale.datasets.fetch import Remote
from deltascale.datasets.toolqa import agent, corpora
from deltascale.datasets.toolqa.tools import Toolbox, runner
from deltascale.records import Cell, Item, Question, Sample, UseTool

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "toolqa"
SAMPLE = Sample(Cell("m", "toolqa", "review", 0.0), Item("i", Question((), ""), ""), epoch=0)
START = UseTool(agent.START, "{}")


def warm(folder: Path, *published: tuple[Remote, Path]) -> Cache:
    """A cache that has these files, each from where it lies, and can download nothing."""
    cache = Cache(folder, offline=True)
    for remote, lies in published:
        if not lies.exists():
            pytest.skip(f"{lies.name} does not lie beside this checkout")
        place = cache.path(remote)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lies, place)
    return cache


def folder(parent: Path) -> Path:
    """Upstream's layout from genuine samples and hand-made files, the graphs as pickles."""
    if not SHARED.exists():
        pytest.skip("the shared ToolQA files are not beside this checkout")
    root = parent / "external_corpus"
    for kind in ("genuine", "handmade"):
        shutil.copytree(
            SHARED / f"corpus_{kind}" / "external_corpus",
            root,
            dirs_exist_ok=True,
            copy_function=shutil.copyfile,
        )
    told = json.loads((root / "dblp" / "dblp_graphs.json").read_text())
    import networkx as nx  # type: ignore[import-untyped]  # it has no types

    graphs = {"paper_net": nx.DiGraph(), "author_net": nx.Graph()}
    for name, graph in graphs.items():
        graph.add_nodes_from(told[name]["nodes"].items())
        graph.add_edges_from(told[name]["edges"])
        _ = graph.adj, graph.nodes  # views that a graph may keep, and a pickle with it
    dictionaries = {name: told[f"{name}_dict"] for name in ("id2title", "id2author")}
    for name, value in graphs.items():
        (root / "dblp" / f"{name}.pkl").write_bytes(pickle.dumps(value))
    for name, value in dictionaries.items():
        (root / "dblp" / f"{name}_dict.pkl").write_bytes(pickle.dumps(value))
    return parent


def observed(
    run: datasets.Tools,
    uses: tuple[UseTool, ...],
    *,
    awaited: Callable[[Coroutine[None, None, str]], str] = asyncio.run,
) -> str:
    """What the last of the uses told; to make a loop takes time, so `awaited` may have one."""

    async def use() -> str:
        return await run(SAMPLE, uses)

    return awaited(use())


def told(run: datasets.Tools, *actions: str) -> str:
    """What the last of these actions told, taken one after another in one attempt."""
    uses = [START]
    for text in actions:
        taken = agent.action(f"Action: {text}")
        assert taken is not None
        uses.append(UseTool(taken.name, json.dumps({"text": taken.text})))
    return observed(run, tuple(uses))


Tell = Callable[..., str]


@contextmanager
def telling(ready: corpora.Corpora) -> Iterator[Tell]:
    """Takes actions one after another, as text, and returns what the last one told."""
    run = runner(Toolbox(ready, None))
    uses: list[UseTool] = [START]

    def told(*actions: str) -> str:
        for text in actions:
            taken = agent.action(f"Action: {text}")
            assert taken is not None
            uses.append(UseTool(taken.name, json.dumps({"text": taken.text})))
        return observed(run, tuple(uses), awaited=loop.run)

    with asyncio.Runner() as loop:
        yield told
