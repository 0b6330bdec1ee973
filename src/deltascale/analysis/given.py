"""Frames and a study of scores that somebody has already, for a notebook: no ledger, no study file.

What was not given is not made up: without answers nothing is said of answers that change, without
sizes nothing is fitted, and without a cost every call was free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.frame import OUTCOMES, Frame
from deltascale.records import Cell, ModelSpec, Price, Size, Study

__all__ = ["frame_of_scores", "study_of_frames"]

Floats = NDArray[np.float64]
Key = tuple[str, str]

_OK, _FAILED = OUTCOMES.index("ok"), OUTCOMES.index("failed")
_FREE = Price(0, 0, 0, "given", "")


def frame_of_scores(
    dataset: str,
    scores: Mapping[Key, ArrayLike],
    *,
    temperature: float = 0.7,
    clusters: Sequence[str] = (),
    strata: Sequence[str] = (),
    chance_I: ArrayLike | None = None,
    answers: Mapping[Key, ArrayLike] | None = None,
    n_calls: Mapping[Key, ArrayLike] | None = None,
    cost_usd: Mapping[Key, ArrayLike] | None = None,
) -> Frame:
    """The frame of one dataset from scores by (model, protocol), items in one order throughout.

    Each array has axes (items, turns) or (items, epochs, turns), all the same; scores in [0, 1],
    NaN where an answer is missing. `clusters` has a label for each item: those that share one are
    not independent. `chance_I` is how often a blind guess is right, NaN where that is not known.
    `answers` numbers an item's distinct answers from 0 (-1: no answer), `n_calls` and `cost_usd`
    are those of each turn alone, one call and nothing unless given; they may be scalars.

    Raises ValueError for no scores, shapes that differ, values that can't be, and labels that are
    not one an item.
    """
    if not scores:
        raise ValueError("no scores are given: at least one (model, protocol) is needed")
    arrays = _alike({key: _epochs(given, key) for key, given in scores.items()})
    score = np.stack(list(arrays.values()))
    if np.any((score < 0) | (score > 1)):
        raise ValueError("scores must lie in [0, 1], or be NaN where an answer is missing")
    shape, n_items = score.shape, score.shape[1]
    # As wide as the last: sums go by the labels' order, and rounding with them.
    labels = tuple(f"i{n:0{len(str(n_items))}}" for n in range(n_items))
    named_clusters = _labels("clusters", clusters, labels)
    named_strata = _labels("strata", strata, ("",) * n_items)
    known = ~np.isnan(score)
    answer = _spread("answers", answers, arrays, missing=-1)
    cost = _spread("cost_usd", cost_usd, arrays, missing=0) * 1e9
    nothing = np.zeros(shape, np.int64)
    return Frame(
        dataset=dataset,
        cells=tuple(Cell(model, dataset, protocol, temperature) for model, protocol in arrays),
        items=labels,
        clusters=named_clusters,
        strata=named_strata,
        units=labels,
        chance_I=np.full(n_items, np.nan if chance_I is None else chance_I, np.float64),
        planned_CIE=np.ones(shape[:3], np.bool_),
        score_CIET=score,
        outcome_CIET=np.where(known, _OK, _FAILED).astype(np.int8),
        answer_CIET=np.where(known, answer, -1).astype(np.int32),
        n_calls_CIET=_spread("n_calls", n_calls, arrays, missing=1).astype(np.int32),
        input_tokens_CIET=nothing,
        cached_input_tokens_CIET=nothing,
        output_tokens_CIET=nothing,
        cost_nusd_CIET=np.rint(cost).astype(np.int64),
        others={},
        counts={},
        reply_CIET=np.full(shape, -1, np.int32),
        reply_error_CIET=np.zeros(shape, np.bool_),
    )


def study_of_frames(
    frames: Sequence[Frame], parameters: Mapping[str, float] | None = None
) -> Study:
    """The study that frames made by hand belong to: their models, protocols and turns.

    `parameters` are the models' sizes by name, in parameters and not in billions; a model without
    one is in no fit. What stands before the first slash of a name is its maker.

    Raises ValueError for a size of a model that no frame has, or not above zero.
    """
    sizes = dict(parameters or {})
    cells = [cell for frame in frames for cell in frame.cells]
    models = tuple(dict.fromkeys(cell.model for cell in cells))
    if unknown := sorted(set(sizes) - set(models)):
        raise ValueError(f"no frame has the model {unknown[0]!r}; they have {', '.join(models)}")
    if wrong := [name for name, size in sizes.items() if not 0 < size < np.inf]:
        raise ValueError(f"{wrong[0]}: a size must be above zero, not {sizes[wrong[0]]}")
    return Study(
        name="notebook",
        models=tuple(_model(name, sizes.get(name)) for name in models),
        datasets=(),
        protocols=tuple(dict.fromkeys(cell.protocol for cell in cells)),
        turns=max((frame.n_turns for frame in frames), default=2),
    )


def _model(name: str, parameters: float | None) -> ModelSpec:
    size = Size("published", parameters, citation="given") if parameters else Size("unknown")
    maker, _, rest = name.rpartition("/")
    return ModelSpec(name, maker.partition("/")[0] or name, rest, size, _FREE)


def _epochs(given: ArrayLike, key: Key) -> Floats:
    """The array with an axis of epochs. Raises ValueError for other axes, or fewer than one item
    and two turns."""
    array = np.asarray(given, np.float64)
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3 or 0 in array.shape or array.shape[-1] < 2:
        raise ValueError(
            f"{key}: scores need axes (items, turns) or (items, epochs, turns) and two turns at "
            f"least, not the shape {np.shape(given)}"
        )
    return array


def _labels(name: str, given: Sequence[str], otherwise: tuple[str, ...]) -> tuple[str, ...]:
    if len(given) not in (0, len(otherwise)):
        raise ValueError(f"{name} has {len(given)} labels for {len(otherwise)} items")
    return tuple(str(label) for label in given) or otherwise


def _alike(arrays: Mapping[Key, Floats]) -> Mapping[Key, Floats]:
    shapes = {array.shape: key for key, array in arrays.items()}
    if len(shapes) > 1:
        told = ", ".join(f"{key} {shape}" for shape, key in shapes.items())
        raise ValueError(f"all arrays need one shape (items, epochs, turns): {told}")
    return arrays


def _spread(
    name: str, given: Mapping[Key, ArrayLike] | None, scores: Mapping[Key, Floats], missing: int
) -> Floats:
    """What is given for some cells over the axes of their scores, the others being `missing`.
    Raises ValueError if it does not fit."""
    if unknown := [key for key in given or {} if key not in scores]:
        raise ValueError(f"{name}: there are no scores of {unknown[0]}")
    found = np.full((len(scores), *next(iter(scores.values())).shape), float(missing))
    for c, key in enumerate(scores):
        if given is None or key not in given:
            continue
        value = np.asarray(given[key], np.float64)
        value = value[:, None, :] if value.ndim == 2 else value
        try:
            found[c] = value
        except ValueError:
            raise ValueError(
                f"{name}: {key} has the shape {np.shape(given[key])}, its scores {found[c].shape}"
            ) from None
    # Written so that NaN fails too.
    if not (found >= min(missing, 0)).all():
        raise ValueError(f"{name}: a value is below {'-1' if missing < 0 else 'zero'} or NaN")
    return found
