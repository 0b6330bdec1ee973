"""Draws docs/demo.svg: what `deltascale demo` prints, as a picture without outside references."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

SHOWN = 16


def main() -> None:
    """Run the demo and draw the first and the last lines of its output."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "deltascale", "demo", "--out", f"{folder}/demo"]
        lines = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    table = lines.index(next(line for line in lines if line.startswith("demo-sums")))
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print("$ deltascale demo", style="bold")
    for line in (*lines[table : table + SHOWN + 2], "…", lines[-1]):
        console.print(line, markup=False, highlight=False)
    svg = console.export_svg(title="deltascale demo", theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    Path(__file__).with_name("demo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
