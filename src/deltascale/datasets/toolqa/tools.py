"""Running a use of a tool: pure in what came before it in the same attempt, for the same corpora.

What a tool answers is told in words of its own, mistakes included: they are for the model.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

import msgspec

from deltascale.datasets.toolqa import compat, graphs, tables
from deltascale.datasets.toolqa.agent import START, TOOLS
from deltascale.datasets.toolqa.calculator import calculate
from deltascale.datasets.toolqa.corpora import TABLES, Corpora, opened
from deltascale.datasets.toolqa.tables import State
from deltascale.records import Sample, UseTool
from deltascale.sandbox import Backend, Limits, run_script

__all__ = ["Toolbox", "runner"]

_KEPT_STATES = 4096
_MOST_CHARACTERS = 4000
_PYTHON_LIMITS = Limits(wall_s=10.0)


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The corpora, and the sandbox for Python (None: that tool is off).

    `upstream`: the tools behave as the originals do, defects included, see `compat`.
    """

    corpora: Corpora
    python: Backend | None
    upstream: bool = False

    def use(self, state: State, name: str, arguments: Mapping[str, str]) -> tuple[State, str]:
        """The state after a use, and what the model is told. Never raises for what a model does."""
        try:
            return self._use(state, name, arguments)
        except (ValueError, KeyError) as error:
            told = error.args[0] if error.args else type(error).__name__
            return state, f"{name} failed: {told}."
        except sqlite3.Error as error:
            return state, f"{name} failed: {error}."

    def _use(self, state: State, name: str, arguments: Mapping[str, str]) -> tuple[State, str]:
        text = _text(arguments)
        if self.upstream and name in compat.TOOLS:
            return compat.use(self.corpora, state, name, text)
        match name:
            case "LoadDB":
                return self._load(state, text)
            case "FilterDB":
                return self._filter(state, text)
            case "LoadGraph":
                return self._load_graph(state, text)
            case "GetValue":
                return state, self._value(state, text)
            case "NeighbourCheck" | "NodeCheck" | "EdgeCheck":
                return state, self._graph(state, name, text)
            case "Calculate":
                return state, calculate(text)
            case "RetrieveAgenda":
                return state, self._retrieve("agenda", text)
            case "RetrieveScirex":
                return state, self._retrieve("scirex", text)
            case "SQLInterpreter":
                return state, self._sql(text)
            case "PythonInterpreter":
                return state, self._python(text)
        known = ", ".join(tool.example for tool in TOOLS.values())
        return state, f"There is no tool {name}. There are {known} and Finish[<answer>]."

    def _load(self, state: State, text: str) -> tuple[State, str]:
        name = text.strip().casefold()
        if TABLES.get(name) not in self.corpora.files:
            there = [one for one, domain in TABLES.items() if domain in self.corpora.files]
            raise ValueError(f"there is no database {text!r}, only {', '.join(there) or 'none'}")
        columns = tables.columns(self.corpora.files[TABLES[name]])
        shown = ", ".join(column for column, _, _ in columns)
        loaded = replace(state, database=name, held=())
        return loaded, f"The database {name} is loaded. Its columns are: {shown}"

    def _filter(self, state: State, text: str) -> tuple[State, str]:
        path = self.corpora.files[TABLES[_loaded(state)]]
        new = tables.conditions(text, tables.columns(path))
        for any_case in (False, True):
            held = (*state.held, *(replace(one, any_case=any_case) for one in new))
            n_rows = tables.count(path, state.database, held)
            if n_rows:
                kept = "1 row is" if n_rows == 1 else f"{n_rows} rows are"
                return replace(state, held=held), f"{kept} kept."
        raise ValueError(f"no row that was kept meets {text!r}; the filter was not applied")

    def _value(self, state: State, text: str) -> str:
        path = self.corpora.files[TABLES[_loaded(state)]]
        column = tables.column(text, tables.columns(path))
        return tables.values(path, state.database, column[1], state.held)

    def _load_graph(self, state: State, text: str) -> tuple[State, str]:
        if text.strip().casefold() not in {"dblp", "papernet", "authornet"}:
            raise ValueError(f"there is no graph {text!r}, only dblp")
        if "dblp" not in self.corpora.files:
            raise ValueError("the graph dblp is not there")
        return replace(state, graph=True), "The graphs PaperNet and AuthorNet are loaded."

    def _graph(self, state: State, name: str, text: str) -> str:
        if not state.graph:
            raise ValueError("no graph is loaded; use LoadGraph[dblp] first")
        table, rest = graphs.split(text)
        look = {
            "NeighbourCheck": graphs.neighbours,
            "NodeCheck": graphs.node,
            "EdgeCheck": graphs.edge,
        }[name]
        return look(self.corpora.files["dblp"], table, rest)

    def _retrieve(self, domain: str, text: str) -> str:
        """The three best texts by BM25, best first."""
        if domain not in self.corpora.files:
            raise ValueError(f"the {domain} corpus is not there")
        words = dict.fromkeys(re.findall(r"\w+", text.casefold()))
        if not words:
            raise ValueError("there are no words to look for")
        wanted = " OR ".join(f'"{word}"' for word in list(words)[:64])
        with opened(self.corpora.files[domain]) as file:
            found = file.execute(
                "SELECT text FROM texts WHERE texts MATCH ? ORDER BY bm25(texts), rowid LIMIT 3",
                (wanted,),
            ).fetchall()
        if not found:
            raise ValueError("nothing matches; try other words")
        return "\n".join(str(one)[:_MOST_CHARACTERS] for (one,) in found)

    def _sql(self, text: str) -> str:
        files = {
            name: self.corpora.files[domain]
            for name, domain in TABLES.items()
            if domain in self.corpora.files
        }
        return tables.query(text, files) or "(no rows)"

    def _python(self, text: str) -> str:
        if self.python is None:
            raise ValueError("the Python interpreter is off")
        if self.upstream:
            text = compat.one_line(text)
        code = (
            f"import random\nrandom.seed(0)\n{_unfenced(text)}\n{'' if self.upstream else _ANSWER}"
        )
        output = run_script(code, backend=self.python, limits=_PYTHON_LIMITS)
        if output.status != "ran":
            raise ValueError(output.detail or output.status)
        if self.upstream:
            return (output.ans if output.ans is not None else "0")[:_MOST_CHARACTERS]
        told = output.ans if output.ans not in (None, "None") else output.output.strip()
        return (told or "(nothing was printed, and there is no variable ans)")[:_MOST_CHARACTERS]


