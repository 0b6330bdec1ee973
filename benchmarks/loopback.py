"""A loopback model's server as a process: `python -m benchmarks.loopback LATENCY_S`.

It answers every chat completion with the same text and prints its address when it is ready. Being
another process, it takes nothing from a client's CPU time.
"""

from __future__ import annotations

import asyncio
import json
import sys

from deltascale.testing import Asked, LoopbackServer, Told

__all__: list[str] = []

_TEXT = (
    "The first box holds 24 pencils and the second holds half as many, which is 12 pencils. "
    "Together the two boxes hold 24 + 12 = 36 pencils. Six pencils are given away, so that "
    "36 - 6 = 30 pencils are left, and they are shared equally between two friends, who get "
    "30 / 2 = 15 pencils each.\n#### 15"
)
_BODY = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "loopback",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT, "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 120, "completion_tokens": 95, "total_tokens": 215},
        "system_fingerprint": "fp_loopback",
    }
).encode()


async def _serve(latency_s: float) -> None:
    told = Told(body=_BODY, delay_s=latency_s)

    def respond(_: Asked) -> Told:
        return told

    async with LoopbackServer(respond) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
