"""What the core takes of a core and of memory, a pool of ten replicas.

A decision, in one pass over 1,000 pools (goal: under 1 ms of CPU); a forecast's update and its
reading (under 0.2 ms); all that is remembered between two ticks (under 200 kB).

Run: python bench/bench_decide.py
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.names import Role
from spillway.core.decide import PoolMemory, decide
from spillway.core.facts import (
    GatewayLoad,
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)
from spillway.core.forecast import ForecastMemory, forecast, update

POOLS = 1000
REPLICAS = 10
#: Enough ticks that memories hold filed forecasts and residuals, as in a pool that has run a while.
WARM_UP_TICKS = 20
MEASURED_TICKS = 5
TICK_SECONDS = 15.0
#: Four hours and more: the residuals and the proposals are all there.
REMEMBERED_TICKS = 1000
REMEMBERED_POOLS = 5
FORECAST_TICKS = 5000
LEAD_SECONDS = 135.0

SPEC = InferencePoolSpec.model_validate(
    {
        "modelName": "m",
        "variants": [
            {
                "name": "gpu",
                "targetRef": {"name": "gpu"},
                "price": {"perAcceleratorHour": "3.50"},
            }
        ],
        "replicas": {"floor": 2, "max": 20},
        "warmPool": {"size": "auto"},
        "burst": {
            "providers": [
                {"name": "api", "price": {"inputPerMillion": "0.20", "outputPerMillion": "0.80"}}
            ]
        },
    }
)


def facts_of(pool: int, tick: int, now: float) -> PoolFacts:
    """A pool whose load wanders by a fixed pattern."""
    rps = 40.0 + (pool * 31 + tick * 17) % 20
    each = rps / REPLICAS
    load = ReplicaLoad(
        sampled_at=now,
        running=40.0,
        waiting=0.0,
        kv_usage=0.4,
        running_mean=40.0,
        in_flight_change_per_second=0.0,
        finished_per_second=each,
        prompt_tokens_per_second=1000 * each,
        generation_tokens_per_second=200 * each,
        prefix_hit_tokens_per_second=300 * each,
        steps_per_second=25.0,
        gpu_utilization=0.8,
    )
    pods = tuple(
        PodFacts(f"p{i}", f"{pool}-{i}", "1", Role.SERVING, PodPhase.READY, 0.0, 100.0, 100.0)
        for i in range(REPLICAS)
    )
    loaded = tuple(
        PodFacts(
            p.name, p.uid, "1", p.role, p.phase, p.created_at, p.phase_since, p.ready_at, load=load
        )
        for p in pods
    )
    target = TargetFacts(TargetKind.DEPLOYMENT, spec_replicas=REPLICAS, owned=True, pods=loaded)
    gateway = GatewayLoad(now, rps)
    return PoolFacts("ns", f"pool-{pool}", "u", 1, 0.0, SPEC, {"gpu": target}, gateway)


def decision_milliseconds() -> list[float]:
    """CPU of a decision a pool, tick by tick, each in one pass over all pools."""
    memories = [PoolMemory.initial() for _ in range(POOLS)]
    per_pool = []
    for tick in range(WARM_UP_TICKS + MEASURED_TICKS):
        now = 10_000.0 + tick * TICK_SECONDS
        facts = [facts_of(pool, tick, now) for pool in range(POOLS)]
        begin = time.process_time()
        for pool in range(POOLS):
            memories[pool] = _decided(facts[pool], memories[pool], now)
        if tick >= WARM_UP_TICKS:
            per_pool.append((time.process_time() - begin) / POOLS * 1000)
    return per_pool


def forecast_microseconds() -> float:
    """CPU of an update and a forecast, mean over a load that wanders (seeded)."""
    noise = random.Random(1)  # noqa: S311 - a load, no secret
    level, values = 40.0, []
    for _ in range(FORECAST_TICKS):
        level = max(5.0, level * noise.gauss(1.0, 0.02))
        values.append(level * noise.gauss(1.0, 0.05))
    memory = ForecastMemory()
    begin = time.process_time()
    for tick, value in enumerate(values):
        now = tick * TICK_SECONDS
        memory = update(memory, now, value, lead_seconds=LEAD_SECONDS, hold_seconds=LEAD_SECONDS)
        forecast(memory, LEAD_SECONDS, LEAD_SECONDS, now)
    return (time.process_time() - begin) / FORECAST_TICKS * 1e6


def memory_bytes(pools: int = REMEMBERED_POOLS, ticks: int = REMEMBERED_TICKS) -> float:
    """Bytes that the core remembers of a pool after so many ticks, facts left out."""
    facts = [
        [facts_of(pool, tick, 10_000.0 + tick * TICK_SECONDS) for tick in range(ticks)]
        for pool in range(pools)
    ]
    tracemalloc.start()
    memories = [PoolMemory.initial() for _ in range(pools)]
    for pool in range(pools):
        for tick in range(ticks):
            now = 10_000.0 + tick * TICK_SECONDS
            memories[pool] = _decided(facts[pool][tick], memories[pool], now)
    # Tuples that are free already wait in the interpreter's lists: they are nobody's memory.
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / pools


def _decided(facts: PoolFacts, memory: PoolMemory, now: float) -> PoolMemory:
    _, memory = decide(facts, memory, now, read_only=False, overflow_fraction=0.1, budget_left=True)
    return memory


def main() -> None:
    """Print the figures."""
    per_pool = decision_milliseconds()
    print(
        f"decide: {statistics.median(per_pool):.3f} ms of CPU a pool, worst tick "
        f"{max(per_pool):.3f} ms ({POOLS} pools of {REPLICAS} replicas in one pass; goal < 1 ms)"
    )
    micros = forecast_microseconds()
    print(f"forecast: {micros / 1000:.3f} ms of CPU for an update and a reading (goal < 0.2 ms)")
    print(
        f"memory: {memory_bytes() / 1000:.0f} kB a pool after {REMEMBERED_TICKS} ticks "
        "(goal < 200 kB)"
    )


if __name__ == "__main__":
    main()
