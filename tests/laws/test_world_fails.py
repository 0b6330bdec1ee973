"""Whatever a server does, an error is never an answer, and what is paid is paid once and capped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from deltascale import conduct, ledger
from deltascale.engine import Progress
from deltascale.errors import BudgetReached, SamplesMissing
from deltascale.records import ANSWERED, Price, Turn
from deltascale.testing import Asked, FaultServer, LoopbackServer, Told
from tests import worlds

NAMES = ("review", "critique", "resample", "vote")


def comparable(path: Path) -> dict[tuple[str, str, int, int], Turn]:
    """Turns without the call's key, which names the server's address."""
    return {
        place: msgspec.structs.replace(turn, call="") for place, turn in worlds.turns(path).items()
    }


def run_against(server: FaultServer, path: Path, **wanted: object) -> Progress:
    async def scenario() -> Progress:
        async with server:
            plan = worlds.plan(
                [worlds.model(base_url=server.base_url, **wanted.pop("model", {}))],  # type: ignore[arg-type]
                **wanted,  # type: ignore[arg-type]
            )
            return await worlds.run_async(plan, path)

    return asyncio.run(scenario())


@pytest.mark.parametrize("seed", [0, 1])
def test_faults_change_no_estimate_and_no_paid_reply_is_asked_twice(
    tmp_path: Path, seed: int
) -> None:
    calm = FaultServer(worlds.answered)
    run_against(calm, tmp_path / "calm.db", names=NAMES)
    stormy = FaultServer(worlds.answered, rate=0.3, seed=seed, slow_s=0.001, wait_s=0.001)
    progress = run_against(stormy, tmp_path / "stormy.db", names=NAMES)
    assert sum(stormy.met.values()) > 20
    assert len(stormy.met) >= 5, "every kind of fault was met"
    # A call may meet six faults in a row and be given up; the next run asks for it again.
    while sum(progress.missing.values()):
        progress = run_against(stormy, tmp_path / "stormy.db", names=NAMES)
    assert comparable(tmp_path / "stormy.db") == comparable(tmp_path / "calm.db")
    assert stormy.delivered == calm.delivered
    with ledger.read(tmp_path / "stormy.db") as book:
        spent = book.spent()
        assert spent.n_calls == sum(stormy.delivered.values())
        assert spent.n_failures == sum(stormy.met.values()) - stormy.met["slow"]


SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 20))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_budget_is_never_passed_at_any_concurrency(tmp_path: Path, seed: int) -> None:
    # Dear enough that the budget holds about 25 of the 100 calls.
    price = Price(1_000_000, 500_000, 60_000_000, "test", "2026-01-01")
    server = FaultServer(
        worlds.answered,
        max_output=True,
        rate=0.2 * (seed % 2),
        seed=seed,
        slow_s=0.001,
        wait_s=0.001,
    )
    wanted = {
        "names": ("review", "resample"),
        "n_items": 20,
        "budget_nusd": 100_000_000,
        "model": {"connections": 256, "price": price},
    }
    progress = run_against(server, tmp_path / "ledger.db", **wanted)
    assert progress.budget_reached
    billed_nusd = server.input_tokens * 1_000 + server.output_tokens * 60_000
    with ledger.read(tmp_path / "ledger.db") as book:
        spent = book.spent()
    assert billed_nusd <= spent.spent_nusd <= 100_000_000
    assert spent.spent_nusd > 90_000_000, "and it is used up"


def test_raising_the_budget_goes_on(tmp_path: Path) -> None:
    price = Price(1_000_000, 500_000, 60_000_000, "test", "2026-01-01")
    server = FaultServer(worlds.answered, max_output=True)

    async def scenario() -> None:
        async with server:
            model = worlds.model(base_url=server.base_url, price=price)
            for budget, complete in ((100_000_000, False), (10_000_000_000, True)):
                plan = worlds.plan([model], names=("review",), budget_nusd=budget)
                progress = await worlds.run_async(plan, tmp_path / "ledger.db")
                assert progress.budget_reached is not complete
            assert max(server.delivered.values()) == 1

    asyncio.run(scenario())


def test_a_model_that_is_not_there_is_never_scored_and_others_finish(tmp_path: Path) -> None:
    def respond(asked: Asked) -> Told:
        body = msgspec.json.decode(asked.body)
        if body["model"] == "gone":
            error = {"message": "The model `gone` does not exist", "code": "model_not_found"}
            return Told(404, msgspec.json.encode({"error": error}))
        return Told(body=there._reply(asked))

    there = FaultServer(worlds.answered)

    async def scenario() -> Progress:
        async with LoopbackServer(respond) as server:
            models = [worlds.model(name, base_url=f"{server.url}/v1") for name in ("gone", "here")]
            return await worlds.run_async(
                worlds.plan(models, names=("review",)), tmp_path / "ledger.db"
            )

    progress = asyncio.run(scenario())
    assert progress.done["openai/here", "sums"] == 12
    assert "openai/gone" in progress.stopped
    assert "check the model's id" in progress.stopped["openai/gone"]
    assert "\n" not in progress.stopped["openai/gone"]
    study = worlds.plan([worlds.model(name) for name in ("gone", "here")]).study
    gone, here = sorted(
        worlds.results(tmp_path / "ledger.db", study), key=lambda one: one.cell.model
    )
    assert gone.delta.value is None
    assert gone.n_missing == 12
    assert gone.first.value is None
    assert here.n_missing == 0
    with pytest.raises(SamplesMissing) as missing:
        conduct._raise_for(progress, tmp_path)
    assert missing.value.exit_code == 4


@pytest.mark.parametrize(
    ("message", "finish", "outcome"),
    [
        ({"content": None}, "stop", "no_answer"),
        ({"content": ""}, "stop", "no_answer"),
        ({"content": "  \n"}, "stop", "no_answer"),
        ({"content": None}, "length", "truncated"),
        ({"content": "#### 3 and then"}, "length", "truncated"),
        ({"content": None}, "content_filter", "filtered"),
        ({"content": None, "refusal": "I can't help."}, "stop", "refused"),
    ],
)
def test_null_empty_and_cut_replies_are_states_of_their_own(
    tmp_path: Path, message: dict[str, object], finish: str, outcome: str
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    body = msgspec.json.encode(
        {"id": "x", "model": "toy", "choices": [choice], "usage": _usage(10, 4)}
    )

    async def scenario() -> None:
        async with LoopbackServer(lambda _: Told(body=body)) as server:
            plan = worlds.plan(
                [worlds.model(base_url=f"{server.url}/v1")], names=("review",), n_items=2
            )
            await worlds.run_async(plan, tmp_path / "ledger.db")

    asyncio.run(scenario())
    turns = worlds.turns(tmp_path / "ledger.db").values()
    assert {turn.outcome for turn in turns} == {outcome}
    assert {turn.score for turn in turns} == {0.0}
    assert {turn.answer for turn in turns} == {None}
    assert outcome in ANSWERED


def test_the_exit_codes(tmp_path: Path) -> None:
    done = {("m", "d"): 3}
    with pytest.raises(BudgetReached) as budget:
        conduct._raise_for(
            Progress(total=done, done=done, missing={}, budget_reached=True), tmp_path
        )
    assert budget.value.exit_code == 3
    conduct._raise_for(Progress(total=done, done=done, missing={}), tmp_path)


def test_a_second_run_on_one_ledger_is_refused_in_one_line(tmp_path: Path) -> None:
    from deltascale.errors import LedgerMistake

    with (
        ledger.write(tmp_path / "ledger.db"),
        pytest.raises(LedgerMistake, match="another run is writing") as refused,
        ledger.write(tmp_path / "ledger.db"),
    ):
        pass
    assert "\n" not in str(refused.value)
    with ledger.write(tmp_path / "ledger.db"):
        pass


def _usage(n_input: int, n_output: int) -> dict[str, int]:
    return {"prompt_tokens": n_input, "completion_tokens": n_output, "total_tokens": 0}
