"""Foreign text made harmless: what a model, a server or a file said is shown and does nothing.

`Html` is the only string that goes into the page as it is; it is made by `tag`, which escapes every
other one. Text that JavaScript will show travels as JSON in a data block, and is only ever set as
`textContent`.
"""

from __future__ import annotations

import html
import re

import msgspec

__all__ = ["Html", "Node", "embedded", "join", "tag", "visible", "within"]


class Html(str):
    """Markup of our own making."""

    __slots__ = ()


Node = Html | str | int | None

_VOID = frozenset({"br", "hr", "input", "meta"})

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


def tag(name: str, /, *children: Node, **attributes: str | int | bool | None) -> Html:
    """An element. Children that are not `Html` are escaped; None is nothing.

    `class_` and `for_` lose their underscore, other underscores become hyphens; True is an
    attribute without a value, False and None none at all.
    """
    made = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix("_").replace("_", "-")
        made.append(f" {key}" if value is True else f' {key}="{_escaped(str(value))}"')
    made.append(">")
    if name not in _VOID:
        made += [join(*children), f"</{name}>"]
    return Html("".join(made))


def join(*children: Node) -> Html:
    """Nodes one after the other."""
    return Html(
        "".join(
            child if isinstance(child, Html) else _escaped(str(child))
            for child in children
            if child is not None
        )
    )


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def embedded(value: object) -> Html:
    """JSON that can stand in a `<script>` block: no `<`, `>`, `&` nor line separator in it."""
    text = msgspec.json.encode(value).decode()
    for raw in "<>&\u2028\u2029":
        text = text.replace(raw, f"\\u{ord(raw):04x}")
    return Html(text)
