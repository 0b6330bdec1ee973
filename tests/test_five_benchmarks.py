"""Each of the five benchmarks from its study file to its results: real items, real HTTP, no money.

The models are scripts that know the golds, or fail to say anything; the slow test asks a real one.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from deltascale import assess, conduct, datasets, study
from deltascale.analysis import Results, Settings
from deltascale.analysis.results import CellResult
from deltascale.datasets import Cache, gsm8k, humaneval, toolqa
from deltascale.engine import Progress
from deltascale.records import DatasetSpec, Item
from deltascale.sandbox import try_backend
from deltascale.testing import Asked, FaultServer, LoopbackServer, Told
from tests import corpus

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
FEW = Settings(replicates=20)
EMPTY = {
    "broken": "Error code: 500 - the server had an error while processing your request",
    "idle": "I would rather think about it some more.",
}
"""What the two models say to everything that know nothing."""
ENVIRON = {"OPENAI_API_KEY": "sk-test"}
N_ITEMS = 3
N_USES = 7
"""Of tools, in each of the scripted attempts."""


def specs(**toolqa_options: str) -> tuple[DatasetSpec, ...]:
    coffee = {
        "domains": "coffee",
        "difficulty": "easy",
        "corpus": (SHARED / "toolqa" / "corpus_genuine").resolve().as_posix(),
        "python": "off",
        "steps": "8",
    }
    handmade = (SHARED / "mathbench" / "handmade" / "mathbench_v1").resolve().as_posix()
    published = (SHARED / "superglue").resolve().as_posix()
    return (
        DatasetSpec("gsm8k"),
        DatasetSpec("humaneval"),
        DatasetSpec("mathbench", options={"path": handmade, "counts": "any"}),
        DatasetSpec(
            "superglue", options={"path": published, "tasks": "BoolQ,CB,COPA,MultiRC,RTE,WiC,WSC"}
        ),
        DatasetSpec("toolqa", options=coffee | toolqa_options),
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Warm with what was published; nothing can be downloaded."""
    return corpus.warm(
        tmp_path_factory.mktemp("cache"),
        (gsm8k.TEST, SHARED / "gsm8k" / "test.jsonl"),
        (humaneval.FILE, SHARED / "humaneval" / "HumanEval.jsonl.gz"),
        (
            toolqa.remote("easy/coffee"),
            SHARED / "toolqa" / "questions" / "easy" / "coffee-easy.jsonl",
        ),
    )


# --- models that are scripts ---------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """What a model says to each item that it recognises by its question."""

    items: Mapping[str, tuple[str, Item]]
    solutions: Mapping[str, str]

    def reply(self, body: Mapping[str, object]) -> str:
        """The gold, or for tools the next action towards it; an error from the other model."""
        if empty := EMPTY.get(str(body["model"])):
            return empty
        messages = body["messages"]
        assert isinstance(messages, list)
        name, item = self.items[messages[0]["content"]]
        if name == "toolqa":
            used = attempt(item, told(messages))
            return used if isinstance(used, str) else f"Thought: so.\nAction: {used[0]}[{used[1]}]"
        return {
            "gsm8k": f"Step by step.\n#### {item.target}",
            "humaneval": f"```python\n{self.solutions.get(item.id)}\n```",
            "mathbench": f"So the answer is {item.target}.\nAnswer: {item.target}",
            "superglue": f"Surely.\nAnswer: {item.target}",
        }[name]


def script(wanted: tuple[DatasetSpec, ...], cache: Cache) -> Script:
    found = {
        item.question.messages[0].content: (spec.name, item)
        for spec in wanted
        for item in datasets.load(spec, items=N_ITEMS, seed=0, cache=cache).items
    }
    packed = (SHARED / "humaneval" / "HumanEval.jsonl.gz").read_bytes()
    tasks = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    return Script(found, {t["task_id"]: t["prompt"] + t["canonical_solution"] for t in tasks})


def told(messages: list[dict[str, str]]) -> list[str]:
    """What the tools told in the attempt under way, in either dialect."""
    seen: list[str] = []
    for message in reversed(messages):
        if message["role"] == "tool":
            seen.insert(0, message["content"])
        elif message["role"] == "user" and message["content"].startswith("Observation: "):
            seen.insert(0, message["content"].removeprefix("Observation: "))
        elif message["role"] == "user":
            break
    return seen


COLUMNS = ("Open", "High", "Low", "Close", "Volume")


def attempt(item: Item, seen: list[str]) -> tuple[str, str] | str:
    """The next use of a tool, or, from nothing but what tools told, the answer."""
    question = item.question.messages[0].content.rpartition("Question: ")[2]
    day = re.search(r"\d{4}-\d\d-\d\d", question)
    assert day is not None
    uses = [("LoadDB", "coffee"), ("FilterDB", f"Date={day[0]}")]
    uses += [("GetValue", column) for column in COLUMNS]
    assert len(uses) == N_USES
    if len(seen) < N_USES:
        return uses[len(seen)]
    first, high, low, last, _ = (float(value) for value in seen[2:])
    answers = {
        "percentage": f"{100 * (last - first) / first:.2f}%",
        "bullish": "bullish" if last > first else "bearish",
        "range": f"{high - low:.2f}",
        "opening": seen[2],
        "highest": seen[3],
        "lowest": seen[4],
        "closing": seen[5],
        "volume": seen[6],
    }
    found = next(value for word, value in answers.items() if word in question)
    native = bool(item.question.tools)
    return f"Answer: {found}" if native else f"Action: Finish[{found}]"


@contextmanager
def served(server: LoopbackServer) -> Iterator[str]:
    """The server in a thread with a loop of its own; its address."""
    loop, up, down = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server:
            up.set()
            await down.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert up.wait(10)
    try:
        yield f"{server.url}/v1"
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()
        loop.close()


