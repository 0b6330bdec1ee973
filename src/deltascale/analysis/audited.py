"""Deltas with only as many flips as a person's blind audit of some of them confirms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deltascale.analysis.arms import Arm
from deltascale.analysis.results import E1, Caveat, Finding, Settings, estimate
from deltascale.stats.checks import AuditedDelta, audited_delta
from deltascale.stats.flips import count_flips
from deltascale.stats.paired import wilson_interval

__all__ = ["audited", "caveats"]


def audited(found: Sequence[Arm], settings: Settings) -> Iterator[Finding]:
    """For each audited protocol the share of its flips that are none, by kind; for each of its
    cells the delta that is left. Nothing without an audit."""
    for one in settings.audit:
        for kind, n, confirmed in (
            ("fixed", one.fixed_audited, one.fixed_confirmed),
            ("broken", one.broken_audited, one.broken_confirmed),
        ):
            if not n:
                continue
            made = estimate(
                f"share of `{kind}` flips that a blind audit does not confirm",
                1 - confirmed / n,
                wilson_interval(n - confirmed, n, level=settings.level),
                n=n,
                method="Wilson",
                level=settings.level,
            )
            yield Finding(f"audit_error_{kind}", made, protocol=one.protocol)
    for arm, left in _adjusted(found, settings):
        cell = arm.cell
        adjusted = estimate(
            f"{E1}: delta with only the share of flips that the audit confirmed",
            left.adjusted,
            n=int(arm.known.sum()),
            n_missing=arm.n_missing,
            method="flips of each kind scaled",
            level=settings.level,
            note=f"differs from the headline by {100 * (left.adjusted - left.delta):+.2f} points"
            + (", over 1 % of the audited flips were none" if left.adjust else ""),
        )
        yield Finding(
            "delta_audited", adjusted, cell.model, cell.dataset, cell.protocol, cell.temperature
        )


def caveats(settings: Settings) -> Iterator[Caveat]:
    """A protocol over one in a hundred of whose audited flips are none."""
    for one in settings.audit:
        n = one.fixed_audited + one.broken_audited
        wrong = n - one.fixed_confirmed - one.broken_confirmed
        if n and wrong / n > 0.01:
            text = (
                f"{wrong} of {n} audited flips are none: read `delta_audited` in sensitivity "
                "beside every delta"
            )
            yield Caveat(1, "audit", one.protocol, text)


def _adjusted(found: Sequence[Arm], settings: Settings) -> Iterator[tuple[Arm, AuditedDelta]]:
    by_protocol = {one.protocol: one for one in settings.audit}
    for arm in found:
        one = by_protocol.get(arm.cell.protocol)
        if one is None or not arm.binary or not arm.known.any():
            continue
        flips = count_flips(arm.first, arm.last)
        yield (
            arm,
            audited_delta(
                round(flips.fixed),
                round(flips.broken),
                int(arm.known.sum()),
                fixed_audited=one.fixed_audited,
                fixed_confirmed=one.fixed_confirmed,
                broken_audited=one.broken_audited,
                broken_confirmed=one.broken_confirmed,
                level=settings.level,
            ),
        )
