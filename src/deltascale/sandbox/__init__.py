"""Running code nobody trusts: no network, no files, no processes; capped memory, time and output.

`choose_backend` finds the best way to shut an interpreter in that works on this machine, or stops
with the remedy. `judge_program` runs a program against tests, `run_script` runs a script and
returns what it printed. What is guaranteed, and how, is in `deltascale.sandbox.running`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from deltascale.errors import MissingExtra, Mistake
from deltascale.sandbox.running import (
    Backend,
    Limits,
    Output,
    Status,
    Verdict,
    judge_program,
    run_script,
)

__all__ = [
    "BACKENDS",
    "Backend",
    "Limits",
    "Output",
    "Status",
    "Verdict",
    "choose_backend",
    "judge_program",
    "run_script",
    "try_backend",
]

BACKENDS = ("wasm", "bubblewrap", "docker", "podman")
"""The safe backends, best first."""


def choose_backend(name: str = "", *, unsafe: bool = False) -> Backend:
    """The best backend that works here, proven by a first program; or the one of that name.

    `unsafe` also allows the plain subprocess, which shuts nothing in: it is taken when no safe
    backend works, or by its name, `unsafe`. The first start on a machine compiles the WebAssembly
    interpreter, which takes some seconds.

    Raises MissingExtra when there is none, with what to install; Mistake for an unknown name.
    """
    if name and name not in (*BACKENDS, "unsafe"):
        raise Mistake(
            f"unknown sandbox {name!r}", remedy=f"one of {', '.join(BACKENDS)}, or unsafe"
        )
    reasons = []
    for candidate in (name,) if name else BACKENDS:
        found = "it shuts nothing in" if candidate == "unsafe" else try_backend(candidate)
        if isinstance(found, Backend):
            return found
        reasons.append(f"{candidate}: {found}")
    if unsafe and name in ("", "unsafe"):
        from deltascale.sandbox.native import plain_subprocess

        return plain_subprocess()
    raise MissingExtra(
        f"no sandbox to run generated code in ({'; '.join(reasons)})",
        remedy="pip install 'deltascale[sandbox]', or install bubblewrap; "
        "--unsafe-code-execution runs it with your own rights",
    )


def try_backend(name: str) -> Backend | str:
    """The safe backend of this name if a first program runs in it, else why it can't be used."""
    found = _finder(name)()
    if isinstance(found, str):
        return found
    try:
        output = run_script("ans = 6 * 7", backend=found, limits=Limits(wall_s=60.0))
    except Mistake as error:
        return str(error)
    return found if output.ans == "42" else f"a first program ended with {output.detail!r}"


def _finder(name: str) -> Callable[[], Backend | str]:
    if name == "wasm":
        from deltascale.sandbox.wasm import find_wasm

        return find_wasm
    from deltascale.sandbox.native import find_bubblewrap, find_container

    return find_bubblewrap if name == "bubblewrap" else functools.partial(find_container, name)
