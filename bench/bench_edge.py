"""What the edge adds to an answer, and how far requests in flight pass the bound: a real Envoy.

    python bench/bench_edge.py [--requests 3000]

Latency is measured in pairs within one run, straight to a server and through the edge, one request
at a time. The server shares the client's process, so the way straight needs no other process to be
scheduled: only on an idle machine is the difference the edge's own. The overshoot is the most
requests in flight at once, seen by the servers, over ``admit.inFlight``, in bursts of 200.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.rig.processes import Custody
from tests.e2e.test_edge import World, world

if TYPE_CHECKING:
    import aiohttp

ADMIT = 20


async def _milliseconds(session: aiohttp.ClientSession, url: str) -> float:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello " * 200}]}
    began = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        await answer.read()
    return (time.perf_counter() - began) * 1000


async def _latency(w: World, requests: int) -> None:
    server = w.replicas[0]
    server.seconds = w.replicas[1].seconds = 0.0
    straight, through = [], []
    for _ in range(requests):
        straight.append(await _milliseconds(w.session, f"http://{server.host}:{server.port}"))
        through.append(await _milliseconds(w.session, w.edges[0].url))
    for name, q in (("p50", 50), ("p90", 90), ("p99", 99)):
        low, high = (statistics.quantiles(each, n=100)[q - 1] for each in (straight, through))
        print(
            f"{name}: {low:.2f} ms straight, {high:.2f} ms through the edge, +{high - low:.2f} ms"
        )


async def _overshoot(w: World) -> None:
    for server in w.replicas:
        server.seconds = 0.25
    peaks = []
    for _ in range(10):
        w.reset()
        await w.burst(200)
        peaks.append(w.replicas[0].together.peak - ADMIT)
    print(f"over the bound of {ADMIT}, ten bursts of 200: {sorted(peaks)}")


async def _run(requests: int) -> None:
    with Custody() as custody:
        async with world(custody, "bench", keep_alive=True) as w:
            w.say(in_flight=ADMIT, seconds=600)
            await w.settle()
            await _latency(w, requests)
            await _overshoot(w)
            print(f"requests that got no answer: {len(w.problems)}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    asyncio.run(_run(parser.parse_args().requests))


if __name__ == "__main__":
    main()
