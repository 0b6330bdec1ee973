"""Peak memory of a run against the number of its samples: it should not grow with them.

    python -m benchmarks memory

The model answers in process. The items themselves are held, so the same thousand items are asked
in more epochs; a last row shows what a hundred thousand different items weigh.
"""

from __future__ import annotations

import argparse

from benchmarks import measure, workload

__all__: list[str] = []

_NOWHERE = "http://127.0.0.1:9/v1"


def _once(n_items: int, epochs: int) -> dict[str, float]:
    job = {
        "mode": "memory",
        "base_url": _NOWHERE,
        "prompts": [f"What is {number} + 1?" for number in range(n_items)],
        "epochs": epochs,
        "turns": 1,
        "connections": workload.CONNECTIONS,
        "max_tokens": workload.MAX_TOKENS,
        "rounds": 1,
    }
    told = measure.child("benchmarks.ours", job)
    return {name: values[0] for name, values in told.items()}


def _row(shown: str, run: dict[str, float]) -> list[str]:
    figures = (run["peak_mb"], run["own_mb"] - run["before_mb"], run["ledger_mb"])
    return [shown, *(f"{figure:,.1f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    wanted = parser.parse_args()
    n_many = wanted.items * wanted.epochs
    few = _once(wanted.items, 1)
    many = _once(wanted.items, wanted.epochs)
    wide = _once(n_many, 1)
    more = {name: many[name] - few[name] for name in few}
    rows = [
        _row(f"{wanted.items:,} samples ({wanted.items:,} items, 1 epoch)", few),
        _row(f"{n_many:,} samples ({wanted.items:,} items, {wanted.epochs} epochs)", many),
        _row("difference (aim: none)", more),
        _row(f"{n_many:,} samples ({n_many:,} items, 1 epoch)", wide),
    ]
    header = ["one run in a process", "peak RSS, MB", "own memory the run added, MB", "ledger, MB"]
    measure.table(header, rows)


if __name__ == "__main__":
    main()
