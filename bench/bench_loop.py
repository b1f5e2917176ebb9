"""What the slow loop takes of a core and of the event loop, without a cluster around it.

Run: python bench/bench_loop.py [--pools 1000] [--pods 10] [--collector usual]
The loop, the core and the reporter are the operator's own; behind their seams are the unit tests'
stand-ins, which cost some of what is shown (a snapshot of all pods at each pass). Reading
Prometheus' answers is measured apart, from answers as long as those of such a fleet. CPU is of this
process; the lag is over time, and longer where the machine has other work.

``--collector usual`` leaves the garbage collector at Python's own thresholds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import time
from pathlib import Path

import structlog
from pydantic_core import from_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spillway.adapters.metrics.answers import read_answer
from spillway.adapters.metrics.freshness import Freshness
from spillway.adapters.metrics.queries import GATEWAY_SIGNALS, PRICE_SIGNALS, Signal, build_queries
from spillway.adapters.metrics.snapshot import EngineTables
from spillway.controller import heartbeat
from spillway.controller.operator import RARE_FULL_COLLECTIONS
from tests.e2e.rig.fleet.looking import at_rank, process
from tests.e2e.rig.fleet.pages import MODEL
from tests.unit.controller import fakes
from tests.unit.controller.test_slow_loop import Setting

PASSES = 7
BEAT_SECONDS = 0.01


def furnish(setting: Setting, pools: int, pods: int) -> None:
    """Pools whose pods all serve."""
    for number in range(pools):
        name = f"pool{number}"
        made = [fakes.pod(f"{name}-{each}", app=name) for each in range(pods)]
        fakes.put(
            setting.seams.watches,
            fakes.pool(name, replicas={"floor": pods, "max": pods + 2}),
            fakes.deployment(name, spec_replicas=pods, scale_owned=True),
            fakes.service(name),
            *made,
        )
        setting.seams.prometheus.put(*(pod.name for pod in made))


async def passes(pools: int, pods: int) -> None:
    """Some passes of the slow loop, each with its statuses."""
    setting, late = Setting(), list[float]()
    furnish(setting, pools, pods)
    others = [
        asyncio.create_task(setting.reporter.run()),
        asyncio.create_task(heartbeat.run(late.append, period_seconds=BEAT_SECONDS)),
    ]
    for number in range(PASSES):
        for pool in range(pools):
            setting.arrivals(4.0 * pods + number % 2, f"pool{pool}")
        await asyncio.sleep(2 * BEAT_SECONDS)
        late.clear()
        cpu, began = time.process_time(), time.perf_counter()
        await setting.loop.tick()
        taken = time.perf_counter() - began
        await asyncio.sleep(1.0)
        print(
            f"pass {number + 1}: {time.process_time() - cpu:.2f} s of CPU with its statuses, "
            f"{taken:.2f} s; event loop late p50 {1000 * at_rank(late, 0.5):.0f} ms, "
            f"p99 {1000 * at_rank(late, 0.99):.0f} ms, most {1000 * max(late):.0f} ms"
        )
    for task in others:
        task.cancel()


def answer(signal: Signal, pools: int, pods: int, now: float) -> str:
    """What Prometheus would answer of a fleet."""
    value = str(now) if signal is Signal.SAMPLED_AT else "0.5"
    labels = {"model_name": MODEL, "engine": "0", "num_gpu_blocks": "27000"}
    rows = [
        {
            "metric": labels | {"namespace": f"team-{p // 50}", "pod": f"pool-{p}-7c9f8d6b5-{n}"},
            "value": [now, value],
        }
        for p in range(pools)
        for n in range(pods)
    ]
    data = {"resultType": "vector", "result": rows}
    return json.dumps({"status": "success", "data": data}, separators=(",", ":"))


def reading(pools: int, pods: int) -> None:
    """CPU of reading a snapshot's answers."""
    now = time.time()
    queries = [q for q in build_queries() if q.signal not in GATEWAY_SIGNALS | PRICE_SIGNALS]
    texts = [answer(query.signal, pools, pods, now) for query in queries]
    began = time.process_time()
    tables = EngineTables()
    answers = {
        query.signal: tables.take(
            query.signal, read_answer(from_json(text)["data"]["result"], query)
        )
        for query, text in zip(queries, texts, strict=True)
    }
    parsed = time.process_time()
    loads = tables.read(answers, Freshness(now, 60.0, 0.0)).loads
    print(
        f"Prometheus' answers: {parsed - began:.2f} s of CPU for {len(queries)} of {len(texts[0])} "
        f"bytes, {time.process_time() - parsed:.2f} s to join them to {len(loads)} loads"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--collector", choices=("operator", "usual"), default="operator")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if options.collector == "operator":
        gc.set_threshold(*RARE_FULL_COLLECTIONS)
    asyncio.run(passes(options.pools, options.pods))
    print(f"resident memory: {process('self').rss_mb:.0f} MB, the stand-ins' included")
    reading(options.pools, options.pods)


if __name__ == "__main__":
    main()
