"""What is drawn in a panel: axes in, marks out. Values come as estimates and are only placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from deltascale.analysis import CellResult, Finding, Foretold, FormFit, FrontierPoint, TurnResult
from deltascale.analysis.power import PowerRow
from deltascale.records import Estimate, ModelSpec
from deltascale.report.wording import size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Key",
    "Panel",
    "Place",
    "acceptability",
    "flips",
    "forest",
    "frontier",
    "label",
    "model_label",
    "plain",
    "points",
    "power",
    "scaling",
    "size_label",
    "turns",
]

Key: TypeAlias = tuple[str, float]
"""Protocol and temperature."""
Panel: TypeAlias = Callable[["Axes"], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model stands in every figure of a study: its row, its shade from light to dark with
    size, and its marker. Shades differ in lightness, so they are told apart in grey as well."""

    row: int
    label: str
    colour: str
    marker: str


PROTOCOL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PROTOCOL_MARKERS = ("o", "s", "^", "D", "v", "P")
FORM_LINES = {
    "constant": (":", "#777777"),
    "loglinear": ("-", "#0072B2"),
    "power": ("--", "#D55E00"),
    "saturating": ("-.", "#009E73"),
    "quadratic": ((0, (4, 1, 1, 1, 1, 1)), "#CC79A7"),
    "power_floor": ((0, (1, 1)), "#E69F00"),
    "two_rate": ((0, (6, 2)), "#000000"),
}
FORM_WORDS = {
    "loglinear": "log-linear",
    "power_floor": "power + floor",
    "two_rate": "two-rate",
}
INK, FAINT = "#222222", "#999999"
MEAN = ("o", INK)
"""Marker and face of a mean over datasets."""
_SHOWN = 0.05
"""Points that are undominated less often than this are drawn faint."""


# --- text ----------------------------------------------------------------------------------------


def plain(text: str, *, limit: int = 40) -> str:
    """Text that is only text: one line, no control or direction characters, no markup, not long."""
    kept = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    kept = " ".join(kept.split())
    return kept if len(kept) <= limit else f"{kept[: limit - 1]}…"


def label(key: Key, temperatures: int) -> str:
    """A protocol's name, with its temperature where the study has several."""
    name = plain(key[0].rpartition(":")[2], limit=20)
    return name if temperatures < 2 else f"{name}, T={key[1]:g}"


def model_label(model: ModelSpec) -> str:
    name = plain(model.id.rpartition("/")[2], limit=22)
    size = size_text(model.size).replace("-", "–")
    return name if size == "?" else f"{name} ({size})"


def size_label(parameters: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit * 0.9999:
            return f"{parameters / unit:g}{name}"
    return f"{parameters:g}"


def points(axis: str) -> Callable[[Axes], None]:
    """Axes that show shares as percentage points, with a sign."""

    def mark(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        chosen = axes.xaxis if axis == "x" else axes.yaxis
        chosen.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        chosen.set_major_formatter(FuncFormatter(lambda v, _: _signed(100 * v)))

    return mark


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "−")


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.3g}"


# --- marks ---------------------------------------------------------------------------------------


def _bar(made: Estimate) -> list[list[float]] | None:
    """An interval as lengths beside its value; None where there is none."""
    if made.value is None or made.low is None or made.high is None:
        return None
    return [[max(0.0, made.value - made.low)], [max(0.0, made.high - made.value)]]


def forest(cells: Sequence[CellResult], places: Mapping[str, Place], colour: str) -> Panel:
    """One row a model: delta with its interval; filled where it differs from zero after Holm."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.7, zorder=1)
        for one in cells:
            row = places[one.cell.model].row
            if one.delta.value is None:
                axes.text(0, row, "not estimated", va="center", fontsize=6, color=FAINT)
                continue
            sure = one.gate != "" or (one.p_holm is not None and one.p_holm < 0.05)
            axes.errorbar(
                one.delta.value, row, xerr=_bar(one.delta), fmt="o", color=colour,
                markerfacecolor=colour if sure else "white", elinewidth=1.1, zorder=3,
            )  # fmt: skip
        _rows(axes, places)
        points("x")(axes)

    return draw


def _rows(axes: Axes, places: Mapping[str, Place]) -> None:
    axes.set_yticks([p.row for p in places.values()], [p.label for p in places.values()])
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def flips(cells: Sequence[CellResult], places: Mapping[str, Place], *, most: int) -> Panel:
    """Answers fixed to the right of zero, broken to its left; `most` is the longest bar of all."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.7, zorder=4)
        for one in cells:
            if one.fixed is None or one.broken is None:
                continue
            row = places[one.cell.model].row
            axes.barh(row, one.fixed, height=0.68, color="#0072B2", zorder=3)
            axes.barh(
                row, -one.broken, height=0.68, color="#F4B183", edgecolor="#A04000",
                linewidth=0.4, hatch="////", zorder=3,
            )  # fmt: skip
            for count, side in ((one.fixed, 1), (one.broken, -1)):
                axes.annotate(
                    str(count), (side * count, row), xytext=(2 * side, 0),
                    textcoords="offset points", va="center_baseline",
                    ha="left" if side > 0 else "right", fontsize=6, color=INK,
                )  # fmt: skip
        axes.set_xlim(-1.35 * max(most, 1), 1.35 * max(most, 1))
        _rows(axes, places)
        _counts(axes)

    return draw


