"""What people would use instead, having the same conversations. Imports nothing of deltascale.

Reads a job from stdin and prints one line of JSON: calls, wall and CPU seconds. A small first
round, not measured, opens what is opened once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import TypedDict

__all__ = ["Job"]

_Ask = Callable[[list[dict[str, str]]], Awaitable[str]]


class Job(TypedDict):
    """`prompts` are the first messages; `review` is what is said before every further turn."""

    client: str
    base_url: str
    prompts: list[str]
    review: str
    turns: int
    connections: int
    max_tokens: int


_WARM = 16


async def _have(job: Job, prompts: list[str], ask: _Ask) -> None:
    """The conversations, by as many workers as there are connections."""
    left = iter(prompts)

    async def work() -> None:
        for prompt in left:
            messages = [{"role": "user", "content": prompt}]
            for _ in range(job["turns"]):
                text = await ask(messages)
                messages.append({"role": "assistant", "content": text})
                messages.append({"role": "user", "content": job["review"]})

    async with asyncio.TaskGroup() as group:
        for _ in range(job["connections"]):
            group.create_task(work())


async def _timed(job: Job, ask: _Ask) -> tuple[float, float]:
    await _have(job, job["prompts"][:_WARM], ask)
    wall, cpu = time.perf_counter(), time.process_time()
    await _have(job, job["prompts"], ask)
    return time.perf_counter() - wall, time.process_time() - cpu


async def _bare(job: Job) -> tuple[float, float]:
    """As little as can be: aiohttp, JSON, a list of messages. Keeps nothing."""
    import aiohttp

    url = f"{job['base_url']}/chat/completions"
    connector = aiohttp.TCPConnector(limit=job["connections"])
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(messages: list[dict[str, str]]) -> str:
            body = {
                "model": "loopback",
                "messages": messages,
                "max_tokens": job["max_tokens"],
                "temperature": 0.7,
            }
            async with session.post(url, json=body) as response:
                text: str = (await response.json())["choices"][0]["message"]["content"]
                return text

        return await _timed(job, ask)


async def _sdk(job: Job) -> tuple[float, float]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=job["base_url"], api_key="none") as client:

        async def ask(messages: list[dict[str, str]]) -> str:
            reply = await client.chat.completions.create(
                model="loopback",
                messages=messages,  # type: ignore[arg-type]  # the SDK wants a dict type a role
                max_tokens=job["max_tokens"],
                temperature=0.7,
            )
            return reply.choices[0].message.content or ""

        return await _timed(job, ask)


def _inspect(job: Job) -> tuple[float, float]:
    """Inspect as its manual says: its provider for compatible servers, logs on as by default."""
    import inspect_ai  # type: ignore[import-not-found]  # lives in an environment of its own
    from inspect_ai.dataset import MemoryDataset, Sample  # type: ignore[import-not-found]
    from inspect_ai.model import GenerateConfig, get_model  # type: ignore[import-not-found]
    from inspect_ai.scorer import match  # type: ignore[import-not-found]
    from inspect_ai.solver import generate, user_message  # type: ignore[import-not-found]

    model = get_model("openai-api/loopback/loopback", base_url=job["base_url"], api_key="none")

    def have(prompts: list[str]) -> None:
        solver = [generate()]
        for _ in range(job["turns"] - 1):
            solver += [user_message(job["review"]), generate()]
        task = inspect_ai.Task(
            dataset=MemoryDataset([Sample(input=prompt, target="15") for prompt in prompts]),
            solver=solver,
            scorer=match(numeric=True),
            config=GenerateConfig(
                max_connections=job["connections"], max_tokens=job["max_tokens"], temperature=0.7
            ),
        )
        with tempfile.TemporaryDirectory() as folder:
            (log,) = inspect_ai.eval(task, model=model, log_dir=folder, display="none")
        if log.status != "success" or log.results is None:
            raise SystemExit(f"Inspect ended with {log.status}: {log.error}")
        if log.results.completed_samples != len(prompts):
            raise SystemExit("Inspect left samples out")

    have(job["prompts"][:_WARM])
    wall, cpu = time.perf_counter(), time.process_time()
    have(job["prompts"])
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    job: Job = json.load(sys.stdin)
    if job["client"] == "inspect":
        wall, cpu = _inspect(job)
    else:
        wall, cpu = asyncio.run({"bare": _bare, "sdk": _sdk}[job["client"]](job))
    n_calls = len(job["prompts"]) * job["turns"]
    print(json.dumps({"n_calls": [n_calls], "wall_s": [wall], "cpu_s": [cpu]}))


if __name__ == "__main__":
    main()
