"""Replayed calls a second: a finished study run again on its ledger, nothing asked.

    python -m benchmarks replay

The same path as a live run: every call is looked up by the digest of its request, and every sample
is scored and written anew. The server's address leads nowhere, so a call that is asked would fail.
"""

from __future__ import annotations

import argparse

from benchmarks import measure, ours, workload

__all__: list[str] = []

_NOWHERE = "http://127.0.0.1:9/v1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    job = {
        "mode": "replay",
        "base_url": _NOWHERE,
        "prompts": workload.prompts(wanted.samples, answer_format=ours.FORMAT),
        "epochs": 1,
        "turns": workload.TURNS,
        "connections": workload.CONNECTIONS,
        "max_tokens": workload.MAX_TOKENS,
        "rounds": wanted.rounds,
    }
    runs = measure.child("benchmarks.ours", job)
    rates = [n / wall for n, wall in zip(runs["n_calls"], runs["wall_s"], strict=True)]
    cpus = [1e6 * cpu / n for n, cpu in zip(runs["n_calls"], runs["cpu_s"], strict=True)]
    row = [f"{wanted.samples} samples, {workload.TURNS} turns"]
    row += [measure.spread(rates, "{:,.0f}"), ">= 10,000", measure.spread(cpus, "{:,.0f}")]
    measure.table(["finished study, run again", "replayed calls/s", "aim", "CPU µs/call"], [row])


if __name__ == "__main__":
    main()
