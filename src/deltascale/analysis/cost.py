"""Is the gain worth its price: per cell, among all ways to get an answer, and by size.

Costs are as deployed, per item: what the conversation costs with every call paid for. The first
answer is apart from its correction. What was really paid is less, because protocols share calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm
from deltascale.analysis.joint import Joint
from deltascale.analysis.results import (
    ALL_DATASETS,
    E1,
    E2,
    Finding,
    FrontierPoint,
    Settings,
    estimate,
    from_region,
)
from deltascale.analysis.scaling import Scaled
from deltascale.carbon import footprint
from deltascale.ledger import Spent
from deltascale.records import Study
from deltascale.stats.clustered import bonett_price_floor, clustered_mean, mean_covariance
from deltascale.stats.cost import (
    acceptability,
    break_even_sizes,
    cost_curve,
    gain_per_dollar,
    net_benefit,
    pareto_membership,
)
from deltascale.stats.regions import fieller

__all__ = ["FIRST_ANSWER", "costs", "frontier", "paid", "thresholds"]

Floats = NDArray[np.float64]

FIRST_ANSWER = "first answer"
_SIZES = 101


def costs(found: Sequence[Arm], joint: Joint) -> Iterator[Finding]:
    """Cost of the first answer and of its correction, net benefit, gain per dollar and inverse."""
    settings = joint.settings
    for arm in found:
        if arm.known.sum() < 2:
            continue
        first, extra = arm.cost_usd(0, 0), arm.cost_usd(1, arm.frame.n_turns - 1)
        yield _mean_cost(arm, "cost_first", "of the first answer", first, settings)
        yield _mean_cost(arm, "cost_extra", "of its correction", extra, settings)
        yield from _carbon(arm, settings)
        if arm.gate or arm.cell.protocol == "resample":
            continue
        yield from _net_benefits(arm, extra, joint)
        yield from _ratios(arm, extra, settings)


def _carbon(arm: Arm, settings: Settings) -> Iterator[Finding]:
    """Energy and emissions of the cell's conversations, as deployed."""
    frame, c = arm.frame, arm.c
    used = footprint(
        arm.model,
        output_tokens=int(frame.output_tokens_CIET[c].sum()),
        n_calls=int(frame.n_calls_CIET[c].sum()),
        zone=settings.zone,
    )
    yield Finding("energy", used.energy, *_about(arm))
    yield Finding("emissions", used.emissions, *_about(arm))


def paid(spent: Spent, found: Sequence[Arm], study: Study) -> Iterator[Finding]:
    """The study's money and each model's: what was paid, what the same conversations cost as
    deployed, and the share that sharing calls saved. The study's rows are first.

    Not by cell: protocols share first answers, and more, so what was paid for such a call belongs
    to several cells, and any split among them would be invented. Models share no call, but for
    those that ask one server for one name, and the ledger adds money up by that name: what each of
    them paid is then not told. What was paid holds failures and conversations that were never
    finished, which no cell as deployed does, so the share may be below zero.
    """
    yield from _money("", spent, found, "")
    for model in study.models if spent.by_name else ():
        own = [arm for arm in found if arm.cell.model == model.id]
        of_name = spent.by_name.get(model.name, Spent(0, 0, 0, 0))
        shared = [m.id for m in study.models if m.name == model.name and m.id != model.id]
        untold = (
            f"{', '.join(shared)} asked for the same name, {model.name}: together they paid "
            f"{of_name.spent_nusd / 1e9:.6f} dollars, which the ledger does not add up apart"
        )
        yield from _money(model.id, of_name, own, untold if shared else "")


