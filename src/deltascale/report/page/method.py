"""The page's account of the study itself: its health, and every setting that it was had with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from deltascale.analysis import Caveat, CellResult, Results
from deltascale.ledger import Status
from deltascale.records import ModelSpec
from deltascale.report.page.inert import Html, Node, join, tag
from deltascale.report.page.sections import listed, row, section, table
from deltascale.report.wording import dollars, n_of, short, size_text, within

__all__ = ["Locked", "health", "method"]

_WEIGHTS = ("Blocks a headline", "Limits what may be claimed", "Good to know")
_CANARIES = {
    "replies_are_no_answers": "replies that are error messages or one repeated text",
    "one_reply": "one reply for half of the items",
    "below_chance": "first answers right less often than a blind guess",
    "no_answer": "replies without an answer, over a tenth of them",
    "accuracy_step": "a sudden step of accuracy along the items",
    "scorers_disagree": "a second scorer that finds another change",
    "missing_depends_on_first": "answers missing after right or wrong ones alone",
    "oracle_like": "a protocol that behaves as if told the verdict",
    "ceiling": "first accuracy near the ceiling",
}
_OF_FITS = frozenset(
    {"alpha_not_identified", "left_out_sign", "vertex_outside", "floor_confounded"}
)
_OUTCOMES = ("ok", "no_answer", "truncated", "refused", "filtered", "failed", "budget", "not_asked")
_MANY = 12


class LockedProtocol(msgspec.Struct, frozen=True):
    version: int
    regime: str
    prompts: dict[str, str]


class LockedDataset(msgspec.Struct, frozen=True):
    source: str
    digest: str
    scorer: str
    scorer_version: int
    ids: tuple[str, ...]
    licence: str = ""
    homepage: str = ""


class Locked(msgspec.Struct, frozen=True):
    """What the page reads of a study's `lock.json`; whatever else is in it is passed over."""

    protocols: dict[str, LockedProtocol]
    datasets: dict[str, LockedDataset]
    endpoints: dict[str, str] = {}
    environments: tuple[dict[str, object], ...] = ()


# --- health --------------------------------------------------------------------------------------


def health(results: Results, status: Status) -> Html:
    """Missing, truncated, no answer, errors, spent, canaries, and the warnings."""
    warnings = _of_what_is_said(results)
    return section(
        "health",
        "Health of the study",
        _tiles(results, status, warnings),
        *_warnings(warnings),
        _outcomes(results.cells),
        _canaries(results.warnings),
        _failures(status),
    )


def _of_what_is_said(results: Results) -> tuple[Caveat, ...]:
    """The warnings without those about numbers of a fit of which nothing is printed."""
    said = [(one.protocol, one.temperature) for one in results.claims if one.rung >= 2]
    return tuple(
        one
        for one in results.warnings
        if one.code not in _OF_FITS
        or any(
            one.about.startswith(f"{protocol}, ") and one.about.endswith(f" {temperature:g}")
            for protocol, temperature in said
        )
    )


def _tiles(results: Results, status: Status, warnings: Sequence[Caveat]) -> Html:
    planned = sum(one.n_samples for one, _ in status.by_cell)
    lost = sum(one.n_missing for one in results.cells)
    spent, budget = status.spent, results.study.budget_nusd
    money = dollars(spent.spent_nusd / 1e9)
    money += " of " + dollars(budget / 1e9) if budget is not None else ", no budget set"
    doubt = spent.uncertain_nusd
    weights = Counter(one.weight for one in warnings)
    facts = [
        ("samples planned", f"{planned:,}"),
        ("without a pair of answers", f"{lost:,}"),
        ("calls", f"{spent.n_calls:,}"),
        ("failed attempts", f"{spent.n_failures:,}"),
        ("spent", money),
        *([("of it for calls of unknown fate", dollars(doubt / 1e9))] if doubt else []),
        ("warnings that block, limit, tell", " · ".join(str(weights[w]) for w in range(3))),
    ]
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts),
        class_="tiles",
    )


