"""No target reaches a prompt, and no verdict reaches a protocol that may not have one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltascale import protocols
from deltascale.records import Reply, Request
from tests import worlds

BLIND = tuple(name for name in protocols.names() if protocols.find(name).regime != "verdict")


def prompts(tmp_path: Path, names: tuple[str, ...], shift: int) -> list[str]:
    asked: list[str] = []

    async def call(request: Request) -> Reply:
        asked.append(repr((request.messages, request.draw)))
        return await worlds.reply(request)

    path = tmp_path / f"{'-'.join(names)}{shift}.db"
    path.unlink(missing_ok=True)
    wanted = worlds.plan([worlds.model()], n_items=6, names=names, shift=shift)
    worlds.run(wanted, path, call=call)
    return sorted(asked)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(shift=st.integers(1, 10**6))
def test_changing_every_target_changes_no_prompt(
    tmp_path_factory: pytest.TempPathFactory, shift: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("leak")
    assert prompts(tmp_path, BLIND, 0) == prompts(tmp_path, BLIND, shift)


def test_the_oracle_is_the_exception(tmp_path: Path) -> None:
    # With no target ever met, the oracle asks on and on: its prompts do depend on the targets.
    assert len(prompts(tmp_path, ("oracle",), 0)) < len(prompts(tmp_path, ("oracle",), 10**6))


def test_a_verdict_is_sent_to_the_verdict_regime_only(tmp_path: Path) -> None:
    from deltascale.protocols.attempt import attempt
    from deltascale.records import Exchange, Protocol, Question

    told: list[bool | None] = []

    def curious(question: Question, turns: int) -> Exchange:
        for draw in range(turns):
            seen = yield from attempt(question, draw=draw)
            told.append(seen.verdict)

    wanted = worlds.plan([worlds.model()], n_items=3, names=("review",))
    for regime in ("nothing", "tests", "model", "verdict"):
        told.clear()
        protocol = Protocol("review", 1, regime, "curious", curious)  # type: ignore[arg-type]
        tried = type(wanted)(wanted.study, wanted.loaded, {"review": protocol}, wanted.scorers)
        worlds.run(tried, tmp_path / f"{regime}.db", call=worlds.reply)
        assert told
        assert all((verdict is not None) == (regime == "verdict") for verdict in told)
