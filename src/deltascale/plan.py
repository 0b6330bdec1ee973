"""Every sample of a study, in the order in which they are asked. Pure: it neither loads nor asks.

The order is item by item, and within an item protocol by protocol: protocols share calls, and a
study that stops early has the same items everywhere. Nothing is held but the study and its items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltascale.datasets import Loaded
from deltascale.records import Cell, ModelSpec, Params, Protocol, Sample, Scorer, Study

__all__ = ["Plan", "params"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A study with its items. `protocols` by name; `scorers` by the dataset's name."""

    study: Study
    loaded: tuple[Loaded, ...]
    protocols: Mapping[str, Protocol]
    scorers: Mapping[str, Scorer]

    def cells(self) -> Iterator[Cell]:
        """Every cell of the study."""
        for model in self.study.models:
            for loaded in self.loaded:
                for temperature in self.study.temperatures:
                    for protocol in self.study.protocols:
                        yield Cell(model.id, loaded.spec.name, protocol, temperature)

    def samples(self, model: ModelSpec) -> Iterator[Sample]:
        """Every sample of one model."""
        for loaded in self.loaded:
            cells = tuple(
                Cell(model.id, loaded.spec.name, protocol, temperature)
                for temperature in self.study.temperatures
                for protocol in self.study.protocols
            )
            for item in loaded.items:
                for epoch in range(self.study.epochs):
                    for cell in cells:
                        yield Sample(cell, item, epoch)

    def n_samples_per_cell(self) -> Mapping[str, int]:
        """By the dataset's name: items × epochs."""
        return {one.spec.name: len(one.items) * self.study.epochs for one in self.loaded}

    @property
    def n_samples(self) -> int:
        arms = len(self.study.models) * len(self.study.protocols) * len(self.study.temperatures)
        return arms * sum(self.n_samples_per_cell().values())


def params(study: Study, model: ModelSpec, temperature: float) -> Params:
    """The sampling parameters of a cell. A reasoning model takes no temperature."""
    return Params(
        max_tokens=study.max_tokens,
        temperature=None if model.reasoning else temperature,
        extra=dict(model.params),
    )
