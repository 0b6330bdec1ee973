"""One model of a study: from its entry in the file to a `ModelSpec`, or to what is wrong with it.

What the entry leaves out comes from the catalogue. Knows nothing of the study around it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal, TypeAlias

from deltascale import catalog, extensions, providers
from deltascale.catalog import CatalogModel
from deltascale.errors import CatalogMistake
from deltascale.records import Limits, ModelSpec, Price, Size
from deltascale.study.text import Findings, Node, near, plain

__all__ = ["ModelReader", "catalogued"]

_KEYS = (
    "id", "name", "base_url", "parameters", "parameters_source", "training_tokens",
    "training_source", "size", "price", "params", "limits", "context_tokens", "reasoning",
    "native_tools", "family",
)  # fmt: skip
_Source: TypeAlias = Literal["published", "estimate", "unknown", "simulated"]
_SOURCES: Mapping[str, _Source] = {
    "published": "published",
    "estimate": "estimate",
    "unknown": "unknown",
    "simulated": "simulated",
}
_SECRETS = "keys are read from the environment or .env, never from a study file"
_SHARED = {
    "temperature": "it is the study's: one temperature for every model",
    "max_tokens": "it is the study's: one limit for every model",
}
_HINTS = dict.fromkeys(("api_key", "key", "token"), _SECRETS) | _SHARED
_SECRET = re.compile(r"(?i)(api[_-]?key|authorization|password|secret|token)")
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_ENDPOINT = re.compile(r"/(?:chat/completions|completions|responses|messages|predictions)/?$")
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KkMmBbTt])")
_MOST = {"parameters": 1e15, "tokens": 1e18}
_BESIDE_PARAMETERS = {
    "parameters_source": "a source without parameters",
    "training_tokens": "training tokens without parameters",
    "training_source": "a source without parameters",
}
_POWERS = {"k": 3, "m": 6, "b": 9, "t": 12}
_SIMULATED = re.compile(r"sim-([0-9]+(?:\.[0-9]+)?)b")


def catalogued(label: str, name: str) -> CatalogModel | None:
    """The model that an id means, or where it is a label of one's own, the name behind it."""
    for key in (label, f"{label.partition('/')[0]}/{name}"):
        try:
            return catalog.lookup(key)
        except CatalogMistake:
            continue
    return None


_LOCAL_LIMITS = Limits(connections=1, timeout_s=900.0)
"""A model on this machine has one slot; a call that waits behind another could time out."""


