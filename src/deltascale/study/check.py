"""From the tree of a study file to a `Study`: what may be written, and what each value must be.

Every problem is put on the findings and reading goes on, so that all are found at once. Knows which
names exist; loads no item and asks no model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType

from msgspec.structs import replace

from deltascale import datasets, protocols, scorers
from deltascale.errors import Mistake, StudyMistake
from deltascale.records import DatasetSpec, ModelSpec, Study
from deltascale.study.models import ModelReader, catalogued
from deltascale.study.text import Findings, Node, near

__all__ = ["DEFAULT", "MAX_TURNS", "STUDY_NAME", "TABLES", "budget_warnings", "check"]

DEFAULT = Study(name="", models=(), datasets=(), protocols=())
"""What a study file that leaves a value out gets."""

MAX_TURNS = 20
TABLES = (".csv", ".json", ".jsonl", ".parquet", ".tsv")

_NAMED: Mapping[str, ModuleType] = {
    "dataset": datasets,
    "protocol": protocols,
    "scorer": scorers,
}
_KEYS = (
    "name", "models", "datasets", "protocols", "turns", "epochs", "temperature", "max_tokens",
    "items", "budget_usd", "seed", "system", "confirmatory", "phases",
)  # fmt: skip
_REQUIRED = {
    "name": "name: my-study",
    "models": "models: [openai/gpt-4o-mini]",
    "datasets": "datasets: [gsm8k]",
    "protocols": "protocols: [review, resample]",
}
_PHASE_KEYS = ("models", "datasets", "items", "protocols", "turns")
_PHASE_HINTS = {"budget_usd": "the budget is the study's: all phases share it"}
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HIGHEST_TEMPERATURE = {"anthropic": 1.0}
_NEEDS_CHANCE = ("resample", "vote")
_NO_CLAIM = ("resample", "oracle")


def check(
    root: Node,
    findings: Findings,
    *,
    folder: Path,
    on: date,
    options: Mapping[str, str] | None = None,
) -> Study:
    """The study that the tree describes, with the prices of the day `on`.

    Paths in it are relative to `folder`. `options` has the command line's name of a key, for a
    study that comes from there.

    Raises StudyMistake with everything on the findings.
    """
    # Once for the whole study: every call looks through what is installed for plugins.
    names = {kind: module.names() for kind, module in _NAMED.items()}
    return _Reader(findings, folder, on, options or {}, names).study(root)


@dataclass(frozen=True, slots=True)
class _Restriction:
    """What a phase keeps of its study; None: all of it."""

    models: tuple[str, ...] | None = None
    datasets: tuple[DatasetSpec, ...] | None = None
    protocols: tuple[str, ...] | None = None
    turns: int | None = None
    items: int | None = None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the tree of a study. What is wrong goes on the findings, and reading goes on."""

    findings: Findings
    folder: Path
    on: date
    option_names: Mapping[str, str]
    names: Mapping[str, tuple[str, ...]]

    def study(self, root: Node) -> Study:
        """The whole study.

        Raises StudyMistake with every problem.
        """
        findings = self.findings
        fields = findings.mapping(root, _KEYS)
        if fields is None:
            raise StudyMistake(tuple(findings.problems))
        for key, example in _REQUIRED.items():
            if key not in fields:
                option = self.option_names.get(key)
                remedy = f"give {option}" if option else f"add a line like `{example}`"
                findings.add(self.at(fields, key), "missing", remedy)
        models = self.model_list(fields["models"]) if "models" in fields else ()
        specs = self.dataset_list(fields["datasets"]) if "datasets" in fields else ()
        named = self.protocol_list(fields["protocols"]) if "protocols" in fields else ()
        draft = Study(
            name=self.name(fields["name"]) if "name" in fields else "",
            models=models,
            datasets=specs,
            protocols=named,
            turns=self.whole(fields, "turns", 1, MAX_TURNS, DEFAULT.turns),
            epochs=self.whole(fields, "epochs", 1, 1000, DEFAULT.epochs),
            temperatures=self.temperatures(fields),
            max_tokens=self.whole(fields, "max_tokens", 1, 1_000_000, DEFAULT.max_tokens),
            items=self.items(fields.get("items")),
            budget_nusd=(
                findings.nano_usd(fields["budget_usd"]) if "budget_usd" in fields else None
            ),
            seed=self.whole(fields, "seed", 0, 2**63 - 1, DEFAULT.seed),
            system=self.system(fields.get("system")),
            confirmatory=self.confirmatory(fields["confirmatory"], named)
            if "confirmatory" in fields
            else (),
        )
        self.check_models(draft, fields)
        phases = self.phases(fields["phases"], draft, fields) if "phases" in fields else {}
        findings.stop()
        draft = replace(draft, warnings=_warnings(draft, on=self.on))
        restricted = {name: self.restricted(draft, kept) for name, kept in phases.items()}
        return replace(draft, phases=restricted)

    # -- the study's own values

    def at(self, fields: Mapping[str, Node], key: str) -> Node:
        """Where a value is, or would be."""
        return fields.get(key, Node(None, 0, self.option_names.get(key, key)))

    def whole(self, fields: Mapping[str, Node], key: str, low: int, high: int, default: int) -> int:
        if key not in fields:
            return default
        value = self.findings.whole(fields[key], low, high)
        return default if value is None else value

    def name(self, at: Node) -> str:
        text = self.findings.text(at, remedy="write a name like my-study")
        if text is not None and not STUDY_NAME.fullmatch(text):
            remedy = "use up to 64 letters, digits, dots, dashes and underscores"
            self.findings.add(at, f"{text!r} can't name a folder", remedy)
        return text or ""

    def system(self, at: Node | None) -> str:
        if at is None:
            return ""
        return self.findings.text(at, remedy="write the prompt, or leave the key out") or ""

    def items(self, at: Node | None) -> int | None:
        """How many items; None: all of them."""
        if at is None or at.value == "all":
            return None
        if isinstance(at.value, str):
            remedy = near(at.value, ("all",)) or "write a whole number, or all"
            self.findings.add(at, f"{at.value!r} is not a number of items", remedy)
            return None
        return self.findings.whole(at, 1, 10_000_000)

    def temperatures(self, fields: Mapping[str, Node]) -> tuple[float, ...]:
        if "temperature" not in fields:
            return DEFAULT.temperatures
        at = fields["temperature"]
        if not isinstance(at.value, tuple):
            single = self.findings.number(at, 0, 2)
            return DEFAULT.temperatures if single is None else (single,)
        found: list[float] = []
        for entry in self.findings.sequence(at, "[0.3, 0.7]") or ():
            value = self.findings.number(entry, 0, 2)
            if value is not None and value in found:
                self.findings.add(entry, f"{entry.text} is listed twice", "remove one")
            elif value is not None:
                found.append(value)
        return tuple(found)

    def protocol_list(self, at: Node) -> tuple[str, ...]:
        found: list[str] = []
        for entry in self.findings.sequence(at, "[review, resample]") or ():
            name = self.findings.text(entry, remedy="write a protocol's name, such as review")
            if name is None:
                continue
            if name in found:
                self.findings.add(entry, f"{name!r} is listed twice", "remove one")
            elif self.exists(entry, name, "protocol"):
                found.append(name)
        return tuple(found)

    def confirmatory(self, at: Node, protocols: tuple[str, ...]) -> tuple[str, ...]:
        """The protocols that the study is to make claims of."""
        found = self.protocol_list(at)
        listed = at.value if isinstance(at.value, tuple) else ()
        entries = {each.value: each for each in listed if isinstance(each.value, str)}
        for name in found:
            if name not in protocols:
                self.findings.add(
                    entries[name], f"{name!r} is not in protocols", "add it there too"
                )
            elif name in _NO_CLAIM:
                remedy = "leave it out: it is compared with, and nothing is claimed of it"
                self.findings.add(entries[name], f"{name!r} can't be confirmatory", remedy)
        return found

    def exists(self, at: Node, name: str, kind: str) -> bool:
        """Whether there is a dataset, protocol or scorer of this name or dotted path."""
        known = self.names[kind]
        if name in known:
            return True
        if ":" not in name:
            remedy = near(name, known) or f"known are {', '.join(known)}"
            self.findings.add(at, f"unknown {kind} {name!r}", remedy)
            return False
        try:
            _NAMED[kind].find(name)
        except Mistake as error:
            self.findings.add(at, error.what, error.remedy)
            return False
        return True

    # -- datasets

    def dataset_list(self, at: Node) -> tuple[DatasetSpec, ...]:
        found: list[DatasetSpec] = []
        for entry in self.findings.sequence(at, "[gsm8k, {name: superglue, items: 500}]") or ():
            spec = self.dataset(entry)
            if spec is not None and any(spec.name == other.name for other in found):
                remedy = "remove one, or give a file another name"
                self.findings.add(entry, f"{spec.name!r} is listed twice", remedy)
            elif spec is not None:
                found.append(spec)
        return tuple(found)

    def dataset(self, entry: Node) -> DatasetSpec | None:
        findings = self.findings
        if not isinstance(entry.value, Mapping):
            name = findings.text(entry, remedy="write a dataset's name, such as gsm8k")
            if name is None:
                return None
            if Path(name).suffix in TABLES:
                remedy = f"write {{file: {name}, scorer: numeric}}"
                findings.add(entry, f"{name!r} is the path of a file", remedy)
                return None
            return DatasetSpec(name) if self.is_benchmark(entry, name) else None
        fields = findings.mapping(entry, ("name", "file", "items", "scorer", "options")) or {}
        before = len(findings.problems)
        file = self.table(fields["file"]) if "file" in fields else ""
        spec = DatasetSpec(
            name=self.label(entry, fields, file),
            items=self.items(fields.get("items")),
            file=file,
            scorer=self.scorer(entry, fields),
            options=self.settings(fields.get("options")),
        )
        return spec if len(findings.problems) == before else None

    def is_benchmark(self, at: Node, name: str) -> bool:
        if name not in self.names["dataset"] and (self.folder / name).is_file():
            remedy = f"save it as one of {', '.join(TABLES)}"
            self.findings.add(at, f"{name!r} is a file of a kind that is not read", remedy)
            return False
        return self.exists(at, name, "dataset")

    def table(self, at: Node) -> str:
        """The absolute path of a people's own table that exists."""
        text = self.findings.text(at, remedy="write a path like data/mine.csv")
        if text is None:
            return ""
        path = Path(os.path.abspath(self.folder / text))
        if not path.is_file():
            remedy = (
                "check the path" if self.option_names else "a path is relative to the study file"
            )
            self.findings.add(at, f"there is no file {text!r}", remedy)
        return path.as_posix()

    def label(self, entry: Node, fields: Mapping[str, Node], file: str) -> str:
        if "name" not in fields and "file" not in fields:
            self.findings.add(entry, "neither a name nor a file", "write name: gsm8k or file: ...")
            return ""
        at = fields.get("name", fields.get("file", entry))
        if "file" not in fields:
            name = self.findings.text(at, remedy="write a dataset's name, such as gsm8k") or ""
            return name if name and self.is_benchmark(at, name) else ""
        name = Path(file).stem
        if "name" in fields:
            name = self.findings.text(at, remedy="write a name of your own") or ""
        if name in self.names["dataset"]:
            remedy = f"give the file a name of its own, such as name: my-{name}"
            self.findings.add(at, f"{name!r} is the name of a benchmark", remedy)
        return name

    def scorer(self, entry: Node, fields: Mapping[str, Node]) -> str:
        if "scorer" not in fields:
            if "file" in fields:
                remedy = "add a scorer, such as scorer: numeric"
                self.findings.add(entry, "a file without a scorer", remedy)
            return ""
        at = fields["scorer"]
        name = self.findings.text(at, remedy="write a scorer's name, such as numeric")
        return name if name is not None and self.exists(at, name, "scorer") else ""

    def settings(self, at: Node | None) -> dict[str, str]:
        if at is None:
            return {}
        if not isinstance(at.value, Mapping):
            self.findings.add(at, "not a mapping", "write them like {split: test}")
            return {}
        for child in at.value.values():
            if child.value is None or isinstance(child.value, tuple | Mapping):
                self.findings.add(child, "an option has one value", "write a text or a number")
        return {key: child.text for key, child in at.value.items()}

    # -- models

    def model_list(self, at: Node) -> tuple[ModelSpec, ...]:
        found: list[ModelSpec] = []
        reader = ModelReader(self.findings, self.on)
        entries = self.findings.sequence(at, "[openai/gpt-4o-mini, anthropic/claude-haiku-4-5]")
        for entry in entries or ():
            spec = reader.model(entry)
            if spec is None:
                continue
            twin = next((one for one in found if _same(one, spec)), None)
            if twin is None:
                found.append(spec)
            elif twin.id == spec.id:
                remedy = "remove one, or give one another id and the same name"
                self.findings.add(entry, f"{spec.id!r} is listed twice", remedy)
            else:
                self.findings.add(
                    entry, f"{spec.id!r} is the same model as {twin.id!r}", "remove one"
                )
        return tuple(found)

    def check_models(self, draft: Study, fields: Mapping[str, Node]) -> None:
        """What the models of the study do not accept is found before the run, not during it."""
        at_tokens = self.at(fields, "max_tokens")
        at_temperature = self.at(fields, "temperature")
        for model in draft.models:
            known = catalogued(model.id, model.name)
            most = known.max_output_tokens if known else None
            if most is not None and draft.max_tokens > most:
                found = f"{draft.max_tokens} is more than {model.id} can write"
                self.findings.add(at_tokens, found, f"write at most {most}")
            elif model.context_tokens is not None and draft.max_tokens >= model.context_tokens:
                found = f"{draft.max_tokens} leaves {model.id} no room for a prompt"
                self.findings.add(at_tokens, found, f"its context is {model.context_tokens} tokens")
            if model.reasoning:
                if len(draft.temperatures) > 1:
                    found = f"{model.id} takes no temperature, so all of these are one to it"
                    self.findings.add(at_temperature, found, "give one, or leave the model out")
                continue
            highest = _HIGHEST_TEMPERATURE.get(model.provider, 2.0)
            if max(draft.temperatures, default=0) > highest:
                found = f"{max(draft.temperatures):g} is more than {model.id} accepts"
                self.findings.add(at_temperature, found, f"write at most {highest:g}")

    # -- phases

    def phases(
        self, at: Node, draft: Study, fields: Mapping[str, Node]
    ) -> Mapping[str, _Restriction]:
        if not isinstance(at.value, Mapping):
            self.findings.add(at, "not a mapping", "write it like {pilot: {items: 100}}")
            return {}
        written = {key: _written(fields.get(key)) for key in ("models", "datasets", "protocols")}
        found: dict[str, _Restriction] = {}
        for name, entry in at.value.items():
            if not STUDY_NAME.fullmatch(name) or name.isdecimal() or name == "all":
                remedy = "use a name such as pilot; numbers and `all` have a meaning of their own"
                self.findings.add(entry, f"{name!r} can't name a phase", remedy)
            if entry.value is None:
                found[name] = _Restriction()
                continue
            kept = self.findings.mapping(entry, _PHASE_KEYS, hints=_PHASE_HINTS)
            if kept is not None:
                found[name] = self.restriction(kept, draft, written)
        return found

    def restriction(
        self, fields: Mapping[str, Node], draft: Study, written: Mapping[str, tuple[str, ...]]
    ) -> _Restriction:
        self.at_most(fields.get("items"), draft.items)
        self.at_most(fields.get("turns"), draft.turns)
        kept: dict[str, tuple[str, ...] | None] = {
            key: self.subset(fields[key], written[key], key) if key in fields else None
            for key in ("models", "protocols")
        }
        chosen: tuple[DatasetSpec, ...] | None = None
        if "datasets" in fields:
            chosen = self.phase_datasets(fields["datasets"], draft, written["datasets"])
        return _Restriction(
            models=kept["models"],
            datasets=chosen,
            protocols=kept["protocols"],
            turns=self.whole(fields, "turns", 1, MAX_TURNS, draft.turns),
            items=self.items(fields.get("items")),
        )

    def at_most(self, at: Node | None, most: int | None) -> None:
        """A phase is a part of its study, so that it costs only what the study costs."""
        if at is None or most is None:
            return
        value = at.value
        too_many = isinstance(value, int | float) and not isinstance(value, bool) and value > most
        if too_many or value == "all":
            found = f"{at.text} is more than the study's {most}"
            self.findings.add(at, found, "a phase is a part of its study; raise the study's number")

    def subset(self, at: Node, known: tuple[str, ...], what: str) -> tuple[str, ...]:
        found: list[str] = []
        for entry in self.findings.sequence(at, f"a list of the study's {what}") or ():
            name = self.findings.text(entry, remedy=f"name one of the study's {what}")
            if name is None:
                continue
            if name not in known:
                remedy = near(name, known) or f"add it to the study's {what}"
                self.findings.add(entry, f"{name!r} is not among the study's {what}", remedy)
            elif name in found:
                self.findings.add(entry, f"{name!r} is listed twice", "remove one")
            else:
                found.append(name)
        return tuple(found)

    def phase_datasets(
        self, at: Node, draft: Study, written: tuple[str, ...]
    ) -> tuple[DatasetSpec, ...]:
        """The study's datasets that a phase keeps, by name or as {name, items}."""
        known = {spec.name: spec for spec in draft.datasets}
        names: list[Node] = []
        items: dict[str, int | None] = {}
        for entry in self.findings.sequence(at, "a list of the study's datasets") or ():
            if not isinstance(entry.value, Mapping):
                names.append(entry)
                continue
            fields = self.findings.mapping(entry, ("name", "items")) or {}
            if "name" not in fields:
                self.findings.add(entry, "a dataset without a name", "add name: gsm8k")
                continue
            names.append(fields["name"])
            spec = known.get(fields["name"].text)
            if spec is not None:
                self.at_most(fields.get("items"), spec.items or draft.items)
            items[fields["name"].text] = self.items(fields.get("items"))
        kept = (
            self.subset(Node(tuple(names), at.line, at.path), written, "datasets") if names else ()
        )
        return tuple(
            replace(known[name], items=items.get(name) or known[name].items)
            for name in kept
            if name in known
        )

    def restricted(self, study: Study, kept: _Restriction) -> Study:
        """The study with only what a phase keeps."""
        specs = study.datasets if kept.datasets is None else kept.datasets
        if kept.items is not None:
            # The phase's number is the most of any dataset, also of one with its own number.
            specs = tuple(
                spec if spec.items is None else replace(spec, items=min(spec.items, kept.items))
                for spec in specs
            )
        phase = replace(
            study,
            models=tuple(
                model for model in study.models if kept.models is None or model.id in kept.models
            ),
            datasets=specs,
            protocols=study.protocols if kept.protocols is None else kept.protocols,
            turns=study.turns if kept.turns is None else kept.turns,
            items=study.items if kept.items is None else kept.items,
            warnings=(),
        )
        return replace(phase, warnings=_warnings(phase, on=self.on))


