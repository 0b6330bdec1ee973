"""A run that is killed at any moment loses nothing it had committed, and forgets no money."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
from datetime import date
from pathlib import Path

import msgspec
import pytest

from deltascale import assess, conduct, engine, ledger, study
from deltascale.analysis import Settings
from deltascale.datasets import Cache
from deltascale.engine import Progress
from deltascale.errors import LedgerMistake, Stop
from deltascale.ledger import Spent
from deltascale.records import Reply
from deltascale.testing import Asked, FaultServer, Told
from tests import worlds

FEW = Settings(replicates=20)
COMMAND = (sys.executable, "-m", "deltascale")

STUDY = """
name: killed
models:
  - id: openai/toy
    base_url: {base_url}
    parameters: 1e9
    price: {{input: 150, output: 600}}
    limits: {{connections: 6}}
datasets: [{{file: sums.csv, scorer: numeric}}]
protocols: [review, critique]
turns: 3
max_tokens: 64
budget_usd: {budget}
"""


class Server(FaultServer):
    """Kills its client after so many requests, and notes which bodies are asked for.

    `delay_s` is the time from that request to the kill.
    """

    def __init__(
        self,
        how: signal.Signals = signal.SIGKILL,
        *,
        latency_s: float = 0.0,
        max_output: bool = False,
    ) -> None:
        super().__init__(_stamped, latency_s=latency_s, max_output=max_output)
        self.client: subprocess.Popen[bytes] | None = None
        self.how = how
        self.kill_after = -1
        self.delay_s = 0.0
        self.asked: list[str] = []

    @property
    def billed_nusd(self) -> int:
        return self.input_tokens * 150_000 + self.output_tokens * 600_000

    def _respond(self, asked: Asked) -> Told:
        self.asked.append(_stamp(asked.body))
        if len(self.asked) == self.kill_after and self.client is not None:
            if self.delay_s:
                kill = functools.partial(self.client.send_signal, self.how)
                asyncio.get_running_loop().call_later(self.delay_s, kill)
            else:
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


async def _run_here(folder: Path, out: Path) -> int:
    """The same run in this process, which nobody kills: it ends by itself, and at half the price.

    Returns the exit code that the command would have.
    """
    asked = study.load(folder / "study.yaml", on=date(2026, 11, 1))

    def run() -> int:
        cache, progress = Cache(folder), Progress()
        try:
            conduct.run(asked, out, cache=cache, environ={}, progress=progress, tell=print)
        except Stop as stop:
            return stop.exit_code
        return 0

    return await asyncio.to_thread(run)


async def _scenario(folder: Path, n_kills: int, seed: int) -> None:
    rng = random.Random(seed)
    _write_items(folder)
    async with Server() as server:
        (folder / "study.yaml").write_text(STUDY.format(base_url=server.base_url, budget=1000))
        assert await _run_here(folder, folder / "unbroken") == 0
        assess.analyze(folder / "unbroken", settings=FEW)
        assert server.billed_nusd == _spent(folder / "unbroken").spent_nusd
        n_whole = len(server.asked)
        kills = 0
        while kills < n_kills:
            out = folder / f"killed-{kills}"
            committed: set[str] = set()
            n_before = server.billed_nusd
            while True:
                server.asked.clear()
                killed = kills < n_kills
                server.kill_after = rng.randint(1, n_whole) if killed else -1
                ended = await (_run(folder, out, server) if killed else _run_here(folder, out))
                repeated = committed & set(server.asked)
                assert not repeated, "a call that was committed is asked again"
                committed = _committed(out / "ledger.db")
                assert _spent(out).spent_nusd >= server.billed_nusd - n_before
                if ended == 0:
                    break
                kills += 1
            assess.analyze(out, settings=FEW)
            assert _estimates(out) == _estimates(folder / "unbroken")


async def _interrupted(folder: Path) -> None:
    _write_items(folder)
    async with Server(signal.SIGINT, latency_s=0.05) as server:
        (folder / "study.yaml").write_text(STUDY.format(base_url=server.base_url, budget=1000))
        out = folder / "out"
        server.kill_after = 10
        assert await _run(folder, out, server, may_end=130) == 130
        asked = set(server.asked)
        assert len(asked) < 60, "it stopped long before the end"
        assert _committed(out / "ledger.db") == asked, "what was in flight was finished and kept"
        server.asked.clear()
        server.kill_after = -1
        server.latency_s = 0.0
        assert await _run_here(folder, out) == 0
        assert not asked & set(server.asked)


async def _spending(folder: Path, n_kills: int, seed: int) -> None:
    """Kills while calls are in flight, against a budget that holds about half of the study."""
    rng = random.Random(seed)
    budget_nusd = 4_000_000_000
    _write_items(folder)
    async with Server(latency_s=0.03, max_output=True) as server:
        written = STUDY.format(base_url=server.base_url, budget=budget_nusd / 1e9)
        (folder / "study.yaml").write_text(written)
        out = folder / "out"
        for left in range(n_kills, -1, -1):
            server.asked.clear()
            server.kill_after = rng.randint(1, 12) if left else -1
            server.delay_s = rng.choice([0.0, rng.uniform(0, 0.04)])
            ended = await (_run(folder, out, server, may_end=3) if left else _run_here(folder, out))
            spent = _spent(out)
            assert server.billed_nusd <= spent.spent_nusd <= budget_nusd
            if ended == 3:
                break
        assert ended == 3, "the budget is what ended it"
        assert spent.uncertain_nusd > 0
        assert spent.n_calls > 0


async def _stopped_at_once(path: Path) -> None:
    """The second Ctrl-C comes while every call is in flight; the run is resumed after it."""
    progress = Progress()
    async with FaultServer(worlds.answered, latency_s=60.0, max_output=True) as server:
        plan = worlds.plan(
            [worlds.model(base_url=server.base_url, connections=4)], names=("review",)
        )
        respond = server.respond

        def interrupting(asked: Asked) -> Told:
            if server.n_requests == 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return respond(asked)

        server.respond = interrupting
        with ledger.write(path) as book:
            run = conduct._with_signals(plan, book, {}, {}, progress, lambda _: None, None)
            await asyncio.create_task(run)
        assert progress.interrupted
        billed_nusd = server.input_tokens * 150 + server.output_tokens * 600
        with ledger.read(path) as book:
            cut_off = book.spent()
            assert cut_off.uncertain_nusd == cut_off.spent_nusd >= billed_nusd > 0
            assert {failure for _, failure in book.failed_calls()} == {ledger.LOST}
        server.latency_s = 0.0
        with ledger.write(path) as book:
            stop, progress = asyncio.Event(), Progress()
            await engine.run(plan, book, environ={}, stop=stop, progress=progress)
            assert progress.done["openai/toy", "sums"] == 12
            billed_nusd = server.input_tokens * 150 + server.output_tokens * 600
            assert book.spent().uncertain_nusd == cut_off.uncertain_nusd
            assert book.spent().spent_nusd >= billed_nusd


def _spent(out: Path) -> Spent:
    try:
        with ledger.read(out / "ledger.db") as book:
            return book.spent()
    except LedgerMistake:  # killed before it was made
        return Spent(0, 0, 0, 0)


def _write_items(folder: Path) -> None:
    lines = ["id,question,answer", *(f"{n},What is {n} + {10 - n}?,10" for n in range(12))]
    (folder / "sums.csv").write_text("\n".join(lines) + "\n")


def _estimates(out: Path) -> str:
    return (out / "results" / "deltas.csv").read_text() + (out / "results/turns.csv").read_text()


def test_killed_and_resumed(tmp_path: Path) -> None:
    asyncio.run(_scenario(tmp_path, n_kills=1, seed=0))


def test_ctrl_c_finishes_what_is_in_flight(tmp_path: Path) -> None:
    asyncio.run(_interrupted(tmp_path))


def test_a_killed_run_forgets_no_money_and_passes_no_budget(tmp_path: Path) -> None:
    asyncio.run(_spending(tmp_path, n_kills=1, seed=0))


def test_a_second_ctrl_c_forgets_no_money(tmp_path: Path) -> None:
    asyncio.run(_stopped_at_once(tmp_path / "ledger.db"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_killed_runs_forget_no_money_and_pass_no_budget(tmp_path: Path, seed: int) -> None:
    asyncio.run(_spending(tmp_path, n_kills=6, seed=seed))


@pytest.mark.slow
def test_killed_at_thirty_moments(tmp_path: Path) -> None:
    asyncio.run(_scenario(tmp_path, n_kills=30, seed=1))
