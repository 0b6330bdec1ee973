"""Every reference vector, within the tolerance it states."""

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltascale import stats

VECTORS = Path(__file__).resolve().parents[1] / ".." / "shared" / "vectors.json"
CHINCHILLA = "DELTASCALE_CHINCHILLA_CSV"
OBS_SCALING = "DELTASCALE_OBS_SCALING_DIR"

Vector = dict[str, Any]


def _load() -> list[Vector]:
    return json.loads(VECTORS.read_text())["vectors"] if VECTORS.exists() else []


def _close(found: float, wanted: float, tolerance: float) -> None:
    assert found == pytest.approx(wanted, abs=max(tolerance, 1e-12), rel=0)


def _n(table: dict[str, Any]) -> int:
    return sum(table[key] for key in ("n11", "n01", "n10", "n00"))


def _interval(found: stats.Interval, vector: Vector) -> None:
    _close(found.low, vector["expected"]["lower"], vector["tolerance"])
    _close(found.high, vector["expected"]["upper"], vector["tolerance"])


# --- one table -----------------------------------------------------------------------------------


def tango_ci(v: Vector) -> None:
    i = v["input"]
    _interval(stats.tango_interval(i["n01"], i["n10"], _n(i), level=i["level"]), v)
    _close(stats.delta(i["n01"], i["n10"], _n(i)), v["expected"]["delta"], 1e-12)


def tango_z(v: Vector) -> None:
    i = v["input"]
    z = stats.tango_statistic(i["n01"], i["n10"], i["n"], theta=i["theta0"])
    _close(abs(z), v["expected"]["z"], v["tolerance"])


def newcombe10_ci(v: Vector) -> None:
    i = v["input"]
    found = stats.newcombe10_interval(
        i["n01"], i["n10"], _n(i), stayed_right=i["n11"], level=i["level"]
    )
    _interval(found, v)
    for limit, printed in zip(found, v["note"]["published_m10"], strict=True):
        _close(limit, printed, v["note"]["published_tolerance"] * 1.0001)


def wilson_ci(v: Vector) -> None:
    i = v["input"]
    _interval(stats.wilson_interval(i["x"], i["n"], level=i["level"]), v)


def clopper_pearson_ci(v: Vector) -> None:
    i = v["input"]
    _interval(stats.clopper_pearson_interval(i["x"], i["n"], level=i["level"]), v)


def mcnemar(v: Vector) -> None:
    fixed, broken, want = v["input"]["n01"], v["input"]["n10"], v["expected"]
    _close(stats.mcnemar_exact(fixed, broken), want["exact"], v["tolerance"])
    _close(stats.mcnemar_midp(fixed, broken), want["midp"], v["tolerance"])
    for continuity, suffix in ((False, ""), (True, "_cc")):
        found = stats.mcnemar_chi2(fixed, broken, continuity=continuity)
        _close(found.statistic, want["chi2" + suffix], v["tolerance"])
        _close(found.p_value, want["p" + suffix], v["tolerance"])


def worst_case_bounds(v: Vector) -> None:
    i, seen = v["input"], v["input"]["observed"]
    found = stats.manski_bounds(
        seen["n01"],
        seen["n10"],
        _n(seen),
        lost_right=i["missing_final_initial_right"],
        lost_wrong=i["missing_final_initial_wrong"],
        lost_both=i["missing_both"],
    )
    _close(found.complete_case, v["expected"]["delta_complete_case"], v["tolerance"])
    _close(found.low, v["expected"]["delta_lower"], v["tolerance"])
    _close(found.high, v["expected"]["delta_upper"], v["tolerance"])


