"""Speed of both engines over real time, and how far they agree; a made-up day of chat traffic.

Run: python bench/bench_simulator.py [--hours H] [--rate R]

Speeds are seconds of trace over seconds of CPU of this process. Goals: the fluid engine with
Spillway's whole core 20,000, the request-level engine 100 at 100 requests/s; both agree on cost
within 2 % and on attainment within 1 point where queueing is light; `spillway simulate` without
arguments within 20 s.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from spillway.sim import fluid, request_level, study, traces
from spillway.sim.conditions import Conditions
from spillway.sim.scaler import Asked, BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.spillway_scaler import SpillwayScaler, SpillwaySettings
from spillway.sim.trace import Lengths, Trace
from spillway.sim.workload import MIXES

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.sim.outcome import Result
    from spillway.sim.scaler import Scaler, Seen, Told

SEED = 1
LENGTHS = 5000
BIN_SECONDS = 60.0
ENGINE_BIN_SECONDS = 5.0
CONFIGURATIONS = 100
#: Mean load of `spillway simulate` without arguments.
COMMAND_REPLICAS = 10.0
#: Queueing is light where replicas are given less of what they serve within the targets.
BUSY_SHARE = 0.9
#: An API that costs so many times as much is used less, so that replicas are seldom full.
DEAR_TIMES = 4.0


class Static:
    """A fixed number of replicas in each configuration: the engine's own cost."""

    name = "static"
    period_seconds = 15.0

    def __init__(self, replicas: int, configurations: int = 1) -> None:
        self.configurations = configurations
        self._replicas = np.full(configurations, replicas)
        self._none = np.zeros(configurations)
        self._all = np.full(configurations, np.inf)

    def describe(self, configuration: int) -> str:
        """The number."""
        return str(self._replicas[configuration])

    def begin(self, told: Told) -> None:
        """Nothing to forget."""

    def decide(self, _: Seen) -> Asked:
        """The same as ever."""
        return Asked(self._replicas, self._none, self._all)


def day(hours: float, rate: float) -> Trace:
    """A load that doubles and halves within hours, with 10 % of noise a minute."""
    rng = np.random.default_rng(SEED)
    minutes = np.arange(int(hours * 60))
    shape = 1 + 0.5 * np.sin(minutes / 360 * 2 * np.pi)
    noise = np.exp(0.1 * rng.standard_normal(len(minutes)))
    draw = random.Random(SEED)  # noqa: S311 - not for secrets
    pairs = np.array([MIXES["chat"].draw(draw) for _ in range(LENGTHS)])
    lengths = Lengths(pairs[:, 0], pairs[:, 1], pairs[:, 2])
    return Trace("day", "made up", BIN_SECONDS, rate * shape * noise, lengths)


