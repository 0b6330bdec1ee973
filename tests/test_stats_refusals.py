"""In a notebook: what does not fit is refused in one line, and never guessed or broadcast."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from deltascale import stats

NAN = math.nan
EYE = np.eye(3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stats.headline_interval([1, 0], [1]), r"\(2,\).*\(1,\)"),
        (lambda: stats.headline_interval(1.0, 0.0), r"by item"),
        (lambda: stats.headline_interval(np.ones((2, 2, 2)), np.ones((2, 2, 2))), "by item"),
        (lambda: stats.headline_interval([], []), "complete pair"),
        (lambda: stats.headline_interval([NAN, 1], [1, NAN]), "complete pair"),
        (lambda: stats.headline_interval([0.5, 0.1], [0.2, 0.3], level=95), "level"),
        (lambda: stats.paired_contrast([0.1, 0.2, 0.3], [0.5]), r"\(3,\).*\(1,\)"),
        (lambda: stats.paired_contrast([0.1, 0.2, 0.3], 0.5), r"\(3,\).*\(\)"),
        (lambda: stats.permutation_trend([1, 2, 3], [1, 2]), "one length"),
        (lambda: stats.permutation_trend([1, 2, 3], [NAN, 1, 2]), "leave out"),
        (lambda: stats.trend_over_models([1, 2, 3], [1, 2], EYE), "one length"),
        (lambda: stats.trend_over_models([1, 2, 3], [1, 2, NAN], EYE), "leave out"),
        (lambda: stats.trend_over_such_models([1, 2, 3], [1, 2, 3, 4]), "one length"),
        (lambda: stats.trend_over_such_models([1, 2, NAN], [1, 2, 3]), "positive"),
        (lambda: stats.normalised_gain([1, 0, 1], [1]), r"\(3,\).*\(1,\)"),
        (lambda: stats.normalised_gain(np.eye(2), np.eye(2)), "one value an item"),
        (lambda: stats.answer_transitions([1, 0], [1, 1], same_I=[True]), "same_I"),
        (lambda: stats.rate([1, 0], [1, 1], "fixed"), "stay_right"),  # type: ignore[arg-type]
        (lambda: stats.rate(np.ones((2, 2, 2)), np.ones((2, 2, 2)), "fix_wrong"), "by item"),
        (lambda: stats.resample_null([1, 2, 3], [2, 2]), "one an item"),
        (lambda: stats.resample_null([1, NAN], 2), "between 0"),
        (lambda: stats.looks_oracle_gated([1, 0, 1], [True]), "match"),
        (lambda: stats.accuracy_step(np.ones((30, 3))), "one axis"),
        (lambda: stats.accuracy_step(np.ones(30), cluster_I=[1, 2]), "labels"),
        (
            lambda: stats.extraction_split([1, 0], [1, 0], [1, 0], [1], first_unparsed_I=[0, 0]),
            "five arrays",
        ),
        (
            lambda: stats.extraction_split([1, 0], [1, 0], [1, 0], [1, 0], first_unparsed_I=[0]),
            "five arrays",
        ),
        (lambda: stats.mcnemar_exact(NAN, 1), "whole"),  # type: ignore[arg-type]
        (lambda: stats.sign_flip_test(np.ones(30), draws=0), "draws"),
        (lambda: stats.mean_covariance(np.ones((2, 3, 4))), "two axes"),
        (lambda: stats.macro_average(np.ones((2, 3)), np.ones((2, 2, 2))), r"\(D, M, M\)"),
        (lambda: stats.mean_equivalence(0.0, 0.1, 10, margin=1.5), "margin"),
        (lambda: stats.t_interval(0.0, 1.0, 5, level=95), "level"),
        (lambda: stats.percentile_interval([0.1, 0.2], level=95), "level"),
        (lambda: stats.majority_accuracy([["a", "b"]], [[1, 0]], k=1), "numbered"),
    ],
)
def test_refused_in_one_line(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_nothing_to_estimate_is_not_a_number_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gain = stats.normalised_gain([NAN], [1.0])
        rule = stats.break_even(stats.Flips(5, 1, 1, 5), delta_B=[NAN])
        still = stats.break_even(stats.Flips(5, 0, 0, 5))
    assert gain.of == "undefined"
    assert math.isnan(gain.value)
    assert math.isnan(rule.probability)
    assert math.isnan(still.ratio), "0 / 0: nothing passes its threshold where nothing flips"


def test_one_cluster_leaves_no_error_to_judge_extractors_by() -> None:
    apart = stats.extraction_split([1, 0], [0, 0], [1, 0], [1, 0], first_unparsed_I=[0, 0],
                                   cluster_I=[1, 1])  # fmt: skip
    assert math.isnan(apart.se)
    assert apart.blocked
    alike = stats.extraction_split([1, 0], [0, 0], [1, 0], [0, 0], first_unparsed_I=[0, 0],
                                   cluster_I=[1, 1])  # fmt: skip
    assert not alike.blocked