def _money(model: str, spent: Spent, found: Sequence[Arm], untold: str) -> Iterator[Finding]:
    """Of one model, or of the study where it is empty. `untold`: why what it paid is not known."""
    whose = " of the model" if model else ""
    usd = math.nan if untold else spent.spent_nusd / 1e9
    deployed = sum(int(arm.frame.cost_nusd_CIET[arm.c].sum()) for arm in found) / 1e9
    n = sum(int(arm.planned_S.sum()) for arm in found)
    doubt = f"{spent.uncertain_nusd / 1e9:.6f} of it set aside for calls of unknown fate"
    yield Finding(
        "paid",
        estimate(
            f"dollars paid for every call{whose} on record, failures included",
            usd,
            n=0 if untold else spent.n_calls,
            unit="USD",
            method="settled with the providers' own counts",
            note=untold or doubt,
        ),
        model,
    )
    yield Finding(
        "as_deployed",
        estimate(
            f"dollars{whose} if no call had been shared between cells",
            deployed,
            n=n,
            unit="USD",
            method="sum over turns",
        ),
        model,
    )
    yield Finding(
        "saved_by_sharing",
        estimate(
            f"share{whose} of the cost as deployed that was not paid",
            1 - usd / deployed if deployed else math.nan,
            n=n,
            method="1 - paid / as deployed",
            note=untold or ("" if deployed else "as deployed it costs nothing"),
        ),
        model,
    )


def _about(arm: Arm) -> tuple[str, str, str, float]:
    cell = arm.cell
    return cell.model, cell.dataset, cell.protocol, cell.temperature


def _mean_cost(arm: Arm, quantity: str, words: str, usd: Floats, settings: Settings) -> Finding:
    mean = clustered_mean(usd, arm.cluster_S, level=settings.level)
    found = estimate(
        f"{E1}: cost {words} per item, as deployed",
        mean.estimate,
        mean.interval,
        n=mean.n,
        n_missing=arm.n_missing,
        method="CR1 t",
        unit="USD per item",
        level=settings.level,
    )
    return Finding(quantity, found, *_about(arm))


def _net_benefits(arm: Arm, extra: Floats, joint: Joint) -> Iterator[Finding]:
    settings = joint.settings
    worth = settings.usd_per_corrected
    accepted = acceptability(
        joint.delta(arm), joint.draws(arm, "cost_extra"), usd_per_corrected_L=worth
    )
    for usd, share in zip(worth, accepted, strict=True):
        mean = net_benefit(
            arm.d, extra, usd_per_corrected=usd, cluster_I=arm.cluster_S, level=settings.level
        )
        found = estimate(
            f"{E1}: net benefit per item where one more right answer is worth ${usd:g}",
            mean.estimate,
            mean.interval,
            n=mean.n,
            n_missing=arm.n_missing,
            method="CR1 t",
            unit="USD per item",
            level=settings.level,
            note=f"P(worth it) = {share:.3f}",
        )
        yield Finding(f"net_benefit_at_{usd:g}", found, *_about(arm))
        found = estimate(
            f"{E1}: share of replicates in which it pays at ${usd:g} a right answer",
            float(share),
            n=mean.n,
            n_missing=arm.n_missing,
            method=joint.method,
        )
        yield Finding(f"acceptability_at_{usd:g}", found, *_about(arm))