# --- what is lawful, but not wise ----------------------------------------------------------------


def _warnings(study: Study, *, on: date) -> tuple[str, ...]:
    found: list[str] = []
    temperatures = ", ".join(f"{value:g}" for value in study.temperatures)
    for model in study.models:
        known = catalogued(model.id, model.name)
        if known is not None and known.retired is not None and known.retired <= on:
            found.append(
                f"{model.id}: retired by its provider on {known.retired}, which will refuse it; "
                f"use {known.successor}"
            )
        if model.reasoning:
            found.append(f"{model.id}: takes no temperature, so {temperatures} is not sent to it")
    degenerate = [name for name in study.protocols if name in _NEEDS_CHANCE]
    if 0 in study.temperatures and degenerate:
        found.append(
            f"temperature 0: every draw is the same answer, so {' and '.join(degenerate)} can show "
            "nothing; use a temperature above 0, such as 0.7"
        )
    if study.turns == 1:
        found.append("turns 1: only first answers, so there is no delta; use 2 or more")
    return (*found, *budget_warnings(study))


def budget_warnings(study: Study) -> tuple[str, ...]:
    """What is unwise about the study's budget."""
    priced = [
        model.id
        for model in study.models
        if model.provider != "simulated"
        and (model.price.input_nusd_per_ktok or model.price.output_nusd_per_ktok)
    ]
    if priced and study.budget_nusd is None:
        return (f"no budget: nothing limits what {priced[0]} may cost; set a budget in USD",)
    if priced and study.budget_nusd == 0:
        return (f"a budget of 0: {priced[0]} can't be asked anything; raise it",)
    return ()


def _same(one: ModelSpec, other: ModelSpec) -> bool:
    if one.id == other.id:
        return True
    return (one.provider, one.name, one.base_url, one.params) == (
        other.provider,
        other.name,
        other.base_url,
        other.params,
    )


def _written(at: Node | None) -> tuple[str, ...]:
    """The names in a list of the study, also of entries with problems."""
    if at is None or not isinstance(at.value, tuple):
        return ()
    found: list[str] = []
    for each in at.value:
        entry = each.value
        if not isinstance(entry, Mapping):
            found.append(each.text)
        elif "id" in entry or "name" in entry:
            found.append(entry.get("id", entry.get("name", each)).text)
        elif "file" in entry:
            found.append(Path(entry["file"].text).stem)
    return tuple(found)
