"""Foreign text made harmless: what a model, a server or a file said is shown and does nothing.

`Html` is the only string that goes into the page as it is; it is made by `tag`, which escapes every
other one. Text that JavaScript will show travels as JSON in a data block, and is only ever set as
`textContent`.
"""

from __future__ import annotations

import html

import msgspec

from deltascale.report.wording import visible

__all__ = ["Html", "Node", "embedded", "join", "tag"]


class Html(str):
    """Markup of our own making."""

    __slots__ = ()


Node = Html | str | int | None

_VOID = frozenset({"br", "hr", "input", "meta"})


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
