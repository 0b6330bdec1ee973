"""The tools over tables and graphs as upstream's code behaves, defects included, in our own words.

For the setting `compat: upstream`, which comes near to published figures: what is returned and what
is kept loaded are upstream's. What is not reproduced:

- the prompt, its examples, and every word that tools say of success or failure: they are ours;
- how an action is read: there a reply that is not `Name[argument]` to its last character loses the
  question, and two actions in a line are refused; here the first action is taken, without the
  blanks around its argument;
- thought and action as two calls that end with the line, the stop at 3,896 tokens of prompt, and
  the word whether the answer is right, which a model could see there;
- Calculate and the two retrievals, which need a paid service and an embedding model there;
- MySQL's SQL: functions are SQLite's, a text compared with a number stays a text, and upper and
  lower case count; emoji stay where theirs become words;
- packages beside the standard library in Python, and no limit on time, memory and lengths: values,
  rows and output are cut at 4,000 characters or 100 rows;
- of several nodes with one name, which is meant: the first of the graph here, the one that a
  dictionary kept there; a joint paper whose title is not in the index, which makes
  EdgeCheck fail there, is shown by its id.

Source: Zhuang et al. 2023, arXiv 2306.13304, and its code, as observed by running it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deltascale.datasets.toolqa import graphs, tables
from deltascale.datasets.toolqa.corpora import TABLES, Corpora
from deltascale.datasets.toolqa.tables import Condition, State

__all__ = ["TOOLS", "one_line", "use"]

_SIGNS = (">=", "<=", ">", "<", "=")
"""In the order in which they are looked for; there is no `!=`."""
_SQL_TABLE = re.compile(rf"\b({'|'.join(TABLES)})_data\b", re.IGNORECASE)


def use(corpora: Corpora, state: State, name: str, text: str) -> tuple[State, str]:
    """The state after a use of one of `TOOLS`, and what the model is told.

    Raises:
        ValueError: the tool fails, and the state stays.
    """
    return TOOLS[name](corpora, state, text)


def one_line(code: str) -> str:
    """Python as upstream hands it on: an action is a line, so line ends are lost."""
    return code.replace("\n", "")


# --- tables --------------------------------------------------------------------------------------


def _load(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    """An unknown name after a good one keeps the old table, and is told as a success."""
    known = TABLES.get(text) in corpora.files
    if not known and not state.database:
        raise ValueError(f"there is no database {text!r}")
    if known:
        state = replace(state, database=text, held=())
    shown = ", ".join(_columns(corpora, state))
    return state, f"The database {text} is loaded. Its columns are: {shown}"


def _filter(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    """Texts are compared, character by character; what came before a broken condition stays."""
    columns, kept = _columns(corpora, state), state
    for part in text.split(", "):
        sign = next((sign for sign in _SIGNS if sign in part), None)
        if sign is None:
            continue
        column, value = part.split(sign)[:2]  # what follows a second sign is lost
        if column not in columns:
            return kept, f"FilterDB failed: the condition {part!r} can't be applied."
        held = (*kept.held, Condition(column, sign, value, numeric=False))
        if not _count(corpora, replace(kept, held=held)):
            raise ValueError(f"no row that was kept meets {part!r}")
        kept = replace(kept, held=held)
    return kept, f"{_count(corpora, kept)} rows are kept."


def _value(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    if text not in _columns(corpora, state):
        raise ValueError(f"there is no value {text!r}")
    path = corpora.files[TABLES[state.database]]
    return state, tables.values(path, state.database, text, state.held, kind="text")


def _sql(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    """Every column is a text of at most 250 characters, and some have odd names."""
    files = {name: corpora.files[kind] for name, kind in TABLES.items() if kind in corpora.files}
    return state, tables.query(_SQL_TABLE.sub(r"\1_upstream", text), files) or "(no rows)"


def _columns(corpora: Corpora, state: State) -> list[str]:
    if not state.database:
        raise ValueError("no database is loaded")
    found = tables.columns(corpora.files[TABLES[state.database]])
    return [shown for shown, _, _ in found]


def _count(corpora: Corpora, state: State) -> int:
    path = corpora.files[TABLES[state.database]]
    return tables.count(path, state.database, state.held, kind="text")


# --- graphs --------------------------------------------------------------------------------------


def _load_graph(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    """Only by the one name, and as fresh as it was."""
    if text != "dblp" or "dblp" not in corpora.files:
        raise ValueError(f"there is no graph {text!r}")
    loaded = replace(state, graph=True, checked=frozenset())
    return loaded, "The graphs PaperNet and AuthorNet are loaded."


def _parts(corpora: Corpora, state: State, text: str, n_parts: int) -> tuple[Path, list[str]]:
    """The arguments between commas, so many and no more: a name that holds one can't be given."""
    parts = text.split(", ")
    if not state.graph:
        raise ValueError("no graph is loaded")
    if len(parts) != n_parts or parts[0] not in ("PaperNet", "AuthorNet"):
        raise ValueError("these are not the arguments it takes")
    return corpora.files["dblp"], parts


def _neighbours(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    """For papers those that are cited, never those that cite; one without a title breaks it.

    Names are looked up as they stand: in another case or in quotes they are not found.
    """
    path, (graph, name) = _parts(corpora, state, text, 2)
    names = graphs.names_beside(path, _table(graph), name)
    if None in names:
        raise ValueError("a neighbour is not in the index")
    return state, str(names)


def _node(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    path, (graph, name) = _parts(corpora, state, text, 2)
    return state, str(graphs.facts_of(path, _table(graph), name, exact=True))


def _edge(corpora: Corpora, state: State, text: str) -> tuple[State, str]:
    """Titles are put into the graph in the place of ids, so that a second look finds no title."""
    path, (graph, first, second) = _parts(corpora, state, text, 3)
    facts: dict[str, Any] = graphs.edge_facts(path, _table(graph), first, second)
    key = json.dumps(sorted((first, second)))
    if "papers" in facts:
        if key in state.checked:
            raise ValueError("these are not the arguments it takes")
        state = replace(state, checked=state.checked | {key})
    return state, str(facts)


def _table(graph: str) -> graphs.Table:
    return "paper" if graph == "PaperNet" else "author"


TOOLS: Mapping[str, Callable[[Corpora, State, str], tuple[State, str]]] = {
    "EdgeCheck": _edge,
    "FilterDB": _filter,
    "GetValue": _value,
    "LoadDB": _load,
    "LoadGraph": _load_graph,
    "NeighbourCheck": _neighbours,
    "NodeCheck": _node,
    "SQLInterpreter": _sql,
}
"""The tools that behave otherwise than ours."""
