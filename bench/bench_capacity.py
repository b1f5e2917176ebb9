"""How far learned capacity is from what the emulator really sustains.

Four simulated engines (`spillway.sim.replica`) stand behind a least-request router with Poisson
arrivals. The core sees what an operator would: each engine's counters over the last minute, every
15 s, and the quantiles of lengths from histograms with vLLM's buckets. It is asked after 15 minutes
at 0.6 of what the replicas can take, then lengths shift by two, and it is asked again 15 minutes
later.

*Really sustains*: the steady Poisson rate, by bisection, above which fewer than 95 % of all
requests meet both targets (TTFT 2 s, mean time per output token 60 ms, each of the request itself).
It is measured with the same scheduler (`spillway.sim.stepper`, equal step for step while the KV
cache is not full) over as many requests as fit into 30 minutes.

Run: python bench/bench_capacity.py [--quick] [--case TEXT] [--seed N | --seeds N]
"""

from __future__ import annotations

import argparse
import random
import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.names import Role
from spillway.core.capacity import Capacity, CapacityMemory, capacity, observe
from spillway.core.facts import (
    LengthQuantiles,
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)
from spillway.core.lengths import median_and_p95
from spillway.sim.profiles import ReplicaProfile, profile_named
from spillway.sim.replica import Replica
from spillway.sim.request import Request
from spillway.sim.stepper import Stepper
from spillway.sim.workload import TokenMix, mix_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REPLICAS = 4
TICK = 15.0
WINDOW = 60.0
LEARNING = 900.0
LOAD = 0.6
TTFT, TPOT, ATTAINMENT = 2.0, 0.060, 0.95
TRUTH_SECONDS = 1800.0
START = 1_000_000.0
#: Bounds of vLLM's length histograms (build_1_2_5_buckets).
BUCKETS = [m * 10**e for e in range(6) for m in (1, 2, 5)]
#: Seeds of `--seeds` are this one and those after it.
FIRST_SEED = 100
#: Learned capacity is to be within this of the truth.
GOAL = 0.10
#: Windows of lengths: as an operator would ask Prometheus for.
LENGTHS_WINDOW = 300.0


@dataclass(frozen=True)
class Case:
    """An engine, its traffic, the traffic after the shift, and what the core is told of the GPU."""

    name: str
    profile: ReplicaProfile
    before: TokenMix
    after: TokenMix
    gpu: str | None
    model: str


def attained(profile: ReplicaProfile, mix: TokenMix, rate: float, seconds: float) -> float:
    """Share of all requests that meet both targets at a steady rate per replica."""
    rng = random.Random(f"{mix}/{seconds}")  # noqa: S311 - not for secrets
    replicas = [Stepper(profile) for _ in range(REPLICAS)]
    now, met, number, of = 0.0, 0, 0, 0
    warm = seconds / 6
    while now < seconds:
        now += rng.expovariate(rate * REPLICAS)
        for stepper in replicas:
            for times in stepper.advance(now):
                if times.request.arrived_at > warm:
                    of += 1
                    met += times.ttft <= TTFT and times.tpot <= TPOT
        prompt, output, cached = mix.draw(rng)
        request = Request(number, now, prompt, output, cached)
        min(replicas, key=lambda stepper: stepper.in_flight).submit(request)
        number += 1
    return met / max(of, 1)


@cache
def truth(profile: ReplicaProfile, mix: TokenMix, seconds: float = TRUTH_SECONDS) -> float:
    """Requests per second of a replica at which attainment falls below the share."""
    prompt = mix.prompt_mean * (1 - mix.prefix_hit_ratio)
    high = 1 / (
        prompt * profile.per_prefill_token_seconds
        + mix.output_mean * profile.per_context_token_seconds * mix.prompt_mean
    )
    low = 0.0
    for _ in range(9):
        middle = (low + high) / 2
        if attained(profile, mix, middle, seconds) >= ATTAINMENT:
            low = middle
        else:
            high = middle
    return (low + high) / 2


