"""Whether a benchmark came whole: the number of its items, held against the published one."""

from __future__ import annotations

from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec

__all__ = ["check"]


def check(spec: DatasetSpec, found: int, published: int, *, what: str, told: str = "") -> None:
    """Refuse another number of items than was published, unless the setting `counts` is `any`.

    `what` they are, `tasks`; `told` is more about what was found.

    Raises:
        DatasetMistake: the numbers differ, or the setting is neither `any` nor `published`.
    """
    said = spec.options.get("counts", "published")
    if said not in ("any", "published"):
        raise DatasetMistake(
            f"counts is {said!r}",
            where=f"dataset {spec.name!r} options",
            remedy="known are any, published",
        )
    if found != published and said != "any":
        raise DatasetMistake(
            f"{found} {what} instead of {published}{f' ({told})' if told else ''}",
            where=spec.name,
            remedy="set the dataset's options to {counts: any} to use them as they are",
        )
