"""An interpreter with the clients that deltascale does not depend on, made when first used."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["rivals_python"]

_PACKAGES = ("inspect-ai", "openai")
_IMPORTS = "import inspect_ai, openai"


def rivals_python() -> str | None:
    """The interpreter of that environment; None, with a message, where it can't be made.

    It lies in the user's cache. DELTASCALE_BENCH_PYTHON names an interpreter to use instead.
    """
    chosen = os.environ.get("DELTASCALE_BENCH_PYTHON")
    if chosen:
        return chosen if _works(chosen) else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "deltascale-benchmarks" / f"rivals-{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.exists() and _works(str(python)):
        return str(python)
    print(f"installing {' and '.join(_PACKAGES)} into {folder.parent.name}, once ...", flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*command, *_PACKAGES], check=True, timeout=1200)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no openai SDK and no Inspect AI: they can't be installed here ({error})\n")
        return None
    return str(python) if _works(str(python)) else None


def _works(python: str) -> bool:
    try:
        ran = subprocess.run([python, "-c", _IMPORTS], capture_output=True, check=False)
    except OSError as error:
        print(f"no openai SDK and no Inspect AI: {error}\n")
        return False
    if ran.returncode:
        print(f"no openai SDK and no Inspect AI: {python} can't import them\n")
    return ran.returncode == 0
