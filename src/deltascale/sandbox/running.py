"""Runs one program that nobody trusts and says how it ended. Knows backends only as values.

A judged program and its tests run in two interpreters, both shut in, that talk through this module:
the tests call a stand-in, the call travels to the program, and only a plain value travels back. So

- the program never sees the tests, the expected values or the marker: they are in no memory,
  frame, file, argument or environment that it could read;
- it can't reach `assert`, `==`, `print`, `exit` or any other name that the tests use;
- `passed` needs a line with a marker of 128 random bits, written by the tests' interpreter after
  the last test. The tests' interpreter runs no code of the program and writes no other such line.

Not guaranteed, since the program knows its own arguments: it may return values learnt by heart. And
two things differ from a run in one process: arguments go by value, so tests don't see a program
change them, and a returned object of a class of its own equals nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "Backend",
    "Guest",
    "Limits",
    "Output",
    "Status",
    "Verdict",
    "judge_program",
    "run_script",
]

Status: TypeAlias = Literal[
    "passed",
    "failed_assert",
    "exception",
    "timeout",
    "memory",
    "syntax_error",
    "no_code",
    "blocked",
]
Fate: TypeAlias = Literal["exception", "timeout", "blocked"]

MOST_LINE_BYTES = 16 << 20
MOST_DETAIL = 500
_TIME_SIGNALS = frozenset({signal.SIGXCPU, signal.SIGPROF, signal.SIGALRM})
_slots = threading.BoundedSemaphore(max(4, 2 * (os.cpu_count() or 1)))


class Limits(msgspec.Struct, frozen=True):
    """What one program may use. Both times are for the whole program with all its tests.

    `wall_s` counts from the moment that the interpreters stand ready; waiting for a free slot is
    not counted. `output_bytes` caps what is kept of a script's output; what a judged program
    prints is never kept. `memory_bytes` is for one interpreter, the interpreter itself included.
    """

    wall_s: float = 10.0
    cpu_s: int = 10
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10

    def __post_init__(self) -> None:
        if not (self.wall_s > 0 and self.cpu_s >= 1 and self.output_bytes >= 0):
            raise ValueError("wall_s must be positive, cpu_s at least 1, output_bytes at least 0")
        if self.memory_bytes < 64 << 20:
            raise ValueError("memory_bytes: an interpreter needs at least 64 MiB")


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a program fared with its tests. `detail` is one line, without the tests' own text.

    `blocked`: it tried what the sandbox withholds (files, network, processes, threads, a flood of
    output) and failed. `backend` and `version` say what ran it; both empty when nothing ran.
    """

    status: Status
    detail: str = ""
    backend: str = ""
    version: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a script printed, and its variable `ans` as text (None: it has none).

    Both hold at most `Limits.output_bytes`; `cut` when there was more. All of it is the script's
    own word.
    """

    status: Literal["ran", "exception", "timeout", "memory", "syntax_error", "blocked"]
    output: str = ""
    ans: str | None = None
    cut: bool = False
    detail: str = ""
    backend: str = ""
    version: str = ""


# --- one interpreter -----------------------------------------------------------------------------


class Gone(Exception):  # noqa: N818 - an event in a conversation, not an error of ours
    """An interpreter ended before it answered. `said` is what its own host could tell."""

    def __init__(self, guest: Guest, said: str = "") -> None:
        super().__init__(said)
        self.guest = guest
        self.said = said


class Flood(Exception):  # noqa: N818 - as above
    """An interpreter sent a line longer than any honest one."""


class Guest:
    """One started interpreter: a socket to talk over and a way to end it.

    `stop(patience_s)` waits that long for it to end by itself, kills it and everything it started,
    and returns its exit code (minus a signal's number; or 128 plus it, where a launcher stands
    between).
    """

    __slots__ = ("_line", "_rest", "_stop", "code")

    def __init__(self, line: socket.socket, stop: Callable[[float], int]) -> None:
        self._line = line
        self._stop = stop
        self._rest = bytearray()
        self.code: int | None = None

    def send(self, text: bytes, *, until: float) -> None:
        """Raises TimeoutError at `until` (monotonic seconds), Gone when nobody reads."""
        self._line.settimeout(max(1e-3, until - time.monotonic()))
        try:
            self._line.sendall(text + b"\n")
        except TimeoutError:
            raise
        except OSError as error:
            raise Gone(self) from error

    def receive(self, *, until: float) -> bytes:
        """The next line. Raises TimeoutError at `until`, Gone at the end, Flood past 16 MiB."""
        rest = self._rest
        seen = 0
        while (end := rest.find(b"\n", seen)) < 0:
            if len(rest) > MOST_LINE_BYTES:
                raise Flood
            seen = len(rest)
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._line.settimeout(left)
            try:
                chunk = self._line.recv(1 << 18)
            except TimeoutError:
                raise
            except OSError:
                chunk = b""
            if not chunk:
                raise Gone(self)
            rest += chunk
        line = bytes(rest[:end])
        del rest[: end + 1]
        return line

    def end(self, patience_s: float = 0.0) -> int:
        """Stop it, if that has not been done; the exit code."""
        if self.code is None:
            self.code = self._stop(patience_s)
            self._line.close()
        return self.code


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to shut an interpreter in. `start(limits, n)` starts n of them, ready for their job.

    `safe` False: nothing is shut in, only limited.
    """

    name: str
    version: str
    start: Callable[[Limits, int], tuple[Guest, ...]] = field(compare=False, repr=False)
    safe: bool = True


