"""The command line: parse, call one public function, print. Help imports nothing heavy."""

from __future__ import annotations

import os
import sys

import click

from deltascale import __version__
from deltascale.cli import artifact, catalogue, results, study
from deltascale.errors import Stop

__all__ = ["cli", "main"]


def main() -> None:
    """The entry point: every end of a command becomes its exit code and at most one message."""
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
