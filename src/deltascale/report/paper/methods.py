"""How the study was done: what was asked of which models on what, and how it was estimated.

Only methods that a result of this study names are described.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deltascale import protocols
from deltascale.analysis import Results
from deltascale.analysis.results import ALL_DATASETS
from deltascale.errors import Stop
from deltascale.records import DatasetSpec, ModelSpec
from deltascale.report.latex import Sheet
from deltascale.report.paper.document import (
    Block,
    Cite,
    Code,
    Entries,
    Formula,
    Paragraph,
    Quote,
    Ref,
    Section,
    Sentence,
    Table,
    sentences,
)
from deltascale.report.paper.record import Record
from deltascale.report.wording import short

__all__ = ["introduction", "methodology"]

_SOURCES = {
    "critique": "madaan2023selfrefine",
    "vote": "wang2023selfconsistency",
    "oracle": "huang2024cannot",
    "tests": "chen2024selfdebug",
}
_BENCHMARKS = {
    "gsm8k-platinum": "vendrow2025reliable",
    "gsm8k": "cobbe2021gsm8k",
    "humaneval": "chen2021humaneval",
    "superglue": "wang2019superglue",
    "mathbench": "liu2024mathbench",
    "toolqa": "zhuang2023toolqa",
}
_REGIMES = {
    "nothing": "it is told nothing about whether an answer is right",
    "tests": "it is shown what the question's own examples give",
    "model": "it is shown another model's words",
    "verdict": "it is told whether its answer is right, so it is an upper bound and no method",
}


def introduction() -> Section:
    """What is known and what is asked, from the literature alone."""
    said: tuple[Sentence, ...] = (
        ("Feedback from a model to itself has been reported to improve its answers",
         Cite(("madaan2023selfrefine",)), ", and to leave them unimproved or worse once nothing "
         "outside the model says whether an answer is right", Cite(("huang2024cannot",)), "."),
        ("Asking again is not free, and a majority among independent answers",
         Cite(("wang2023selfconsistency",)), " is what the same money buys without correction."),
        ("How loss depends on the size of a model has been studied widely",
         Cite(("kaplan2020scaling", "hoffmann2022training")), ", and how easily such fits are "
         "misread has been shown too", Cite(("besiroglu2024chinchilla",)), "."),
        ("We measure, on the same items and with every call on record, how much correction "
         "changes accuracy, whether that depends on size, and what it costs; and we say no more "
         "than the intervals allow.",),
    )  # fmt: skip
    return Section("Introduction", (Paragraph(said),))


def methodology(results: Results, record: Record, tables: dict[str, Sheet]) -> Section:
    """The study's design and its statistics."""
    blocks: list[Block] = [
        Paragraph(_design(results), "Design."),
        *_protocols(results, record),
        Paragraph(_models(results, record), "Models."),
    ]
    if "models" in tables:
        blocks.append(Table(tables["models"]))
    served = _served(record, results.study.models)
    if served:
        blocks.append(Entries(served))
    blocks += [
        Paragraph(sentences(("Items are the same for every model and protocol.",)), "Datasets."),
        Entries(tuple(_dataset(spec, record) for spec in results.study.datasets)),
        Paragraph(tuple(_statistics(results)), "Statistics."),
    ]
    if results.scaling:
        blocks.append(Paragraph(tuple(_fitting(results)), "Size."))
    return Section("Methodology", tuple(blocks))


def _design(results: Results) -> tuple[Sentence, ...]:
    study = results.study
    temperatures = " and at ".join(f"{t:g}" for t in study.temperatures)
    more = f"{study.turns - 1} more turns follow"
    return sentences(
        (
            "A sample is one conversation about one item; its turn 0 is the first answer, and "
            f"{'one more turn follows' if study.turns == 2 else more}. Delta is ",
            Formula("delta"),
            ", over the samples whose answers at both are known.",
        ),
        f"Every item was asked {'once' if study.epochs == 1 else f'{study.epochs} times'} at "
        f"temperature {temperatures}, with at most {study.max_tokens:,} tokens a reply, the same "
        "in every turn and arm.",
        "Protocols share the first answer, so they are compared on the same ones.",
        "A reply that was cut, refused, filtered or holds no answer counts as wrong and is counted "
        "beside the accuracy; a call that failed leaves its sample missing, and never counts as "
        "an answer.",
        f"The system prompt was: {study.system}" if study.system else None,
    )