def _counts(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{abs(v):.0f}"))


def turns(rows: Sequence[TurnResult], places: Mapping[str, Place]) -> Panel:
    """Accuracy at every turn, one line a model, with intervals."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        for model, place in places.items():
            own = [r for r in rows if r.cell.model == model and r.accuracy.value is not None]
            _line(axes, [(float(r.turn), r.accuracy) for r in own], place)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))

    return draw


def acceptability(rows: Sequence[tuple[float, Finding]], places: Mapping[str, Place]) -> Panel:
    """How probable it is that correction pays, against what a right answer is worth."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axes.axhline(0.95, color=INK, linewidth=0.6, linestyle=":")
        axes.set_xscale("log")
        worths = sorted({usd for usd, _ in rows})
        for model, place in places.items():
            own = [(usd, one.estimate) for usd, one in rows if one.model == model]
            _line(axes, sorted(own, key=lambda pair: pair[0]), place)
        axes.xaxis.set_major_locator(FixedLocator(worths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"${v:g}"))
        axes.set_ylim(-0.03, 1.03)

    return draw


def _line(axes: Axes, values: Iterable[tuple[float, Estimate]], place: Place) -> None:
    known = [(x, made) for x, made in values if made.value is not None]
    if not known:
        return
    axes.plot(
        [x for x, _ in known], [made.value or 0.0 for _, made in known], color=place.colour,
        marker=place.marker, markeredgecolor=INK, markeredgewidth=0.3, label=place.label,
    )  # fmt: skip
    for x, made in known:
        if made.low is not None and made.high is not None:
            axes.vlines(x, made.low, made.high, color=place.colour, linewidth=0.7, alpha=0.55)


# --- against size --------------------------------------------------------------------------------


def scaling(
    cells: Sequence[CellResult],
    fits: Sequence[FormFit],
    foretold: Sequence[Foretold],
    marks: Mapping[str, tuple[str, str]],
    means: Sequence[tuple[ModelSpec, Estimate]] = (),
) -> Panel:
    """Deltas against size with the forms that fit; where nothing is fitted, the reason.

    A size that is only estimated is drawn as its interval. `marks` gives each dataset its marker
    and face. Where there are `means` over datasets, they have the intervals, and single cells are
    faint and have none.
    """

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.axhline(0, color=INK, linewidth=0.7, zorder=1)
        _curves(axes, fits, foretold)
        for one in cells:
            marker, face = marks[one.cell.dataset]
            if means:
                _faint(axes, one, marker, face)
            else:
                _sized(axes, one.model, one.delta, marker, face)
        for model, mean in means:
            _sized(axes, model, mean, *MEAN)
        _sizes_axis(axes)
        points("y")(axes)
        refused = next((f.note for f in fits if f.form == "none"), "" if foretold else "no fit")
        if refused:
            words = "\n".join(_wrapped(f"not fitted: {plain(refused, limit=90)}", 26))
            axes.text(
                0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize=6, color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip

    return draw


def _curves(axes: Axes, fits: Sequence[FormFit], foretold: Sequence[Foretold]) -> None:
    best = next((f.form for f in fits if f.delta_aicc == 0), "")
    within = {f.form for f in foretold} & set(FORM_LINES)
    for form in (name for name in FORM_LINES if name in within):
        own = sorted((f for f in foretold if f.form == form), key=lambda f: f.parameters)
        line, colour = FORM_LINES[form]
        near = [f for f in own if not f.extrapolated]
        for part, alpha in ((near, 1.0), (own, 0.35)):
            axes.plot(
                [f.parameters for f in part], [f.mean.value or 0.0 for f in part], color=colour,
                linestyle=line, alpha=alpha, linewidth=1.0, zorder=2,
                label=FORM_WORDS.get(form, form) if part is near else None,
            )  # fmt: skip
        if form == best:
            banded = [f for f in own if f.mean.low is not None and f.mean.high is not None]
            axes.fill_between(
                [f.parameters for f in banded], [f.mean.low or 0.0 for f in banded],
                [f.mean.high or 0.0 for f in banded], color=colour, alpha=0.13, linewidth=0,
            )  # fmt: skip
    far = [f.parameters for f in foretold if f.extrapolated]
    near_sizes = [f.parameters for f in foretold if not f.extrapolated]
    if far and near_sizes and max(far) > max(near_sizes):
        axes.axvspan(max(near_sizes), max(far), color="#000000", alpha=0.05, linewidth=0)
        axes.set_xlim(min(near_sizes) * 0.8, max(far))


def _faint(axes: Axes, one: CellResult, marker: str, face: str) -> None:
    """A cell beside its model's mean: only where the size is a point."""
    size, value = one.model.size, one.delta.value
    known = size.source in ("published", "simulated") and size.parameters is not None
    if known and size.parameters is not None and value is not None:
        axes.plot(
            [size.parameters], [value], marker=marker, color=FAINT, linestyle="none",
            markerfacecolor=face, markersize=2.6, zorder=3,
        )  # fmt: skip


def _sized(axes: Axes, model: ModelSpec, delta: Estimate, marker: str, face: str) -> None:
    size = model.size
    if delta.value is None:
        return
    known = size.source in ("published", "simulated") and size.parameters is not None
    if known and size.parameters is not None:
        axes.errorbar(
            size.parameters, delta.value, yerr=_bar(delta), fmt=marker, color=INK,
            markerfacecolor=face, markeredgewidth=0.7, elinewidth=0.7, zorder=4,
        )  # fmt: skip
    elif size.low is not None and size.high is not None:
        axes.hlines(delta.value, size.low, size.high, color=FAINT, linewidth=2.2, zorder=3)
        if delta.low is not None and delta.high is not None:
            middle = math.sqrt(size.low * size.high)
            axes.vlines(middle, delta.low, delta.high, color=FAINT, linewidth=0.7, zorder=3)


def _sizes_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(10, numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: size_label(v)))


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


# --- cost and power ------------------------------------------------------------------------------


def frontier(
    found: Sequence[FrontierPoint],
    looks: Mapping[str, tuple[str, str]],
    places: Mapping[str, Place],
) -> Panel:
    """Accuracy against cost of every way to an answer; a thin line joins those of one model.

    Points that are undominated in under 5 % of the replicates are faint. `looks` gives each
    protocol its marker and colour.
    """

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        known = [f for f in found if f.cost_usd.value is not None and f.accuracy.value is not None]
        if known and all((f.cost_usd.value or 0) > 0 for f in known):
            axes.set_xscale("log")
            _dollars(axes)
        for model, place in places.items():
            own = [f for f in known if f.model == model]
            _fan(axes, own, place.label)
        for one in known:
            _choice(axes, one, *looks[one.protocol])
        axes.margins(x=0.08, y=0.08)
        _room_for_names(axes)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))

    return draw


