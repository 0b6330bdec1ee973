"""Before the study: how many items, epochs and models, and what those one has could show."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, expit, gammaln, logit, ndtri, xlogy

from deltascale.stats.clustered import bonett_price_floor
from deltascale.stats.contrasts import trend_over_models, trend_over_such_models
from deltascale.stats.draws import keyed_generator
from deltascale.stats.paired import mcnemar_midp

__all__ = [
    "SimulatedPower",
    "exponent_se",
    "items_beyond_which_models_count",
    "items_for_epochs",
    "items_needed",
    "least_detectable_delta",
    "logit_scatter",
    "mcnemar_power",
    "optimal_epochs",
    "simulate_power",
]

FloatArray: TypeAlias = NDArray[np.float64]
_STUDIES = 0x90E2
_WIDEST = 2.0


@dataclass(frozen=True, slots=True)
class SimulatedPower:
    """Share of simulated studies that find each effect, with Monte Carlo standard errors."""

    cell: FloatArray  # (M,) McNemar mid-p of each model's delta
    cell_mc_se: FloatArray
    trend_models: float  # E1 trend over these models
    trend_models_mc_se: float
    trend_such_models: float  # E2 trend, t_{M-2}; NaN with fewer than three models
    trend_such_models_mc_se: float
    simulations: int


def items_needed(
    p_fixed: float, p_broken: float, *, alpha: float = 0.05, power: float = 0.8, deff: float = 1.0
) -> float:
    """Items for a two-sided McNemar test to find p_fixed - p_broken; round up. Infinite if equal.

    n = deff [z_{a/2} sqrt(pd) + z_b sqrt(pd - delta^2)]^2 / delta^2 with pd = p_fixed + p_broken.
    Raises ValueError for impossible shares. Source: Miettinen 1968, Biometrics 24:339; Connor 1987,
    Biometrics 43:207.
    """
    flips, delta = p_fixed + p_broken, p_fixed - p_broken
    if min(p_fixed, p_broken) < 0 or flips > 1:
        raise ValueError(f"shares must not be negative nor pass 1: {p_fixed}, {p_broken}")
    if delta == 0:
        return math.inf
    z_alpha, z_beta = _z(alpha, power)
    root = z_alpha * math.sqrt(flips) + z_beta * math.sqrt(flips - delta**2)
    return deff * root**2 / delta**2


def least_detectable_delta(
    n: float, flips: float, *, alpha: float = 0.05, power: float = 0.8, deff: float = 1.0
) -> float:
    """The smallest |delta| that n items find when a share `flips` of them flips either way.

    NaN where even every flip in one direction would not be found.
    """

    def needed(delta: float) -> float:
        return items_needed(
            (flips + delta) / 2, (flips - delta) / 2, alpha=alpha, power=power, deff=deff
        )

    low, high = 0.0, flips
    if not 0 < flips <= 1 or needed(high) > n:
        return math.nan
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if needed(middle) > n else (low, middle)
    return high


def mcnemar_power(
    n: int,
    p_fixed: float,
    p_broken: float,
    *,
    alpha: float = 0.05,
    test: Literal["midp", "exact"] = "midp",
) -> float:
    """Exact power, summed over every possible number of flips and of fixed among them."""
    flips = p_fixed + p_broken
    m = np.arange(n + 1)
    chance_m = _binomial(m, n, flips)
    power = 0.0
    for flipped in m[chance_m > 1e-13]:
        k = np.arange(flipped + 1)
        few = np.minimum(k, flipped - k)
        p = 2 * bdtr(few.astype(np.float64), flipped, 0.5)
        at_point = _binomial(few, int(flipped), 0.5)
        if test == "midp":
            p = np.where(2 * k == flipped, 1 - at_point / 2, p - at_point)
        rejects = np.minimum(p, 1.0) <= alpha
        share = p_fixed / flips if flips else 0.5
        power += float(chance_m[flipped] * _binomial(k, int(flipped), share)[rejects].sum())
    return power


def items_for_epochs(
    delta: float,
    *,
    item_variance: float,
    epoch_variance: float = 0.0,
    epochs: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Items when each is answered in K epochs: (z + z)^2 (omega^2 + sigma_d^2 / K) / delta^2.

    Source: Miller 2024, arXiv:2411.00640, section 5, with the variance of the difference itself.
    """
    if delta == 0:
        return math.inf
    return sum(_z(alpha, power)) ** 2 * (item_variance + epoch_variance / epochs) / delta**2


def optimal_epochs(
    *, item_variance: float, epoch_variance: float, item_cost: float, epoch_cost: float
) -> float:
    """Epochs an item for the least variance at a fixed price, before rounding; at least 1.

    sqrt(sigma_d^2 c_item / (omega^2 c_epoch)), where c_item is paid once an item however many its
    epochs. Infinite if items do not differ. Source: Cochran 1977, section 10.6.
    """
    if item_variance <= 0:
        return math.inf
    return max(1.0, math.sqrt(epoch_variance * item_cost / (item_variance * epoch_cost)))


def exponent_se(
    size_M: ArrayLike, *, amplitude: float, alpha: float, sigma: float, tau: float = 0.0
) -> float:
    """Standard error to expect of the power law's alpha, from Fisher information.

    delta = amplitude N^alpha; sigma is the SE of one delta. With tau > 0 add some 15 % and use t.
    Infinite if only one size carries any delta.
    """
    size = np.asarray(size_M, dtype=np.float64)
    x, square = np.log(size), (amplitude * size**alpha) ** 2
    spread = float(square @ (x - float(square @ x / square.sum())) ** 2)
    return math.sqrt((sigma**2 + tau**2) / spread) if spread > 0 else math.inf


