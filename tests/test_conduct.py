"""What a study's directory refuses before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import conduct
from deltascale.datasets import Cache
from deltascale.errors import Mistake
from deltascale.records import DatasetSpec, Study
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
