"""Calls a second and CPU time a call: a durable three-turn study beside what people use instead.

    python -m benchmarks throughput

The server is a process of its own; times are the client's alone, after a small first round. The
clients take turns, so that a neighbour's load hits them all.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from benchmarks import measure, ours, workload
from benchmarks.environment import rivals_python

__all__: list[str] = []

_LATENCY_S = 0.050
_IDEAL = workload.CONNECTIONS / _LATENCY_S
_Runs = dict[str, list[dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Client:
    """Who has the conversations, and how many of them are enough to measure."""

    name: str
    shown: str
    n_conversations: int
    python: str = sys.executable


def _once(client: Client, base_url: str, n_conversations: int) -> dict[str, float]:
    job: dict[str, object] = {
        "client": client.name,
        "mode": "live",
        "base_url": base_url,
        "prompts": workload.prompts(n_conversations, answer_format=ours.FORMAT),
        "review": ours.review_prompt(),
        "epochs": 1,
        "turns": workload.TURNS,
        "connections": workload.CONNECTIONS,
        "max_tokens": workload.MAX_TOKENS,
        "rounds": 1,
    }
    module = "benchmarks.ours" if client.name == "ours" else "benchmarks.rivals"
    told = measure.child(module, job, python=client.python)
    return {name: values[0] for name, values in told.items()}


def _clients(python: str | None, scale: float) -> list[Client]:
    n = workload.CONNECTIONS
    found = [
        Client("ours", "deltascale, durable", max(n, round(40 * n * scale))),
        Client("bare", "bare aiohttp loop, keeps nothing", max(n, round(40 * n * scale))),
    ]
    if python is not None:
        found.append(
            Client("sdk", "openai SDK, keeps nothing", max(n, round(8 * n * scale)), python)
        )
        found.append(Client("inspect", "Inspect AI, logs on", max(n, round(4 * n * scale)), python))
    return found


def _rate(run: dict[str, float]) -> float:
    return run["n_calls"] / run["wall_s"]


def _cpu_us(run: dict[str, float]) -> float:
    return 1e6 * run["cpu_s"] / run["n_calls"]


def _measured(clients: list[Client], latency_s: float, rounds: int) -> _Runs:
    """Every client's runs, in turns; a rival that fails is told of and left out."""
    runs: _Runs = {client.name: [] for client in clients}
    with measure.server(latency_s) as base_url:
        for _ in range(rounds):
            for client in clients:
                if client.name not in runs:
                    continue
                try:
                    runs[client.name].append(_once(client, base_url, client.n_conversations))
                except measure.ChildError as failed:
                    if client.python == sys.executable:
                        raise
                    print(f"{client.shown}: left out: {failed}", flush=True)
                    del runs[client.name]
    return runs


def _rows(clients: list[Client], runs: _Runs, full: float) -> list[list[str]]:
    rows = []
    for client in clients:
        if client.name not in runs:
            continue
        mine = runs[client.name]
        rates, cpus = [_rate(run) for run in mine], [_cpu_us(run) for run in mine]
        row = [client.shown, measure.spread(rates, "{:,.0f}"), measure.spread(cpus, "{:,.0f}")]
        row.append(f"{measure.median(rates) / full:.2f}")
        rows.append(row)
    return rows


def _ratio(runs: _Runs, above: str, below: str, of: str) -> str:
    """The median over rounds of one client's figure by another's of the same round."""
    figure = _rate if of == "rate" else _cpu_us
    pairs = zip(runs[above], runs[below], strict=True)
    return measure.spread([figure(one) / figure(other) for one, other in pairs])


def _ratios(runs: _Runs, at: str, *, aims: dict[str, str]) -> list[list[str]]:
    rows = []
    for rival, shown in (("bare", "bare loop"), ("sdk", "openai SDK"), ("inspect", "Inspect AI")):
        if rival in runs and "ours" in runs:
            rows.append(
                [
                    f"deltascale by {shown}, {at}",
                    _ratio(runs, "ours", rival, "rate"),
                    aims.get(rival, ""),
                    _ratio(runs, rival, "ours", "cpu"),
                ]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the conversations")
    parser.add_argument("--alone", action="store_true", help="without openai SDK and Inspect")
    wanted = parser.parse_args()
    clients = _clients(None if wanted.alone else rivals_python(), wanted.scale)
    ratios: list[list[str]] = []
    for latency_s in (0.0, _LATENCY_S):
        runs = _measured(clients, latency_s, wanted.rounds)
        at = "no latency" if not latency_s else f"{1e3 * latency_s:.0f} ms"
        print(f"{workload.CONNECTIONS} connections, {workload.TURNS} turns, {at}:\n")
        bare = measure.median(_rate(run) for run in runs["bare"])
        header = ["client", "calls/s", "CPU µs/call", "of ideal" if latency_s else "of bare"]
        measure.table(header, _rows(clients, runs, _IDEAL if latency_s else bare))
        aims = {"inspect": ">= 20"} if latency_s else {"bare": ">= 0.5", "inspect": ">= 20"}
        ratios += _ratios(runs, at, aims=aims)
        if latency_s and "ours" in runs:
            shares = measure.spread([_rate(run) / _IDEAL for run in runs["ours"]])
            ratios.append([f"deltascale by ideal, {at}", shares, ">= 0.95", ""])
    measure.table(["ratio", "of calls/s", "aim", "of CPU (theirs by ours)"], ratios)


if __name__ == "__main__":
    main()