def items_beyond_which_models_count(*, d_sd: float, tau: float) -> float:
    """Items per model at which sampling variance falls to tau^2: more then buy little."""
    return (d_sd / tau) ** 2 if tau > 0 else math.inf


def logit_scatter(rates_M3: ArrayLike, tau: float) -> float:
    """The `scatter_logit` with which delta scatters by `tau` (a share), on average over the models.

    By quadrature and bisection: where flips are rare, a slope at the rates themselves would ask for
    logits that scatter over everything. At most 2, where tau is more than such rates allow.
    """
    rates = np.asarray(rates_M3, dtype=np.float64)
    node, weight = np.polynomial.hermite_e.hermegauss(9)
    move_Q3 = np.stack(np.meshgrid(node, node, node, indexing="ij"), axis=-1).reshape(-1, 3)
    weight_Q = np.einsum("i,j,k->ijk", weight, weight, weight).ravel() / weight.sum() ** 3

    def spread(scatter: float) -> float:
        moved_QM3 = expit(logit(rates) + scatter * move_Q3[:, None, :])
        first, fix, harm = np.moveaxis(moved_QM3, -1, 0)
        delta_QM = (1 - first) * fix - first * harm
        return math.sqrt(float(np.mean(weight_Q @ (delta_QM - weight_Q @ delta_QM) ** 2)))

    low, high = 0.0, _WIDEST
    if tau <= 0 or spread(high) <= tau:
        return high if tau > 0 else 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if spread(middle) < tau else (low, middle)
    return high


def simulate_power(
    size_M: ArrayLike,
    rates_M3: ArrayLike,
    *,
    items: int,
    scatter_logit: float = 0.0,
    simulations: int = 2_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> SimulatedPower:
    """Simulate studies from pilot rates: (accuracy at first, P(fix), P(break)) of each model.

    The rates usually come from `TwoRate.rates`. `scatter_logit` is the standard deviation of normal
    scatter between models, added to each logit in each study. Items of a model are alike and
    independent; multiply `items` by 1 / deff to allow for clusters.

    Raises ValueError for rates outside [0, 1] or shapes that do not match.
    """
    size, rates = np.asarray(size_M, np.float64), np.asarray(rates_M3, np.float64)
    if rates.shape != (size.size, 3) or np.any((rates < 0) | (rates > 1)):
        raise ValueError("rates_M3 needs a row of three rates in [0, 1] for each size")
    rng = keyed_generator(seed, purpose=_STUDIES)
    clipped = np.clip(rates, 1e-9, 1 - 1e-9)
    logit_SM3 = np.log(clipped / (1 - clipped)) + scatter_logit * rng.standard_normal(
        (simulations, *rates.shape)
    )
    right, fix, harm = np.moveaxis(expit(logit_SM3), -1, 0)
    right_SM = rng.binomial(items, right)
    fixed_SM, broken_SM = rng.binomial(items - right_SM, fix), rng.binomial(right_SM, harm)
    p_of = {
        pair: mcnemar_midp(*pair)
        for pair in set(zip(fixed_SM.ravel().tolist(), broken_SM.ravel().tolist(), strict=True))
    }
    found_SM = np.array(
        [
            [p_of[pair] <= alpha for pair in zip(f, b, strict=True)]
            for f, b in zip(fixed_SM.tolist(), broken_SM.tolist(), strict=True)
        ]
    )
    these, those = _trends_found(size, fixed_SM, broken_SM, items, alpha)
    cell = found_SM.mean(axis=0)
    return SimulatedPower(
        cell=cell,
        cell_mc_se=np.sqrt(cell * (1 - cell) / simulations),
        trend_models=these,
        trend_models_mc_se=_mc_se(these, simulations),
        trend_such_models=those,
        trend_such_models_mc_se=_mc_se(those, simulations),
        simulations=simulations,
    )


def _trends_found(
    size_M: FloatArray,
    fixed_SM: NDArray[np.int64],
    broken_SM: NDArray[np.int64],
    items: int,
    alpha: float,
) -> tuple[float, float]:
    """Share of studies whose E1 trend, and whose E2 trend, is significant (NaN under 3 models)."""
    delta_SM = (fixed_SM - broken_SM) / items
    spread_SM = ((fixed_SM + broken_SM) / items - delta_SM**2) / (items - 1)
    variance_SM = np.maximum(spread_SM, bonett_price_floor(items))
    these = [
        trend_over_models(size_M, delta, variance).p_value <= alpha
        for delta, variance in zip(delta_SM, variance_SM, strict=True)
    ]
    if size_M.size < 3:
        return float(np.mean(these)), math.nan
    those = [trend_over_such_models(size_M, delta).p_value <= alpha for delta in delta_SM]
    return float(np.mean(these)), float(np.mean(those))


def _mc_se(share: float, simulations: int) -> float:
    return math.sqrt(share * (1 - share) / simulations)


def _z(alpha: float, power: float) -> tuple[float, float]:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha and power must be in (0, 1): {alpha}, {power}")
    return float(-ndtri(alpha / 2)), float(ndtri(power))


def _binomial(k: NDArray[np.int64], n: int, p: float) -> FloatArray:
    log_choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(np.exp(log_choose + xlogy(k, p) + xlogy(n - k, 1 - p)))
