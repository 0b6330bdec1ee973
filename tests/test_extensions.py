"""Names of plugins: found without an import, after the built-in ones, which they can't hide."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deltascale import extensions
from deltascale.errors import DatasetMistake
from deltascale.extensions import Kind
from deltascale.records import Scorer

BUILTIN = {"numeric": "deltascale.scorers.numeric:NUMERIC"}
KIND = Kind("scorer", Scorer, BUILTIN, DatasetMistake)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two plugins, one under a built-in name and one that can't be imported."""
    info = tmp_path / "plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[deltascale.scorers]\n"
        "numeric = nowhere:HIDDEN\n"
        "exact-too = deltascale.scorers.exact:EXACT\n"
        "broken = nowhere:SCORER\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_plugins_add_names_and_hide_none() -> None:
    assert extensions.names(KIND) == ("numeric", "broken", "exact-too")
    assert extensions.find(KIND, "exact-too").name == "exact"
    assert extensions.find(KIND, "numeric").name == "numeric"
    assert extensions.find(KIND, "deltascale.scorers.exact:EXACT").name == "exact"


def test_plugins_are_those_of_the_path_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    found = extensions.names(KIND)
    monkeypatch.setattr(sys, "path", sys.path[1:])
    assert extensions.names(KIND) == ("numeric",) != found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("exact-tow", "unknown scorer 'exact-tow'; did you mean 'exact-too'?"),
        ("zzz", "unknown scorer 'zzz'; known are numeric, broken, exact-too"),
        ("broken", "scorer 'broken' can't be imported: No module named 'nowhere'"),
        ("json:loads", "json:loads is a function, not a deltascale.records.Scorer"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(DatasetMistake) as caught:
        extensions.find(KIND, name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