def with_requests(load: Trace) -> Trace:
    """The same with its single requests, in bins that show how they scatter."""
    requests = load.sampled(SEED)
    count = int(load.seconds / ENGINE_BIN_SECONDS)
    bins = np.bincount((requests.arrived_at // ENGINE_BIN_SECONDS).astype(int), minlength=count)
    rates = bins[:count] / ENGINE_BIN_SECONDS
    return Trace(load.name, load.source, ENGINE_BIN_SECONDS, rates, load.lengths, requests)


def timed(run: Callable[[], list[Result]]) -> tuple[Result, float]:
    """The first result and the CPU seconds it took."""
    begin = time.process_time()
    result = run()[0]
    return result, time.process_time() - begin


def speeds(load: Trace, conditions: Conditions) -> None:
    """Print how fast the fluid engine is."""
    setting = setting_of(load, conditions, fluid.STEP_SECONDS)
    cases: list[tuple[str, Scaler]] = [
        ("static, 1 configuration", Static(10)),
        (f"static, {CONFIGURATIONS} configurations", Static(10, CONFIGURATIONS)),
        ("spillway, capacity declared", SpillwayScaler()),
        ("spillway, capacity learned", SpillwayScaler(SpillwaySettings(learn_capacity=True))),
    ]
    for name, scaler in cases:
        result, seconds = timed(
            partial(fluid.run_setting, setting, scaler, BurstActuator.ADMISSION)
        )
        print(
            f"fluid, {name:28} {result.seconds / seconds:9,.0f} x real time   "
            f"${result.usd:9.2f}  attained {result.attainment:.2%}"
        )


def busy(result: Result) -> float:
    """Share of the minutes in which ready replicas were given more than `BUSY_SHARE` of mu."""
    way = result.timeline
    if way is None:
        return np.nan
    size = int(60 / fluid.STEP_SECONDS)
    minutes = len(way.at) // size
    given, taken = (
        values[: minutes * size].reshape(minutes, size).mean(axis=1)
        for values in (way.arrivals_per_second - way.cloud_per_second, way.capacity_per_second)
    )
    return float((given > BUSY_SHARE * taken).mean())


def agreement(load: Trace, conditions: Conditions) -> None:
    """Print both engines side by side, and how often queueing was not light."""
    told = setting_of(load, conditions, fluid.STEP_SECONDS).told
    enough = int(np.ceil(1.5 * load.mean_per_second / told.requests_per_second)) + 1
    api = conditions.api
    dear = replace(
        conditions,
        api=replace(
            api,
            input_usd_per_million=DEAR_TIMES * api.input_usd_per_million,
            output_usd_per_million=DEAR_TIMES * api.output_usd_per_million,
        ),
    )
    cases: list[tuple[str, Callable[[], Scaler], BurstActuator, Conditions]] = [
        (f"static {enough}", lambda: Static(enough), BurstActuator.NONE, conditions),
        *(("spillway", SpillwayScaler, actuator, conditions) for actuator in BurstActuator),
        *(
            ("spillway, dear API", SpillwayScaler, actuator, dear)
            for actuator in (BurstActuator.FRACTION, BurstActuator.ADMISSION)
        ),
    ]
    for name, make, actuator, world in cases:
        smooth, _ = timed(partial(fluid.run, load, world, make(), actuator, record=0))
        exact, seconds = timed(partial(request_level.run, load, world, make(), actuator, record=0))
        print(
            f"request-level, {name:18} {actuator:9} {load.seconds / seconds:6,.0f} x real time   "
            f"${exact.usd:8.2f} (API ${exact.api_usd:6.2f}) attained {exact.attainment:7.2%}, busy "
            f"{busy(exact):4.0%} | fluid ${smooth.usd:8.2f} (API ${smooth.api_usd:6.2f}) "
            f"{smooth.attainment:7.2%} | cost {smooth.usd / exact.usd - 1:+.2%}, attainment "
            f"{100 * (smooth.attainment - exact.attainment):+.2f} points",
            flush=True,
        )


def command() -> None:
    """Print what `spillway simulate` without arguments does, run by run."""
    conditions = Conditions()
    made_up = traces.generate(traces.scenario_named("day"), seed=0)
    load = study.scaled_to(made_up, conditions, COMMAND_REPLICAS)
    costs = []
    for job in study.plan(conditions, study.DEFAULT_RIVALS):
        begin = time.process_time()
        study.work(job, load, load)
        costs.append(time.process_time() - begin)
        print(f"simulate, {job.title:60} {costs[-1]:6.1f} s of CPU", flush=True)
    print(
        f"spillway simulate: {sum(costs):.1f} s of CPU, the longest run {max(costs):.1f} s; on two "
        "idle cores it takes the longer of half of the one and the other (goal: 20 s)"
    )


def main() -> None:
    """Print speed and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=2.0, help="of the request-level runs")
    parser.add_argument("--rate", type=float, default=100.0, help="mean requests per second")
    options = parser.parse_args()
    conditions = Conditions(floor=2, max=100)
    speeds(day(24.0, options.rate), conditions)
    command()
    agreement(with_requests(day(options.hours, options.rate)), conditions)


if __name__ == "__main__":
    main()
