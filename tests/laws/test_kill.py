"""A run that is killed at any moment loses nothing it had committed."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deltascale.records import Reply
from deltascale.testing import Asked, FaultServer, Told

COMMAND = (sys.executable, "-m", "deltascale")

STUDY = """
name: killed
models:
  - id: openai/toy
    base_url: {base_url}
    parameters: 1e9
    price: {{input: 0.15, output: 0.6}}
    limits: {{connections: 6}}
datasets: [{{file: sums.csv, scorer: numeric}}]
protocols: [review, critique]
turns: 3
max_tokens: 64
budget_usd: 5
"""


class Server(FaultServer):
    """Kills its client after so many requests, and notes which bodies are asked for."""

    def __init__(self, how: signal.Signals = signal.SIGKILL, *, latency_s: float = 0.0) -> None:
        super().__init__(_stamped, latency_s=latency_s)
        self.client: subprocess.Popen[bytes] | None = None
        self.how = how
        self.kill_after = -1
        self.asked: list[str] = []

    def _respond(self, asked: Asked) -> Told:
        self.asked.append(_stamp(asked.body))
        if len(self.asked) == self.kill_after and self.client is not None:
            self.client.send_signal(self.how)
        return super()._respond(asked)


def _stamp(body: bytes) -> str:
    messages = msgspec.json.decode(body)["messages"]
    spoken = "\n".join(f"{one['role']}: {one['content']}" for one in messages)
    return hashlib.sha256(spoken.encode()).hexdigest()[:16]


def _stamped(body: object) -> str:
    """A reply that names the request it answers, and is right for about two of three."""
    stamp = _stamp(msgspec.json.encode(body))
    return f"call {stamp}\n#### {10 if int(stamp, 16) % 3 else 11}"


def _committed(path: Path) -> set[str]:
    if not path.exists():
        return set()
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT reply FROM calls").fetchall()
    except sqlite3.OperationalError:  # killed before the ledger was made
        return set()
    finally:
        connection.close()
    return {msgspec.json.decode(row[0], type=Reply).text.split()[1] for row in rows}


async def _run(folder: Path, out: Path, server: Server, *, may_end: int = 0) -> int:
    command = (*COMMAND, "run", str(folder / "study.yaml"), "--out", str(out), "--json")
    server.client = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder
    )
    _, complaints = await asyncio.to_thread(server.client.communicate)
    if server.client.returncode not in (0, may_end, -signal.SIGKILL):
        raise AssertionError(complaints.decode())
    return server.client.returncode


async def _scenario(folder: Path, n_kills: int, seed: int) -> None:
    rng = random.Random(seed)
    _write_items(folder)
    async with Server() as server:
        (folder / "study.yaml").write_text(STUDY.format(base_url=server.base_url))
        assert await _run(folder, folder / "unbroken", server) == 0
        n_whole = len(server.asked)
        kills = 0
        while kills < n_kills:
            out = folder / f"killed-{kills}"
            committed: set[str] = set()
            while True:
                server.asked.clear()
                server.kill_after = rng.randint(1, n_whole) if kills < n_kills else -1
                ended = await _run(folder, out, server)
                repeated = committed & set(server.asked)
                assert not repeated, "a call that was committed is asked again"
                committed = _committed(out / "ledger.db")
                if ended == 0:
                    break
                kills += 1
            assert _estimates(out) == _estimates(folder / "unbroken")


async def _interrupted(folder: Path) -> None:
    _write_items(folder)
    async with Server(signal.SIGINT, latency_s=0.05) as server:
        (folder / "study.yaml").write_text(STUDY.format(base_url=server.base_url))
        out = folder / "out"
        server.kill_after = 10
        assert await _run(folder, out, server, may_end=130) == 130
        asked = set(server.asked)
        assert len(asked) < 60, "it stopped long before the end"
        assert _committed(out / "ledger.db") == asked, "what was in flight was finished and kept"
        server.asked.clear()
        server.kill_after = -1
        assert await _run(folder, out, server) == 0
        assert not asked & set(server.asked)


def _write_items(folder: Path) -> None:
    lines = ["id,question,answer", *(f"{n},What is {n} + {10 - n}?,10" for n in range(12))]
    (folder / "sums.csv").write_text("\n".join(lines) + "\n")


def _estimates(out: Path) -> str:
    return (out / "results" / "deltas.csv").read_text() + (out / "results/turns.csv").read_text()


def test_killed_and_resumed(tmp_path: Path) -> None:
    asyncio.run(_scenario(tmp_path, n_kills=1, seed=0))


def test_ctrl_c_finishes_what_is_in_flight(tmp_path: Path) -> None:
    asyncio.run(_interrupted(tmp_path))


@pytest.mark.slow
def test_killed_at_thirty_moments(tmp_path: Path) -> None:
    asyncio.run(_scenario(tmp_path, n_kills=30, seed=1))
