"""Figures for papers: estimates in; PDF, SVG and PNG out, the same bytes for the same estimates.

Drawn with matplotlib, which is imported only when a figure is drawn (extra `figures`). What has
nothing to show is not drawn. Computes nothing.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from deltascale.analysis import CellResult, Results
from deltascale.analysis.power import PowerRow
from deltascale.analysis.results import ALL_DATASETS
from deltascale.errors import MissingExtra
from deltascale.records import Estimate, ModelSpec
from deltascale.report.figures import panels
from deltascale.report.figures.panels import Key, Panel, Place, plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "WIDTHS", "Picture", "draw", "file_names", "pictures", "slug"]

Width: TypeAlias = Literal["column", "page"]
WIDTHS: Mapping[Width, float] = {"column": 3.3, "page": 6.9}
"""Inches: one column of a two-column page, and the whole page."""
FORMATS = ("pdf", "svg", "png")

_FEWEST_A_PROCESS = 8
"""A process takes as long to begin as it takes to draw some three figures."""

_LETTER = 0.05
"""Inches of a letter in the figures' type, on average."""

_METADATA: Mapping[str, dict[str, None]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
_SHADES = (
    "#bddf26", "#8fd744", "#65cb5e", "#42be71", "#28ae80", "#1f9f88",
    "#228d8d", "#2a788e", "#355f8d", "#3f4a8a", "#472f7d", "#440154",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_FACES = ("#ffffff", "#000000", "#9a9a9a")


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure before it is drawn. `name` is its file's, the same on every machine; `about` is
    the dataset it shows; `kind` what it shows of it; `margin` the letters of its longest row."""

    name: str
    kind: str
    about: str
    caption: str
    panels: tuple[tuple[str, Panel], ...]
    x_label: str
    y_label: str
    height: float
    columns: Mapping[Width, int]
    badge: str
    margin: int = 0
    key: tuple[tuple[str, str, str, str], ...] = ()
    key_from_panel: bool = False


def pictures(results: Results, *, power: Sequence[PowerRow] = ()) -> tuple[Picture, ...]:
    """Every figure that the results have something for, in a paper's order.

    `power` are the rows of `analysis.power.pilot`; without them that figure is left out.
    """
    if not results.cells:
        return ()
    scene = _Scene(results, power)
    return tuple(one for make in _KINDS for one in make(scene) if one.panels)


def draw(
    results: Results,
    directory: Path,
    *,
    power: Sequence[PowerRow] = (),
    widths: Iterable[Width] = tuple(WIDTHS),
    formats: Iterable[str] = FORMATS,
    wanted: Callable[[Picture], bool] = lambda _: True,
    processes: int = 1,
) -> tuple[Path, ...]:
    """Draw every wanted figure as `NAME-WIDTH.FORMAT`, with their captions in `captions.md`.

    More than one process draw beside each other; a script that asks for them needs the usual
    `if __name__ == "__main__"`. Raises MissingExtra where matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtra(
            "figures need matplotlib", remedy="install it with: pip install 'deltascale[figures]'"
        )
    directory.mkdir(parents=True, exist_ok=True)
    chosen = [picture for picture in pictures(results, power=power) if wanted(picture)]
    drawn = [(picture.name, width) for picture in chosen for width in widths]
    suffixes = tuple(formats)
    n = min(processes, -(-len(drawn) // _FEWEST_A_PROCESS))
    if n < 2:
        _draw(results, power, directory, suffixes, drawn)
    else:
        with ProcessPoolExecutor(n, mp_context=get_context("spawn"), initializer=_quiet) as pool:
            parts = [
                pool.submit(_draw, results, power, directory, suffixes, drawn[k::n])
                for k in range(n)
            ]
            for part in parts:
                part.result()
    captions = directory / "captions.md"
    text = "".join(f"**{picture.name}**. {picture.caption}\n\n" for picture in chosen)
    captions.write_text(text, encoding="utf-8", newline="\n")
    made = (directory / f"{name}-{width}.{end}" for name, width in drawn for end in suffixes)
    return (*made, captions)


def _draw(
    results: Results,
    power: Sequence[PowerRow],
    directory: Path,
    formats: Sequence[str],
    drawn: Sequence[tuple[str, Width]],
) -> None:
    """Draw the pictures of these names, each in its width."""
    import matplotlib
    from matplotlib import style

    by_name = {picture.name: picture for picture in pictures(results, power=power)}
    with (
        as_file(files(__package__) / "paper.mplstyle") as sheet,
        style.context(str(sheet), after_reset=True),
        matplotlib.rc_context({"backend": "agg"}),
    ):
        for name, width in drawn:
            figure = _figure(by_name[name], width)
            for suffix in formats:
                path = directory / f"{name}-{width}.{suffix}"
                figure.savefig(path, format=suffix, metadata=_METADATA[suffix])


def _quiet() -> None:
    """An interrupt ends a process without a word: the one that waits for it has them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def slug(text: str) -> str:
    """A name for a file: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file name for each dataset; two that would be the same are numbered."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        wanted, number = slug(name), 1
        while wanted in {*found.values(), "all"}:
            number += 1
            wanted = f"{slug(name)}-{number}"
        found[name] = wanted
    return found


# --- one figure ----------------------------------------------------------------------------------


def _figure(picture: Picture, width: Width) -> Figure:
    from matplotlib.figure import Figure

    columns = _columns(picture, WIDTHS[width], picture.columns[width])
    rows = -(-len(picture.panels) // columns)
    inches = WIDTHS[width]
    figure = Figure(layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    flat: list[Axes] = list(grid.flat)
    for axes, (title, panel) in zip(flat, picture.panels, strict=False):
        panel(axes)
        axes.set_title(_legible(title))
    for axes in flat[len(picture.panels) :]:
        axes.set_visible(False)
    for place, axes in enumerate(flat[: len(picture.panels)]):
        if place + columns >= len(picture.panels):
            axes.tick_params(axis="x", labelbottom=True)
            axes.set_xlabel(picture.x_label)
    if picture.y_label:
        figure.supylabel(picture.y_label, fontsize=7)
    below = _legend(figure, picture, flat[: len(picture.panels)], width)
    figure.set_size_inches(inches, rows * picture.height + 0.45 + 0.14 * below)
    if picture.badge:
        figure.suptitle(picture.badge, x=0.995, ha="right", fontsize=6.5, color="#555555")
    for text in figure.findobj(match=_is_text):
        text.set_text(_legible(text.get_text()))  # type: ignore[attr-defined]  # findobj is untyped
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _columns(picture: Picture, inches: float, most: int) -> int:
    """As many panels in a row as leave each wide enough for its title and its ticks."""
    room = inches - 0.25 - _LETTER * picture.margin
    least = max(0.95, _LETTER * 1.15 * max(len(title) for title, _ in picture.panels))
    return max(1, min(most, len(picture.panels), int(room / least)))


def _is_text(artist: object) -> bool:
    from matplotlib.text import Text

    return isinstance(artist, Text)


def _legend(figure: Figure, picture: Picture, drawn: Sequence[Axes], width: Width) -> int:
    """One legend below all panels; returns its rows."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = []
    names: list[str] = []
    for name, marker, colour, face in picture.key:
        handles.append(
            Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle="none")
        )
        names.append(name)
    if picture.key_from_panel:
        for axes in drawn:
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                if name not in names:
                    handles.append(handle)
                    names.append(name)
    if not handles:
        return 0
    entry = 0.55 + _LETTER * max(map(len, names))
    columns = max(1, min(len(names), 5, int(WIDTHS[width] / entry)))
    labels = [_legible(name) for name in names]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return -(-len(names) // columns)


def _legible(text: str) -> str:
    """The text with what the figures' font can't draw as boxes."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    if text.isascii():
        return text
    glyphs = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    return "".join(c if c == "\n" or ord(c) in glyphs else "□" for c in text)


# --- what there is to draw -----------------------------------------------------------------------


class _Scene:
    """The results by dataset, protocol and model, with the looks that all figures share."""

    def __init__(self, results: Results, power: Sequence[PowerRow]) -> None:
        self.results = results
        self.power = power
        self.datasets = tuple(dict.fromkeys(one.cell.dataset for one in results.cells))
        self.names = file_names(self.datasets)
        self.keys = tuple(dict.fromkeys(_key(one) for one in results.cells))
        self.gated = {_key(one) for one in results.cells if one.gate}
        models = {one.model.id: one.model for one in results.cells}
        self.models = sorted(models.values(), key=_by_size)
        last = max(1, len(self.models) - 1)
        self.places = {
            model.id: Place(
                row,
                panels.model_label(model),
                _SHADES[row * (len(_SHADES) - 1) // last],
                _MARKERS[row % len(_MARKERS)],
            )
            for row, model in enumerate(self.models)
        }
        protocols = list(dict.fromkeys(protocol for protocol, _ in self.keys))
        self.looks = {
            key: (
                panels.PROTOCOL_MARKERS[protocols.index(key[0]) % 6],
                panels.PROTOCOL_COLOURS[protocols.index(key[0]) % 6],
            )
            for key in self.keys
        }

    def title(self, key: Key) -> str:
        return panels.label(key, len({temperature for _, temperature in self.keys}))

    def bound(self, key: Key) -> str:
        """The title, with a word on those that are told the verdict."""
        title = self.title(key)
        return f"{title} (upper bound)" if key in self.gated else title

    def cells(self, dataset: str, key: Key) -> list[CellResult]:
        return [
            one for one in self.results.cells if one.cell.dataset == dataset and _key(one) == key
        ]

    def means(self, key: Key) -> list[tuple[ModelSpec, Estimate]]:
        """Every model's delta over all datasets, with what its size is."""
        models = {model.id: model for model in self.models}
        return [
            (models[one.model], one.estimate)
            for one in self.results.contrasts
            if one.quantity == "macro_delta"
            and (one.protocol, one.temperature) == key
            and one.model in models
        ]

    @property
    def badge(self) -> str:
        simulated = [model.provider == "simulated" for model in self.models]
        if all(simulated):
            return "simulated models"
        return "some models are simulated" if any(simulated) else ""

    def picture(
        self,
        kind: str,
        dataset: str,
        caption: str,
        found: Iterable[tuple[str, Panel]],
        *,
        x: str,
        y: str = "",
        height: float,
        page: int = 4,
        column: int = 2,
        margin: int = 0,
        key: tuple[tuple[str, str, str, str], ...] = (),
        key_from_panel: bool = False,
    ) -> Picture:
        name = "all" if dataset == ALL_DATASETS else self.names[dataset]
        said = f"{caption} {self.badge.capitalize()}." if self.badge else caption
        return Picture(
            f"{kind}-{name}", kind, dataset, said, tuple(found), x, y, height,
            {"column": column, "page": page}, self.badge, margin, key, key_from_panel,
        )  # fmt: skip


def _key(one: CellResult) -> Key:
    return one.cell.protocol, one.cell.temperature


def _by_size(model: ModelSpec) -> tuple[float, str]:
    size = model.size
    known = size.parameters or size.low
    return (float("inf") if known is None else known), model.id


def _shown(dataset: str) -> str:
    return dataset if dataset == ALL_DATASETS else plain(dataset)


def _deltas(scene: _Scene) -> Iterator[Picture]:
    level = scene.results.settings.level
    for gated in (False, True):
        for dataset in scene.datasets:
            found = []
            for key in scene.keys:
                cells = scene.cells(dataset, key)
                if cells and (key in scene.gated) == gated:
                    colour = scene.looks[key][1]
                    found.append((scene.title(key), panels.forest(cells, scene.places, colour)))
            of = f"Delta (accuracy at the last turn less accuracy at turn 0) on {_shown(dataset)}"
            caption = (
                f"{of}, upper bound: the protocol is told whether an answer is right, so delta "
                f"can't be negative. {100 * level:g} % intervals."
                if gated
                else f"{of}, with {100 * level:g} % intervals; filled where it differs from zero "
                "after Holm's adjustment over all cells that are tested."
            )
            yield scene.picture(
                "oracle" if gated else "deltas", dataset, caption, found,
                x="delta, points", height=_height(scene), margin=_margin(scene),
            )  # fmt: skip


def _height(scene: _Scene) -> float:
    return 0.35 + 0.155 * len(scene.models)


def _margin(scene: _Scene) -> int:
    return max(len(place.label) for place in scene.places.values())


def _flips(scene: _Scene) -> Iterator[Picture]:
    for dataset in scene.datasets:
        found = []
        own = [one for one in scene.results.cells if one.cell.dataset == dataset]
        most = max((max(one.fixed or 0, one.broken or 0) for one in own), default=0)
        for key in scene.keys:
            cells = [one for one in scene.cells(dataset, key) if one.fixed is not None]
            if cells:
                title = scene.bound(key)
                found.append((title, panels.flips(cells, scene.places, most=most)))
        caption = (
            f"Answers on {_shown(dataset)} that were wrong at first and right at last (fixed, to "
            "the right) and the reverse (broken, to the left, hatched), in samples."
        )
        yield scene.picture(
            "flips", dataset, caption, found, x="← broken    fixed →",
            height=_height(scene), margin=_margin(scene), page=5,
        )  # fmt: skip


def _turns(scene: _Scene) -> Iterator[Picture]:
    level = scene.results.settings.level
    for dataset in scene.datasets:
        found = []
        for key in scene.keys:
            rows = [
                row
                for row in scene.results.turns
                if (row.cell.dataset, row.cell.protocol, row.cell.temperature) == (dataset, *key)
            ]
            if any(row.turn > 0 for row in rows):
                title = scene.bound(key)
                found.append((title, panels.turns(rows, scene.places)))
        caption = (
            f"Accuracy on {_shown(dataset)} turn by turn, with {100 * level:g} % intervals; lines "
            "are models, darker with size."
        )
        yield scene.picture(
            "turns", dataset, caption, found, x="turn", y="accuracy, %", height=1.6, page=5,
            key_from_panel=True,
        )  # fmt: skip


def _scaling(scene: _Scene) -> Iterator[Picture]:
    results = scene.results
    pooled = {(one.protocol, one.temperature) for one in results.scaling}
    datasets = [*scene.datasets, *([ALL_DATASETS] if len(scene.datasets) > 1 else [])]
    hidden = [m for m in scene.models if m.size.source == "unknown"]
    guessed = [m for m in scene.models if m.size.source == "estimate"]
    for dataset in datasets:
        shown = scene.datasets if dataset == ALL_DATASETS else (dataset,)
        averaged = dataset == ALL_DATASETS and any(scene.means(key) for key in scene.keys)
        faces = ("#ffffff", panels.FAINT) if averaged else _FACES
        marks = {
            name: (_MARKERS[number % len(_MARKERS)], faces[number % len(faces)])
            for number, name in enumerate(shown)
        }
        found = []
        for key in scene.keys:
            if key not in pooled:
                continue
            about = (dataset, *key)
            fits = [f for f in results.scaling if (f.dataset, f.protocol, f.temperature) == about]
            rows = [
                f for f in results.predictions if (f.dataset, f.protocol, f.temperature) == about
            ]
            cells = [one for name in shown for one in scene.cells(name, key)]
            means = scene.means(key) if averaged else []
            found.append((scene.title(key), panels.scaling(cells, fits, rows, marks, means)))
        colour = panels.FAINT if averaged else panels.INK
        legend = (
            tuple((plain(name), mark, colour, face) for name, (mark, face) in marks.items())
            if len(shown) > 1
            else ()
        )
        if averaged:
            mark, face = panels.MEAN
            legend = (("mean over datasets", mark, panels.INK, face), *legend)
        caption = _scaling_caption(scene, dataset, hidden, guessed, averaged=averaged)
        yield scene.picture(
            "scaling", dataset, caption, found,
            x="parameters", y="delta, points", height=1.75, page=3, key=legend,
            key_from_panel=True,
        )  # fmt: skip


def _scaling_caption(
    scene: _Scene,
    dataset: str,
    hidden: Sequence[ModelSpec],
    guessed: Sequence[ModelSpec],
    *,
    averaged: bool,
) -> str:
    level = scene.results.settings.level
    points = "models' means over datasets" if averaged else "cells"
    said = [
        f"Delta against model size on {_shown(dataset)}: points are {points} with "
        f"{100 * level:g} % intervals; lines are the forms within 4 of the best AICc and the "
        "two-rate model, with the band of the best form's mean; faint lines on grey are "
        "extrapolation."
    ]
    if dataset == ALL_DATASETS:
        others = "faint points of single" if averaged else "points of each"
        said.append(f"Lines are of the mean over datasets, {others} dataset{'s' * averaged}.")
    if guessed:
        names = ", ".join(plain(m.id) for m in guessed)
        use = "as intervals" if scene.results.settings.estimated_sizes else "not in the fits"
        said.append(f"Grey bars: sizes that are only estimated, {use} ({names}).")
    if hidden:
        names = ", ".join(plain(m.id) for m in hidden)
        said.append(f"Not drawn, because their size is unknown: {names}.")
    return " ".join(said)


def _frontier(scene: _Scene) -> Iterator[Picture]:
    points = scene.results.frontier
    several = len({temperature for _, temperature in scene.keys}) > 1
    for dataset in dict.fromkeys(point.dataset for point in points):
        own = [point for point in points if point.dataset == dataset]
        found, used = [], []
        for temperature in dict.fromkeys(point.temperature for point in own):
            at = [point for point in own if point.temperature == temperature]
            looks = {"first answer": ("o", panels.INK)}
            looks |= {p.protocol: scene.looks.get((p.protocol, temperature), ("o", panels.INK))
                      for p in at if p.protocol != "first answer"}  # fmt: skip
            used += [(panels.label((name, 0), 1), *look, look[1]) for name, look in looks.items()]
            title = f"T={temperature:g}" if several else ""
            found.append((title, panels.frontier(at, looks, scene.places)))
        caption = (
            f"What an answer costs and how often it is right on {_shown(dataset)}, as deployed "
            "(every call paid for). Lines join a model's first answer to what each protocol makes "
            "of it; faint points are undominated in under 5 % of the bootstrap's replicates; "
            f"accuracy with {100 * scene.results.settings.level:g} % intervals."
        )
        yield scene.picture(
            "frontier", dataset, caption, found, x="cost of 1,000 items", y="accuracy, %",
            height=2.4, page=2, column=1, key=tuple(dict.fromkeys(used)),
        )  # fmt: skip


def _acceptability(scene: _Scene) -> Iterator[Picture]:
    prefix = "acceptability_at_"
    rows = [one for one in scene.results.costs if one.quantity.startswith(prefix)]
    for dataset in scene.datasets:
        found = []
        for key in scene.keys:
            own = [
                (float(one.quantity.removeprefix(prefix)), one)
                for one in rows
                if (one.dataset, one.protocol, one.temperature) == (dataset, *key)
            ]
            if own:
                found.append((scene.title(key), panels.acceptability(own, scene.places)))
        caption = (
            f"Share of bootstrap replicates in which correction pays on {_shown(dataset)}, by what "
            "one more right answer is worth; dotted: 0.95. Lines are models, darker with size."
        )
        yield scene.picture(
            "acceptability", dataset, caption, found, x="worth of a right answer",
            y="P(correction pays)", height=1.6, page=3, key_from_panel=True,
        )  # fmt: skip


def _power(scene: _Scene) -> Iterator[Picture]:
    """One picture of all datasets: what a cell could see, by its items."""
    found = []
    for dataset in scene.datasets:
        rows = [
            row
            for row in scene.power
            if (row.quantity, row.dataset) == ("least_detectable_delta", dataset)
        ]
        # One arm of each protocol: at several temperatures, the first.
        rows = list({(row.protocol, row.items): row for row in reversed(rows)}.values())[::-1]
        if any(row.value is not None for row in rows):
            planned = max(o.delta.n for o in scene.results.cells if o.cell.dataset == dataset)
            looks = {protocol: scene.looks[protocol, t] for protocol, t in reversed(scene.keys)}
            found.append((_shown(dataset), panels.power(rows, looks, planned=planned)))
    caption = (
        "The least true delta that a cell with so many items would tell from zero four times out "
        "of five, at the flip rates seen here and the level that Holm's first step leaves. Dotted: "
        "the pairs this study has."
    )
    if len(scene.results.study.temperatures) > 1 and scene.power:
        first = next((row.temperature for row in scene.power if row.temperature is not None), None)
        caption += "" if first is None else f" At temperature {first:g}."
    yield scene.picture(
        "power", ALL_DATASETS, caption, found, x="items", y="least delta, points", height=1.6,
        page=3, key_from_panel=True,
    )  # fmt: skip


_KINDS: tuple[Callable[[_Scene], Iterator[Picture]], ...] = (
    _deltas,
    _flips,
    _turns,
    _scaling,
    _frontier,
    _acceptability,
    _power,
)