def native(known: Script) -> Callable[[Asked], Told]:
    """A server whose model calls tools by the wire's own means."""

    def respond(asked: Asked) -> Told:
        body = json.loads(asked.body)
        message: dict[str, object] = {"role": "assistant", "content": EMPTY.get(body["model"])}
        if body["model"] not in EMPTY:
            item = known.items[body["messages"][0]["content"]][1]
            names = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
            used = attempt(item, told(body["messages"]))
            if isinstance(used, str):
                message["content"] = used
            else:
                (argument,) = names[used[0]]["parameters"]["required"]
                function = {"name": used[0], "arguments": json.dumps({argument: used[1]})}
                call = {"id": f"c{len(body['messages'])}", "type": "function", "function": function}
                message |= {"content": None, "tool_calls": [call]}
        ended = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": ended}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        return Told(body=json.dumps(answer | {"choices": [choice], "usage": usage}).encode())

    return respond


WHOLE = {
    "humaneval": {"pass@1": 1.0},
    "superglue": {"mean of 3 tasks": 1.0},
    "toolqa": {
        "answered": 1.0,
        "uses per attempt": N_USES,
        "errors per attempt": 0,
    },
}
"""What the benchmarks' own scores are where every gold is said."""

# --- runs ----------------------------------------------------------------------------------------

MODEL = "{{id: openai/{name}, base_url: '{url}', parameters: 1e9, price: 0, native_tools: true}}"


def study_text(url: str, wanted: tuple[DatasetSpec, ...]) -> str:
    entries = [{"name": spec.name, "options": spec.options} for spec in wanted]
    models = ", ".join(MODEL.format(name=name, url=url) for name in ("gold", *EMPTY))
    return (
        f"name: five\nmodels: [{models}]\ndatasets: {json.dumps(entries)}\n"
        f"protocols: [review, resample]\nturns: 2\nitems: {N_ITEMS}\nmax_tokens: 1024\n"
    )


def had(text: str, directory: Path, cache: Cache) -> Results:
    """The results of a study's run; a second run asks nothing."""
    wanted = study.parse(text, file="study.yaml", on=date(2026, 11, 1))
    for _ in range(2):
        progress = Progress()
        conduct.run(
            wanted,
            directory,
            cache=cache,
            environ=ENVIRON,
            progress=progress,
            tell=lambda _: None,
        )
    assert progress.n_calls == 0
    return assess.analyze(directory, settings=FEW)


@pytest.fixture(scope="module")
def results(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All five, ToolQA with its tools as text."""
    if isinstance(reason := try_backend("wasm"), str):
        pytest.skip(reason)
    wanted = specs(dialect="react")
    server = FaultServer(script(wanted, cache).reply)
    with served(server) as url:
        return had(study_text(url, wanted), tmp_path_factory.mktemp("five"), cache)


def shows_golds(cells: tuple[CellResult, ...]) -> None:
    """Golds are right in every turn, and what holds no answer is wrong; but errors of a server are
    no accuracy at all."""
    assert {one.cell.protocol for one in cells} == {"review", "resample"}
    for one in cells:
        right, broken = (one.cell.model == f"openai/{name}" for name in ("gold", "broken"))
        known = 0 if broken else N_ITEMS
        assert (one.n_samples, one.n_missing, one.first.n) == (N_ITEMS, N_ITEMS - known, known)
        assert one.withheld.endswith("are error messages") == broken, one.cell
        assert one.first.value == one.last.value == (None if broken else float(right)), one.cell
        by_outcome = {"ok" if right else "no_answer": N_ITEMS}
        assert one.n_by_outcome_first == one.n_by_outcome_last == by_outcome, one.cell


@pytest.mark.parametrize("name", ["gsm8k", "humaneval", "mathbench", "superglue", "toolqa"])
def test_golds_are_right_and_errors_are_no_answers(name: str, results: Results) -> None:
    own = tuple(one for one in results.cells if one.cell.dataset == name)
    assert len(own) == 3 * 2
    shows_golds(own)
    whole = {
        (one.cell.model, one.metric): (one.first.value, one.last.value)
        for one in results.benchmarks
        if one.cell.dataset == name and not one.part and one.cell.protocol == "review"
    }
    for metric, value in WHOLE.get(name, {}).items():
        assert whole["openai/gold", metric] == (value, value), metric
    assert not any(model == "openai/broken" for model, _ in whole)
    if name == "toolqa":
        # A model that never takes an action is told so, step after step.
        assert whole["openai/idle", "halted"] == (1.0, 1.0)
        assert whole["openai/idle", "invalid per attempt"] == (7.0, 7.0)


def test_tools_are_called_over_the_wire(cache: Cache, tmp_path: Path) -> None:
    wanted = specs(dialect="native")[-1:]
    with served(LoopbackServer(native(script(wanted, cache)))) as url:
        shows_golds(had(study_text(url, wanted), tmp_path, cache).cells)


# --- a real model --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_small_model_meets_all_five(cache: Cache, tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra `local` is not installed")
    if isinstance(reason := try_backend("wasm"), str):
        pytest.skip(reason)
    from deltascale.providers import local

    local.pull("smollm2-135m")
    entries = [{"name": spec.name, "options": spec.options} for spec in specs(steps="4")]
    text = (
        f"name: real\nmodels: [local/smollm2-135m]\ndatasets: {json.dumps(entries)}\n"
        "protocols: [review]\nturns: 2\nitems: 2\nmax_tokens: 48\n"
    )
    cells = had(text, tmp_path, cache).cells
    assert {one.cell.dataset for one in cells} == {spec.name for spec in specs()}
    for one in cells:
        assert (one.n_samples, one.n_missing) == (2, 0), one.cell
        assert one.output_tokens > 0
