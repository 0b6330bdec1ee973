"""Fitting L(N, D) = E + A / N^alpha + B / D^beta to losses, and bootstrapping it, in batches.

Serves to check our tools on a published data set, and is public because others need it.
"""

from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.draws import keyed_generator

__all__ = [
    "ChinchillaFit",
    "ChinchillaReplicates",
    "bootstrap_chinchilla",
    "chinchilla_loss",
    "fit_chinchilla",
]

FloatArray: TypeAlias = NDArray[np.float64]
_CHUNK = 125  # fits worked on at once: their Jacobians stay in the cache
_CONTINUATION = (10.0, 3.0, 1.0)  # times the Huber threshold wanted
_DRAWS = 0xC41C


@dataclass(frozen=True, slots=True)
class ChinchillaFit:
    """The best of all starts."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float
    objective: float  # sum of Huber losses of the log residuals
    starts: int
    reached: float  # share of the starts that came within 1e-6 of the best objective, relatively


@dataclass(frozen=True, slots=True)
class ChinchillaReplicates:
    """One fit a bootstrap replicate, each array (R,)."""

    A: FloatArray
    B: FloatArray
    E: FloatArray
    alpha: FloatArray
    beta: FloatArray
    objective: FloatArray


def chinchilla_loss(
    n: ArrayLike, d: ArrayLike, *, A: float, B: float, E: float, alpha: float, beta: float
) -> FloatArray:
    """E + A / N^alpha + B / D^beta for N parameters and D training tokens."""
    size, tokens = np.asarray(n, dtype=np.float64), np.asarray(d, dtype=np.float64)
    return np.asarray(E + A * size**-alpha + B * tokens**-beta)


def fit_chinchilla(
    n: ArrayLike, d: ArrayLike, loss: ArrayLike, *, huber_delta: float = 1e-3
) -> ChinchillaFit:
    """Minimise the summed Huber loss of ln L - ln prediction from 4,500 starts.

    Starts are those of Hoffmann et al. 2022: ln A and ln B in 0..25 by 5, ln E in -1..1 by .5, both
    exponents in 0..2 by .5. Most of them end elsewhere, so one start is not enough.

    Raises ValueError for fewer than six points, shapes that differ, or values not above zero.
    Source: Hoffmann et al. 2022, arXiv:2203.15556; Besiroglu et al. 2024, arXiv:2404.10102.
    """
    data = _Data(n, d, loss)
    grid = product(
        np.arange(0, 26, 5.0),
        np.arange(0, 26, 5.0),
        np.arange(-1, 1.1, 0.5),
        np.arange(0, 2.1, 0.5),
        np.arange(0, 2.1, 0.5),
    )
    start = data.centred(np.array(list(grid)))
    theta, objective = _fit_all(data, start, np.ones((1, data.y.size)), huber_delta)
    best = int(np.argmin(objective))
    # A last descent from the best, without the tolerance that the many starts are run with.
    theta_1, objective_1 = _fit_all(
        data, theta[[best]], np.ones((1, data.y.size)), huber_delta, tolerance=1e-15, rounds=3_000
    )
    a, b, e, alpha, beta = data.plain(theta_1)[0]
    return ChinchillaFit(
        A=float(np.exp(a)),
        B=float(np.exp(b)),
        E=float(np.exp(e)),
        alpha=float(alpha),
        beta=float(beta),
        objective=float(objective_1[0]),
        starts=len(start),
        reached=float(np.mean(objective <= objective_1[0] * (1 + 1e-6))),
    )


def bootstrap_chinchilla(
    n: ArrayLike,
    d: ArrayLike,
    loss: ArrayLike,
    *,
    start: ChinchillaFit,
    counts_Rn: ArrayLike | None = None,
    replicates: int = 1_000,
    huber_delta: float = 1e-3,
    seed: int = 0,
) -> ChinchillaReplicates:
    """Refit to resampled points, each from the full fit.

    `counts_Rn` says how often each replicate drew each point; without it they are drawn here.
    Raises ValueError as `fit_chinchilla`.
    """
    data = _Data(n, d, loss)
    points = data.y.size
    if counts_Rn is None:
        rng = keyed_generator(seed, purpose=_DRAWS)
        counts_Rn = rng.multinomial(points, np.full(points, 1 / points), size=replicates)
    weight = np.asarray(counts_Rn, dtype=np.float64)
    if weight.ndim != 2 or weight.shape[1] != points:
        raise ValueError(f"counts {weight.shape} do not match {points} points")
    plain = np.array([[np.log(start.A), np.log(start.B), np.log(start.E), start.alpha, start.beta]])
    first = np.tile(data.centred(plain), (len(weight), 1))
    theta, objective = _fit_all(data, first, weight, huber_delta)
    a, b, e, alpha, beta = data.plain(theta).T
    return ChinchillaReplicates(np.exp(a), np.exp(b), np.exp(e), alpha, beta, objective)


class _Data:
    """Logs of the data, centred so that the five parameters are less entangled."""

    def __init__(self, n: ArrayLike, d: ArrayLike, loss: ArrayLike) -> None:
        size, tokens = np.asarray(n, np.float64), np.asarray(d, np.float64)
        losses = np.asarray(loss, np.float64)
        if not size.shape == tokens.shape == losses.shape or size.ndim != 1 or size.size < 6:
            raise ValueError("fit_chinchilla needs three arrays of one length, at least six points")
        if not np.all((size > 0) & (tokens > 0) & (losses > 0)):
            raise ValueError("N, D and losses must be positive")
        ln_n, ln_d = np.log(size), np.log(tokens)
        self.middle = (float(ln_n.mean()), float(ln_d.mean()))
        self.n, self.d, self.y = ln_n - self.middle[0], ln_d - self.middle[1], np.log(losses)

    def centred(self, theta: FloatArray) -> FloatArray:
        return self._shifted(theta, -1.0)

    def plain(self, theta: FloatArray) -> FloatArray:
        return self._shifted(theta, 1.0)

    def _shifted(self, theta: FloatArray, sign: float) -> FloatArray:
        """Columns a, b, e, alpha, beta; a and b moved between the data's middle and N = D = 1."""
        moved = theta.copy()
        moved[:, 0] += sign * theta[:, 3] * self.middle[0]
        moved[:, 1] += sign * theta[:, 4] * self.middle[1]
        return moved

    def model(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """ln L (R, n), and the shares of the first two terms in L."""
        first = theta[:, [0]] - theta[:, [3]] * self.n
        second = theta[:, [1]] - theta[:, [4]] * self.d
        top = np.maximum(np.maximum(first, second), theta[:, [2]])
        p, q = np.exp(first - top), np.exp(second - top)
        total = p + q + np.exp(theta[:, [2]] - top)
        return top + np.log(total), p / total, q / total


def _fit_all(
    data: _Data,
    theta: FloatArray,
    weight: FloatArray,
    huber_delta: float,
    *,
    tolerance: float = 1e-11,
    rounds: int = 400,
) -> tuple[FloatArray, FloatArray]:
    """All fits, a chunk at a time, the Huber threshold coming down in steps."""
    theta = theta.copy()
    objective = np.empty(len(theta))
    for first in range(0, len(theta), _CHUNK):
        rows = slice(first, first + _CHUNK)
        w = weight[rows] if len(weight) > 1 else np.tile(weight, (len(theta[rows]), 1))
        for factor in _CONTINUATION:
            last = factor == _CONTINUATION[-1]
            theta[rows], objective[rows] = _descend(
                data,
                theta[rows],
                w,
                huber_delta * factor,
                tolerance=tolerance if last else 1e-4,
                rounds=rounds if last else 60,
            )
    return theta, objective


def _descend(
    data: _Data,
    theta: FloatArray,
    weight: FloatArray,
    delta: float,
    *,
    tolerance: float,
    rounds: int,
) -> tuple[FloatArray, FloatArray]:
    """Levenberg-Marquardt on reweighted squares; rows that have converged are left out.

    Huber's loss weighs a residual by min(1, delta / |r|) (Holland & Welsch 1977).
    """
    theta, active = theta.copy(), np.arange(len(theta))
    damping = np.full(len(theta), 1e-3)
    fitted, p, q = data.model(theta)
    value = _huber(data.y - fitted, weight, delta)
    quiet = np.zeros(len(theta), dtype=int)
    for _ in range(rounds):
        at, w = theta[active], weight[active]
        r = data.y - fitted[active]
        pa, qa = p[active], q[active]
        jac = np.stack([pa, qa, 1 - pa - qa, -pa * data.n, -qa * data.d], axis=1)  # (R, 5, n)
        irls = w * np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))
        weighted = jac * irls[:, None, :]
        normal = weighted @ jac.transpose(0, 2, 1)
        right = (weighted @ r[:, :, None])[..., 0]
        diagonal = np.einsum("rpp->rp", normal)
        normal[:, range(5), range(5)] += damping[active, None] * diagonal + 1e-12
        trial = at + np.linalg.solve(normal, right[..., None])[..., 0]
        new_fitted, new_p, new_q = data.model(trial)
        new_value = _huber(data.y - new_fitted, w, delta)
        better = new_value < value[active]
        gain = np.where(better, value[active] - new_value, 0.0) / np.maximum(value[active], 1e-300)
        moved = active[better]
        theta[moved], value[moved] = trial[better], new_value[better]
        fitted[moved], p[moved], q[moved] = new_fitted[better], new_p[better], new_q[better]
        damping[active] = np.clip(damping[active] * np.where(better, 0.2, 6.0), 1e-12, 1e12)
        quiet[active] = np.where(better & (gain >= tolerance), 0, quiet[active] + better)
        active = active[(quiet[active] < 2) & (damping[active] < 1e9)]
        if active.size == 0:
            break
    return theta, value


def _huber(residual: FloatArray, weight: FloatArray, delta: float) -> FloatArray:
    size = np.abs(residual)
    loss = np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))
    return np.asarray((weight * loss).sum(axis=1))