class Watched:
    """An engine and what its counters said at the ticks of the last minute."""

    def __init__(self, profile: ReplicaProfile, now: float) -> None:
        self.replica = Replica(profile, now)
        self.history: deque[tuple[float, list[float], float]] = deque(maxlen=int(WINDOW / TICK) + 1)

    def load(self, now: float) -> ReplicaLoad:
        """As Prometheus gives it: gauges now, rates over the last minute."""
        counters, gauges = self.replica.counters, self.replica.gauges()
        totals = [
            float(sum(counters.requests_finished.values())),
            float(counters.prompt_tokens),
            float(counters.generation_tokens),
            float(counters.prompt_tokens_cached),
            float(counters.iteration_tokens.count),
            # Not a counter, but what Prometheus makes of it is a difference too.
            float(gauges.running + gauges.waiting),
        ]
        self.history.append((now, totals, gauges.running))
        first = self.history[0]
        span = now - first[0]
        if span <= 0:
            return ReplicaLoad(now, gauges.running, gauges.waiting, kv_usage=gauges.kv_usage)
        rates = [(b - a) / span for a, b in zip(first[1], totals, strict=True)]
        return ReplicaLoad(
            sampled_at=now,
            running=gauges.running,
            waiting=gauges.waiting,
            kv_usage=gauges.kv_usage,
            running_mean=sum(row[2] for row in self.history) / len(self.history),
            in_flight_change_per_second=rates[5],
            finished_per_second=rates[0],
            prompt_tokens_per_second=rates[1],
            generation_tokens_per_second=rates[2],
            prefix_hit_tokens_per_second=rates[3],
            steps_per_second=rates[4],
        )


def counted(lengths: Iterable[int]) -> list[int]:
    """Requests in each of vLLM's buckets, and last those beyond."""
    counts = [0] * (len(BUCKETS) + 1)
    for length in lengths:
        counts[bisect_left(BUCKETS, length)] += 1
    return counts


