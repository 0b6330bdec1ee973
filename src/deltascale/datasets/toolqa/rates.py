"""How attempts at ToolQA went, counted from the call that ended each: nothing else is needed.

The request of that call holds the whole attempt, so what is on record is enough; whether it was
answered is the turn's own outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deltascale.datasets.toolqa import agent
from deltascale.records import Reply, Request

__all__ = ["Went", "rates", "went"]

_FAILED = " failed: "
_UNKNOWN = "There is no tool "
_NO_JSON = "The arguments are not a JSON object."


@dataclass(frozen=True, slots=True)
class Went:
    """One attempt. `n_uses` counts what tools were asked, `n_invalid` replies (or uses) that named
    no tool there is or gave it no arguments, `n_errors` uses that a tool could not serve; `halted`:
    the last step allowed was no answer."""

    n_uses: int
    n_invalid: int
    n_errors: int
    halted: bool


def went(request: Request, reply: Reply) -> Went:
    """How the attempt went that this call, the one its turn was scored by, ended."""
    told = agent.observations(request.messages)
    invalid = [one for one in told if one.startswith((agent.NO_ACTION, _UNKNOWN, _NO_JSON))]
    errors = [one for one in told if _FAILED in one[:40] and one.partition(" ")[0] in agent.TOOLS]
    n_without = sum(one.startswith(agent.NO_ACTION) for one in told)
    return Went(len(told) - n_without, len(invalid), len(errors), _halted(request, reply))


def _halted(request: Request, reply: Reply) -> bool:
    if request.tools:
        return bool(reply.tool_calls)
    taken = agent.action(reply.text)
    return taken is None or taken.name != agent.FINISH


def rates(attempts: Iterable[Went]) -> dict[str, float]:
    """`halted`: the share of attempts. `uses`, `invalid`, `errors`: the mean of an attempt. Empty
    without attempts."""
    held = list(attempts)
    if not held:
        return {}
    return {
        "halted": sum(one.halted for one in held) / len(held),
        "uses": sum(one.n_uses for one in held) / len(held),
        "invalid": sum(one.n_invalid for one in held) / len(held),
        "errors": sum(one.n_errors for one in held) / len(held),
    }
