"""What follows from the results: recommendations, guidelines, limits, and how to repeat it all."""

from __future__ import annotations

from collections.abc import Iterator

from deltascale.analysis import Caveat, Results
from deltascale.report import advice, guidelines
from deltascale.report.latex import Sheet, arm_name
from deltascale.report.paper.document import (
    Block,
    Code,
    Entries,
    Paragraph,
    Ref,
    Section,
    Sentence,
    sentences,
)
from deltascale.report.paper.record import Record
from deltascale.report.wording import estimate_text, n_of, per_thousand, short

__all__ = ["limitations", "practice", "recommendations", "reproducibility"]

_LISTED = 3
"""So many places of one warning are named; further ones are counted."""


def recommendations(results: Results) -> Sheet | None:
    """For each model and dataset: correct or not, by what, and the gain it stands on."""
    rows = []
    for one in advice.advise(results):
        shown = one.verdict != "not shown"
        rows.append(
            (
                one.dataset,
                short(one.model),
                one.verdict,
                arm_name(results, one.protocol, one.temperature) if shown and one.protocol else "—",
                estimate_text(one.gain) if shown and one.gain else "—",
                per_thousand(one.cost.value) if shown and one.cost else "—",
            )
        )
    if not rows:
        return None
    order = list(dict.fromkeys(one.cell.dataset for one in results.cells))
    rows.sort(key=lambda row: order.index(row[0]))
    return Sheet(
        "recommendations", "recommendations", "",
        "To correct or not, for each dataset and model: the best supported protocol of those "
        "tested, its delta in points, and its cost beyond the first answer, in dollars for 1,000 "
        "items. The best of several is likely to do less well elsewhere.",
        ("dataset", "model", "verdict", "protocol", "delta", "cost"), tuple(rows), left=4,
        rules=tuple(k for k in range(1, len(rows)) if rows[k][0] != rows[k - 1][0]),
    )  # fmt: skip


def practice(results: Results) -> Section:
    """The practitioner's questions, each with its evidence, or with why it stays open."""
    entries = []
    for one in guidelines.guidelines(results):
        said: list[Sentence] = [(one.sentence or "Not supported by this study.",)]
        if one.evidence:
            said.append((f"Evidence: {'; '.join(one.evidence)}.",))
        entries.append((one.question, tuple(said)))
    return Section("Practical guidelines", (Entries(tuple(entries)),))


def limitations(results: Results) -> Section:
    """One entry a kind of warning, the weightiest first, and what the design can't tell."""
    by_code: dict[tuple[int, str], list[Caveat]] = {}
    for caveat in results.warnings:
        by_code.setdefault((caveat.weight, caveat.code), []).append(caveat)
    entries = [
        (_head(code), tuple(_places(own))) for (_, code), own in sorted(
            by_code.items(), key=lambda pair: pair[0][0]
        )
    ]  # fmt: skip
    study = results.study
    said = sentences(
        f"The study has {n_of(len(study.models), 'model')}, {n_of(len(study.datasets), 'dataset')} "
        f"and {n_of(len(study.protocols), 'protocol')} with one wording of each prompt; other "
        "wordings, tasks and models may behave otherwise.",
        "Benchmarks may have been seen in training; a delta compares a model with itself, which "
        "lessens this and does not remove it.",
        "All models are simulated."
        if all(model.provider == "simulated" for model in study.models)
        else None,
    )
    blocks: tuple[Block, ...] = (Paragraph(said),)
    return Section("Limitations", (*blocks, Entries(tuple(entries))) if entries else blocks)


def _head(code: str) -> str:
    words = code.replace("_", " ")
    return f"{words[0].upper()}{words[1:]}"


def _places(own: list[Caveat]) -> Iterator[Sentence]:
    for caveat in own[:_LISTED]:
        text = f"{caveat.text[0].upper()}{caveat.text[1:]}" if caveat.text else ""
        yield (f"{text} ({caveat.about})." if caveat.about else f"{text}.",)
    if len(own) > _LISTED:
        yield (f"The same holds in {len(own) - _LISTED} more.",)


def reproducibility(results: Results, record: Record, *, anonymous: bool) -> Section:
    """What is needed to repeat the study and the analysis."""
    seen = dict.fromkeys(
        (one.deltascale, "" if anonymous else one.commit, one.python, one.platform)
        for one in record.environments
    )
    ran = [
        f"deltascale {version}{f' (commit {commit[:12]})' if commit else ''}, {python}, {platform}"
        for version, commit, python, platform in seen
    ]
    said = sentences(
        "Every call, its prompt, reply, price and outcome is in one ledger; this paper, its tables "
        "and its figures are made from it, and the same ledger gives the same bytes.",
        ("The analysis is repeated by ", Code("deltascale analyze"), ", the paper by ",
         Code("deltascale paper"), ", and the study itself by ", Code("deltascale run study.yaml"),
         "."),
        f"The study ran with {'; '.join(ran)}." if ran else None,
        f"Items were drawn with seed {results.study.seed}; resampling used seed "
        f"{results.settings.seed} and {results.settings.replicates:,} replicates.",
        "Prices and sizes are frozen with their dates and sources beside the ledger "
        "(table ",
    )  # fmt: skip
    said = (*said[:-1], (*said[-1], Ref("tab", "models"), ")."))
    blocks: list[Block] = [Paragraph(said)]
    if record.datasets:
        words = "The SHA-256 of the items' ids, in their order, begins with "
        digests = tuple(
            (name, ((words, Code(kept.digest[:16]), "."),))
            for name, kept in record.datasets.items()
        )
        blocks.append(Entries(digests))
    return Section("Reproducibility statement", tuple(blocks))
