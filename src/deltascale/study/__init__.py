"""From a study file, or from options, to a `Study` that was checked whole before a cent is spent.

Every problem is found in one go, each with its line, its key, the remedy and the name that was
meant. Loads no item and asks no model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from deltascale.errors import Problem, StudyMistake
from deltascale.records import DatasetSpec, Limits, ModelSpec, Price, Size, Study
from deltascale.study.check import STUDY_NAME, TABLES, budget_warnings, check
from deltascale.study.text import Findings, Node, Plain, near, node, read, render, tree

__all__ = ["adhoc", "dump", "load", "parse", "phase", "template", "with_budget"]

_HERE = "command line"
_OPTIONS = {
    "name": "--name",
    "models": "--model",
    "datasets": "--dataset",
    "protocols": "--protocol",
    "turns": "--turns",
    "epochs": "--epochs",
    "temperature": "--temperature",
    "max_tokens": "--max-tokens",
    "items": "--items",
    "budget_usd": "--budget",
    "seed": "--seed",
}


def load(path: Path, *, on: date) -> Study:
    """The study in this file, with the prices of the day `on`.

    Raises StudyMistake with every problem of the file.
    """
    return parse(read(path), file=str(path), on=on)


def parse(text: str, *, file: str, on: date) -> Study:
    """The study in this text. `file` names it in messages; paths in it are relative to its folder.

    Raises StudyMistake with every problem of the text.
    """
    findings = Findings(file)
    return check(tree(text, findings), findings, folder=Path(file).parent, on=on)


def adhoc(
    *,
    models: Sequence[str],
    datasets: Sequence[str],
    on: date,
    protocols: Sequence[str] = (),
    base_url: str | None = None,
    price: float | str | None = None,
    scorer: str | None = None,
    turns: int | None = None,
    items: int | None = None,
    temperature: float | Sequence[float] | None = None,
    epochs: int | None = None,
    max_tokens: int | None = None,
    budget_usd: float | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> Study:
    """A study from the options of the command line: the same checks as a file's.

    None and the empty sequence mean that the option was not given; without a protocol it is
    `review`. `base_url` and `price` are of every model, `scorer` of every dataset. `price` is in
    USD per million tokens: one number for both sides, or `INPUT/OUTPUT`, or `INPUT/CACHED/OUTPUT`.
    A dataset is a name or the path of a table. Without a `name` the study is called after what is
    in it.

    Raises StudyMistake with every problem; their paths are the options' names.
    """
    shared: dict[str, Node] = {}
    if base_url is not None:
        shared["base_url"] = node(base_url, "--base-url")
    if price is not None:
        shared["price"] = _price_option(price)
    protocols = tuple(protocols) or ("review",)
    given: dict[str, object] = {
        "name": name or _called(models, datasets, protocols),
        "models": [Node({"id": node(each, "--model"), **shared}, 0, "--model") for each in models],
        "datasets": [_dataset_option(each, scorer) for each in datasets],
        "protocols": protocols,
        "turns": turns,
        "epochs": epochs,
        "temperature": list(temperature) if isinstance(temperature, Sequence) else temperature,
        "max_tokens": max_tokens,
        "items": items,
        "budget_usd": budget_usd,
        "seed": seed,
    }
    root = {
        key: node(value, _OPTIONS[key]) for key, value in given.items() if value not in (None, [])
    }
    findings = Findings(_HERE)
    return check(Node(root, 0, ""), findings, folder=Path(), on=on, options=_OPTIONS)


def _price_option(price: float | str) -> Node:
    option = "--price"
    sides = [_number(side) for side in str(price).split("/")]
    if sides == [0] or len(sides) not in (1, 2, 3):
        return node(sides[0] if sides == [0] else price, option)
    if len(sides) == 1:
        sides *= 2
    keys = ("input", "output") if len(sides) == 2 else ("input", "cached_input", "output")
    return node(dict(zip(keys, sides, strict=True)), option)


def _number(text: str) -> float | int | str:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _dataset_option(name: str, scorer: str | None) -> Node:
    option = "--dataset"
    entry = {"file" if Path(name).suffix.lower() in TABLES else "name": node(name, option)}
    if scorer is not None:
        entry["scorer"] = node(scorer, "--scorer")
    return Node(entry, 0, option)


def _called(models: Sequence[str], names: Sequence[str], protocols: Sequence[str]) -> str:
    """A name for a study that was given none; what it says differs where the studies differ."""
    parts = []
    for values, many in ((models, "models"), (names, "datasets"), (protocols, "protocols")):
        last = re.split(r"[/\\]", values[0])[-1] if len(values) == 1 else f"{len(values)}-{many}"
        parts.append(last)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).lstrip("._-")[:64] or "adhoc"


def phase(study: Study, which: str) -> tuple[Study, ...]:
    """The phases meant by a name, a number from 1, or `all`.

    A study without phases is itself all of them.

    Raises StudyMistake, with the name that was meant.
    """
    if which == "all":
        return tuple(study.phases.values()) or (study,)
    if which in study.phases:
        return (study.phases[which],)
    if re.fullmatch("[0-9]{1,4}", which) and 0 < int(which) <= len(study.phases):
        return (tuple(study.phases.values())[int(which) - 1],)
    names = tuple(study.phases)
    remedy = "it has none; leave the option out"
    if names:
        remedy = near(which, names) or f"phases: {', '.join(names)}; or a number, or all"
    found = f"{which!r} is not a phase of {study.name!r}"
    raise StudyMistake((Problem(_HERE, 0, "--phase", found, remedy),))


def with_budget(study: Study, usd: float) -> Study:
    """The study and its phases with another budget.

    Raises StudyMistake where it is not an amount.
    """
    findings = Findings(_HERE)
    nusd = findings.nano_usd(node(usd, "--budget"))
    findings.stop()
    kept = tuple(text for text in study.warnings if text not in budget_warnings(study))
    changed = replace(study, budget_nusd=nusd)
    return replace(
        changed,
        warnings=(*kept, *budget_warnings(changed)),
        phases={name: with_budget(each, usd) for name, each in study.phases.items()},
    )


# --- writing -------------------------------------------------------------------------------------


def dump(study: Study, *, folder: Path | None = None) -> str:
    """The study as a file in which nothing is left to the catalogue or to a default.

    It loads again to an equal study. `folder` is where the file will lie: paths in it are then
    relative to it, and hold on another machine; otherwise they are absolute.
    """
    body: dict[str, Plain] = {
        "name": study.name,
        "models": [_model_entry(model) for model in study.models],
        "datasets": [_dataset_entry(spec, folder) for spec in study.datasets],
        "protocols": list(study.protocols),
        "turns": study.turns,
        "epochs": study.epochs,
        "temperature": [_short(value) for value in study.temperatures],
        "max_tokens": study.max_tokens,
        "items": "all" if study.items is None else study.items,
        "seed": study.seed,
    }
    if study.budget_nusd is not None:
        body["budget_usd"] = Decimal(study.budget_nusd).scaleb(-9)
    if study.system:
        body["system"] = study.system
    if study.confirmatory:
        body["confirmatory"] = list(study.confirmatory)
    if study.phases:
        body["phases"] = {name: _phase_entry(each, study) for name, each in study.phases.items()}
    return "# A study as it was resolved; it loads again to the same study.\n" + render(body)


def _model_entry(model: ModelSpec) -> dict[str, Plain]:
    entry: dict[str, Plain] = {"id": model.id, "name": model.name}
    if model.base_url:
        entry["base_url"] = model.base_url
    if model.family:
        entry["family"] = model.family
    entry["size"] = _size_entry(model.size)
    entry["price"] = _price_entry(model.price)
    if model.params:
        entry["params"] = cast("Plain", model.params)
    entry["limits"] = _limits_entry(model.limits)
    if model.context_tokens is not None:
        entry["context_tokens"] = model.context_tokens
    return entry | {"reasoning": model.reasoning, "native_tools": model.native_tools}


def _size_entry(size: Size) -> dict[str, Plain]:
    counts = {
        "parameters": size.parameters,
        "active": size.active,
        "low": size.low,
        "high": size.high,
        "training_tokens": size.training_tokens,
    }
    entry: dict[str, Plain] = {"source": size.source}
    entry |= {key: _short(value) for key, value in counts.items() if value is not None}
    said = {"citation": size.citation, "training_citation": size.training_citation}
    return entry | {key: text for key, text in said.items() if text}


def _price_entry(price: Price) -> dict[str, Plain]:
    return {
        "input": Decimal(price.input_nusd_per_ktok).scaleb(-6),
        "cached_input": Decimal(price.cached_input_nusd_per_ktok).scaleb(-6),
        "output": Decimal(price.output_nusd_per_ktok).scaleb(-6),
        "source": price.source,
        "dated": price.dated,
    }


def _limits_entry(limits: Limits) -> dict[str, Plain]:
    entry: dict[str, Plain] = {"connections": limits.connections}
    if limits.rpm is not None:
        entry["rpm"] = limits.rpm
    if limits.tpm is not None:
        entry["tpm"] = limits.tpm
    return entry | {"timeout_s": _short(limits.timeout_s)}


def _dataset_entry(spec: DatasetSpec, folder: Path | None) -> dict[str, Plain]:
    entry: dict[str, Plain] = {"name": spec.name}
    if spec.file:
        relative = spec.file if folder is None else os.path.relpath(spec.file, folder)
        entry["file"] = Path(relative).as_posix()
    if spec.items is not None:
        entry["items"] = spec.items
    if spec.scorer:
        entry["scorer"] = spec.scorer
    if spec.options:
        entry["options"] = spec.options
    return entry


def _phase_entry(phase: Study, study: Study) -> dict[str, Plain]:
    whole = {spec.name: spec for spec in study.datasets}
    kept: list[Plain] = [
        spec.name if spec == whole[spec.name] else {"name": spec.name, "items": spec.items}
        for spec in phase.datasets
    ]
    entry: dict[str, Plain] = {"models": [model.id for model in phase.models], "datasets": kept}
    if phase.items is not None:
        entry["items"] = phase.items
    return entry | {"protocols": list(phase.protocols), "turns": phase.turns}


def _short(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number


def template(name: str) -> str:
    """A commented study file to edit, which is a good study as it stands.

    Raises StudyMistake for a name that can't be a study's.
    """
    if not STUDY_NAME.fullmatch(name):
        remedy = "use up to 64 letters, digits, dots, dashes and underscores"
        raise StudyMistake((Problem(_HERE, 0, "", f"{name!r} can't name a study", remedy),))
    text = files(__name__).joinpath("template.yaml").read_text(encoding="utf-8")
    return text.replace("NAME", name)