def _ratios(arm: Arm, extra: Floats, settings: Settings) -> Iterator[Finding]:
    """Accuracy won per dollar, and its inverse; each as a set, since a denominator may be zero."""
    n = int(arm.known.sum())
    mean = float(np.nanmean(extra))
    if mean == 0:
        note = "the correction costs nothing"
        undefined = estimate(
            f"{E1}: delta per dollar", math.nan, n=n, n_missing=arm.n_missing, unit="per USD",
            level=settings.level, note=note,
        )  # fmt: skip
        yield Finding("gain_per_dollar", undefined, *_about(arm))
        return
    clusters = arm.cluster_S
    if arm.n_clusters < 2:
        return
    gain = gain_per_dollar(arm.d, extra, cluster_I=clusters, level=settings.level)
    dominated = "dominated: it costs and gains nothing" if gain.dominated else ""
    endless = "" if gain.fieller.bounded else "unbounded: the cost may be zero"
    yield Finding(
        "gain_per_dollar",
        from_region(
            f"{E1}: delta per dollar",
            math.nan if gain.dominated else gain.fieller.ratio,
            gain.fieller.region,
            n=n,
            n_missing=arm.n_missing,
            method="Fieller, t",
            unit="per USD",
            level=settings.level,
            note="; ".join(text for text in (dominated, endless) if text),
        ),
        *_about(arm),
    )
    both = np.stack([extra, arm.d])
    both[:, np.isnan(both).any(axis=0)] = np.nan
    cov = mean_covariance(both, clusters)
    price = fieller(
        mean,
        gain.delta,
        var_numerator=float(cov[0, 0]),
        var_denominator=float(cov[1, 1]) or bonett_price_floor(arm.n_clusters),
        covariance=float(cov[0, 1]),
        df=arm.n_clusters - 1,
        level=settings.level,
    )
    unbounded = "" if price.bounded else "unbounded: delta may be zero"
    yield Finding(
        "usd_per_right_answer",
        from_region(
            f"{E1}: dollars for one more right answer",
            math.nan if gain.dominated else price.ratio,
            price.region,
            n=n,
            n_missing=arm.n_missing,
            method="Fieller, t",
            unit="USD",
            level=settings.level,
            note="; ".join(text for text in (dominated, unbounded) if text),
        ),
        *_about(arm),
    )


# --- every way to get an answer ------------------------------------------------------------------


def frontier(found: Sequence[Arm], joint: Joint) -> Iterator[FrontierPoint]:
    """Cost and accuracy of every model with and without every protocol, on each dataset and on
    all; how often each is undominated. Gated cells and the resampling null are no choices."""
    choices: dict[str, dict[tuple[str, str, float], Arm]] = {}
    for arm in found:
        if arm.gate or not arm.known.any():
            continue
        own = choices.setdefault(arm.cell.dataset, {})
        own.setdefault((arm.cell.model, FIRST_ANSWER, arm.cell.temperature), arm)
        if arm.cell.protocol != "resample":
            own[arm.cell.model, arm.cell.protocol, arm.cell.temperature] = arm
    for dataset, own in choices.items():
        yield from _points(dataset, {name: [arm] for name, arm in own.items()}, joint)
    if len(choices) > 1:
        shared = set.intersection(*(set(own) for own in choices.values()))
        first = next(iter(choices.values()))
        every = {name: [own[name] for own in choices.values()] for name in first if name in shared}
        if every:
            yield from _points(ALL_DATASETS, every, joint)


def _points(
    dataset: str, choices: dict[tuple[str, str, float], list[Arm]], joint: Joint
) -> Iterator[FrontierPoint]:
    cost_BP, accuracy_BP, values = [], [], []
    for (_, protocol, _), members in choices.items():
        only_first = protocol == FIRST_ANSWER
        cost_B = joint.macro(members, "cost_first")
        if not only_first:
            cost_B = cost_B + joint.macro(members, "cost_extra")
        cost_BP.append(cost_B)
        accuracy_BP.append(joint.macro(members, "first" if only_first else "last"))
        last = 0 if only_first else members[0].frame.n_turns - 1
        cost = float(np.mean([np.nanmean(arm.cost_usd(0, last)) for arm in members]))
        scores = [(arm.first if only_first else arm.last)[arm.known].mean() for arm in members]
        values.append((cost, float(np.mean(scores))))
    share = pareto_membership(np.stack(cost_BP, axis=1), np.stack(accuracy_BP, axis=1))
    for p, ((model, protocol, temperature), members) in enumerate(choices.items()):
        n, missing = sum(int(a.known.sum()) for a in members), sum(a.n_missing for a in members)
        cost, accuracy = values[p]
        yield FrontierPoint(
            dataset,
            model,
            protocol,
            temperature,
            joint.estimate(
                f"{E1}: cost per item, as deployed", cost, cost_BP[p],
                n=n, n_missing=missing, unit="USD per item",
            ),
            joint.estimate(f"{E1}: accuracy", accuracy, accuracy_BP[p], n=n, n_missing=missing),
            estimate(
                f"{E1}: share of replicates in which no other choice is cheaper and as accurate",
                float(share[p]), n=n, n_missing=missing, method=joint.method,
            ),
        )  # fmt: skip