class World:
    """Four engines, a router, and the core that watches them."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.now = START
        self.rng = random.Random(seed)  # noqa: S311 - not for secrets
        self.engines = [Watched(case.profile, START) for _ in range(REPLICAS)]
        self.ended: deque[tuple[float, int, int]] = deque()
        self.memory = CapacityMemory()
        self.number = 0
        accelerator = {} if case.gpu is None else {"type": case.gpu, "perReplica": 1}
        self.spec = InferencePoolSpec.model_validate(
            {
                "modelName": case.model,
                "variants": [
                    {"name": "gpu", "targetRef": {"name": "gpu"}, "accelerator": accelerator}
                ],
                "replicas": {"floor": REPLICAS, "max": REPLICAS},
                "latency": {"ttft": "2s", "tpot": "60ms", "attainment": "0.95"},
            }
        )

    def run(self, mix: TokenMix, rate: float, seconds: float) -> None:
        """Let traffic flow; the core looks on every tick."""
        until = self.now + seconds
        arrival = self.now + self.rng.expovariate(rate * REPLICAS)
        while self.now < until:
            tick = self.now + TICK
            while arrival < tick:
                self._advance(arrival)
                prompt, output, cached = mix.draw(self.rng)
                request = Request(self.number, arrival, prompt, output, cached)
                target = min(self.engines, key=lambda engine: engine.replica.in_flight)
                target.replica.submit(request, arrival)
                self.number += 1
                arrival += self.rng.expovariate(rate * REPLICAS)
            self._advance(tick)
            self.now = tick
            self.memory = observe(self.memory, self.facts(), tick)

    def _advance(self, until: float) -> None:
        for engine in self.engines:
            for stream in engine.replica.advance(until):
                request = stream.request
                self.ended.append((until, request.prompt_tokens, request.output_tokens))

    def facts(self) -> PoolFacts:
        """What an operator would know now."""
        while self.ended and self.ended[0][0] < self.now - LENGTHS_WINDOW:
            self.ended.popleft()
        pods = tuple(
            PodFacts(
                f"p{i}",
                f"p{i}",
                "1",
                Role.SERVING,
                PodPhase.READY,
                START - 600,
                START - 600,
                START - 500,
                load=engine.load(self.now),
            )
            for i, engine in enumerate(self.engines)
        )
        target = TargetFacts(TargetKind.DEPLOYMENT, spec_replicas=REPLICAS, owned=True, pods=pods)
        prompts = counted(row[1] for row in self.ended)
        outputs = counted(row[2] for row in self.ended)
        lengths = LengthQuantiles(
            *median_and_p95(BUCKETS, prompts), *median_and_p95(BUCKETS, outputs)
        )
        return PoolFacts("ns", "pool", "u", 1, 0.0, self.spec, {"gpu": target}, lengths=lengths)

    def capacity(self) -> Capacity:
        """What the core believes now."""
        return capacity(self.spec.variants[0], self.spec.latency, self.memory)


def cases(*, quick: bool) -> Iterable[Case]:
    """The mixes of the traces on engines the core knows, does not know, and has wrong."""
    h100, l40s = profile_named("llama-3.1-8b-h100"), profile_named("llama-3.1-8b-l40s")
    model, gpu = "meta-llama/Llama-3.1-8B-Instruct", "NVIDIA-H100-80GB-HBM3"
    slow = replace(
        h100,
        name="h100, a third slower",
        base_seconds=h100.base_seconds * 1.33,
        per_context_token_seconds=h100.per_context_token_seconds * 1.33,
        per_prefill_token_seconds=h100.per_prefill_token_seconds * 1.33,
        per_attention_pair_seconds=h100.per_attention_pair_seconds * 1.33,
    )
    for name in ("chat", "code", "rag"):
        mix = mix_named(name)
        prompts = replace(mix, prompt_mean=2 * mix.prompt_mean)
        answers = replace(mix, output_mean=2 * mix.output_mean)
        yield Case(f"{name}, prompts x 2", h100, mix, prompts, gpu, model)
        if quick:
            continue
        yield Case(f"{name}, answers x 2", h100, mix, answers, gpu, model)
        yield Case(f"{name}, prompts x 2, a third slower", slow, mix, prompts, gpu, model)
        yield Case(f"{name}, prompts x 2, GPU not told", h100, mix, prompts, None, model)
        yield Case(f"{name}, prompts x 2, L40S", l40s, mix, prompts, "NVIDIA-L40S", model)
        cached = replace(mix, prefix_hit_ratio=0.5)
        yield Case(f"{name}, half cached, prompts x 2", h100, cached,
                   replace(cached, prompt_mean=2 * mix.prompt_mean), gpu, model)  # fmt: skip


def table(chosen: Sequence[tuple[int, Case]], seed: int | None) -> None:
    """Print what is true and what is learned, before the shift and after, of one seed a case."""
    print(
        f"{'mix, shift, engine':40} {'true':>6} {'learned':>8} {'off':>6} {'says':>7}"
        f" | {'true':>6} {'learned':>8} {'off':>6} {'says':>7} | after the shift"
    )
    for number, case in chosen:
        text = f"{case.name:40}"
        for true, found in learned(case, number if seed is None else seed):
            off = found.requests_per_second / true - 1
            says = found.relative_error
            text += (
                f" {true:6.2f} {found.requests_per_second:8.2f} {off:+6.1%} "
                f"{found.source if says is None else f'{says:.1%}':>7} |"
            )
        print(text.removesuffix("|"), flush=True)


def table_of_seeds(chosen: Sequence[tuple[int, Case]], seeds: int) -> None:
    """Print how far off what was learned is: mean, least and most of several seeds."""
    print(
        f"{'mix, shift, engine':40} {'true':>6} {'mean':>6} {'least':>6} {'most':>6} {'within':>6}"
        f" | {'true':>6} {'mean':>6} {'least':>6} {'most':>6} {'within':>6} | after the shift"
    )
    everything: tuple[list[float], list[float]] = [], []
    for _, case in chosen:
        phases = zip(*(learned(case, FIRST_SEED + i) for i in range(seeds)), strict=True)
        text = f"{case.name:40}"
        for all_of, phase in zip(everything, phases, strict=True):
            offs = [found.requests_per_second / true - 1 for true, found in phase]
            if all(found.relative_error is not None for _, found in phase):
                all_of.extend(offs)
            text += f" {phase[0][0]:6.2f} {_summary(offs)} |"
        print(text.removesuffix("|"), flush=True)
    text = f"{'all that was learned':40}"
    for offs in everything:
        text += f" {'':6} {_summary(offs) if offs else '':27} |"
    print(text.removesuffix("|"))


def _summary(offs: Sequence[float]) -> str:
    within = sum(abs(off) <= GOAL for off in offs)
    share = f"{within}/{len(offs)}"
    return f"{fmean(offs):+6.1%} {min(offs):+6.1%} {max(offs):+6.1%} {share:>6}"


def learned(case: Case, seed: int) -> list[tuple[float, Capacity]]:
    """What is true, and what the core believes, before the shift and after."""
    world = World(case, seed)
    found = []
    for mix in (case.before, case.after):
        true = truth(case.profile, mix)
        world.run(mix, LOAD * true, LEARNING)
        found.append((true, world.capacity()))
    return found


def main() -> None:
    """Print the table: requests per second of a replica, true and learned, before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one case a mix")
    parser.add_argument("--case", default="", help="only cases whose name begins with this")
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--seed", type=int, help="of every case's traffic; unset: one for each")
    several.add_argument("--seeds", type=int, help="so many seeds of every case, and their mean")
    asked = parser.parse_args()
    chosen = [
        (number, case)
        for number, case in enumerate(cases(quick=asked.quick))
        if case.name.startswith(asked.case)
    ]
    begin = time.process_time()
    if asked.seeds:
        table_of_seeds(chosen, asked.seeds)
    else:
        table(chosen, asked.seed)
    print(f"{time.process_time() - begin:.0f} s of CPU")


if __name__ == "__main__":
    main()
