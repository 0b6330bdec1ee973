"""Simulated models of known truth: what the demo and the laws are checked against.

A simulated model does the arithmetic of `datasets.demo` by itself, so it needs no target. Whether
it shows the right result is drawn from probabilities that this module also gives in closed form.
Every draw is a function of the request alone: order, concurrency and resumption change nothing.

Its numbers are simulations wherever they appear; they say nothing about any real model.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import NormalDist

from msgspec.structs import replace

from deltascale.providers import Caller, CallFailed
from deltascale.records import Failure, ModelSpec, Reply, Request, Usage

__all__ = ["Truth", "check", "connect", "endpoint", "truth"]

DIFFICULTY_SD = 1.5
"""Spread of the items' difficulty on the logit scale; its mean is 0."""

_WRONG_SHARES = (0.5, 0.3, 0.2)
"""How often each of an item's three wrong answers is given when the answer is wrong."""

_EXPRESSION = re.compile(r"Compute ([-+*() 0-9]+)\.")
_OPTION = re.compile(r"^([A-D])\) (-?\d+)$", re.MULTILINE)
_FORMAT_CUE = re.compile(r"####|Answer:")
_GIVEN = re.compile(r"(?:#### |Answer: )(\S+)")


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a simulated model, over all items that could be drawn.

    `first` is P(right at turn 0); `delta` the expected accuracy at the last turn less `first`.
    """

    first: float
    delta: float


def truth(parameters: float, protocol: str, turns: int) -> Truth:
    """The true delta of a model of this size under a built-in protocol, at a temperature above 0.

    Raises ValueError for a protocol whose truth is not known.
    """
    abilities = _first_rates(parameters)
    first = _mean(abilities)
    fixes = _fix_rate(parameters, criticised=protocol == "critique")
    breaks = _break_rate(parameters, criticised=protocol == "critique")
    last = first
    if protocol in ("review", "critique"):
        for _ in range(turns - 1):
            last = last * (1 - breaks) + (1 - last) * fixes
    elif protocol == "oracle":
        last = 1 - (1 - first) * (1 - fixes) ** (turns - 1)
    elif protocol == "vote":
        last = _mean([_majority_right(rate, turns) for rate in abilities])
    elif protocol != "resample":
        raise ValueError(f"the truth of protocol {protocol!r} is not known")
    return Truth(first, last - first)


def endpoint(model: ModelSpec) -> str:
    """The version of the simulation: it rises when any reply would change."""
    return "simulated:1"


@asynccontextmanager
async def connect(model: ModelSpec, *, environ: Mapping[str, str]) -> AsyncIterator[Caller]:
    """A caller that answers at once. The size comes from the model's `size.parameters`."""
    parameters = model.size.parameters
    if parameters is None:
        raise CallFailed(Failure("unknown_model", f"{model.id} has no simulated size"))

    async def call(request: Request) -> Reply:
        return _reply(request, parameters)

    yield call


async def check(model: ModelSpec, *, environ: Mapping[str, str]) -> Failure | None:
    """A simulated model is always there."""
    return None


