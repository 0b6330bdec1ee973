"""Datasets by name, and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import pytest

from deltascale import datasets
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec


def test_the_five_benchmarks_and_the_demonstrations_are_known() -> None:
    known = {"gsm8k", "humaneval", "mathbench", "superglue", "toolqa", "demo-sums", "demo-choices"}
    assert known <= set(datasets.names())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gsm8", "unknown dataset 'gsm8'; did you mean 'gsm8k'?"),
        ("GSM8K", "did you mean 'gsm8k'?"),
        ("zzz", "unknown dataset 'zzz'; known are "),
        ("json:loads", "json:loads is a function, not a deltascale.datasets.Dataset"),
        ("no_such_package:X", "No module named 'no_such_package'"),
        (":", "write it as package.module:NAME"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(DatasetMistake) as caught:
        datasets.find(name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"sed": "1"}, "unknown setting 'sed'; known is seed"), ({"seed": "x"}, "seed is 'x'")],
)
@pytest.mark.parametrize("name", ["demo-sums", "demo-choices"])
def test_a_demonstration_has_a_seed_and_no_other_setting(
    name: str, options: dict[str, str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetMistake, match=told):
        datasets.load(
            DatasetSpec(name, options=options), items=2, seed=0, cache=datasets.Cache(tmp_path)
        )


def test_a_dataset_at_a_dotted_path_is_the_same_as_by_name(tmp_path: Path) -> None:
    def ids(name: str) -> list[str]:
        cache = datasets.Cache(tmp_path, offline=True)
        loaded = datasets.load(DatasetSpec(name), items=20, seed=0, cache=cache)
        return [item.id for item in loaded.items]

    assert ids("deltascale.datasets.demo:SUMS") == ids("demo-sums")


def test_importing_datasets_and_scorers_is_light() -> None:
    code = (
        "import sys, deltascale.datasets, deltascale.scorers\n"
        "heavy = {'numpy', 'urllib.request', 'http.client', 'zipfile', 'csv', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
