"""Speed of both engines over real time, and how far they agree; a made-up day of chat traffic.

Run: python bench/bench_simulator.py [--hours H] [--rate R]

Speeds are seconds of trace over seconds of CPU of this process. Goals: the fluid engine with
Spillway's whole core 20,000, the request-level engine 100 at 100 requests/s; both agree on cost
within 2 % and on attainment within 1 point where queueing is light.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from spillway.sim import fluid, request_level
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


def agreement(load: Trace, conditions: Conditions) -> None:
    """Print both engines side by side."""
    told = setting_of(load, conditions, fluid.STEP_SECONDS).told
    enough = int(np.ceil(1.5 * load.mean_per_second / told.requests_per_second)) + 1
    cases: list[tuple[str, Callable[[], Scaler], BurstActuator]] = [
        (f"static {enough}", lambda: Static(enough), BurstActuator.NONE),
        ("spillway", SpillwayScaler, BurstActuator.NONE),
        ("spillway", SpillwayScaler, BurstActuator.FRACTION),
        ("spillway", SpillwayScaler, BurstActuator.ADMISSION),
    ]
    for name, make, actuator in cases:
        smooth, _ = timed(partial(fluid.run, load, conditions, make(), actuator))
        exact, seconds = timed(partial(request_level.run, load, conditions, make(), actuator))
        print(
            f"request-level, {name:10} {actuator:9} {load.seconds / seconds:6,.0f} x real time   "
            f"${exact.usd:8.2f} attained {exact.attainment:7.2%} | fluid ${smooth.usd:8.2f} "
            f"{smooth.attainment:7.2%} | cost {smooth.usd / exact.usd - 1:+.2%}, attainment "
            f"{100 * (smooth.attainment - exact.attainment):+.2f} points"
        )


def main() -> None:
    """Print speed and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=2.0, help="of the request-level runs")
    parser.add_argument("--rate", type=float, default=100.0, help="mean requests per second")
    options = parser.parse_args()
    conditions = Conditions(floor=2, max=100)
    speeds(day(24.0, options.rate), conditions)
    agreement(with_requests(day(options.hours, options.rate)), conditions)


if __name__ == "__main__":
    main()