def _fan(axes: Axes, own: Sequence[FrontierPoint], name: str) -> None:
    """A model's label at its first answer, and lines from there to what it becomes."""
    start = next((f for f in own if f.protocol == "first answer"), None)
    if start is None:
        return
    x, y = start.cost_usd.value or 0.0, start.accuracy.value or 0.0
    for one in own:
        axes.plot(
            [x, one.cost_usd.value or 0.0], [y, one.accuracy.value or 0.0], color="#bbbbbb",
            linewidth=0.6, zorder=1,
        )  # fmt: skip
    shown = plain(name.partition(" (")[0], limit=16)
    axes.annotate(
        shown, (x, y), xytext=(-2, 2), textcoords="offset points",
        va="bottom", ha="right", fontsize=6, color="#555555", zorder=5,
    )  # fmt: skip


def _room_for_names(axes: Axes) -> None:
    """More space to the left, where a first answer's name stands."""
    low, high = axes.get_xlim()
    if axes.get_xscale() == "log":
        axes.set_xlim(low * (low / high) ** 0.2, high)
    else:
        axes.set_xlim(low - 0.2 * (high - low), high)


def _choice(axes: Axes, one: FrontierPoint, marker: str, colour: str) -> None:
    shown = (one.membership.value or 0.0) >= _SHOWN
    axes.errorbar(
        one.cost_usd.value or 0.0, one.accuracy.value or 0.0, yerr=_bar(one.accuracy),
        fmt=marker, color=colour, markerfacecolor=colour if shown else "white",
        markeredgewidth=0.7, elinewidth=0.7, alpha=1.0 if shown else 0.45, zorder=3 + shown,
    )  # fmt: skip


def _dollars(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(10, numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: usd(1000 * v)))


def usd(value: float) -> str:
    """Dollars at any scale: $12, $0.05, $2e−06."""
    if value >= 0.001 or value == 0:
        return f"${value:g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"${mantissa}e−{abs(int(exponent))}"


def power(rows: Sequence[PowerRow], looks: Mapping[str, tuple[str, str]], *, planned: int) -> Panel:
    """The least delta that would be found against the number of items, one line a protocol."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axes.set_xscale("log")
        axes.axvline(planned, color=INK, linewidth=0.7, linestyle=":")
        for protocol in dict.fromkeys(row.protocol for row in rows):
            own = [row for row in rows if row.protocol == protocol and row.value is not None]
            marker, colour = looks.get(protocol, ("o", INK))
            axes.plot(
                [row.items or 0 for row in own], [row.value or 0.0 for row in own], color=colour,
                marker=marker, label=label((protocol, 0.0), 1),
            )  # fmt: skip
        axes.xaxis.set_major_locator(FixedLocator([50, 200, 1000, 5000]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.set_ylim(bottom=0)
        points("y")(axes)

    return draw