def _reply(request: Request, parameters: float) -> Reply:
    asked = [message.content for message in request.messages if message.role == "user"]
    told = [message.content for message in request.messages if message.role == "assistant"]
    text = _text(request, parameters, asked, told)
    input_tokens = sum(4 + len(message.content) // 4 for message in request.messages)
    output_tokens = 1 + len(text) // 4
    stop = "stop"
    if output_tokens > request.params.max_tokens:
        output_tokens = request.params.max_tokens
        text, stop = text[: 4 * output_tokens], "length"
    return Reply(
        text=text,
        stop="length" if stop == "length" else "stop",
        usage=Usage(input_tokens, output_tokens),
        model_served=request.model,
    )


def _text(request: Request, parameters: float, asked: Sequence[str], told: Sequence[str]) -> str:
    if not _FORMAT_CUE.search(asked[-1]):
        return "I went through the steps again. The multiplication is where I would look first."
    right, wrongs = _answers(asked[0])
    chance = _chance(request)
    criticised = len(asked) > 1 and not _FORMAT_CUE.search(asked[-2])
    given = next((m.group(1) for text in reversed(told) if (m := _GIVEN.search(text))), None)
    if given is None:
        rate = _first_rate(parameters, _difficulty(asked[0]))
    elif given == right:
        rate = 1 - _break_rate(parameters, criticised=criticised)
    else:
        rate = _fix_rate(parameters, criticised=criticised)
    answer = right if chance < rate else _pick(wrongs, (chance - rate) / (1 - rate))
    cue = "Answer:" if wrongs[0].isalpha() else "####"
    return f"I take the products first, then add from left to right.\n{cue} {answer}"


def _answers(question: str) -> tuple[str, tuple[str, str, str]]:
    """The right answer and three wrong ones, as they would be written."""
    found = _EXPRESSION.search(question)
    if found is None:
        raise CallFailed(
            Failure("bad_request", "simulated models only answer the simulated datasets demo-*")
        )
    result = _evaluate(found.group(1))
    letters = {int(value): letter for letter, value in _OPTION.findall(question)}
    if letters:
        others = sorted(letter for value, letter in letters.items() if value != result)
        return letters[result], (others[0], others[1], others[2])
    return str(result), (str(result + 1), str(result - 10), str(result + 100))


def _evaluate(expression: str) -> int:
    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return value(left) - value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return value(left) * value(right)
            case _:
                raise ValueError(f"not an expression of the demo: {expression}")

    return value(ast.parse(expression.strip(), mode="eval").body)


def _pick(wrongs: tuple[str, str, str], chance: float) -> str:
    if chance < _WRONG_SHARES[0]:
        return wrongs[0]
    return wrongs[1] if chance < _WRONG_SHARES[0] + _WRONG_SHARES[1] else wrongs[2]


def _chance(request: Request) -> float:
    """A number in [0, 1) that the request fixes; at temperature 0 all draws are the same."""
    if not request.params.temperature:
        request = replace(request, draw=0, epoch=0)
    return int.from_bytes(request.key[:8], "big") / 2**64


def _difficulty(question: str) -> float:
    hashed = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big")
    return NormalDist(0, DIFFICULTY_SD).inv_cdf((hashed + 0.5) / 2**64)


def _first_rate(parameters: float, difficulty: float) -> float:
    return _logistic(0.5 * math.log(parameters / 3e9) - difficulty)


def _fix_rate(parameters: float, *, criticised: bool) -> float:
    """P(right after a correction | wrong before): larger models find more of their mistakes."""
    return _logistic(0.35 * math.log(parameters / 3e9) - 1.6) * (1.2 if criticised else 1.0)


def _break_rate(parameters: float, *, criticised: bool) -> float:
    """P(wrong after a correction | right before): small models are talked out of right answers."""
    return _logistic(-0.45 * math.log(parameters / 3e9) - 2.2) * (0.9 if criticised else 1.0)


def _first_rates(parameters: float, n_points: int = 400) -> list[float]:
    """First-answer rates at equally likely difficulties (midpoint rule on the quantiles)."""
    spread = NormalDist(0, DIFFICULTY_SD)
    return [
        _first_rate(parameters, spread.inv_cdf((point + 0.5) / n_points))
        for point in range(n_points)
    ]


def _majority_right(rate: float, n_draws: int) -> float:
    """P(the majority of the draws is right); a tie goes to the tied answer drawn first."""
    shares = (rate, *((1 - rate) * share for share in _WRONG_SHARES))
    total = 0.0
    for draws in _won(n_draws):
        total += math.prod(shares[answer] for answer in draws)
    return total


@functools.cache
def _won(n_draws: int) -> tuple[tuple[int, ...], ...]:
    """The draws whose majority is the right answer, 0."""
    found = []
    for draws in itertools.product(range(4), repeat=n_draws):
        votes = Counter(draws)
        most = max(votes.values())
        if next(answer for answer in draws if votes[answer] == most) == 0:
            found.append(draws)
    return tuple(found)


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