# --- by size -------------------------------------------------------------------------------------


def thresholds(scaled: Sequence[Scaled], joint: Joint) -> Iterator[Finding]:
    """The sizes at which correction may as well pay as not, for each worth of a right answer; and
    those at which it helps at all. A set: it may be empty, endless, or in two pieces."""
    for one in scaled:
        grid = np.geomspace(one.panel.size_M.min(), one.panel.size_M.max(), _SIZES)
        delta_BK = None if one.drawn is None else one.drawn.predict_chosen(grid)
        price = None if delta_BK is None else _price(one, joint, grid)
        for usd in (math.inf, *joint.settings.usd_per_corrected):
            yield _threshold(one, usd, joint, grid, delta_BK, price)


def _price(one: Scaled, joint: Joint, grid: Floats) -> tuple[Floats, Floats] | None:
    """Mean cost of correction at the grid's sizes (K,), and its replicates (B, K); None where some
    correction costs nothing."""
    cost_BM = np.mean(
        [
            np.stack([joint.draws(arm, "cost_extra") for arm in own], axis=1)
            for own in one.panel.members.values()
        ],
        axis=0,
    )
    mean_M, size = np.nanmean(cost_BM, axis=0), one.panel.size_M
    # As with deltas: a replicate without a value keeps the mean.
    cost_BM = np.asarray(np.where(np.isnan(cost_BM), mean_M, cost_BM), dtype=np.float64)
    if not np.all(cost_BM > 0):
        return None
    of_mean = cost_curve(size, mean_M[None, :], size_K=grid)[0]
    return of_mean, cost_curve(size, cost_BM, size_K=grid)


def _threshold(
    one: Scaled,
    usd: float,
    joint: Joint,
    grid: Floats,
    delta_BK: Floats | None,
    price: tuple[Floats, Floats] | None,
) -> Finding:
    words = "helps" if math.isinf(usd) else f"pays at ${usd:g} a right answer"
    quantity = "break_even_size" if math.isinf(usd) else f"break_even_size_at_{usd:g}"
    estimand = f"{E2}: size from which correction {words}"
    n = len(one.panel.models)
    if one.comparison is None or delta_BK is None:
        why = one.refused or "fewer than six models: no bootstrap of models"
        refused = estimate(
            estimand, math.nan, n=n, n_missing=one.panel.n_missing, unit="parameters", note=why
        )
        return Finding(quantity, refused, "", one.panel.of, one.protocol, one.temperature)
    net_K, net_BK = one.comparison.best.fit.predict(grid), delta_BK
    note = ""
    if not math.isinf(usd) and price is not None:
        net_K, net_BK = net_K - price[0] / usd, net_BK - price[1] / usd
    elif not math.isinf(usd):
        note = "some correction costs nothing: the price is left out"
    found = break_even_sizes(grid, net_K, net_BK, level=joint.settings.level)
    verdict = found.verdict.replace("_", " ")
    between = f"{verdict} between the smallest and the largest model"
    crossings = ", ".join(f"{x:.3g}" for x in found.crossing)
    open_end = "no lower end: the smallest model is in it" if found.region.covers(0.0) else ""
    said = (note, between, f"crosses at {crossings}" * bool(crossings), open_end)
    note = "; ".join(text for text in said if text)
    return Finding(
        quantity,
        from_region(
            estimand,
            found.crossing[0] if len(found.crossing) == 1 else math.nan,
            found.region,
            n=n,
            n_missing=one.panel.n_missing,
            method=f"band of {joint.settings.replicates} bootstrap replicates of items and models, "
            "each with its own form, inverted",
            unit="parameters",
            level=joint.settings.level,
            note=note,
        ),
        "",
        one.panel.of,
        one.protocol,
        one.temperature,
    )
