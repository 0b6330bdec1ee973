"""Commands for an artifact that anybody can check."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from deltascale.cli.options import (
    cache,
    environment,
    json_option,
    print_json,
)
from deltascale.errors import Mistake

__all__ = ["diff", "export", "pack", "verify"]

_FEW = 2


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--out", "target", type=click.Path(path_type=Path), required=True)
@click.option("--anonymous", is_flag=True, help="For a blind review: who and where is taken out.")
@click.option("--also", type=click.Path(path_type=Path), help="A list: more texts to take out.")
@click.option("--without-text", is_flag=True, help="Leave out texts whose licence is not open.")
def pack(directory: Path, target: Path, **options: Any) -> None:
    """A study as one file that anybody can verify."""
    from deltascale import assess
    from deltascale.archive import pack

    environ = environment()
    manifest, report = pack.pack(
        directory,
        target,
        analyze=assess.analyze,
        cache=cache(environ),
        environ=environ,
        **options,
    )
    if report is not None:
        _show_report(report)
    for kind, count in manifest.replaced.items():
        click.echo(f"replaced    {count} of the kind {kind}")
    _show_left_out(manifest.left_out)
    size = target.stat().st_size / 1e6
    click.echo(f"{target}: {len(manifest.members)} files, {size:.1f} MB")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Check a pack: every byte, every sample, every table; offline, without keys or models."""
    from deltascale import assess
    from deltascale.archive.verify import verify

    report = verify(file, analyze=assess.analyze)
    if as_json:
        print_json(report)
    else:
        _show_report(report)
    failed = sum(check.state == "failed" for check in report.checks)
    if failed:
        raise Mistake(
            f"it does not hold: {failed} of {len(report.checks)} checks failed",
            where=str(file),
            remedy="get the file again from where it is published, or ask its authors",
        )
    if not as_json:
        click.echo(f"{file}: all that can be checked holds")


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@json_option
def diff(first: Path, second: Path, as_json: bool) -> None:
    """What differs between two studies: their meaning, and what is on record."""
    from deltascale.archive import compare

    found = compare.differences(first, second)
    if as_json:
        print_json(found)
        return
    for one in found:
        before, after = compare.short(one.first) or "-", compare.short(one.second) or "-"
        click.echo(f"{one.path}: {before} | {after}")
    if not found:
        click.echo("nothing: the same study, and the same on record")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Choice(["csv", "parquet", "inspect"]), default="csv", show_default=True
)
@click.option("--out", "place", type=click.Path(path_type=Path), help="Default: DIRECTORY/export.")
@click.option("--without-text", is_flag=True, help="No replies, answers or targets in tables.")
def export(directory: Path, to: Any, place: Path | None, without_text: bool) -> None:
    """What happened, for other tools: tables of every turn and item, or logs for Inspect AI.

    csv and parquet: turns, one row a sample and turn, and items. inspect: one log a cell, for
    `inspect view`. Nothing is downloaded or asked.
    """
    from deltascale import assess

    if without_text and to == "inspect":
        raise Mistake("a log is made of text", where="--without-text", remedy="use --to csv")
    environ = environment()
    for path, n in assess.export(
        directory,
        place or directory / assess.EXPORT,
        to=to,
        cache=cache(environ),
        environ=environ,
        tell=lambda line: click.echo(line, err=True),
        text=not without_text,
    ):
        click.echo(f"{path}: {n:,} {'samples' if to == 'inspect' else 'rows'}")


def _show_left_out(lines: Iterable[str]) -> None:
    """What is not in the pack, by reason; the manifest names every file."""
    names_by_reason: dict[str, list[str]] = {}
    for line in lines:
        name, _, reason = line.rpartition(": ")
        names_by_reason.setdefault(reason, []).append(name)
    for reason, names in names_by_reason.items():
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        said = f"{', '.join(names[:_FEW])}{more}: {reason}" if any(names) else reason
        click.echo(f"left out    {said}")


def _show_report(report: Any) -> None:
    for check in report.checks:
        click.echo(f"{check.state:11} {check.name}: {check.detail}")
