"""Named text files out of a folder or a zip, wherever in it they lie. Unpacks nothing to disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from deltascale.errors import DatasetMistake

__all__ = ["listing", "locate", "own", "texts"]


def own(path: str) -> Path:
    """A user's path, `~` as their home; where there is no such home it stays, and is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def texts(path: Path, names: Sequence[str], *, where: str) -> dict[str, str]:
    """The text (UTF-8) of each named file, by name; a name is the end of a path, `college/x.jsonl`.

    Of several that end alike the one nearest to the top is taken. `where` names the place to the
    user.

    Raises:
        DatasetMistake: one is missing, or the folder or zip can't be read.
    """
    try:
        places = locate(listing(path), names, where=where)
        if path.is_dir():
            return {
                name: (path / place).read_text(encoding="utf-8") for name, place in places.items()
            }
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(place).decode("utf-8") for name, place in places.items()}
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DatasetMistake(f"it can't be read ({error})", where=where) from error


def listing(path: Path) -> list[str]:
    """The paths of the files in a folder or zip, without those that macOS adds to archives and
    those that would lie outside of it."""
    if path.is_dir():
        names = [entry.relative_to(path).as_posix() for entry in path.rglob("*") if entry.is_file()]
    else:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    return [name for name in names if _is_real(name)]


def _is_real(name: str) -> bool:
    parts = name.split("/")
    leaves = name.startswith(("/", "\\")) or ".." in parts
    return not leaves and "__MACOSX" not in parts and not parts[-1].startswith("._")


def locate(places: Iterable[str], names: Sequence[str], *, where: str) -> dict[str, str]:
    """Where each name lies among the paths.

    Raises:
        DatasetMistake: one is missing.
    """
    nearest = sorted(places, key=lambda place: (place.count("/"), len(place), place))
    found: dict[str, str] = {}
    for name in names:
        place = next((one for one in nearest if f"/{one}".endswith(f"/{name}")), None)
        if place is None:
            raise DatasetMistake(f"there is no {name} in it", where=where)
        found[name] = place
    return found