@dataclass(frozen=True, slots=True)
class ModelReader:
    """Reads the entries of models, with the prices of the day `on`."""

    findings: Findings
    on: date

    def model(self, entry: Node) -> ModelSpec | None:
        findings = self.findings
        fields: Mapping[str, Node] = {"id": entry}
        if not isinstance(entry.value, str):
            fields = findings.mapping(entry, _KEYS, hints=_HINTS) or {}
            if "id" not in fields:
                if isinstance(entry.value, Mapping):
                    findings.add(entry, "a model without an id", "add id: provider/name")
                return None
        before = len(findings.problems)
        label = self.line(fields["id"], "write it like openai/gpt-4o-mini") or ""
        stated = (
            self.line(fields["name"], "write the name the server knows") if "name" in fields else ""
        )
        known = catalogued(label, stated or "")
        provider = self.provider(fields["id"], label, known)
        if not provider:
            return None
        name = stated or (known.name if known else label.partition("/")[2])
        base_url = self.base_url(fields.get("base_url"))
        weights = catalog.open_weights(name) if known is None else None
        facts = known or weights
        context_tokens = facts.context_tokens if facts else None
        price, priced_tokens = self.price(entry, fields, provider, name, known)
        if "context_tokens" in fields:
            context_tokens = findings.whole(fields["context_tokens"], 1, 1_000_000_000)
        elif priced_tokens is not None:
            # A longer prompt would cost more than the budget reserves for it.
            context_tokens = min(priced_tokens, context_tokens or priced_tokens)
        spec = ModelSpec(
            id=label,
            provider=provider,
            name=name,
            size=self.size(entry, fields, provider, name, facts),
            price=price,
            base_url=base_url,
            family=self.family(fields.get("family"), facts),
            params=self.params(fields.get("params")),
            limits=self.limits(fields.get("limits"), provider),
            context_tokens=context_tokens,
            reasoning=self.flag(fields, "reasoning", known is not None and known.reasoning),
            native_tools=self.flag(
                fields, "native_tools", known is not None and known.native_tools
            ),
        )
        return spec if len(findings.problems) == before else None

    def line(self, at: Node, remedy: str) -> str | None:
        """A text of one line without blanks around it."""
        text = self.findings.text(at, remedy=remedy)
        if text is not None and (text != text.strip() or not text.isprintable()):
            self.findings.add(at, f"{text!r} has blanks or line ends in it", remedy)
            return None
        return text

    def flag(self, fields: Mapping[str, Node], key: str, default: bool) -> bool:
        value = self.findings.flag(fields[key]) if key in fields else default
        return default if value is None else value

    def family(self, at: Node | None, facts: CatalogModel | None) -> str:
        if at is None:
            return facts.family if facts else ""
        return self.line(at, "write a name like llama-3") or ""

    def provider(self, at: Node, label: str, known: CatalogModel | None) -> str:
        """The provider of an id; empty where it has none."""
        if known is not None or not label:
            return known.provider if known else ""
        provider, slash, name = label.partition("/")
        served = catalog.open_weights(label)
        if served is not None:
            remedy = f"write {served.id}, or openai/{label} with the base_url of its server"
            self.findings.add(at, f"{label!r} names weights, not who serves them", remedy)
            return ""
        if not slash or not name:
            remedy = catalog.suggest(label) or "write it like openai/gpt-4o-mini"
            self.findings.add(at, f"{label!r} is not of the form provider/name", remedy)
            return ""
        every = {*providers.PROVIDERS, *extensions.points("deltascale.providers").names}
        if provider not in every:
            remedy = near(provider, sorted(every)) or f"known are {', '.join(sorted(every))}"
            self.findings.add(at, f"unknown provider {provider!r}", remedy)
            return ""
        return provider

    def base_url(self, at: Node | None) -> str:
        if at is None:
            return ""
        example = "write it like http://localhost:8000/v1"
        text = self.line(at, example)
        if text is None:
            return ""
        if "@" in text:
            self.findings.add(at, "an address with a user name in it", _SECRETS)
        elif not _URL.fullmatch(text):
            self.findings.add(at, f"{text!r} is not the address of a server", example)
        elif found := _ENDPOINT.search(text):
            remedy = f"end it before {found.group()}: that is added to it"
            self.findings.add(at, f"{text!r} is the address of one kind of call", remedy)
        return text.rstrip("/")

    def size(
        self,
        entry: Node,
        fields: Mapping[str, Node],
        provider: str,
        name: str,
        facts: CatalogModel | None,
    ) -> Size:
        unknown = Size("unknown")
        if "size" in fields:
            for key in ("parameters", "training_tokens"):
                if key in fields:
                    self.findings.add(fields["size"], f"size beside {key}", "keep one of them")
            size = self.full_size(fields["size"]) or unknown
            if size.source != "unknown" and (size.source == "simulated") != (
                provider == "simulated"
            ):
                found = f"{size.source} as the size of a model of {provider}"
                self.findings.add(fields["size"], found, "only simulated models are simulated")
            return size
        if "parameters" in fields:
            return self.stated_size(fields, provider)
        for key, found in _BESIDE_PARAMETERS.items():
            if key in fields:
                self.findings.add(fields[key], found, "add parameters: the count")
        if facts is not None:
            return facts.size
        if provider != "simulated":
            return unknown
        match = _SIMULATED.fullmatch(name)
        parameters = float(Decimal(match[1]) * 10**9) if match else 0.0
        if not parameters:
            remedy = "name it like simulated/sim-2b, or give its parameters"
            self.findings.add(entry, f"{name!r} has no size to simulate", remedy)
            return unknown
        return Size("simulated", parameters, citation="invented by deltascale")

    def stated_size(self, fields: Mapping[str, Node], provider: str) -> Size:
        """A parameter count as people write it, with the tokens of its training where given."""
        parameters = self.count(fields["parameters"], "parameters", 10_000, "7e9")
        tokens = None
        if "training_tokens" in fields:
            tokens = self.count(fields["training_tokens"], "tokens", 1_000_000, "15e12")
        elif "training_source" in fields:
            at = fields["training_source"]
            self.findings.add(at, "a source without training tokens", "add training_tokens")
        cited = self.stated_source(fields, "training_source")
        source: _Source = "simulated" if provider == "simulated" else "published"
        if parameters is None:
            return Size("unknown")
        return Size(
            source,
            parameters,
            citation=self.stated_source(fields, "parameters_source"),
            training_tokens=tokens,
            training_citation="" if tokens is None else cited,
        )

    def stated_source(self, fields: Mapping[str, Node], key: str) -> str:
        if key not in fields:
            return "stated in the study file"
        return self.findings.text(fields[key], remedy="write where the count is published") or ""

    def count(self, at: Node, what: str, least: int, example: str) -> float | None:
        """A whole number of parameters or of training tokens."""
        match = _COUNT.fullmatch(at.text) if isinstance(at.value, str) else None
        if match:
            remedy = f"write {match[1]}e{_POWERS[match[2].lower()]}"
            self.findings.add(at, f"{at.text!r} is not a number", remedy)
            return None
        found = self.findings.number(at, 0, _MOST[what])
        if found is not None and found < least:
            power = example.partition("e")[2]
            remedy = f"write the whole count, such as {f'{at.text}e{power}' if found else example}"
            self.findings.add(at, f"{at.text} {what} are too few for a model", remedy)
            return None
        return found

    def full_size(self, at: Node) -> Size | None:
        """A size with its source, as `dump` writes it."""
        counts = ("parameters", "active", "low", "high")
        said = ("training_tokens", "citation", "training_citation")
        fields = self.findings.mapping(at, ("source", *counts, *said))
        if fields is None:
            return None
        before = len(self.findings.problems)
        numbers = {
            key: self.findings.number(fields[key], 1, _MOST["parameters"])
            for key in counts
            if key in fields
        }
        tokens = None
        if "training_tokens" in fields:
            tokens = self.findings.number(fields["training_tokens"], 1, _MOST["tokens"])
        source = _SOURCES.get(fields["source"].text) if "source" in fields else None
        if source is None:
            remedy = f"write source: one of {', '.join(_SOURCES)}"
            self.findings.add(fields.get("source", at), "a size needs its source", remedy)
        citation, trained = (
            self.stated_source(fields, key) if key in fields else "" for key in said[1:]
        )
        if source is None or len(self.findings.problems) > before:
            return None
        size = Size(
            source,
            citation=citation,
            training_tokens=tokens,
            training_citation=trained,
            **numbers,
        )
        try:
            catalog.check_size(size)
        except CatalogMistake as error:
            self.findings.add(at, error.what, "a size is a fact with a source, or unknown")
            return None
        return size

    def price(
        self,
        entry: Node,
        fields: Mapping[str, Node],
        provider: str,
        name: str,
        known: CatalogModel | None,
    ) -> tuple[Price, int | None]:
        """The price, and the longest prompt for which it holds (None: every prompt)."""
        nothing = Price(0, 0, 0, source=provider, dated=self.on.isoformat())
        if "price" in fields:
            return self.stated_price(fields["price"]) or nothing, None
        found = catalog.price(provider, name, on=self.on)
        if found is not None:
            return found, catalog.priced_tokens(provider, name, on=self.on)
        if provider == "simulated":
            return nothing, None
        at, label = fields["id"], fields["id"].text
        remedy = "give its price (0 where it is free)"
        if known is not None or "base_url" in fields:
            self.findings.add(at, f"no price is known for {label!r}", remedy)
        else:
            hint = catalog.suggest(label)
            remedy = f"{hint} Or {remedy}" if hint else f"check its name, or {remedy}"
            self.findings.add(at, f"{label!r} is not in the catalogue", remedy)
        return nothing, None

    def stated_price(self, at: Node) -> Price | None:
        """A price as people write it: 0, or USD per million tokens for each side."""
        findings, before = self.findings, len(self.findings.problems)
        amounts: dict[str, int] = {}
        source, dated = "stated in the study file", self.on.isoformat()
        example = "write {input: 0.15, output: 0.60} in USD per million tokens"
        if isinstance(at.value, Mapping):
            sides = ("input", "cached_input", "output")
            fields = findings.mapping(at, (*sides, "source", "dated")) or {}
            for side in sides:
                if side in fields:
                    amounts[side] = self.per_ktok(fields[side])
                elif side != "cached_input":
                    findings.add(at, f"a price without its {side} side", example)
            if "source" in fields:
                source = findings.text(fields["source"], remedy="write where it is published") or ""
            if "dated" in fields:
                dated = self.day(fields["dated"])
        elif findings.money(at):
            findings.add(at, f"{at.text} is only one side of a price", example)
        if len(findings.problems) > before:
            return None
        input_nusd = amounts.get("input", 0)
        cached_nusd = amounts.get("cached_input", input_nusd)
        return Price(input_nusd, cached_nusd, amounts.get("output", 0), source=source, dated=dated)

    def per_ktok(self, at: Node) -> int:
        usd = self.findings.money(at)
        try:
            return 0 if usd is None else catalog.nusd_per_ktok(usd)
        except CatalogMistake as error:
            self.findings.add(at, error.what, error.remedy)
            return 0

    def day(self, at: Node) -> str:
        try:
            return date.fromisoformat(at.text).isoformat()
        except ValueError:
            self.findings.add(at, f"{at.text!r} is not a day", "write it like 2026-11-21")
            return ""

    def params(self, at: Node | None) -> dict[str, object]:
        """What is sent to the model as it is."""
        if at is None:
            return {}
        if not isinstance(at.value, Mapping):
            self.findings.add(at, "not a mapping", "write them like {reasoning_effort: low}")
            return {}
        for key, child in at.value.items():
            if _SECRET.fullmatch(key):
                self.findings.add(child, "a key in a study file", _SECRETS)
            elif key in providers.RESERVED_PARAMS:
                remedy = _SHARED.get(key, "leave it out")
                self.findings.add(child, "it is the same for every model and turn", remedy)
            elif not _finite(child):
                self.findings.add(child, "a number that JSON has no word for", "write a finite one")
        return {key: plain(child) for key, child in at.value.items()}

    def limits(self, at: Node | None, provider: str) -> Limits:
        standard = _LOCAL_LIMITS if provider == "local" else Limits()
        if at is None:
            return standard
        findings = self.findings
        fields = findings.mapping(at, ("connections", "rpm", "tpm", "timeout_s")) or {}
        highest = {"connections": 10_000, "rpm": 10_000_000, "tpm": 1_000_000_000}
        given = {
            key: findings.whole(fields[key], 1, most)
            for key, most in highest.items()
            if key in fields
        }
        timeout_s = findings.number(fields["timeout_s"], 1, 3600) if "timeout_s" in fields else None
        return Limits(
            connections=given.get("connections") or standard.connections,
            rpm=given.get("rpm"),
            tpm=given.get("tpm"),
            timeout_s=timeout_s or standard.timeout_s,
        )


def _finite(at: Node) -> bool:
    if isinstance(at.value, Mapping):
        return all(map(_finite, at.value.values()))
    if isinstance(at.value, tuple):
        return all(map(_finite, at.value))
    return not isinstance(at.value, float) or math.isfinite(at.value)
