"""A real model's study verifies where there is no model, no network, no key and no benchmark."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import corpus

ROOT = Path(__file__).resolve().parents[1]
ITEMS = ROOT / ".." / "shared" / "data" / "gsm8k" / "test.jsonl"

BARE = """
import socket, sys

def refused(*_, **__):
    raise AssertionError("a connection is made")

socket.socket.connect = socket.getaddrinfo = refused
sys.modules["xllamacpp"] = None
from deltascale.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_real_study_verifies_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra `local` is not installed")
    from deltascale.datasets.gsm8k import TEST
    from deltascale.providers import local

    cache = corpus.warm(tmp_path / "cache", (TEST, ITEMS)).directory
    local.pull("smollm2-135m")
    environ = {**os.environ, "DELTASCALE_CACHE": str(cache), "DELTASCALE_OFFLINE": "1"}

    def deltascale(*words: str, bare: bool = False) -> str:
        command = ["-c", BARE, *words] if bare else ["-m", "deltascale", *words]
        here = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "nobody")} if bare else environ
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=here, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    model = "local/smollm2-135m"
    options = "--dataset gsm8k --protocol review --protocol vote --items 4 --turns 2"
    deltascale("run", "--model", model, *options.split(), "--max-tokens", "128", "--out", "study")
    for words in (("study", "-o", "plain.zip"), ("study", "-o", "blind.zip", "--anonymous")):
        deltascale("pack", *words)
    shutil.rmtree(cache)
    shutil.rmtree(tmp_path / "study")
    for name in ("plain.zip", "blind.zip"):
        said = deltascale("verify", name, bare=True)
        assert "8 of 8 planned samples" in said
        assert said.endswith("all that can be checked holds\n")