_ANSWER = """
if "ans" not in globals() and callable(globals().get("solution")):
    ans = solution()
"""


def _unfenced(text: str) -> str:
    fenced = re.fullmatch(r"\s*```(?:python|py)?\n(.*?)\n?```\s*", text, re.DOTALL)
    return fenced[1] if fenced else text


def _loaded(state: State) -> str:
    if not state.database:
        raise ValueError("no database is loaded; use LoadDB first")
    return state.database


def _text(arguments: Mapping[str, str]) -> str:
    """The arguments as they stand in brackets."""
    return ", ".join(arguments.values()) if "text" not in arguments else arguments["text"]


def _arguments(text: str) -> Mapping[str, str] | None:
    """Arguments from a model's JSON; None if it is none."""
    try:
        # Strict: half a character, which json takes, could be neither kept nor sent back.
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return {
        str(name): value if isinstance(value, str) else json.dumps(value)
        for name, value in found.items()
    }


def runner(toolbox: Toolbox) -> Callable[[Sample, tuple[UseTool, ...]], Awaitable[str]]:
    """Runs the last of the uses of a turn, given those before it: `engine.run(tools=...)`.

    States are remembered by the uses that led to them, so nothing is run twice but what was
    forgotten; two conversations with the same uses share them.
    """
    remembered: OrderedDict[tuple[UseTool, ...], tuple[State, str]] = OrderedDict()
    lock = Lock()

    def after(uses: tuple[UseTool, ...]) -> tuple[State, str]:
        if not uses:
            return State(), ""
        with lock:
            if uses in remembered:
                remembered.move_to_end(uses)
                return remembered[uses]
        state, _ = after(uses[:-1])
        arguments = _arguments(uses[-1].arguments)
        if arguments is None:
            outcome = state, "The arguments are not a JSON object."
        else:
            outcome = toolbox.use(state, uses[-1].name, arguments)
        with lock:
            remembered[uses] = outcome
            while len(remembered) > _KEPT_STATES:
                remembered.popitem(last=False)
        return outcome

    async def use(sample: Sample, uses: tuple[UseTool, ...]) -> str:
        begun = max((n for n, one in enumerate(uses) if one.name == START), default=-1) + 1
        if begun == len(uses):
            return ""
        return (await asyncio.to_thread(after, uses[begun:]))[1]

    return use
