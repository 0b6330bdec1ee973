"""The command line: parse, call one public function, print. Help imports nothing heavy."""

from __future__ import annotations

import errno
import io
import os
import sys

import click

from deltascale import __version__
from deltascale.cli import artifact, catalogue, results, study
from deltascale.errors import Stop

__all__ = ["cli", "main"]


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """The entry point: every end of a command becomes its exit code and at most one message."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows `?`
    try:
        cli.main(standalone_mode=False)
    except Stop as stop:
        click.echo(str(stop), err=True)
        sys.exit(stop.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as wrong:
        click.echo(f"deltascale: {wrong.format_message()}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; nothing paid for is lost, run the same command to resume", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # A file or a full disk is the user's to mend. What names no file is ours, and stays loud.
        if error.filename is None and error.errno not in _NO_ROOM:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"{place}{error.strerror}; {_remedy(error)}", err=True)
        sys.exit(2)


def _remedy(error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return "make room on the disk, then run the same command again"
    if error.errno == errno.ENOENT:
        return "check the path, and make its folder"
    return "name another place, or change who may write there"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="deltascale")
def cli() -> None:
    """Scaling studies of self-correction: does it help, by how much, and is it worth its price?

    Begin with `deltascale demo`, then `deltascale init`, `estimate`, `run`, `analyze`.
    """


_COMMANDS = (
    study.demo,
    study.init,
    study.estimate,
    study.run,
    study.status,
    results.analyze,
    results.report,
    results.paper,
    results.advise,
    results.power,
    results.audit,
    catalogue.models,
    catalogue.datasets,
    catalogue.doctor,
    artifact.export,
    artifact.pack,
    artifact.verify,
    artifact.diff,
)
for _command in _COMMANDS:
    cli.add_command(_command)
