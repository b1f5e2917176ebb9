"""What the edge adds to an answer, and how far requests in flight pass the bound: a real Envoy.

    python bench/bench_edge.py [--requests 3000]

Latency is measured in pairs within one run, straight to a server and through the edge, one request
at a time. Client, edge and server are three processes: only where the machine has nothing else to
do is the difference the edge's own. The overshoot is the most requests in flight at once, seen by
the servers, over ``admit.inFlight``, in bursts of 200.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.rig.model_servers import ModelServer
from tests.e2e.rig.processes import Custody
from tests.e2e.test_edge import World, world

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

ADMIT = 20
APART = "127.10.0.9"


async def _serve(port: int) -> None:
    await ModelServer("apart", APART, port).start()
    await asyncio.Event().wait()


def _server(port: int) -> None:
    asyncio.run(_serve(port))


@contextmanager
def server_apart(port: int) -> Iterator[None]:
    """A server that answers at once, in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=_server, args=(port,))
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


async def _milliseconds(session: aiohttp.ClientSession, url: str) -> float:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello " * 200}]}
    began = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        await answer.read()
    return (time.perf_counter() - began) * 1000


async def _alone(w: World, url: str) -> None:
    """Wait until the server apart answers what comes to the edge, and nobody else does."""
    w.names.names["llama.serving"] = [APART]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        await asyncio.sleep(1.0)
        try:
            await _milliseconds(w.session, url)
        except OSError:
            continue
        w.reset()
        await w.burst(20)
        if sum(replica.answered for replica in w.replicas) == 0:
            return
    msg = "the edge did not find the server apart within 30 s"
    raise TimeoutError(msg)


async def _latency(w: World, requests: int) -> None:
    port = w.replicas[0].port
    url = f"http://{APART}:{port}"
    straight, through = [], []
    with server_apart(port):
        before = list(w.names.names["llama.serving"])
        await _alone(w, url)
        for _ in range(requests):
            straight.append(await _milliseconds(w.session, url))
            through.append(await _milliseconds(w.session, w.edges[0].url))
        w.names.names["llama.serving"] = before
    for name, q in (("p50", 50), ("p90", 90), ("p99", 99)):
        low, high = (statistics.quantiles(each, n=100)[q - 1] for each in (straight, through))
        print(
            f"{name}: {low:.2f} ms straight, {high:.2f} ms through the edge, +{high - low:.2f} ms"
        )
    added = [b - a for a, b in zip(straight, through, strict=True)]
    print(f"p50 of the differences, pair by pair: +{statistics.median(added):.2f} ms")


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
            w.decider.say(in_flight=ADMIT, seconds=600)
            await w.settle()
            await _overshoot(w)
            await _latency(w, requests)
            print(f"requests that got no answer: {len(w.problems)}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    asyncio.run(_run(parser.parse_args().requests))


if __name__ == "__main__":
    main()