def _protocols(results: Results, record: Record) -> Iterator[Block]:
    entries = []
    for name in results.study.protocols:
        shown = name.rpartition(":")[2]
        kept = record.protocols.get(name)
        said: list[Sentence] = []
        summary = _summary(name)
        if summary:
            cite = (Cite((_SOURCES[name],)),) if name in _SOURCES else ()
            said.append((f"{summary[0].upper()}{summary[1:]}", *cite, "."))
        if kept is not None and kept.regime in _REGIMES:
            said.append((f"Between turns {_REGIMES[kept.regime]}.",))
        entries.append((shown, tuple(said)))
    yield Paragraph(
        sentences("The protocols say how a conversation goes on after the first answer."),
        "Protocols.",
    )
    yield Entries(tuple(entries))
    for name in results.study.protocols:
        kept = record.protocols.get(name)
        for label, text in (kept.prompts if kept else {}).items():
            shown = name.rpartition(":")[2]
            yield Quote(f"{shown}, prompt “{label}”" if label != shown else f"{shown}", text)


def _summary(name: str) -> str:
    try:
        return protocols.find(name).summary
    except Stop:
        return ""  # a plugin that is not installed where the paper is written


def _models(results: Results, record: Record) -> tuple[Sentence, ...]:
    models = results.study.models
    sources = [model.size.source for model in models]
    n_known = sum(source in ("published", "simulated") for source in sources)
    return sentences(
        ("Sizes and prices of the models are in table ", Ref("tab", "models"), "."),
        "All models are simulated: their behaviour was invented, so that the method can be seen "
        "to work, and nothing here says anything about a real model."
        if all(model.provider == "simulated" for model in models)
        else None,
        None
        if n_known == len(models)
        else f"The size of {n_known} of {len(models)} models is published; "
        + (
            "sizes that are estimated enter fits as intervals."
            if results.settings.estimated_sizes
            else "the others are left out of every fit."
        ),
        *(_citation(model) for model in models if model.size.citation),
    )  # fmt: skip


def _citation(model: ModelSpec) -> Sentence | None:
    if model.size.source == "simulated":
        return None
    return (f"The size of {short(model.id)} ({model.size.source}): {model.size.citation}.",)


def _served(
    record: Record, models: Sequence[ModelSpec]
) -> tuple[tuple[str, tuple[Sentence, ...]], ...]:
    """The versions that servers said they answered with, by model, in the study's order."""
    by_model: dict[str, list[Sentence]] = {one.id: [] for one in models}
    for one in record.served:
        days = ""
        if one.first and one.last:
            first, last = one.first[:10], one.last[:10]
            days = f" on {first}" if first == last else f" from {first} to {last}"
        version = one.version or "a version that was not named"
        by_model.setdefault(one.model, []).append(("Served by ", Code(version), f"{days}."))
    return tuple((model, tuple(said)) for model, said in by_model.items() if said)


def _dataset(spec: DatasetSpec, record: Record) -> tuple[str, tuple[Sentence, ...]]:
    kept = record.datasets.get(spec.name)
    key = next((key for name, key in _BENCHMARKS.items() if spec.name.startswith(name)), "")
    own = bool(spec.file)
    if kept is None:
        return spec.name, ()
    cite = (Cite((key,)),) if key and not own else ()
    return spec.name, sentences(
        (f"{len(kept.ids)} items", *cite, ", scored by ", Code(kept.scorer),
         f" (version {kept.scorer_version})."),
        f"A file of the authors' own: {Path(spec.file).name}." if own else None,
        f"Licence: {kept.licence}." if kept.licence else None,
    )  # fmt: skip


# --- statistics ----------------------------------------------------------------------------------