def _warnings(warnings: Sequence[Caveat]) -> Iterator[Html]:
    if not warnings:
        yield tag("p", "No warning: nothing was found that would limit what may be claimed.")
    for weight, title in enumerate(_WEIGHTS):
        own = [one for one in warnings if one.weight == weight]
        if not own:
            continue
        made = listed(
            [join(tag("strong", one.about) if one.about else None,
                  ": " if one.about else None, one.text) for one in own]
        )  # fmt: skip
        heading = f"{title} ({len(own)})"
        if len(own) > _MANY or weight == 2:
            yield tag("details", tag("summary", heading), made, class_=f"warnings w{weight}")
        else:
            yield tag("div", tag("h3", heading), made, class_=f"warnings w{weight}")


def _outcomes(cells: Sequence[CellResult]) -> Html:
    """Samples by outcome, at the first and the last turn, a row a model."""
    rows = []
    for model in dict.fromkeys(one.cell.model for one in cells):
        own = [one for one in cells if one.cell.model == model]
        for turn, counts in (
            ("first", [one.n_by_outcome_first for one in own]),
            ("last", [one.n_by_outcome_last for one in own]),
        ):
            total: Counter[str] = Counter()
            for one in counts:
                total.update(one)
            numbers = [f"{total[name]:,}" if total[name] else "" for name in _OUTCOMES]
            rows.append(row([short(model), turn, *numbers], left=2))
    columns = ["model", "turn", *(name.replace("_", " ") for name in _OUTCOMES)]
    made = table("Samples by outcome, over all cells of a model", columns, rows, left=2)
    return tag("details", tag("summary", f"Outcomes by model ({len(rows)} rows)"), made,
               class_="data")  # fmt: skip


def _canaries(warnings: Sequence[Caveat]) -> Html:
    found = Counter(one.code for one in warnings)
    rows = [
        row([words, "not found" if not found[code] else f"found in {found[code]}"], left=2)
        for code, words in _CANARIES.items()
    ]
    made = table("What was looked for", ["sign of an artefact", "result"], rows, left=2)
    return tag("details", tag("summary", "Canaries"), made, class_="data")


def _failures(status: Status) -> Html | None:
    if not status.failures:
        return None
    rows = [
        row([model, failure.kind.replace("_", " "), f"{count:,}", within(failure.message, 300)],
            left=2)
        for model, count, failure in status.failures
    ]  # fmt: skip
    made = table("Failed attempts", ["model", "kind", "attempts", "one of them"], rows, left=2)
    return tag("details", tag("summary", "Failed attempts"), made, class_="data")


# --- method and settings -------------------------------------------------------------------------


def method(results: Results, locked: Locked, served: Sequence[tuple[str, str]]) -> Html:
    """What was done, with what, and how its numbers were made."""
    return section(
        "method",
        "Method and settings",
        tag(
            "p",
            "Every model answers every item once, then goes on as its protocol says; all protocols "
            "share the first answer. The change is measured on the same items. Failed calls are "
            "missing, not wrong; refused, cut and unreadable replies are wrong.",
        ),
        _settings(results),
        _models(results.study.models, served, locked),
        _datasets(locked),
        *_protocols(locked),
        _statistics(results),
        _environment(locked),
    )


def _settings(results: Results) -> Html:
    study = results.study
    facts: list[tuple[str, Node]] = [
        ("turns", study.turns),
        ("epochs", study.epochs),
        ("temperatures", ", ".join(f"{t:g}" for t in study.temperatures)),
        ("tokens a reply, at most", f"{study.max_tokens:,}"),
        ("items a dataset", "all" if study.items is None else f"{study.items:,}"),
        ("seed", study.seed),
        ("system prompt", study.system or "none"),
        ("budget", "none" if study.budget_nusd is None else dollars(study.budget_nusd / 1e9)),
    ]
    rows = [row([name, value], left=2) for name, value in facts]
    return table("The study", ["setting", "value"], rows, left=2)