def flip_decomposition(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    flips = stats.Flips(
        stayed_right=i["acc0"] - i["right_to_wrong"],
        fixed=i["wrong_to_right"],
        broken=i["right_to_wrong"],
        stayed_wrong=1 - i["acc0"] - i["wrong_to_right"],
    )
    found = {
        "delta": flips.delta,
        "p_stay_right": flips.stay_right,
        "p_fix_wrong": flips.fix_wrong,
        "net_check": flips.acc_last,
        "normalised_gain": flips.gain_over_headroom,
        "normalised_signed": flips.normalised_gain,
        "ecr_over_eir": stats.break_even(flips).ratio,
        "odds_acc": stats.break_even(flips).threshold,
        "rss": flips.relative_self_correction,
    }
    assert found.keys() == want.keys()
    for key, value in want.items():
        _close(found[key], value, v["tolerance"])


# --- several observations ------------------------------------------------------------------------


def clustered_se(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    d = np.subtract(i["y1"], i["y0"])
    found = stats.clustered_mean(d, i["cluster"])
    _close(found.estimate, want["delta"], v["tolerance"])
    _close(found.se_iid, want["se_iid_ddof1"], v["tolerance"])
    _close(found.se_cr0, want["se_cr0"], v["tolerance"])
    _close(found.se_cr1, want["se_cr1_G_over_Gm1"], v["tolerance"])
    _close(found.se_cr1, want["se_statsmodels_default"], v["tolerance"])
    _close(found.se_miller, want["se_miller2024"], v["tolerance"])
    _close(found.deff, want["deff"], v["tolerance"])
    assert found.clusters - 1 == want["t_df"]
    for limit, value in zip(found.interval, want["ci_cr1_t"], strict=True):
        _close(limit, value, v["tolerance"])


def epochs_se(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    found = stats.epoch_components(np.subtract(i["y1"], i["y0"]))
    _close(found.delta, want["delta"], v["tolerance"])
    _close(found.se, want["se"], v["tolerance"])
    _close(found.epoch_variance, want["within_item_var_mean"], v["tolerance"])
    _close(found.item_variance_raw, want["omega2"], v["tolerance"])


def bootstrap_exact(v: Vector) -> None:
    fixed, broken, n = v["input"]["n01"], v["input"]["n10"], v["input"]["n"]
    d = np.array([1.0] * fixed + [-1.0] * broken + [0.0] * (n - fixed - broken))
    one = stats.stratum(d[:, None])
    replicate = stats.bootstrap_means([one], seed=1, replicates=40_000)[:, 0, 0]
    assert replicate.std() == pytest.approx(v["expected"]["se_boot"], rel=0.02)
    found = stats.percentile_interval(replicate).interval
    _close(found.low, v["expected"]["q025"], 1 / n)
    _close(found.high, v["expected"]["q975"], 1 / n)


def p_adjust(v: Vector) -> None:
    i = v["input"]
    p = np.array([math.nan if x is None else x for x in i["p"]])
    adjust = {"holm": stats.holm, "bh": stats.benjamini_hochberg}[i["method"]]
    found = adjust(p)
    want = [math.nan if x is None else x for x in v["expected"]["adjusted"]]
    np.testing.assert_allclose(found, want, atol=v["tolerance"], rtol=0)
    if "reject" in v["expected"]:
        assert (found <= i["alpha"]).tolist() == v["expected"]["reject"]


def resample_null(v: Vector) -> None:
    found = stats.resample_null(v["input"]["successes"], v["input"]["K"])
    _close(found.fix_wrong, v["expected"]["CS0"], v["tolerance"])
    _close(found.stay_right, v["expected"]["CL0"], v["tolerance"])


def fieller(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    found = stats.fieller(
        i["num"],
        i["den"],
        var_numerator=i["var_num"],
        var_denominator=i["var_den"],
        covariance=i["cov"],
        level=i["level"],
    )
    _close(found.g, want["g"], v["tolerance"])
    assert found.bounded == want.get("bounded", True)
    if found.bounded:
        _close(found.ratio, want["ratio"], v["tolerance"])
        _close(found.region.hull.low, want["lower"], v["tolerance"])
        _close(found.region.hull.high, want["upper"], v["tolerance"])


# --- scaling -------------------------------------------------------------------------------------


def power_law_nls(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    fit = stats.fit_family("power", i["x"], i["y"], np.ones(len(i["x"])), reference=1.0)
    se = np.sqrt(np.diag(fit.covariance) * fit.misfit / fit.df)
    rel = v["tolerance"]
    assert fit.parameter("A") == pytest.approx(want["A"], rel=rel)
    assert fit.parameter("alpha") == pytest.approx(want["alpha"], rel=rel)
    assert fit.misfit == pytest.approx(want["rss"], rel=rel)
    assert se == pytest.approx(want["se"], rel=rel)


def saturating_nls(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    fit = stats.fit_family("saturating", i["x"], i["y"], np.ones(len(i["x"])), reference=1.0)
    rate = math.exp(-fit.parameter("ln_n0"))
    se = np.sqrt(np.diag(fit.covariance) * fit.misfit / fit.df) * [1, rate]
    rel = v["tolerance"]
    assert fit.parameter("c") == pytest.approx(want["b1"], rel=rel)
    assert rate == pytest.approx(want["b2"], rel=rel)
    assert fit.misfit == pytest.approx(want["rss"], rel=rel)
    assert se == pytest.approx(want["se"], rel=rel)


def weighted_power_law(v: Vector) -> None:
    i, want, tol = v["input"], v["expected"], v["tolerance"]
    size, delta, variance = i["N"], i["delta"], np.square(i["se"])
    fit = stats.fit_family("power", size, delta, variance, reference=1.0)
    _close(fit.parameter("A"), want["A"], tol)
    _close(fit.parameter("alpha"), want["alpha"], tol)
    _close(fit.misfit, want["chi2"], tol)
    assert fit.df == want["dof"]
    np.testing.assert_allclose(fit.covariance, want["cov_known_var"], atol=tol, rtol=0)
    rescaled = fit.covariance * fit.misfit / fit.df
    np.testing.assert_allclose(rescaled, want["cov_rescaled"], atol=tol, rtol=0)
    weight = 1 / variance
    _close(stats.r_squared(delta, fit.fitted), want["R2_unweighted"], tol)
    _close(stats.r_squared(delta, fit.fitted, weight_M=weight), want["R2_weighted"], tol)
    names = {"quadratic_logN": "quadratic"}
    for name, chi2 in want["chi2_by_family"].items():
        other = stats.fit_family(names.get(name, name), size, delta, variance)
        _close(other.misfit, chi2, tol)
        _close(stats.aicc(chi2, other.family.k, 7), want["aicc_known_var"][name], tol)
    line = stats.fit_family("loglinear", size, delta, variance)
    curve = stats.fit_family("quadratic", size, delta, variance)
    np.testing.assert_allclose(line.theta, want["loglinear_theta_centered"], atol=tol, rtol=0)
    np.testing.assert_allclose(curve.theta, want["quadratic_theta_centered"], atol=tol, rtol=0)
    ceiling = stats.fit_family("saturating", size, delta, variance, reference=1.0)
    _close(ceiling.parameter("c"), want["saturating"]["c"], tol)
    _close(math.exp(ceiling.parameter("ln_n0")), want["saturating"]["N0"], tol)
    tau2 = stats.between_model_variance(size, delta, variance, family="power").value
    _close(tau2, want["paule_mandel_tau2"], tol)
    sets = {
        "alpha_ci_profile_chi2": stats.exponent(size, delta, variance, estimand="E1"),
        "alpha_ci_birge_profile_F": stats.exponent(size, delta, variance, tau2=0.0),
        "alpha_ci_re_profile_F": stats.exponent(size, delta, variance),
    }
    for name, found in sets.items():
        np.testing.assert_allclose(found.region.hull, want[name], atol=tol, rtol=0)
    _close(sets["alpha_ci_re_profile_F"].alpha, want["alpha_re"], tol)


def paule_mandel(v: Vector) -> None:
    y, variance, want = v["input"]["y"], v["input"]["v"], v["expected"]
    tau2 = stats.paule_mandel(y, variance)
    weight = 1 / (np.array(variance) + tau2)
    _close(tau2, want["tau2_pm"], v["tolerance"])
    _close(stats.dersimonian_laird(y, variance), want["tau2_dl"], v["tolerance"])
    _close(float(weight @ y / weight.sum()), want["mu_pm"], v["tolerance"])


def aicc_gaussian(v: Vector) -> None:
    i, want = v["input"], v["expected"]
    found = stats.aicc_unknown_variance(i["rss"], i["k_mean"], i["n"])
    if want["aicc"] is None:
        assert math.isnan(found)
        return
    _close(found, want["aicc"], v["tolerance"])
    k = i["k_mean"] + 1
    _close(found - 2 * k * (k + 1) / (i["n"] - k - 1), want["aic"], v["tolerance"])


def r2_gate_null(v: Vector) -> None:
    i = v["input"]
    found = stats.r2_gate_null_probability(i["M"], threshold=i["threshold"])
    _close(found, v["expected"]["p"], v["tolerance"])


def design_se_alpha(v: Vector) -> None:
    i = v["input"]
    for key, tau in (("se_tau0", 0.0), ("se_tau", i["tau"])):
        found = stats.exponent_se(
            i["N"], amplitude=i["A"], alpha=i["alpha"], sigma=i["sigma"], tau=tau
        )
        _close(found, v["expected"][key], v["tolerance"])


def paired_sample_size(v: Vector) -> None:
    i = v["input"]
    found = stats.items_needed(i["p01"], i["p10"], alpha=i["alpha"], power=i["power"])
    _close(found, v["expected"]["n"], v["tolerance"])
    assert math.ceil(found) == v["expected"]["n_ceil"]


def mde(v: Vector) -> None:
    i = v["input"]
    found = stats.least_detectable_delta(
        i["n"], i["discordant"], alpha=i["alpha"], power=i["power"]
    )
    _close(found, v["expected"]["mde"], v["tolerance"])


def eval_sample_size(v: Vector) -> None:
    i = v["input"]
    found = stats.items_for_epochs(
        i["delta"],
        item_variance=i["omega2"],
        epoch_variance=i["cond_var_term"],
        alpha=i["alpha"],
        power=i["power"],
    )
    _close(found, v["expected"]["n"], v["tolerance"])


# --- data sets -----------------------------------------------------------------------------------


def _chinchilla() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = os.environ.get(CHINCHILLA)
    if not path:
        pytest.skip("give --chinchilla a CSV with Model Size, Training FLOP and loss")
    with Path(path).open() as file:
        rows = list(csv.DictReader(file))
    size, flop, loss = (
        np.array([float(row[key]) for row in rows])
        for key in ("Model Size", "Training FLOP", "loss")
    )
    kept = loss < np.sort(loss)[-5]
    return size[kept], (flop / (6 * size))[kept], loss[kept]


def chinchilla_fit(v: Vector) -> None:
    want, tol = v["expected"], v["tolerance"]
    found = stats.fit_chinchilla(*_chinchilla(), huber_delta=v["input"]["huber_delta"])
    assert found.objective == pytest.approx(want["objective"], rel=tol["objective_rel"])
    for key in ("alpha", "beta", "E"):
        _close(getattr(found, key), want[key], tol[key])
    assert pytest.approx(want["A"], rel=tol["A_rel"]) == found.A
    assert pytest.approx(want["B"], rel=tol["B_rel"]) == found.B
    assert 0.2 < found.reached < 0.6  # most starts end elsewhere


def chinchilla_bootstrap(v: Vector) -> None:
    n, d, loss = _chinchilla()
    rng = np.random.RandomState(42)  # the draws of the analysis being reproduced
    counts = [np.bincount(rng.choice(n.size, n.size), minlength=n.size) for _ in range(4_000)]
    start = stats.fit_chinchilla(n, d, loss)
    found = stats.bootstrap_chinchilla(n, d, loss, start=start, counts_Rn=counts)
    for key, se in v["expected"].items():
        assert getattr(found, key).std() == pytest.approx(se, rel=v["tolerance"]["rel"])


def integration(v: Vector) -> None:
    if "csv" in v["input"]:
        _obs_scaling(v)
        return
    want = v["expected"]
    first, last, again = [], [], []
    # Rebuilt from the counts, each wrong first answer asked again, as the loop that made them did.
    for was, now, key in ((1, 1, "n11"), (0, 1, "n01"), (1, 0, "n10"), (0, 0, "n00")):
        first += [was] * want[key]
        last += [now] * want[key]
        again += [was == 0] * want[key]
    flips = stats.count_flips(first, last)
    assert (flips.stayed_right, flips.fixed, flips.broken, flips.stayed_wrong) == tuple(
        want[key] for key in ("n11", "n01", "n10", "n00")
    )
    assert flips.n == want["n"]
    assert stats.looks_oracle_gated(first, again) == (want["protocol_class"] == "oracle-gated")
    assert any(flag.startswith("ORACLE_GATED") for flag in want["must_flag"])


def _obs_scaling(v: Vector) -> None:
    folder = os.environ.get(OBS_SCALING)
    if not folder:
        pytest.skip("give --obs-scaling a folder with the two CSV files that the vector names")
    with (Path(folder) / "base_llm_post_training_eval.csv").open() as file:
        gains = {row["Model"]: row for row in csv.DictReader(file)}
    with (Path(folder) / "base_llm_benchmark_eval.csv").open() as file:
        models: dict[str, dict[str, str]] = {}
        for row in csv.DictReader(file):
            models.setdefault(row["Model"], row)
    stem = "gsm8k_cot_self_consistency_8_exact_match,"
    first, vote = (f"{stem}{kind}-flexible-extract" for kind in ("score-first", "maj@5"))
    names = [m for m in gains if m in models and gains[m][first] and gains[m][vote]]
    assert len(names) == v["input"]["n_models"]

    def column(table: dict[str, dict[str, str]], key: str) -> np.ndarray:
        return np.array([float(table[m][key] or "nan") for m in names])

    delta = column(gains, vote) - column(gains, first)
    size, flops = column(models, "Model Size (B)"), column(models, "FLOPs (1E21)")
    known = ~np.isnan(flops)
    greedy = column(gains, "gsm8k_cot_8_exact_match,flexible-extract")
    scored = ~np.isnan(greedy)  # one model has none
    strict = column(gains, f"{stem}score-first")

    def r2(name: str, x: np.ndarray, y: np.ndarray) -> float:
        return float(stats.r_squared(y, stats.fit_family(name, x, y, np.ones(y.size)).fitted))

    found = {
        "nonpositive": int((delta <= 0).sum()),
        "corr_delta_lnN": float(np.corrcoef(delta, np.log(size))[0, 1]),
        "R2_loglinear_lnN": r2("loglinear", size, delta),
        "R2_power_N": r2("power", size, delta),
        "alpha_power": stats.fit_family("power", size, delta, np.ones(delta.size)).theta[1],
        "R2_loglinear_lnFLOPs": r2("loglinear", flops[known], delta[known]),
        # Accuracy enters as it is: the family takes logarithms.
        "R2_quadratic_independent_acc": r2("quadratic", np.exp(greedy[scored]), delta[scored]),
        "strict_vs_flexible_gap_max": float(np.abs(column(gains, first) - strict).max()),
    }
    assert found.keys() == v["expected"].keys()
    for key, value in v["expected"].items():
        _close(found[key], value, v["tolerance"]["abs"])


CHECKS: dict[str, Callable[[Vector], None]] = {
    check.__name__: check
    for check in (
        aicc_gaussian,
        bootstrap_exact,
        chinchilla_bootstrap,
        chinchilla_fit,
        clopper_pearson_ci,
        clustered_se,
        design_se_alpha,
        epochs_se,
        eval_sample_size,
        fieller,
        flip_decomposition,
        integration,
        mcnemar,
        mde,
        newcombe10_ci,
        p_adjust,
        paired_sample_size,
        paule_mandel,
        power_law_nls,
        r2_gate_null,
        resample_null,
        saturating_nls,
        tango_ci,
        tango_z,
        weighted_power_law,
        wilson_ci,
        worst_case_bounds,
    )
}


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(
            v, id=v["id"], marks=[pytest.mark.slow] if v["kind"].startswith("chinchilla") else []
        )
        for v in _load()
    ],
)
@pytest.mark.timeout(300)
def test_vector(vector: Vector) -> None:
    CHECKS[vector["kind"]](vector)


def test_vectors_are_there() -> None:
    if not VECTORS.exists():
        pytest.skip(
            "the reference vectors do not lie beside this checkout (../shared/vectors.json)"
        )
    stated = json.loads(VECTORS.read_text())["n"]
    assert len(_load()) == stated
    assert {v["kind"] for v in _load()} <= CHECKS.keys()
