"""Numbers as people read them, and foreign text as text: points, dollars, sizes, an estimate with
its interval; control and invisible characters as signs.

Every form has one place, so that page, advice and paper say a number alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TypeAlias

from deltascale.records import Estimate, Size

__all__ = [
    "Row", "Value", "count", "dollars", "estimate_text", "in_unit", "n_of", "p_text",
    "per_thousand", "percent", "points", "short", "size_text", "visible", "within",
]  # fmt: skip

NONE = "—"

Value: TypeAlias = str | int | float | None
Row: TypeAlias = Mapping[str, Value]
"""A row of a table: column → value; None is an empty field: not estimable, or not applicable."""


def percent(share: float | None) -> str:
    """`54.5 %`."""
    return NONE if share is None else f"{100 * share:.1f} %"


def points(share: float | None) -> str:
    """A difference of shares in percentage points, always with its sign: `+3.2`, `−0.4`, `0.0`."""
    return NONE if share is None else _signed(100 * share, 1)


def dollars(usd: float | None) -> str:
    """`$0.0012`, `$35.10`; three digits below a dollar."""
    if usd is None:
        return NONE
    sign, size = ("−" if usd < 0 else ""), abs(usd)
    if size == 0:
        return "$0"
    if size >= 1:
        return f"{sign}${size:,.2f}"
    return f"{sign}${size:.2f}" if size == round(size, 2) else f"{sign}${_plain(size)}"


def per_thousand(usd: float | None) -> str:
    """Dollars for a thousand of what costs `usd`: prices of single answers are all zeros."""
    return dollars(None if usd is None else 1000 * usd)


def n_of(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`, `1,000 cells`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def count(parameters: float | None) -> str:
    """A parameter count: `8B`, `0.49B` as `490M`."""
    if parameters is None:
        return NONE
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= 0.9995 * unit:  # what rounds up to the unit is said in it
            return f"{parameters / unit:.3g}{name}"
    return f"{parameters:.0f}"


def p_text(p: float | None) -> str:
    """`0.013`, `< 0.001`."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def size_text(size: Size) -> str:
    """A parameter count as people write it; `?` where it is unknown, a range where estimated."""
    if size.parameters is not None:
        return count(size.parameters)
    if size.low is not None and size.high is not None:
        return f"{count(size.low)}-{count(size.high)}?"
    return "?"


def short(model: str) -> str:
    """A model's name without its provider."""
    return model.split("/", 1)[-1]


def in_unit(value: float | None, unit: str, *, signed: bool = True) -> str:
    """One number in an estimate's unit. Shares are points where they are differences."""
    if value is None:
        return NONE
    if unit == "share":
        return points(value) if signed else percent(value)
    if unit.startswith("USD"):
        return dollars(value)
    if unit == "parameters":
        return count(value)
    if unit.startswith("share per "):
        return _signed(100 * value, 2)
    return _figures(value)


def estimate_text(estimate: Estimate, *, signed: bool = True) -> str:
    """`+3.2 [+1.1, +5.3]`; what is missing of it is left out, and a note stands for no value."""
    value = in_unit(estimate.value, estimate.unit, signed=signed)
    if estimate.low is None and estimate.high is None:
        return estimate.note or NONE if estimate.value is None else value
    low, high = (
        end if side is None else in_unit(side, estimate.unit, signed=signed)
        for side, end in ((estimate.low, "−∞"), (estimate.high, "∞"))
    )
    limits = f"[{low}, {high}]"
    return limits if estimate.value is None else f"{value} {limits}"


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def _plain(size: float) -> str:
    """Three significant digits without an exponent, down to a billionth."""
    if size < 1e-9:
        return f"{size:.2e}"
    return f"{Decimal(f'{size:.2e}'):f}".rstrip("0")


def _figures(value: float) -> str:
    text = f"{value:.3g}"
    return text.replace("-", "−") if "e" not in text else text


# --- foreign text ---------------------------------------------------------------------------------

# Tab and line feed stay; carriage returns and every other control become pictures of themselves,
# and what reorders, joins or hides text becomes its code point.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with control, bidi and invisible characters as visible signs."""
    return _UNSEEN.sub(_sign, text.replace("\r\n", "\n"))


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def within(text: str, limit: int) -> str:
    """At most about `limit` characters, the beginning and the end, with a note on what is left out.

    Made visible after the cut, so that a long text costs no more than a short one.
    """
    if len(text) <= limit:
        return visible(text)
    tail = limit // 4
    left_out = len(text) - limit
    note = f"\n[… {left_out:,} characters are left out here; the ledger has them …]\n"
    return visible(text[: limit - tail]) + note + visible(text[-tail:])
