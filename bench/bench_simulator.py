"""Speed of both engines over real time, and how far they agree; a made-up day of chat traffic.

Run: python bench/bench_simulator.py [--hours H] [--rate R] [--draws N] [--jobs N] [--agreement]

Speeds are seconds of trace over seconds of CPU of this process. Goals: the fluid engine with
Spillway's whole core 20,000, the request-level engine 100 at 100 requests/s; both agree on cost
within 2 % and on attainment within 1 point where queueing is light; `spillway simulate` without
arguments within 20 s.

Single requests are drawn several times for the same load, because half an hour of burst is a few
events; both engines get the same draws, and what is compared are means over them. The fluid
engine scatters by its own seed, and runs with several for each draw.
"""

from __future__ import annotations

import argparse
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
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
#: Seeds of the fluid engine for each draw of requests; they cost next to nothing.
FLUID_DRAWS = 8
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


def with_requests(load: Trace, seed: int) -> Trace:
    """The same with its single requests, in bins that show how they scatter."""
    requests = load.sampled(seed)
    count = int(load.seconds / ENGINE_BIN_SECONDS)
    bins = np.bincount((requests.arrived_at // ENGINE_BIN_SECONDS).astype(int), minlength=count)
    rates = bins[:count] / ENGINE_BIN_SECONDS
    return Trace(load.name, load.source, ENGINE_BIN_SECONDS, rates, load.lengths, requests)


def timed(run: Callable[[], list[Result]]) -> tuple[Result, float]:
    """The first result and the CPU seconds it took."""
    begin = time.process_time()
    result = run()[0]
    return result, time.process_time() - begin


def speeds(load: Trace, world: Conditions) -> None:
    """Print how fast the fluid engine is."""
    setting = setting_of(load, world, fluid.STEP_SECONDS)
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


@dataclass(frozen=True, slots=True)
class Case:
    """A scaler in a world."""

    scaler: str
    actuator: BurstActuator
    dear: float = 1.0


CASES = (
    Case("static", BurstActuator.NONE),
    *(Case("spillway", actuator) for actuator in BurstActuator),
    Case("spillway", BurstActuator.FRACTION, DEAR_TIMES),
    Case("spillway", BurstActuator.ADMISSION, DEAR_TIMES),
)


def both(case: Case, draw: int, hours: float, rate: float) -> tuple[list[Result], Result, float]:
    """The fluid engine's results, the request-level one's, and the CPU seconds of the latter."""
    load = with_requests(day(hours, rate), SEED + draw)
    world = conditions(seed=draw)
    dear = {
        name: case.dear * getattr(world.api, name)
        for name in ("input_usd_per_million", "output_usd_per_million")
    }
    world = replace(world, api=replace(world.api, **dear))
    told = setting_of(load, world, fluid.STEP_SECONDS).told

    def scaler() -> Scaler:
        if case.scaler == "spillway":
            return SpillwayScaler()
        return Static(int(np.ceil(1.5 * load.mean_per_second / told.requests_per_second)) + 1)

    smooth = [
        fluid.run(load, replace(world, seed=draw + other), scaler(), case.actuator)[0]
        for other in range(FLUID_DRAWS)
    ]
    run = partial(request_level.run, load, world, scaler(), case.actuator, record=0)
    return smooth, *timed(run)


def agreement(hours: float, rate: float, draws: int, jobs: int) -> None:
    """Print both engines side by side, and how often queueing was not light."""
    work = [(case, draw, hours, rate) for case in CASES for draw in range(draws)]
    with ProcessPoolExecutor(jobs) as pool:
        done = pool.map(both, *zip(*work, strict=True))
        for case in CASES:
            found = [next(done) for _ in range(draws)]
            smooth = _Mean.of([result for each in found for result in each[0]])
            exact = _Mean.of([each[1] for each in found])
            apart = [100 * (_Mean.of(each[0]).usd / each[1].usd - 1) for each in found]
            seconds = sum(each[2] for each in found)
            print(
                f"{case.scaler:9}{case.actuator:10}API x {case.dear:g}: request-level "
                f"{draws * hours * 3600 / seconds:4,.0f} x real time, busy "
                f"{np.mean([busy(each[1]) for each in found]):4.0%}, {exact} | fluid {smooth} | "
                f"cost {100 * (smooth.usd / exact.usd - 1):+.1f} % ({min(apart):+.1f} to "
                f"{max(apart):+.1f}), attainment "
                f"{100 * (smooth.attainment - exact.attainment):+.2f} points",
                flush=True,
            )


@dataclass(frozen=True, slots=True)
class _Mean:
    """Means over draws, in US dollars."""

    usd: float
    api_usd: float
    attainment: float

    @classmethod
    def of(cls, results: list[Result]) -> _Mean:
        rows = [(each.usd, each.api_usd, each.attainment) for each in results]
        return cls(*np.mean(rows, axis=0).tolist())

    def __str__(self) -> str:
        return f"${self.usd:6.2f} (API ${self.api_usd:5.2f}) attained {self.attainment:7.2%}"


def command() -> None:
    """Print what `spillway simulate` without arguments does, run by run."""
    world = Conditions()
    made_up = traces.generate(traces.scenario_named("day"), seed=0)
    load = study.scaled_to(made_up, world, COMMAND_REPLICAS)
    costs = []
    for job in study.plan(world, study.DEFAULT_RIVALS):
        begin = time.process_time()
        study.work(job, load, load)
        costs.append(time.process_time() - begin)
        print(f"simulate, {job.title:60} {costs[-1]:6.1f} s of CPU", flush=True)
    print(
        f"spillway simulate: {sum(costs):.1f} s of CPU, the longest run {max(costs):.1f} s; on two "
        "idle cores it takes the longer of half of the one and the other (goal: 20 s)"
    )


def conditions(seed: int = 0) -> Conditions:
    """The world of all but the command."""
    return Conditions(floor=2, max=100, seed=seed)


def main() -> None:
    """Print speed and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=0.5, help="of the request-level runs")
    parser.add_argument("--rate", type=float, default=100.0, help="mean requests per second")
    parser.add_argument("--draws", type=int, default=3, help="of single requests, for each case")
    parser.add_argument("--jobs", type=int, default=2, help="processes for the request-level runs")
    parser.add_argument("--agreement", action="store_true", help="leave out the speeds")
    options = parser.parse_args()
    if not options.agreement:
        speeds(day(24.0, options.rate), conditions())
        command()
    agreement(options.hours, options.rate, options.draws, options.jobs)


if __name__ == "__main__":
    main()
