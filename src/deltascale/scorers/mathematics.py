r"""Answers that are mathematical expressions: equal if they mean the same, `\frac12` and `0.5`.

Numbers are settled as exact fractions and equal spellings at once; what is left is put to
math-verify in a process of its own, which is killed when it takes too long. Then, as where the
target can't be read, the verdict is neither right nor wrong but unscorable: it counts as wrong and
is reported beside the score as `unscorable`.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import threading
from functools import lru_cache
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal, TypeAlias

from deltascale.errors import MissingExtra
from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers import numeric
from deltascale.scorers.reply import boxed, cued, flatten, is_error_body, said

__all__ = ["MATH", "Comparer", "Verdict", "canonical", "extract", "judge"]

Verdict: TypeAlias = Literal["right", "wrong", "unscorable"]

MAX_ANSWER = 400
"""Characters of an expression; a longer one is no answer."""

TIMEOUT_S = 10.0
_LIBRARY = "math_verify"
_START_S = 120.0
_MEMORY_BYTES = 4 << 30

_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SPACING = re.compile(r"\\(?:[!,;: ]|quad|qquad|displaystyle|left(?![a-z])|right(?![a-z]))")


def canonical(text: str) -> str:
    """One spelling of an expression: a number as a fraction, else LaTeX without its spacing."""
    number = numeric.canonical(text)
    if number is not None:
        return number
    text = flatten(text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    while text != (text := _SPACING.sub(" ", " ".join(text.split()))):
        pass
    while text != (text := text.strip(" $*.,;")):
        pass
    return numeric.canonical(text) or text


def extract(question: Question, text: str) -> str | None:
    r"""The expression that a reply ends in: the last boxed one, else the one after the last cue,
    else the last formula, else the last number; None if there is none."""
    text = flatten(said(text)).strip()
    if not text or is_error_body(text):
        return None
    stated = _stated(text)
    if stated is None:
        return numeric.extract(question, text)
    answer = canonical(stated)
    return answer if answer and len(answer) <= MAX_ANSWER else None


def _stated(text: str) -> str | None:
    if framed := boxed(text):
        return framed[-1]
    if (stated := cued(text)) is not None:
        return _formula(stated) or stated
    return _formula(text)


def _formula(text: str) -> str | None:
    """The last formula set off in a text."""
    formulas = _FORMULA.findall(text)
    return next((part for part in formulas[-1] if part), None) if formulas else None


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the answer equals the target or an alias. `others`: `unscorable` is 1 where that
    could not be told.

    Raises:
        MissingExtra: math-verify is not installed, or its process can't be started.
    """
    verdicts = [_compared(target, answer) for target in (item.target, *item.aliases)]
    right = "right" in verdicts
    return Score(float(right), {"unscorable": float(not right and "unscorable" in verdicts)})


@lru_cache(maxsize=65536)
def _compared(target: str, answer: str) -> Verdict:
    gold, found = canonical(target), canonical(answer)
    if gold.replace(" ", "") == found.replace(" ", ""):
        return "right"
    if numeric.canonical(gold) is not None and numeric.canonical(found) is not None:
        return "wrong"
    return _COMPARER.compare(gold, found)


# --- the process that may be killed --------------------------------------------------------------


class Comparer:
    """Asks math-verify in a child process, one comparison at a time; safe to share by threads.

    A comparison that takes longer than `timeout_s` kills the child; the next one starts another.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._child: tuple[BaseProcess, Connection] | None = None

    def compare(self, gold: str, answer: str) -> Verdict:
        """Whether the answer equals the gold.

        Raises:
            MissingExtra: the child can't be started.
        """
        with self._lock:
            _, connection = self._child = self._child or _started()
            try:
                connection.send((gold, answer))
                if connection.poll(self.timeout_s):
                    verdict: Verdict = connection.recv()
                    return verdict
            except (EOFError, OSError):  # the child died of what it was asked
                pass
            self._kill()
            return "unscorable"

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._kill()

    def _kill(self) -> None:
        if self._child is not None:
            process, connection = self._child
            process.kill()
            process.join()
            connection.close()
            self._child = None


def _started() -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, _LIBRARY), daemon=True)
    process.start()
    theirs.close()
    try:
        said_hello = ours.recv() if ours.poll(_START_S) else "it does not start"
    except EOFError:
        said_hello = "it ended at once; in a script, put the code under `if __name__ == '__main__'`"
    if said_hello != "ready":
        process.kill()
        raise MissingExtra(
            f"expressions can't be compared: {said_hello}",
            where="scorer 'math'",
            remedy="pip install 'deltascale[math]'",
        )
    return process, ours


def _serve(connection: Connection, name: str) -> None:
    """The child: answers one comparison after another until it is killed."""
    logging.disable(logging.CRITICAL)  # the library warns that we keep the time ourselves
    try:
        library = import_module(name)
    except ImportError as error:
        connection.send(str(error))
        return
    _limit_memory()
    connection.send("ready")
    while True:
        try:
            gold, answer = connection.recv()
        except EOFError:
            return
        try:
            parsed = [
                library.parse(f"${text}$", parsing_timeout=0, raise_on_error=True)
                for text in (gold, answer)
            ]
            equal = library.verify(parsed[0], parsed[1], timeout_seconds=0, raise_on_error=True)
            connection.send("right" if equal else "wrong" if parsed[0] else "unscorable")
        except Exception:  # sympy raises anything at all on an odd expression
            connection.send("unscorable")


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit is the only one
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


_COMPARER = Comparer()

MATH = Scorer("math", 2, extract, judge, blocking=True)
