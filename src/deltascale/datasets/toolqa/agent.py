"""One attempt at a ToolQA question: think, use a tool, look, until there is an answer.

Generators without I/O, in two dialects: `react` writes tool uses as text, which any model can do;
`native` uses the provider's own tool calls. Whatever the dialect, a use travels as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache

from deltascale.records import (
    Ask,
    Attempt,
    Message,
    Question,
    Reply,
    Request,
    Seen,
    Tool,
    ToolCall,
    UseTool,
    user,
)

__all__ = [
    "FINISH",
    "NATIVE_FORMAT",
    "NO_ACTION",
    "REACT_FORMAT",
    "START",
    "TOOLS",
    "Action",
    "Described",
    "action",
    "native",
    "observations",
    "react",
    "react_lead",
    "schema",
    "typical",
]

START = "(start)"
"""The use that begins every attempt: nothing of an earlier one is left in the tools."""


@dataclass(frozen=True, slots=True)
class Described:
    """A tool as it is told to a model: its arguments by name, and an example in brackets."""

    says: str
    arguments: Mapping[str, str]
    example: str


TOOLS: Mapping[str, Described] = {
    "Calculate": Described(
        "evaluates arithmetic",
        {"formula": "the formula, for example (3 + 4) / 2 or mean(1, 2, 3)"},
        "Calculate[(3 + 4) / 2]",
    ),
    "RetrieveAgenda": Described(
        "finds the three entries of people's agendas that match a text best",
        {"query": "what to look for"},
        "RetrieveAgenda[Ada concert 2022/03/09]",
    ),
    "RetrieveScirex": Described(
        "finds the three passages of machine learning papers that match a text best",
        {"query": "what to look for"},
        "RetrieveScirex[accuracy of LeNet on MNIST]",
    ),
    "LoadDB": Described(
        "loads a database and lists its columns: flights, coffee, airbnb or yelp",
        {"name": "the database"},
        "LoadDB[coffee]",
    ),
    "FilterDB": Described(
        "keeps the rows of the loaded database that meet conditions with = != > >= < <=; "
        "filters add up until a database is loaded again",
        {"conditions": "the conditions, with commas between them"},
        "FilterDB[Date>=2001-05-01, Date<2001-06-01]",
    ),
    "GetValue": Described(
        "reads a column of the rows that are kept",
        {"column": "the column"},
        "GetValue[Close]",
    ),
    "LoadGraph": Described(
        "loads the DBLP citation network with two graphs, PaperNet and AuthorNet",
        {"name": "dblp"},
        "LoadGraph[dblp]",
    ),
    "NeighbourCheck": Described(
        "lists an author's collaborators (AuthorNet), or the papers that a paper cites (PaperNet; "
        "with `, in` after its title those that cite it)",
        {"graph": "PaperNet or AuthorNet", "node": "the title or name"},
        "NeighbourCheck[AuthorNet, Ada Lovelace]",
    ),
    "NodeCheck": Described(
        "tells what is known of a paper or author",
        {"graph": "PaperNet or AuthorNet", "node": "the title or name"},
        "NodeCheck[PaperNet, On Computable Numbers]",
    ),
    "EdgeCheck": Described(
        "tells what joins two authors (their papers together) or two papers",
        {
            "graph": "PaperNet or AuthorNet",
            "first": "the first title or name",
            "second": "the second",
        },
        "EdgeCheck[AuthorNet, Ada Lovelace, Charles Babbage]",
    ),
    "SQLInterpreter": Described(
        "runs a SELECT on flights.flights_data, coffee.coffee_data, airbnb.airbnb_data and "
        "yelp.yelp_data",
        {"query": "the SELECT"},
        "SQLInterpreter[SELECT MAX(High) FROM coffee.coffee_data]",
    ),
    "PythonInterpreter": Described(
        "runs Python and gives the variable `ans`, else what was printed",
        {"code": "the program"},
        "PythonInterpreter[ans = sum(range(10))]",
    ),
}

FINISH = "Finish"
NO_ACTION = "That holds no action."
"""How a reply without one is told so."""
_OBSERVATION = "Observation: "
REACT_FORMAT = "Give your answer, and nothing else, as the last action: Action: Finish[<answer>]"
NATIVE_FORMAT = (
    "When you know the answer, reply without a tool, with the answer alone on the last line, "
    "written as: Answer: <answer>"
)

_NAMES = {name.casefold(): name for name in (*TOOLS, FINISH)}
_ACTION = re.compile(
    r"(?:^[\s>*_`#-]*(?:action(?:\s*\d+)?\s*[*_]*[:：][\s*_`]*(?P<any>\w+)"
    rf"|(?P<known>{'|'.join(_NAMES)}))"
    rf"|\baction(?:\s*\d+)?\s*[*_]*[:：][\s*_`]*(?P<inline>{'|'.join(_NAMES)}))\s*\[",
    re.MULTILINE | re.IGNORECASE,
)
_NEXT_STEP = re.compile(r"\n[\s>*_`#-]*(?:Observation|Thought|Action)(?:\s*\d+)?\s*[*_]*:")


@cache
def react_lead() -> str:
    """What the dialect `react` tells before the question."""
    listed = "\n".join(f"- {tool.example}: {tool.says}" for tool in TOOLS.values())
    return (
        "Answer the question at the end with the help of tools. Write one thought and one action, "
        "then stop; you will be shown what the action gave, as an observation. Go on like this "
        "until you know the answer.\n\n"
        f"The actions, by example:\n{listed}\n- Finish[<answer>]: gives the answer and ends\n\n"
        "For example, to the question how far the price of coffee fell on 2001-05-02:\n"
        "Thought: I need the row of that day.\nAction: LoadDB[coffee]\n"
        "Observation: (the columns)\n"
        "Thought: Now the day.\nAction: FilterDB[Date=2001-05-02]\n"
        "Observation: 1 row is kept.\n"
        "and so on with GetValue[Open], GetValue[Close], Calculate[...] and Finish[...]."
    )


def schema() -> tuple[Tool, ...]:
    """The tools as the dialect `native` offers them."""
    return tuple(
        Tool(
            name,
            tool.says,
            json.dumps(
                {
                    "type": "object",
                    "properties": {
                        argument: {"type": "string", "description": says}
                        for argument, says in tool.arguments.items()
                    },
                    "required": list(tool.arguments),
                    "additionalProperties": False,
                }
            ),
        )
        for name, tool in TOOLS.items()
    )


@dataclass(frozen=True, slots=True)
class Action:
    """The first action of a text: its tool, what its brackets hold, and where it ends."""

    name: str
    text: str
    end: int


def action(text: str) -> Action | None:
    """The first action that a text takes, None if it takes none. A tool's name may be in any case.

    Brackets may hold brackets. Python code may run over lines; all else ends with its line, whether
    or not the bracket was closed.
    """
    head = _ACTION.search(text)
    if head is None:
        return None
    said = head["any"] or head["known"] or head["inline"]
    name = _NAMES.get(said.casefold(), said)
    following = _NEXT_STEP.search(text, head.end())
    stop = following.start() if following else len(text)
    if name != "PythonInterpreter":
        line_end = text.find("\n", head.end())
        stop = min(stop, line_end) if line_end >= 0 else stop
    close = _closing(text, head.end(), stop)
    return Action(name, text[head.end() : close].strip(), min(close + 1, len(text)))


def _closing(text: str, start: int, stop: int) -> int:
    """Where the bracket that was opened before `start` closes, else the last `]`, else `stop`."""
    depth = 1
    for at in range(start, stop):
        depth += {"[": 1, "]": -1}.get(text[at], 0)
        if depth == 0:
            return at
    last = text.rfind("]", start, stop)
    return last if last >= 0 else stop


def react(n_steps: int) -> Attempt:
    """An attempt in text, of at most `n_steps` replies."""

    def attempt(
        question: Question, messages: tuple[Message, ...], draw: int
    ) -> Generator[Ask | UseTool, Seen, Seen]:
        yield UseTool(START, "{}")
        seen = yield Ask(messages, draw)
        for _ in range(n_steps - 1):
            taken = action(seen.text)
            if taken is not None and taken.name == FINISH:
                return seen
            if taken is None:
                told = f"{NO_ACTION} Write one, such as Action: LoadDB[coffee]"
            else:
                use = UseTool(taken.name, json.dumps({"text": taken.text}))
                told = (yield use).text
            # What a model wrote beyond its action it made up: an observation of its own.
            spoken = seen.text[: taken.end] if taken else seen.text
            said = Message("assistant", spoken.strip() or "(nothing)")
            messages = (*messages, said, user(f"{_OBSERVATION}{told}"))
            seen = yield Ask(messages, draw)
        return seen

    return attempt


def native(n_steps: int) -> Attempt:
    """An attempt with the provider's own tool calls, of at most `n_steps` replies."""

    def attempt(
        question: Question, messages: tuple[Message, ...], draw: int
    ) -> Generator[Ask | UseTool, Seen, Seen]:
        yield UseTool(START, "{}")
        seen = yield Ask(messages, draw)
        for _ in range(n_steps - 1):
            if not seen.tool_calls:
                return seen
            told = []
            for call in seen.tool_calls:
                observation = yield UseTool(call.name, call.arguments)
                told.append(Message("tool", observation.text, tool_call_id=call.id))
            seen = yield Ask((*seen.messages, *told), draw)
        return seen

    return attempt


