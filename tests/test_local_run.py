"""A real model on real items, end to end."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import corpus

ROOT = Path(__file__).resolve().parents[1]
ITEMS = ROOT / ".." / "shared" / "data" / "gsm8k" / "test.jsonl"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_small_model_answers_real_items(tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra `local` is not installed")
    from deltascale.datasets.gsm8k import TEST
    from deltascale.providers import local

    cache = corpus.warm(tmp_path / "cache", (TEST, ITEMS)).directory
    local.pull("smollm2-135m")
    environ = {**os.environ, "DELTASCALE_CACHE": str(cache), "DELTASCALE_OFFLINE": "1"}

    def run(out: str) -> str:
        command = (sys.executable, "-m", "deltascale", "run", str(ROOT / "studies/local.yaml"))
        done = subprocess.run(
            [*command, "--out", str(tmp_path / out)], capture_output=True, text=True, env=environ
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = run("once")
    assert "smollm2-135m" in printed
    with (tmp_path / "once/results/deltas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["protocol"] for row in rows} == {"review", "resample", "vote"}
    assert {row["n_items"] for row in rows} == {"20"}
    assert {row["n_missing"] for row in rows} == {"0"}
    assert len({row["acc_first"] for row in rows}) == 1, "they share their first answers"
    assert all(int(row["tokens_out"]) > 0 for row in rows)
    assert " 0 calls bought" in run("once"), "and a second run asks nothing"
