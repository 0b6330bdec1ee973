"""Reads the DBLP graphs out of pickles without running anything that is in them.

A pickle can name any function to be called on loading. Here a few containers and networkx's graph
classes are known, and the graphs become inert values; whatever else is named is refused, so
networkx need not be installed.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import IO, Any

from deltascale.errors import DatasetMistake

__all__ = ["Graph", "load"]


@dataclass(slots=True)
class Graph:
    """A graph's nodes and edges by id, each with its facts. An undirected edge is there twice."""

    nodes: dict[Any, dict[str, Any]] = field(default_factory=dict)
    edges: dict[Any, dict[Any, dict[str, Any]]] = field(default_factory=dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.nodes = state["_node"]
        self.edges = state["_succ"] if "_succ" in state else state["_adj"]


class _Inert:
    """Stands for a view of a graph, which is made anew where it is needed."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_KNOWN: dict[tuple[str, str], Any] = {
    ("networkx.classes.graph", "Graph"): Graph,
    ("networkx.classes.digraph", "DiGraph"): Graph,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "tuple"): tuple,
    ("builtins", "str"): str,
    ("builtins", "int"): int,
    ("builtins", "float"): float,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
}
_VIEWS = frozenset({"networkx.classes.reportviews", "networkx.classes.coreviews"})


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The value of a name in the pickle; only the known ones have one."""
        if module in _VIEWS:
            return _Inert
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if (module, name) == ("copyreg", "_reconstructor"):
            return _reconstructed
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}")


def _reconstructed(kind: type[Any], base: type, state: object) -> Any:
    """What old pickles call to make an object of a known class."""
    return object.__new__(kind)


def load(file: IO[bytes]) -> Any:
    """The value in a pickle of dicts, lists, texts, numbers and networkx graphs.

    Raises:
        DatasetMistake: it holds anything else, or is no pickle.
    """
    try:
        return _Restricted(file).load()
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        IndexError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:
        raise DatasetMistake(
            f"this pickle is refused: {error}",
            where=str(getattr(file, "name", "pickle")),
            remedy="take the file of ToolQA's own archive",
        ) from error