def _statistics(results: Results) -> Iterator[Sentence]:
    level = f"{100 * results.settings.level:g} %"
    methods = {one.delta.method for one in results.cells}
    tests = {one.p_method for one in results.cells if one.p_value is not None}
    yield (
        f"Intervals are at {level} and of cells; they are about items like these, asked of these "
        "models, unless they are said to be about such models.",
    )
    if "Tango" in methods:
        yield ("The interval of a delta is Tango's score interval for paired proportions",
               Cite(("tango1998",)), ", which has a width even where nothing flips.")  # fmt: skip
    if "CR1 t" in methods:
        yield ("Where items share a passage or are asked several times, the interval is from "
               "cluster-robust standard errors with t quantiles", Cite(("miller2024error",)),
               ".")  # fmt: skip
    if "deff-Tango" in methods:
        yield ("With few clusters or flips, Tango's interval is computed from counts divided by "
               "the design effect", Cite(("rao1992",)), ".")  # fmt: skip
    if any(one.newcombe.method for one in results.cells):
        yield ("Newcombe's interval", Cite(("newcombe1998",)), " and a percentile bootstrap over "
               "clusters", Cite(("efron1993",)), " stand beside it, and cells in which they "
               "disagree are named.")  # fmt: skip
    if any(f.dataset == ALL_DATASETS for f in results.contrasts):
        yield ("Over several datasets, delta is the mean in which each weighs the same; a model's "
               "interval adds the datasets' cluster-robust variances, with Satterthwaite's degrees "
               "of freedom", Cite(("satterthwaite1946",)), ".")  # fmt: skip
    yield from _tests(results, tests)
    if any(one.equivalence.low is not None for one in results.cells):
        margin = f"±{100 * results.settings.margin:g} percentage points"
        yield ("No effect is claimed only by two one-sided tests", Cite(("schuirmann1987",)),
               f" against a margin of {margin}.")  # fmt: skip
    if any(one.n_missing for one in results.cells):
        yield ("Where answers are missing, bounds over every value they may have had are given",
               Cite(("manski1990",)), ".")  # fmt: skip
    if any(f.estimate.method.startswith("Wilson") for f in results.flips):
        yield ("Rates have Wilson's interval", Cite(("wilson1927",)), ".")
    if any("bootstrap" in f.estimate.method for f in results.flips):
        yield (
            "Functions of several means have percentile intervals of a joint bootstrap that draws "
            f"the same items for every cell, {results.settings.replicates:,} replicates, seed "
            f"{results.settings.seed}.",
        )
    if any(f.quantity == "gain_per_dollar" for f in results.costs):
        yield ("Ratios of a gain to its cost have Fieller's set", Cite(("fieller1954",)),
               ", which may have no end.")  # fmt: skip


def _tests(results: Results, tests: set[str]) -> Iterator[Sentence]:
    if any("McNemar" in name for name in tests):
        yield ("A delta is tested by McNemar's test", Cite(("mcnemar1947",)), " in its mid-p form",
               Cite(("fagerland2013",)), ".")  # fmt: skip
    if any("sign-flip" in name for name in tests):
        yield ("Where samples are not independent, it is tested by flipping the signs of whole "
               "clusters.",)  # fmt: skip
    family = max((one.family_size for one in results.cells), default=0)
    if family:
        declared = results.study.confirmatory
        which = (
            f"of {', '.join(declared)}, declared before the run," if declared else "that are tested"
        )
        yield (f"P-values of the {family} cells {which} are adjusted together by Holm's "
               "procedure", Cite(("holm1979",)), "; those of exploratory comparisons by that of "
               "Benjamini and Hochberg", Cite(("benjamini1995",)), ".")  # fmt: skip


def _fitting(results: Results) -> Iterator[Sentence]:
    fitted = [fit for fit in results.scaling if fit.form != "none"]
    if not fitted:
        yield ("Forms of delta against size need at least four models of known size; nothing was "
               "fitted.",)  # fmt: skip
        return
    forms = {fit.form for fit in fitted}
    families = [name for name in ("constant", "loglinear", "power", "saturating", "quadratic",
                                  "power_floor") if name in forms]  # fmt: skip
    words = ", ".join(
        {"loglinear": "log-linear", "power_floor": "power with a floor"}.get(name, name)
        for name in families
    )
    yield (f"Delta is fitted against the logarithm of size in these forms: {words}; it is never "
           "logged, and no model is dropped for the sign of its delta.",)  # fmt: skip
    yield ("Fits are by generalised least squares with the covariance of the deltas, which share "
           "items, and a variance between models after Paule and Mandel", Cite(("paule1982",)),
           "; shapes are profiled by variable projection", Cite(("golub1973",)), ".")  # fmt: skip
    yield ("Forms are compared by the corrected Akaike criterion", Cite(("hurvich1989",)),
           ", by foretelling each model from the others, and by how often a bootstrap of models "
           "and items chooses them.")  # fmt: skip
    if "two_rate" in forms:
        yield ("Beside them stands a model of the rates that make up delta: ", Formula("identity"),
               ", with CL the share of right answers that stay right and CS that of wrong ones "
               "that are fixed", Cite(("kumar2024score",)), ", each a logistic line in the "
               "logarithm of size.")  # fmt: skip
    yield ("What is said of size climbs a ladder: the sign of delta in cells, a trend over these "
           "models, a functional form for such models, extrapolation; no rung is claimed without "
           "its evidence.",)  # fmt: skip
