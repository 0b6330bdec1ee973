"""What lies beside the record in a pack, for people and for repositories: how to verify, licences,
how to cite, and RO-Crate metadata. It knows the manifest and the lock, and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from deltascale import __version__
from deltascale.archive.container import Manifest
from deltascale.archive.lock import Lock

__all__ = ["CRATE", "write"]

CRATE = "ro-crate-metadata.json"

_FILES = {
    "ledger.db": "Every call, failure, sample and turn; SQLite",
    "lock.json": "What the study meant: prompts, prices, sizes, items, versions",
    "study.yaml": "The study as it was resolved",
    "models.csv": "The models asked and the versions served",
    "README.md": "What this is and how to verify it",
}


def write(folder: Path, lock: Lock, manifest: Manifest) -> None:
    """Write README.md, LICENSES.md, CITATION.cff and the RO-Crate metadata into the folder.

    A CITATION.cff that lies there already stays.
    """
    (folder / "README.md").write_text(_readme(lock, manifest), encoding="utf-8")
    (folder / "LICENSES.md").write_text(_licences(folder, lock), encoding="utf-8")
    if not (folder / "CITATION.cff").exists():
        text = _citation(lock, anonymous=manifest.anonymous)
        (folder / "CITATION.cff").write_text(text, encoding="utf-8")
    (folder / CRATE).write_bytes(
        msgspec.json.format(msgspec.json.encode(_crate(folder, lock)), indent=1)
    )


def _readme(lock: Lock, manifest: Manifest) -> str:
    study = lock.study
    left_out = "".join(f"- {line}\n" for line in manifest.left_out) or "- nothing\n"
    return f"""# {study.name}

A study of self-correction: {len(study.models)} models, {len(study.datasets)} datasets,
{len(study.protocols)} protocols, {study.turns} turns. It was made and packed with
deltascale {__version__}.

## How to verify it

    pip install deltascale=={__version__}
    deltascale verify FILE.zip

This needs no network, no keys, no models and no benchmark. It checks every byte, has every sample
again from the record through the real protocols and scorers, computes every table anew, and says
what was proved and what was not.

## How to repeat it

Unpack it, then `sh repeat-study.sh` asks every model anew, into a directory of its own, and
`sh repeat-analysis.sh` computes the tables from the ledger that lies here.

## What is left out

{left_out}"""


def _licences(folder: Path, lock: Lock) -> str:
    lines = [
        "# Licences",
        "",
        "Items stand under the licence of the benchmark that they come from. deltascale, which",
        "made the tables, is Apache-2.0. What its authors say of the study itself is in LICENSE,",
        "if that is here; without it, nothing is granted beyond reading and verifying.",
        "",
        "| dataset | licence | homepage | source |",
        "|---|---|---|---|",
    ]
    for name, dataset in lock.datasets.items():
        cells = (name, dataset.licence or "not known", dataset.homepage, dataset.source)
        lines.append(f"| {' | '.join(text.replace('|', '/') for text in cells)} |")
    return "\n".join([*lines, ""])


def _citation(lock: Lock, *, anonymous: bool) -> str:
    author = "Anonymous" if anonymous else "The authors of this study"
    return (
        "cff-version: 1.2.0\n"
        "message: If you use this study, please cite it, and the software that made it.\n"
        f'title: "{lock.study.name}: a scaling study of self-correction"\n'
        "type: dataset\n"
        f"authors:\n  - name: {author}\n"
        "references:\n"
        "  - type: software\n    title: deltascale\n"
        f"    version: {__version__}\n    license: Apache-2.0\n"
        "    authors:\n      - name: The deltascale authors\n"
    )


def _crate(folder: Path, lock: Lock) -> Mapping[str, object]:
    """RO-Crate 1.1: the folder as a dataset, its files, and the software as its instrument."""
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    parts = [name for name in files if name != CRATE]
    dates = [one.last for one in lock.served] + [model.price.dated for model in lock.study.models]
    licence = "LICENSE" if "LICENSE" in parts else "LICENSES.md"
    root: dict[str, object] = {
        "@id": "./",
        "@type": "Dataset",
        "name": lock.study.name,
        "description": "A scaling study of self-correction in language models: its record, tables "
        "and everything that verifying them needs.",
        "datePublished": max(dates, default="2026-01-01")[:10],
        "license": {"@id": licence},
        "hasPart": [{"@id": name} for name in parts],
        "mentions": [{"@id": "#run"}],
    }
    software = {
        "@id": "#deltascale",
        "@type": "SoftwareApplication",
        "name": "deltascale",
        "version": __version__,
        "license": "https://spdx.org/licenses/Apache-2.0",
    }
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": "the run of the study and its analysis",
        "instrument": {"@id": "#deltascale"},
        "object": [{"@id": "study.yaml"}],
        "result": [{"@id": name} for name in parts if name.startswith(("ledger", "results/"))],
    }
    described = [
        {
            "@id": name,
            "@type": "File",
            "name": name,
            **({"description": _FILES[name]} if name in _FILES else {}),
            "encodingFormat": _format(name),
        }
        for name in parts
    ]
    metadata = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [metadata, root, software, run, *described],
    }


def _format(name: str) -> str:
    known = {
        ".db": "application/vnd.sqlite3",
        ".json": "application/json",
        ".jsonl": "application/jsonl",
        ".yaml": "application/yaml",
        ".csv": "text/csv",
        ".html": "text/html",
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".pdf": "application/pdf",
        ".parquet": "application/vnd.apache.parquet",
        ".md": "text/markdown",
        ".cff": "application/yaml",
    }
    return known.get(Path(name).suffix, "text/plain")