def _models(models: Sequence[ModelSpec], served: Sequence[tuple[str, str]], locked: Locked) -> Html:
    versions: dict[str, list[str]] = {}
    for asked, version in served:
        versions.setdefault(asked, []).append(version)
    rows = []
    for one in models:
        price = one.price
        names = [v for v in versions.get(one.name, []) if v] or ["not said"]
        params = ", ".join(f"{key}: {value}" for key, value in one.params.items())
        rows.append(
            row(
                [one.id, size_text(one.size), one.size.source, one.size.citation,
                 ", ".join(names), locked.endpoints.get(one.id, ""),
                 dollars(price.input_nusd_per_ktok / 1e6),
                 dollars(price.output_nusd_per_ktok / 1e6), f"{price.source}, {price.dated}",
                 params],
                left=6,
            )
        )  # fmt: skip
    columns = ["model", "size", "size is", "source of size", "served as", "endpoint",
               "$ per million tokens in", "out", "source of price", "parameters"]  # fmt: skip
    return table("Models", columns, rows, left=6)


def _datasets(locked: Locked) -> Html:
    rows = [
        row([name, f"{len(one.ids):,}", f"{one.scorer} v{one.scorer_version}", one.licence,
             one.source, one.digest[:16]], left=6)
        for name, one in locked.datasets.items()
    ]  # fmt: skip
    columns = ["dataset", "items", "scorer", "licence", "source", "digest of the item ids"]
    return table("Datasets", columns, rows, left=6)


def _protocols(locked: Locked) -> Iterator[Html]:
    yield tag("h3", "Protocols")
    sees = {
        "nothing": "the model sees nothing but its own words",
        "verdict": "the model is told whether it is right (oracle)",
        "tests": "the model sees the tests that the question shows",
        "model": "the model sees another model's words",
    }
    for name, one in locked.protocols.items():
        prompts = [
            join(tag("dt", key), tag("dd", tag("pre", text))) for key, text in one.prompts.items()
        ]
        yield tag(
            "details",
            tag("summary", f"{name}, version {one.version}: {sees.get(one.regime, one.regime)}"),
            tag("dl", *prompts) if prompts else tag("p", "It has no words of its own."),
            class_="data",
        )


def _statistics(results: Results) -> Html:
    chosen = results.settings
    methods: dict[str, None] = {}
    for one in results.cells:
        methods.setdefault(f"intervals of delta: {one.delta.method}", None)
        if one.p_method:
            methods.setdefault(f"tests of delta: {one.p_method}", None)
    families = {
        f.family: f"{f.adjusted_by} over {_tests(f.family_size, f.family_excluded)}"
        for f in (*results.contrasts, *results.sensitivity)
        if f.family
    }
    size, excluded = max(
        ((one.family_size, one.family_excluded) for one in results.cells), default=(0, 0)
    )
    declared = results.study.confirmatory
    said: list[Node] = [
        f"level of intervals: {100 * chosen.level:g} %",
        f"joint bootstrap: {chosen.replicates:,} replicates, seed {chosen.seed}",
        f"largest change that counts as none: {_points(100 * chosen.margin)}",
        "estimated sizes: " + ("as intervals" if chosen.estimated_sizes else "in no fit"),
        f"deltas of cells: Holm over {_tests(size, excluded)}"
        + (f", of {', '.join(declared)} as declared before the run" if declared else ""),
        *(f"{name}: {text}" for name, text in families.items()),
        *(text for text in methods if not text.endswith(": ")),
        "estimand E1: these models, over items like these; E2: models and items like these",
    ]
    said.append(f"families of tests: {1 + len(families)}; nothing is adjusted between them")
    return tag("div", tag("h3", "Statistics"), listed(said))


def _points(margin: float) -> str:
    return f"{margin:g} point" if margin == 1 else f"{margin:g} points"


def _tests(size: int, excluded: int) -> str:
    return n_of(size, "test") + (f" ({excluded} more could not be made)" if excluded else "")


def _environment(locked: Locked) -> Html | None:
    if not locked.environments:
        return None
    texts = [
        tag("pre", within(msgspec.json.format(msgspec.json.encode(one), indent=1).decode(), 6_000))
        for one in locked.environments
    ]
    summary = tag("summary", f"Environments of its runs ({len(texts)})")
    return tag("details", summary, *texts, class_="data")
