"""The study file as text: reading it so that every value knows its place, and writing it.

Knows YAML (1.2, the core schema: `no` is a text, `1e-3` a number) and nothing of studies.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from deltascale.errors import Problem, StudyMistake

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

__all__ = [
    "Findings",
    "Node",
    "Plain",
    "near",
    "node",
    "plain",
    "read",
    "render",
    "tree",
]

Scalar: TypeAlias = bool | int | float | str | None
Plain: TypeAlias = Scalar | Decimal | Sequence["Plain"] | Mapping[str, "Plain"]
"""What a study file can hold, without places."""

MAX_BYTES = 250_000
MAX_DEPTH = 16

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_DECORATED = re.compile(r"[-+]?[$€£]?\s*[0-9][0-9_,]*(\.[0-9]+)?\s*[$€£%]?")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file, the line it begins on and the path of its key.

    `text` is a scalar as it was written: money is read from it, so that no digit is lost.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    line: int
    path: str
    text: str = ""


@dataclass(slots=True)
class Findings:
    """Everything found wrong so far. The methods read one value each; None: it was wrong, and why
    is on the list."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, at: Node, found: str, remedy: str = "") -> None:
        """Put a problem on the list, once."""
        problem = Problem(self.file, at.line, at.path, found, remedy)
        if problem not in self.problems:
            self.problems.append(problem)

    def stop(self) -> None:
        """Raise StudyMistake if anything is on the list."""
        if self.problems:
            raise StudyMistake(tuple(self.problems))

    def mapping(
        self, at: Node, known: Sequence[str], *, hints: Mapping[str, str] | None = None
    ) -> Mapping[str, Node] | None:
        """A mapping with known keys only; the unknown ones are put on the list and left out.

        `hints` has the remedies of keys that are often written and can't be known.
        """
        if not isinstance(at.value, Mapping):
            self.add(at, f"{_said(at)} is not a mapping", f"write its keys: {', '.join(known)}")
            return None
        for key, child in at.value.items():
            if key not in known:
                remedy = (hints or {}).get(key) or near(key, known) or f"keys: {', '.join(known)}"
                self.add(child, "unknown key", remedy)
        return {key: child for key, child in at.value.items() if key in known}

    def sequence(self, at: Node, example: str) -> tuple[Node, ...] | None:
        """A list with at least one entry."""
        if not isinstance(at.value, tuple):
            self.add(at, f"{_said(at)} is not a list", f"write it like {example}")
            return None
        if not at.value:
            self.add(at, "the list is empty", f"write it like {example}")
            return None
        return at.value

    def text(self, at: Node, *, remedy: str) -> str | None:
        """A text that is not empty."""
        if isinstance(at.value, str) and at.value.strip():
            return at.value
        said = "an empty text" if isinstance(at.value, str) else f"{_said(at)} is not a text"
        self.add(at, said, remedy)
        return None

    def flag(self, at: Node) -> bool | None:
        if isinstance(at.value, bool):
            return at.value
        self.add(at, f"{_said(at)} is neither true nor false", "write true or false")
        return None

    def whole(self, at: Node, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`. `1e3` is one; `true` and `2.5` are not."""
        value = at.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.add(at, f"{_said(at)} is not a whole number", f"write one from {low} to {high}")
            return None
        if not low <= value <= high:
            self.add(at, f"{at.text} is out of range", f"write a whole number from {low} to {high}")
            return None
        return value

    def number(self, at: Node, low: float, high: float) -> float | None:
        """A finite number from `low` to `high`."""
        value = at.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            self.add(at, f"{_said(at)} is not a number", f"write one from {low:g} to {high:g}")
            return None
        if not low <= value <= high:
            self.add(at, f"{at.text} is out of range", f"write a number from {low:g} to {high:g}")
            return None
        return float(value)

    def money(self, at: Node) -> Decimal | None:
        """An amount of USD, exactly as written. A text is none, whatever it looks like."""
        value = at.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            bare = re.sub(r"[^0-9.]", "", value) if isinstance(value, str) else ""
            looks_like = isinstance(value, str) and _DECORATED.fullmatch(value.strip())
            remedy = f"write {bare}" if looks_like else "write a number of USD, such as 12.50"
            self.add(at, f"{_said(at)} is not an amount", remedy)
            return None
        if value < 0:
            self.add(at, f"{at.text} is negative", "write 0 or more")
            return None
        return Decimal(value) if isinstance(value, int) else Decimal(at.text)

    def nano_usd(self, at: Node) -> int | None:
        """An amount of USD in nano-dollars, exactly."""
        usd = self.money(at)
        if usd is None:
            return None
        nusd = usd * 1_000_000_000
        if nusd != nusd.to_integral_value() or nusd >= 2**63:
            self.add(at, f"{at.text} USD can't be kept exactly", "write whole cents")
            return None
        return int(nusd)


def near(name: str, known: Sequence[str]) -> str:
    """`did you mean 'review'?`, or nothing where none is near."""
    found = get_close_matches(name.casefold(), known, n=1)
    return f"did you mean {found[0]!r}?" if found else ""


def node(value: object, path: str) -> Node:
    """A value from elsewhere (the command line) as if it had been read; `path` names its place."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Mapping):
        children = {str(key): node(child, path) for key, child in value.items()}
        return Node(children, 0, path)
    if isinstance(value, list | tuple):
        return Node(tuple(node(child, path) for child in value), 0, path)
    if value is None or isinstance(value, bool | int | float | str):
        return Node(value, 0, path, str(value))
    raise TypeError(f"{path}: {type(value).__name__} has no place in a study")


def plain(at: Node) -> Plain:
    """The value without its places."""
    if isinstance(at.value, Mapping):
        return {key: plain(child) for key, child in at.value.items()}
    if isinstance(at.value, tuple):
        return [plain(child) for child in at.value]
    return at.value


def _said(at: Node) -> str:
    """The value in the words of a message."""
    if isinstance(at.value, str):
        return repr(at.value) if len(at.value) <= 60 else repr(at.value[:57] + "...")
    if isinstance(at.value, Mapping):
        return "a mapping"
    if isinstance(at.value, tuple):
        return "a list"
    return "nothing" if at.value is None else at.text


# --- reading -------------------------------------------------------------------------------------


def read(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises StudyMistake where there is no such file or it is not text.
    """
    findings, whole = Findings(str(path)), Node(None, 0, "")
    data = b""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        findings.add(whole, "there is no such file", "`deltascale init` writes one")
    except OSError as error:
        findings.add(whole, f"can't be read: {error.strerror}")
    findings.stop()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        findings.add(whole, "the text is in UTF-16", "save it as UTF-8")
    elif len(data) > MAX_BYTES:
        findings.add(whole, f"{len(data)} bytes are too many for a study file")
    findings.stop()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        findings.add(
            Node(None, line, ""), f"byte 0x{byte:02x} is not UTF-8", "save the file as UTF-8"
        )
    raise StudyMistake(tuple(findings.problems))


def tree(text: str, findings: Findings) -> Node:
    """The text as a tree whose root is a mapping.

    Keys that are written twice are put on the findings.

    Raises StudyMistake where the text is not YAML, or has anchors, aliases or tags.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    text = text.removeprefix("\ufeff")
    # The events are enough, and they come as they are asked for: an alias in them is only a name,
    # and nothing behind the first thing that is refused is ever parsed.
    try:
        return _Tree(findings, YAML(typ="safe", pure=True).parse(text)).root()
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        found = f"the character U+{code:04X} has no place in a text file"
        findings.add(Node(None, line, ""), found, "remove it")
        raise StudyMistake(tuple(findings.problems)) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else min(mark.line, text.count("\n")) + 1
        found, remedy = _syntax(text, line, str(error.problem or error.context or "not YAML"))
        findings.add(Node(None, line, ""), found, remedy)
        raise StudyMistake(tuple(findings.problems)) from None
    except YAMLError as error:
        findings.add(Node(None, 0, ""), f"not YAML: {str(error).splitlines()[0]}")
        raise StudyMistake(tuple(findings.problems)) from None


def _syntax(text: str, line: int, problem: str) -> tuple[str, str]:
    """What a YAML parser found, in plain words, and what to do about it."""
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "a tab at the start of the line", "indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a second ':' where a value should be", "quote the text, or start a new line"
    if match := re.search(r"found character '(.+)' that cannot start", problem):
        return f"a value can't start with {match[1]}", "quote it"
    if "block end" in problem:
        return "the line is not indented like those around it", "line up the keys of one mapping"
    if "stream end" in problem or "end of stream" in problem:
        return "a bracket or quote is never closed", "close it"
    return f"not YAML: {problem}", ""


@dataclass(slots=True)
class _Tree:
    """Builds the tree from the parser's events."""

    findings: Findings
    events: Iterator[Event]

    def root(self) -> Node:
        from ruamel.yaml.events import DocumentStartEvent

        root: Node | None = None
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                line = event.start_mark.line + 1
                if root is not None:
                    self.refuse(
                        Node(None, line, ""), "a second document", "keep one study in a file"
                    )
                root = self.value(next(self.events), "", line, 0)
        if root is None or root.value is None:
            self.refuse(
                Node(None, 0, ""), "the file is empty", "`deltascale init` writes a study to edit"
            )
        return root

    def refuse(self, at: Node, found: str, remedy: str) -> NoReturn:
        """What stands here has no meaning in a study file, so nothing after it can be judged."""
        self.findings.add(at, found, remedy)
        raise StudyMistake(tuple(self.findings.problems))

    def value(self, event: Event, path: str, line: int, depth: int) -> Node:
        from ruamel.yaml.events import (
            AliasEvent,
            CollectionStartEvent,
            MappingStartEvent,
            ScalarEvent,
        )

        here = Node(None, line, path)
        if isinstance(event, AliasEvent):
            self.refuse(here, f"an alias, *{event.anchor}", "write the value out")
        if not isinstance(event, ScalarEvent | CollectionStartEvent):
            raise TypeError(f"{type(event).__name__} where a value begins")
        if event.anchor is not None:
            self.refuse(here, f"an anchor, &{event.anchor}", "remove it, and write aliases out")
        if event.tag is not None and str(event.tag) != "!":
            self.refuse(here, f"a tag, {_tag(str(event.tag))}", "remove it")
        if isinstance(event, ScalarEvent):
            text = str(event.value)
            # A plain scalar has no style: it is the only kind whose look decides its type.
            style, tag = event.style, event.tag
            value = _resolve(text) if style is None and tag is None else text
            return Node(value, line, path, text)
        if depth >= MAX_DEPTH:
            self.refuse(here, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
        if isinstance(event, MappingStartEvent):
            return Node(self.children(path, depth), line, path)
        return Node(self.entries(path, depth), line, path)

    def children(self, path: str, depth: int) -> Mapping[str, Node]:
        from ruamel.yaml.events import MappingEndEvent, ScalarEvent

        found: dict[str, Node] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, ScalarEvent):
                self.refuse(Node(None, line, path), "a key that is not a text", "quote it")
            key = str(event.value)
            child_path = f"{path}.{key}" if path else key
            child = self.value(next(self.events), child_path, line, depth + 1)
            if key in found:
                remedy = f"remove one; the first is in line {found[key].line}"
                self.findings.add(child, "written twice", remedy)
            found.setdefault(key, child)
        return found

    def entries(self, path: str, depth: int) -> tuple[Node, ...]:
        from ruamel.yaml.events import SequenceEndEvent

        found: list[Node] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            line = event.start_mark.line + 1
            found.append(self.value(event, f"{path}[{len(found)}]", line, depth + 1))
        return tuple(found)


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _resolve(text: str) -> Scalar:
    """A plain scalar by the core schema of YAML 1.2."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text.lower() == "true"
    if len(text) > 400:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    return math.nan if _NAN.fullmatch(text) else text


# --- writing -------------------------------------------------------------------------------------

_INFINITIES = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*( [A-Za-z0-9_./+-]+)*")
_UNPRINTABLE = re.compile(
    r"[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def render(value: Plain, indent: int = 0) -> str:
    """The value as YAML that `tree` reads back to the same value: one key or entry a line."""
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        lines = (f"{pad}{_scalar(key)}:{_after(child, indent)}" for key, child in value.items())
        return "".join(lines)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        # An entry's own first line stands behind its dash.
        return "".join(f"{pad}- {render(child, indent + 2).lstrip(' ')}" for child in value)
    return f"{pad}{_inline(value)}\n"


def _after(value: Plain, indent: int) -> str:
    """A value behind its `key:`."""
    nested = isinstance(value, Mapping | Sequence) and not isinstance(value, str)
    if nested and value:
        return "\n" + render(value, indent + 2)
    return f" {_inline(value)}\n"


def _inline(value: Plain) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[]"
    return _scalar(value)


def _scalar(value: Scalar | Decimal) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else _INFINITIES[str(value)]
    if _BARE.fullmatch(value) and isinstance(_resolve(value), str):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(_escaped, quoted)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
