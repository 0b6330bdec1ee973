"""What is refused before anything is asked, and what is kept apart on record."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import conduct, protocols, scorers
from deltascale.datasets import Cache, Loaded
from deltascale.errors import Mistake
from deltascale.plan import Plan
from deltascale.records import (
    DatasetSpec,
    Item,
    Question,
    Reply,
    Request,
    Study,
    Usage,
    user,
)
from tests import worlds

SERVER = "http://127.0.0.1:9/v1"


def study(**second: object) -> Study:
    """A model at the environment's address, and one more that the server knows by the same name."""
    first = replace(worlds.model("same"), base_url="")
    twin = replace(first, id="openai/twin", **{"base_url": SERVER, **second})
    return Study("twins", (first, twin), (DatasetSpec("demo-sums"),), ("review",), items=2)


def test_one_model_under_two_ids_is_refused_once_its_address_is_known(tmp_path: Path) -> None:
    """Their calls would have one key: one reply on record for two that were paid."""
    environ = {"OPENAI_BASE_URL": f"{SERVER}/"}
    with pytest.raises(Mistake, match="openai/twin is asked for the same at the same address"):
        conduct.prepare(study(), cache=Cache(tmp_path), environ=environ)
    for other in ({"params": {"top_p": 0.5}}, {"base_url": "http://127.0.0.1:8/v1"}):
        conduct.prepare(study(**other), cache=Cache(tmp_path), environ=environ)
    conduct.prepare(study(), cache=Cache(tmp_path), environ={})


def test_two_datasets_may_give_their_items_one_id(tmp_path: Path) -> None:
    """The same words to two problems: each verdict is that of its own problem's target."""
    scorer = scorers.find("exact")
    blocking = dataclasses.replace(scorer, name="programs", blocking=True)
    specs = tuple(DatasetSpec(name) for name in ("ones", "twos"))
    loaded = tuple(
        Loaded(
            spec,
            (Item("1", Question((user("Which?"),), ""), target),),
            "programs", 1, "digest", "test", 9,
        )
        for spec, target in zip(specs, ("one", "two"), strict=True)
    )  # fmt: skip
    wanted = Study("ids", (worlds.model(),), specs, ("review",), turns=2, items=1, max_tokens=9)
    plan = Plan(
        wanted,
        loaded,
        {"review": protocols.find("review")},
        dict.fromkeys(("ones", "twos"), blocking),
    )

    async def call(request: Request) -> Reply:
        return Reply("one", "stop", Usage(1, 1), model_served="toy")

    worlds.run(plan, tmp_path / "ledger.db", call=call)
    cells = worlds.results(tmp_path / "ledger.db", wanted)
    assert {one.cell.dataset: one.last.value for one in cells} == {"ones": 1.0, "twos": 0.0}
