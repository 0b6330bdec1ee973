"""Every setting of every dataset is on the page for them, and no other is."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from deltascale import datasets, study
from deltascale.datasets import Cache
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
EVERY = {"prompt", "format", "counts"}


def shown() -> dict[str, set[str]]:
    """Dataset → the settings that the table has for it."""
    found: dict[str, set[str]] = {}
    names: list[str] = []
    page = PAGE.read_text(encoding="utf-8")
    for first, setting in re.findall(r"^\| ([^|]*?) ?\| `(\w+)[:`]", page, re.MULTILINE):
        names = first.split(", ") if first else names
        for name in names:
            found.setdefault(name, set()).add(setting)
    return found


@pytest.mark.parametrize("name", ["gsm8k", "humaneval", "mathbench", "superglue", "toolqa"])
def test_the_settings_are_those_of_the_code(name: str, tmp_path: Path) -> None:
    spec = DatasetSpec(name, options={"no such setting": "1"})
    with pytest.raises(DatasetMistake, match="known are") as caught:
        datasets.load(spec, items=None, seed=0, cache=Cache(tmp_path, offline=True))
    known = set(str(caught.value).partition("known are ")[2].split(", "))
    assert shown()[name] | (EVERY & known) == known


def test_the_study_of_the_page_can_be_read() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    head = "name: t\nmodels: [simulated/sim-1b]\nprotocols: [review]\n"
    block = "\n".join(line for line in block.splitlines() if "file:" not in line)
    wanted = study.parse(head + block, file="study.yaml", on=date(2026, 11, 1))
    assert [one.name for one in wanted.datasets] == [
        "gsm8k", "humaneval", "mathbench", "superglue", "toolqa",
    ]  # fmt: skip