DIALECTS: Mapping[str, Callable[[int], Attempt]] = {"react": react, "native": native}


USUAL = (
    ("LoadDB", {"name": "coffee"}),
    ("FilterDB", {"conditions": "Date=2001-05-02"}),
    ("GetValue", {"column": "Close"}),
    ("Calculate", {"formula": "(3 + 4) / 2"}),
)
"""The tools that a usual attempt uses, a guess from the few-shot examples of the benchmark: a
table is loaded, filtered and read, and something is worked out."""


def typical(request: Request, endless: bool = False) -> Reply:
    """What a usual reply in an attempt does, in the dialect of the request; `endless`: it never
    comes to an answer."""
    n_used = _n_used(request.messages)
    if n_used >= len(USUAL) and not endless:
        return Reply("Answer: 42" if request.tools else f"Action: {FINISH}[42]", "stop")
    name, arguments = USUAL[n_used % len(USUAL)]
    if not request.tools:
        return Reply(f"Action: {name}[{', '.join(arguments.values())}]", "stop")
    call = ToolCall(f"call_{len(request.messages)}", name, json.dumps(arguments))
    return Reply("", "tool_use", tool_calls=(call,))


def _n_used(messages: tuple[Message, ...]) -> int:
    """How many replies that used tools the conversation ends with."""
    return sum(one.role == "assistant" for one in _under_way(messages))


def observations(messages: tuple[Message, ...]) -> list[str]:
    """What was told in the attempt that the conversation ends with, in its order."""
    told = [one for one in _under_way(messages) if one.role != "assistant"]
    return [one.content.removeprefix(_OBSERVATION) for one in told]


def _under_way(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The replies and observations at the conversation's end, after the last word of a person."""
    begun = len(messages)
    while begun > 0:
        one = messages[begun - 1]
        if one.role == "user" and not one.content.startswith(_OBSERVATION):
            break
        begun -= 1
    return messages[begun:]