@contextlib.contextmanager
def _started(backend: Backend, limits: Limits, n: int) -> Iterator[tuple[Guest, ...]]:
    with _slots:
        guests = backend.start(limits, n)
        try:
            yield guests
        finally:
            for guest in guests:
                guest.end()


# --- the two conversations -----------------------------------------------------------------------


class _Loaded(msgspec.Struct, frozen=True):
    """The program's own first line, so it can name its trouble and nothing better."""

    status: Literal["loaded", "exception", "memory", "syntax_error", "blocked"]
    detail: str = ""


class _Judged(msgspec.Struct, frozen=True):
    status: Literal["passed", "failed_assert", "exception", "memory", "syntax_error", "blocked"]
    detail: str = ""


class _Ran(msgspec.Struct, frozen=True):
    status: Literal["ran", "exception", "memory", "syntax_error", "blocked"]
    detail: str = ""
    output: str = ""
    cut: bool = False
    ans: str | None = None


def judge_program(
    program: str,
    tests: str,
    *,
    entry_point: str,
    backend: Backend,
    setup: str = "",
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Verdict:
    """Run the tests against the program's function `entry_point`.

    `tests` is Python that calls `entry_point` or defines `check(candidate)`, which is then called;
    `setup` runs before it, beside the tests and not beside the program (a problem's imports and
    given functions). Blocks the calling thread for at most about `limits.wall_s`, plus the wait for
    a free slot; any number of threads may call.
    """
    marker = secrets.token_hex(16)
    for_program = _job("program", limits, source=program, entry_point=entry_point)
    for_tests = _job(
        "tests", limits, setup=setup, tests=tests, entry_point=entry_point, marker=marker
    )
    with _started(backend, limits, 2) as (solver, judge):
        until = time.monotonic() + limits.wall_s
        status: Status
        try:
            solver.send(for_program, until=until)
            judge.send(for_tests, until=until)
            end = _converse(solver, judge, b"!" + marker.encode(), until=until)
            status, detail = end.status, end.detail
        except (TimeoutError, Flood, Gone, msgspec.DecodeError) as error:
            status, detail = _fate(error, limits)
            if isinstance(error, Gone) and error.guest is judge:
                status, detail = "exception", "the tests did not come to their end"
    return Verdict(status, _one_line(detail), backend.name, backend.version)


def run_script(
    script: str,
    *,
    backend: Backend,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Output:
    """Run the script and return what it printed and its variable `ans`. Blocks like the above."""
    with _started(backend, limits, 1) as (guest,):
        until = time.monotonic() + limits.wall_s
        try:
            guest.send(_job("script", limits, source=script), until=until)
            ran = msgspec.json.decode(_heard(guest, until=until), type=_Ran)
        except (TimeoutError, Flood, Gone, msgspec.DecodeError) as error:
            status, detail = _fate(error, limits)
            return Output(status, "", None, False, detail, backend.name, backend.version)
    most = limits.output_bytes
    ans = None if ran.ans is None else ran.ans[:most]
    detail = _one_line(ran.detail)
    return Output(
        ran.status, ran.output[:most], ans, ran.cut, detail, backend.name, backend.version
    )


def _job(role: str, limits: Limits, **texts: str) -> bytes:
    # The standard library's JSON, since a reply may hold half a surrogate pair.
    return json.dumps({"role": role, **msgspec.to_builtins(limits), **texts}).encode()


def _heard(guest: Guest, *, until: float) -> bytes:
    """The program's next line; a line of its interpreter's host says how it ended."""
    line = guest.receive(until=until)
    if line.startswith(b"!"):
        raise Gone(guest, line[1:].decode("utf-8", "replace"))
    return line


def _converse(solver: Guest, judge: Guest, marker: bytes, *, until: float) -> _Judged:
    """Carry calls and values between the two until the tests, or the loading, come to an end."""
    loaded = msgspec.json.decode(_heard(solver, until=until), type=_Loaded)
    if loaded.status != "loaded":
        return _Judged(loaded.status, loaded.detail)
    while not (line := judge.receive(until=until)).startswith(marker):
        if line.startswith(b"!"):
            raise Gone(judge)
        solver.send(line, until=until)
        judge.send(_heard(solver, until=until), until=until)
    return msgspec.json.decode(line[len(marker) :], type=_Judged)


def _fate(error: Exception, limits: Limits) -> tuple[Fate, str]:
    """What it means that the conversation broke off."""
    if isinstance(error, TimeoutError):
        return "timeout", f"no end within {limits.wall_s:g} s"
    if isinstance(error, Flood):
        return "blocked", f"it sent more than {MOST_LINE_BYTES >> 20} MiB at once"
    if not isinstance(error, Gone):
        return "exception", "it wrote on the line that carries its results"
    code = error.guest.end(patience_s=0.25)
    if -code in _TIME_SIGNALS or code - 128 in _TIME_SIGNALS:
        return "timeout", f"no end within {limits.cpu_s} s of CPU time"
    return "exception", error.said or "it ended its interpreter before its tests had ended"


def _one_line(text: str) -> str:
    """The text on one line, cut, and without what differs from run to run (addresses)."""
    text = re.sub(r"\b0x[0-9a-fA-F]{5,}\b", "0x…", text[: 2 * MOST_DETAIL])
    return "".join(c if c.isprintable() else " " for c in text)[:MOST_DETAIL]
