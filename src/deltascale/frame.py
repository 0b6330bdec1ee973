"""From ledger to aligned arrays: one frame per dataset, every cell over the same items.

Axes: C cells, I items in subset order, E epochs, T turns. What is planned but missing is NaN, so
that nothing can be left out of a count by accident. Pure once the ledger is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltascale.ledger import Ledger, Planned
from deltascale.records import COUNT, Cell
from deltascale.scorers.reply import is_error_body

__all__ = ["OUTCOMES", "Frame", "load"]

OUTCOMES = ("ok", "no_answer", "truncated", "refused", "filtered", "failed", "budget", "not_asked")
"""The codes of `outcome_CIET`; `not_asked` is planned, but has no sample on record yet."""

_NOT_ASKED = OUTCOMES.index("not_asked")
_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}

_ERROR = re.compile(
    r"error[ _-]*(?:code|status)?\s*[:=]\s*(?:error[ _-]*code\s*[:=]\s*)?[45]\d\d\b", re.I
)
"""What client libraries print of a failed request, wherever it begins."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """One dataset of a study.

    `score_CIET` in [0, 1]; NaN where no answer is known (a call failed, the budget ended, or the
    sample was not asked yet), and beyond what is planned for a cell (`planned_CIE` False).
    `answer_CIET` numbers distinct answers of an item from 0; -1 is no answer.
    `cost_nusd_CIET` is the cost as deployed of that turn alone, and so are the tokens; cached ones
    are among those put in.
    `others[name]` are secondary scores, shaped like `score_CIET`, and `counts[name]` what the
    benchmark's own scores are made of; NaN where a turn has none.
    `units` groups items that are scored as one. `chance_I` is how often a blind guess among an
    item's options is right; NaN where that is not known.
    `reply_CIET` numbers the distinct texts that were submitted, over all cells and items; -1 is no
    text on record. `reply_error_CIET`: the text reads like a server's error message.
    """

    dataset: str
    cells: tuple[Cell, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    strata: tuple[str, ...]
    units: tuple[str, ...]
    chance_I: Floats
    planned_CIE: NDArray[np.bool_]
    score_CIET: Floats
    outcome_CIET: NDArray[np.int8]
    answer_CIET: NDArray[np.int32]
    n_calls_CIET: NDArray[np.int32]
    input_tokens_CIET: NDArray[np.int64]
    cached_input_tokens_CIET: NDArray[np.int64]
    output_tokens_CIET: NDArray[np.int64]
    cost_nusd_CIET: NDArray[np.int64]
    others: Mapping[str, Floats]
    counts: Mapping[str, Floats]
    reply_CIET: NDArray[np.int32]
    reply_error_CIET: NDArray[np.bool_]

    @property
    def n_turns(self) -> int:
        return int(self.score_CIET.shape[3])


def load(ledger: Ledger) -> tuple[Frame, ...]:
    """Every dataset on record, in the order of their names."""
    by_dataset: dict[str, list[Planned]] = {}
    for planned in ledger.cells():
        by_dataset.setdefault(planned.cell.dataset, []).append(planned)
    return tuple(_frame(ledger, name, cells) for name, cells in sorted(by_dataset.items()))


def _frame(ledger: Ledger, dataset: str, cells: list[Planned]) -> Frame:
    items = ledger.items(dataset)
    n_epochs = max(planned.n_epochs for planned in cells)
    n_turns = max(planned.n_turns for planned in cells)
    shape = (len(cells), len(items), n_epochs, n_turns)
    score = np.full(shape, np.nan)
    outcome = np.full(shape, _NOT_ASKED, dtype=np.int8)
    answer = np.full(shape, -1, dtype=np.int32)
    n_calls = np.zeros(shape, dtype=np.int32)
    tokens_in, cached, tokens_out, cost = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    planned_CIE = np.zeros(shape[:3], dtype=np.bool_)
    others: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    answer_codes: list[dict[str, int]] = [{} for _ in items]
    reply = np.full(shape, -1, dtype=np.int32)
    reply_error = np.zeros(shape, dtype=np.bool_)
    replies = _Replies(ledger)
    for c, planned in enumerate(cells):
        planned_CIE[c, : planned.n_items, : planned.n_epochs] = True
        for position, epoch, turn in ledger.turns(planned.cell):
            at = (c, position, epoch, turn.turn)
            outcome[at] = _CODE[turn.outcome]
            n_calls[at] = turn.n_calls
            tokens_in[at], tokens_out[at] = turn.input_tokens, turn.output_tokens
            cached[at] = turn.cached_input_tokens
            cost[at] = turn.cost_nusd
            if turn.score is not None:
                score[at] = turn.score
            if turn.answer is not None:
                codes = answer_codes[position]
                answer[at] = codes.setdefault(turn.answer, len(codes))
            for name, value in turn.others.items():
                kind = counts if name.startswith(COUNT) else others
                kind.setdefault(name, np.full(shape, np.nan))[at] = value
            reply[at], reply_error[at] = replies.facts(turn.call)
    return Frame(
        dataset=dataset,
        cells=tuple(planned.cell for planned in cells),
        items=tuple(item.id for item in items),
        clusters=tuple(item.cluster for item in items),
        strata=tuple(item.stratum for item in items),
        units=tuple(item.unit or item.id for item in items),
        chance_I=np.array([item.chance or np.nan for item in items], dtype=np.float64),
        planned_CIE=planned_CIE,
        score_CIET=score,
        outcome_CIET=outcome,
        answer_CIET=answer,
        n_calls_CIET=n_calls,
        input_tokens_CIET=tokens_in,
        cached_input_tokens_CIET=cached,
        output_tokens_CIET=tokens_out,
        cost_nusd_CIET=cost,
        others=others,
        counts=counts,
        reply_CIET=reply,
        reply_error_CIET=reply_error,
    )


class _Replies:
    """Facts about the texts of calls, each call read once: its number, and an error message?"""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._by_call: dict[str, tuple[int, bool]] = {"": (-1, False)}
        self._numbers: dict[bytes, int] = {}

    def facts(self, call: str) -> tuple[int, bool]:
        known = self._by_call.get(call)
        if known is None:
            reply = self._ledger.reply(bytes.fromhex(call))
            known = self._by_call[""] if reply is None else self._read(reply.text)
            self._by_call[call] = known
        return known

    def _read(self, text: str) -> tuple[int, bool]:
        # A digest in place of the text: a study's replies would not fit in memory.
        key = hashlib.blake2b(text.encode(), digest_size=12).digest()
        number = self._numbers.setdefault(key, len(self._numbers))
        return number, is_error_body(text) or bool(_ERROR.search(text, 0, 200))
