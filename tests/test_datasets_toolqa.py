"""ToolQA's questions as they are published, and the two dialects of an attempt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.datasets import Cache, load, subsets, toolqa
from deltascale.datasets.toolqa import FILES, agent, errata
from deltascale.errors import DatasetMistake
from deltascale.records import (
    Ask,
    DatasetSpec,
    Item,
    Message,
    Question,
    Reply,
    Seen,
    ToolCall,
    UseTool,
    user,
)
from deltascale.scorers import benchmark
from deltascale.scorers import toolqa as toolqa_scorer
from deltascale.scorers.toolqa import finished

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "toolqa"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    if not SHARED.exists():
        pytest.skip("the shared ToolQA files are not beside this checkout")
    warm = Cache(tmp_path_factory.mktemp("cache"), offline=True)
    for part, (name, _) in FILES.items():
        path = warm.path(toolqa.remote(part))
        path.parent.mkdir(parents=True, exist_ok=True)
        published = SHARED / "questions" / part.split("/")[0] / f"{name}.jsonl"
        path.write_bytes(published.read_bytes())
    return warm


def take(cache: Cache, options: dict[str, str], items: int | None = None) -> tuple[Item, ...]:
    spec = DatasetSpec("toolqa", options=options)
    return load(spec, items=items, seed=0, cache=cache).items


@pytest.mark.parametrize(
    ("options", "n_items"),
    [
        ({}, 1521),
        ({"filter": "none"}, 1530),
        ({"filter": "clean"}, 1270),
        ({"difficulty": "easy"}, 796),
        ({"difficulty": "hard"}, 725),
        ({"domains": "gsm8k, coffee"}, 330),
        ({"domains": "coffee", "filter": "clean"}, 220),
        ({"domains": "coffee", "difficulty": "hard"}, 130),
    ],
)
def test_how_many_there_are(cache: Cache, options: dict[str, str], n_items: int) -> None:
    items = take(cache, options)
    assert len({item.id for item in items}) == len(items) == n_items


def test_numbers_stay_as_they_are_written(cache: Cache) -> None:
    items = {item.id: item for item in take(cache, {"filter": "none"})}
    assert items["toolqa/easy/gsm8k/easy-gsm8k-0000"].target == "147.0"
    assert items["toolqa/easy/dblp/easy-dblp-0020"].target == "9"
    assert items["toolqa/easy/airbnb/easy-airbnb-0070"].target == "NaN"
    assert "toolqa/hard/airbnb/hard-yelp-0030" in items
    assert "toolqa/hard/yelp/hard-yelp-0030" in items


def test_faults_are_on_record_and_change_no_gold(cache: Cache) -> None:
    every = take(cache, {"filter": "none"})
    faults = Counter(item.meta["fault"] for item in every if "fault" in item.meta)
    assert faults == {
        "ambiguous": 138,
        "wrong_gold": 101,
        "wrong_gold_possible": 60,
        "not_in_corpus": 60,
        "tool_limit": 20,
        "degenerate": 10,
        "no_gold": 5,
        "conflicting_gold": 4,
    }
    clean = take(cache, {"filter": "clean"})
    assert {item.meta.get("fault") for item in clean} == {None, "ambiguous"}


def test_filters_are_nested() -> None:
    for fault in (None, *{kind for _, _, kind in errata._BY_PART}):
        kept = [errata.keeps(chosen, fault) for chosen in errata.FILTERS]
        assert kept == sorted(kept, reverse=True)


def test_the_golden_order(cache: Cache) -> None:
    golden = json.loads((SHARED.parent / "subset_golden.json").read_text())["datasets"]["toolqa"]
    order = take(cache, {})
    assert [item.id for item in order[:10]] == golden["first10"]
    for size, held in golden["sizes"].items():
        assert subsets.digest(order[: int(size)]) == held["sha256"]
        assert Counter(item.stratum for item in order[: int(size)]) == held["per_stratum"]


def test_what_a_model_is_shown(cache: Cache) -> None:
    react = take(cache, {}, items=3)
    native = take(cache, {"dialect": "native"}, items=3)
    for text, tools in zip(react, native, strict=True):
        assert text.id == tools.id
        assert text.question.tools == ()
        assert {tool.name for tool in tools.question.tools} == set(agent.TOOLS)
        shown = text.question.messages[0].content
        assert all(tool.example in shown for tool in agent.TOOLS.values())
        assert shown.endswith(text.question.answer_format)
        assert "LoadDB" not in tools.question.messages[0].content
    for tool in native[0].question.tools:
        told = json.loads(tool.schema)
        assert set(told["required"]) == set(told["properties"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"domains": "tea"}, "domains is 'tea'; known are agenda, airbnb"),
        ({"filter": "all"}, "filter is 'all'; known are none, no_gold, clean"),
        ({"filter": "none,clean"}, "filter is 'none,clean'"),
        ({"difficulty": "medium"}, "known are easy, hard"),
        ({"domains": "gsm8k", "difficulty": "hard"}, "gsm8k has no hard questions"),
        ({"steps": "0"}, "steps is '0'; write a number from 1 to 100"),
        ({"steps": "\u00b2"}, "write a number"),
        ({"dialect": "json"}, "known are react, native"),
        ({"step": "3"}, "unknown setting 'step'; did you mean 'steps'?"),
    ],
)
def test_settings_that_can_not_be(cache: Cache, options: dict[str, str], told: str) -> None:
    with pytest.raises(DatasetMistake) as caught:
        take(cache, options)
    assert told in str(caught.value)


# --- attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "inside"),
    [
        ("Action: LoadDB[coffee]", "LoadDB", "coffee"),
        ("Thought 1: see\nAction 1: LoadDB[coffee]\nObservation 1: made up", "LoadDB", "coffee"),
        ("**Action:** `LoadDB[coffee]`", "LoadDB", "coffee"),
        ("Calculate [1 + 2]", "Calculate", "1 + 2"),
        ("Action: Search[x]", "Search", "x"),
        ("Finish[42].", "Finish", "42"),
        ("Finish[]", "Finish", ""),
        ("Action: GetValue[Open]\nAction: Finish[1]", "GetValue", "Open"),
        ("Action: Calculate[mean([1, 2])]", "Calculate", "mean([1, 2])"),
        ("Action: GetValue[Open", "GetValue", "Open"),
        ("Action: GetValue[Open\nand more]", "GetValue", "Open"),
        ("PythonInterpreter[x = [1]\nans = x[0]\n]", "PythonInterpreter", "x = [1]\nans = x[0]"),
        ("PythonInterpreter[ans = 1\nObservation: 1]", "PythonInterpreter", "ans = 1"),
        ("I would use LoadDB[coffee]", None, None),
        ("LoadDB(coffee)", None, None),
        ("", None, None),
    ],
)
def test_the_first_action_of_a_text(text: str, name: str | None, inside: str | None) -> None:
    found = agent.action(text)
    assert (found and found.name, found and found.text) == (name, inside)


PIECES = st.sampled_from(
    ["Action: ", "Finish[", "LoadDB[", "]", "[", "\n", "Thought: ", "x", "42", " ", "Answer: ", "1"]
)


@given(st.lists(PIECES, max_size=16).map("".join))
def test_an_attempt_ends_where_the_scorer_sees_an_answer(text: str) -> None:
    """The two read actions alike: the loop stops at a Finish, and only there is an answer."""
    found = agent.action(text)
    if found is not None and found.name != "Finish":
        assert finished(text) is None
    if found is not None and found.name == "Finish" and found.text and "]" in text:
        assert finished(text) is not None


def lead(attempt: object, replies: list[Seen], told: str = "told") -> tuple[list[object], Seen]:
    """Every step of an attempt whose replies are given, and the reply that it ends with."""
    assert callable(attempt)
    steps: list[object] = []
    left = iter(replies)
    going = attempt(Question((user("q"),), ""), (user("q"),), 3)
    step = next(going)
    while True:
        steps.append(step)
        try:
            seen = next(left) if isinstance(step, Ask) else Seen((), told)
            step = going.send(seen)
        except StopIteration as done:
            return steps, done.value


def reply(text: str) -> Seen:
    return Seen((user("q"), Message("assistant", text)), text)


def test_react_takes_actions_until_it_finishes() -> None:
    replies = [
        reply("Thought: load\nAction: LoadDB[coffee]\nObservation: invented"),
        reply("no action"),
        reply("Action: Finish[42]"),
    ]
    steps, last = lead(agent.react(20), replies)
    assert last is replies[-1]
    assert steps[0] == UseTool(agent.START, "{}")
    assert steps[2] == UseTool("LoadDB", '{"text": "coffee"}')
    asks = [step for step in steps if isinstance(step, Ask)]
    assert all(ask.draw == 3 for ask in asks)
    second = [message.content for message in asks[1].messages]
    assert second == ["q", "Thought: load\nAction: LoadDB[coffee]", "Observation: told"]
    assert "holds no action" in asks[2].messages[-1].content
    assert scorers.find("toolqa").extract(Question((), ""), last.text) == "42"


def test_react_gives_up_after_its_steps() -> None:
    replies = [reply(f"Action: GetValue[{n}]") for n in range(3)]
    steps, last = lead(agent.react(3), replies)
    assert last is replies[-1]
    assert sum(isinstance(step, UseTool) for step in steps) == 3
    assert scorers.find("toolqa").extract(Question((), ""), last.text) is None


def test_native_answers_every_tool_call_and_ends_without_one() -> None:
    calls = (ToolCall("a", "LoadDB", '{"name": "coffee"}'), ToolCall("b", "GetValue", "{}"))
    spoken = Message("assistant", "(no reply)", calls)
    replies = [Seen((user("q"), spoken), "", None, calls), reply("Answer: 42")]
    steps, last = lead(agent.native(20), replies)
    assert last is replies[-1]
    uses = [step for step in steps if isinstance(step, UseTool)]
    assert [use.name for use in uses] == [agent.START, "LoadDB", "GetValue"]
    asked = [step for step in steps if isinstance(step, Ask)][1]
    assert [message.tool_call_id for message in asked.messages] == ["", "", "a", "b"]
    assert scorers.find("toolqa").extract(Question((), ""), last.text) == "42"


def test_native_gives_up_after_its_steps() -> None:
    calls = (ToolCall("a", "LoadDB", "{}"),)
    replies = [Seen((user("q"),), "", None, calls)] * 4
    steps, last = lead(agent.native(4), replies)
    assert last is replies[-1]
    assert sum(isinstance(step, Ask) for step in steps) == 4


# --- how attempts went ---------------------------------------------------------------------------


def last_seen(dialect: str, replies: list[Reply], steps: int) -> Seen:
    """What ends an attempt with these replies, after an earlier turn with uses of its own.

    Tools tell what they are asked.
    """
    opening: tuple[Message, ...] = (
        user("Question"),
        Message("assistant", "Action: Calculate[9]"),
        user("Observation: Calculate failed: before"),
        Message("assistant", "Action: Finish[9]"),
        user("Check your answer"),
    )
    exchange = agent.DIALECTS[dialect](steps)(Question((), ""), opening, 0)
    said, step = iter(replies), next(exchange)
    last = Seen((), "")
    try:
        while True:
            if isinstance(step, Ask):
                reply = next(said)
                spoken = Message("assistant", reply.text, reply.tool_calls)
                seen = last = Seen((*step.messages, spoken), reply.text, None, reply.tool_calls)
            else:
                seen = Seen((), json.loads(step.arguments).get("text", ""))
            step = exchange.send(seen)
    except StopIteration:
        return last


def use(told: str) -> ToolCall:
    return ToolCall("c", "Calculate", json.dumps({"text": told}))


@pytest.mark.parametrize(
    ("replies", "steps", "found"),
    [
        (["Finish[1]"], 9, (0, 0, 0, False)),
        (["Calculate[2]", "GetValue[x failed: y]", "Finish[1]"], 9, (2, 0, 0, False)),
        (["Calculate[Calculate failed: no]", "Finish[1]"], 9, (1, 0, 1, False)),
        (["hm", "Search[There is no tool Search]", "Finish[1]"], 9, (1, 2, 0, False)),
        (["hm", "hm", "hm"], 3, (0, 2, 0, True)),
        (["Calculate[2]", "Calculate[3]"], 2, (1, 0, 0, True)),
    ],
)
def test_how_an_attempt_went(
    replies: list[str], steps: int, found: tuple[int, int, int, bool]
) -> None:
    actions = [Reply(f"Action: {one}" if "[" in one else one, "stop") for one in replies]
    assert went(last_seen("react", actions, steps), "react") == found


def test_how_a_native_attempt_went() -> None:
    two = Reply("", "tool_use", tool_calls=(use("1"), use("The arguments are not a JSON object.")))
    done = Reply("Answer: 3", "stop")
    assert went(last_seen("native", [two, done], 9), "native") == (2, 1, 0, False)
    assert went(last_seen("native", [two, two], 2), "native") == (2, 1, 0, True)


def went(seen: Seen, dialect: str) -> tuple[int, int, int, bool]:
    tools = agent.schema() if dialect == "native" else ()
    told = toolqa_scorer.counts(Item("i", Question((), "", tools=tools), "1"), seen)
    uses, invalid, errors, halted = (int(told[f"n_{x}"]) for x in WENT)
    return uses, invalid, errors, bool(halted)


WENT = ("uses", "invalid", "errors", "halted")


def test_rates_are_means_over_attempts() -> None:
    held: list[tuple[Item, str | None]] = [
        (Item("a", Question((), ""), "1", stratum="easy"), "1"),
        (Item("b", Question((), ""), "1", stratum="hard"), None),
    ]
    scores = benchmark.scores(toolqa_scorer.TOOLQA, held)
    assert scores["", "answered"] == 0.5
    assert scores["", "uses per attempt"] == 0.0
    assert benchmark.scores(toolqa_scorer.TOOLQA, []) == {}
