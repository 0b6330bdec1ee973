"""Every command that a page shows exists, with the options shown; every file it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from deltascale.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every `deltascale …` in a fenced shell block or in back quotes."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines: list[str] = []
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            lines += block.replace("\\\n", " ").splitlines()
        lines += re.findall(
            r"`(deltascale [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        shown = (line for line in lines if line.startswith("deltascale "))
        found += [(page.name, line) for line in shown if "--help" not in line]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_shown_command_can_be_given(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = [word for word in words if word not in ("…", "...")]
    command: click.Command = cli
    context = click.Context(cli, info_name="deltascale")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: there is no command {words[0]!r}"
        command, words = found, words[1:]
    command.make_context("deltascale", words, parent=context, resilient_parsing=False)


def test_the_pages_show_commands() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_linked_file_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_tree_in_the_readme_is_the_tree() -> None:
    tree = re.findall(r"^  ([a-z_]+(?:/|\.py))  +", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert tree
    missing = [name for name in tree if not (ROOT / "src/deltascale" / name).exists()]
    assert not missing
    shown = {name.rstrip("/").removesuffix(".py") for name in tree}
    there = {
        path.stem
        for path in (ROOT / "src/deltascale").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and not path.stem.startswith("__")
    }
    assert there - shown <= {"demo", "doctor"}, "a module that the README does not show"
