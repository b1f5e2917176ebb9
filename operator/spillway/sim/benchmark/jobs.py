"""The benchmark's parts, each to be done on its own, in any process.

A rival's grid is run on the first half. The configurations on its frontier of cost and attainment
there are scored on the second half; which of them is taken, at the attainment compared at, is for
`spillway.sim.benchmark.tables` to say. A drifting world is met with the one configuration that
keeps the promise at the least cost where nothing drifts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim import fluid
from spillway.sim.benchmark.records import frontier, record
from spillway.sim.benchmark.worlds import conditions_of, drifted, scaled
from spillway.sim.optimum.solve import optimum
from spillway.sim.optimum.world import as_result, coarser, problem_from
from spillway.sim.rivals import RIVALS
from spillway.sim.scaler import BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.spillway_scaler import SpillwayScaler, SpillwaySettings
from spillway.sim.together import Together
from spillway.sim.trace import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.benchmark.records import Record
    from spillway.sim.benchmark.worlds import Price, World
    from spillway.sim.conditions import Conditions
    from spillway.sim.outcome import Result
    from spillway.sim.rivals import Tunable
    from spillway.sim.setting import Setting
    from spillway.sim.trace import Trace

#: On the same metric as keda-waiting with the same grid, so the same result.
_TWINS: Final = frozenset({"hpa-queue"})
CONTENDERS: Final = tuple(name for name in RIVALS if name not in _TWINS)
MEMORY_SECONDS: Final = 6 * 3600.0
"""Spillway runs so long before the half that is scored: the operator restores its history at start.
A rival's memory is its stabilisation window; it begins with the replicas that the load needs."""
DRIFTERS: Final = ("keda-rate", "keda-inflight")
"""Rivals that are followed through drifting worlds, with burst."""


@dataclass(frozen=True, slots=True)
class RivalsJob:
    """All rivals in one world.

    Attributes:
        world: The world.
        prices: With the same proportion of output to input price; without burst, any.
        promise: Attainment that the configuration for drifting worlds must keep.
        burst: Whether requests may leave.
        drifts: Worlds that those then meet.
        seed: Of everything random.
    """

    world: World
    prices: tuple[Price, ...]
    promise: float
    burst: bool = True
    drifts: tuple[str, ...] = ()
    seed: int = 0

    def __str__(self) -> str:
        """For progress."""
        names = "/".join(price.name for price in self.prices)
        return f"rivals {'with' if self.burst else 'without'} burst, {self.world}, price {names}"

    def run(self, trace: Trace) -> list[Record]:
        """Tune and score.

        Args:
            trace: The load, as recorded.
        """
        whole = scaled(trace, self.world.scale)
        past, present = whole.halves()
        mu = whole.mean_per_second / self.world.scale
        conditions = conditions_of(self.world, self.prices[0], self.seed)
        grids = [RIVALS[name].grid(past) for name in CONTENDERS]
        tuned = self._run(past, conditions, grids)
        records: list[Record] = []
        for price in self.prices:
            factor = price.input_usd_per_million / self.prices[0].input_usd_per_million
            chosen = [
                grid.only(frontier([_priced(result, factor) for result in results]))
                for grid, results in zip(grids, tuned, strict=True)
            ]
            own = conditions_of(self.world, price, self.seed)
            scored = self._run(present, own, chosen)
            usd = repair_usd(present, own, mu)
            records += self._records(price, "", usd, scored)
            if self.drifts:
                kept = {
                    name: self._keeper(chosen[CONTENDERS.index(name)], scored, name)
                    for name in DRIFTERS
                }
                for drift in self.drifts:
                    other = drifted(own, drift, present)
                    outcome = self._run(present, other, list(kept.values()))
                    usd = repair_usd(present, other, mu)
                    records += self._records(price, drift, usd, outcome)
        return records

    def _run(
        self, trace: Trace, conditions: Conditions, scalers: Sequence[Tunable]
    ) -> list[list[Result]]:
        """Results by scaler and configuration."""
        setting = setting_of(trace, conditions, fluid.STEP_SECONDS)
        actuator = BurstActuator.ADMISSION if self.burst else BurstActuator.NONE
        together = Together(scalers)
        results = fluid.run_setting(setting, together, actuator)
        rows = iter(results)
        return [
            [replace(next(rows), scaler=each.name) for _ in range(each.configurations)]
            for each in scalers
        ]

    def _keeper(self, grid: Tunable, scored: list[list[Result]], name: str) -> Tunable:
        """The cheapest configuration that keeps the promise where nothing drifts."""
        results = scored[CONTENDERS.index(name)]
        keeping = [k for k, each in enumerate(results) if each.attainment >= self.promise]
        if not keeping:
            keeping = [max(range(len(results)), key=lambda k: results[k].attainment)]
        return grid.only([min(keeping, key=lambda k: results[k].usd)])

    def _records(
        self, price: Price, drift: str, usd: float, results: list[list[Result]]
    ) -> list[Record]:
        return [
            record(self.world, price, drift, each, usd, burst=self.burst)
            for group in results
            for each in group
        ]


@dataclass(frozen=True, slots=True)
class SpillwayJob:
    """Spillway in one world, and the optimum at the attainment that it reached.

    Attributes:
        world: The world.
        price: The API's.
        drift: How it turns out; "": as told.
        learn_capacity: Leave capacity to be learned; else what is told is declared.
        optimum: Work out the optimum too.
        promise: Attainment for which the optimum is worked out as well.
        seed: Of everything random.
    """

    world: World
    price: Price
    drift: str = ""
    learn_capacity: bool = True
    optimum: bool = True
    promise: float = 0.95
    seed: int = 0

    def __str__(self) -> str:
        """For progress."""
        drift = f", {self.drift}" if self.drift else ""
        return f"spillway, {self.world}, price {self.price.name}{drift}"

    def run(self, trace: Trace) -> list[Record]:
        """Run it up to and through the half that is scored.

        Args:
            trace: The load, as recorded.
        """
        whole = scaled(trace, self.world.scale)
        _, present = whole.halves()
        conditions = conditions_of(self.world, self.price, self.seed)
        if self.drift:
            conditions = drifted(conditions, self.drift, present)
        result = self._scored(whole, present, conditions)
        usd = repair_usd(present, conditions, whole.mean_per_second / self.world.scale)
        made = [record(self.world, self.price, self.drift, result, usd, burst=True)]
        if self.optimum:
            setting = setting_of(present, conditions, fluid.STEP_SECONDS)
            levels = sorted({self.promise, result.attainment})
            made += [self._optimum(setting, level, usd) for level in levels]
        return made

    def _scored(self, whole: Trace, present: Trace, conditions: Conditions) -> Result:
        """The run from some hours before the half that is scored; only the half counts."""
        before = min(MEMORY_SECONDS, whole.seconds - present.seconds)
        before -= before % whole.bin_seconds
        trace = whole.window(whole.seconds - present.seconds - before, whole.seconds)
        changes = tuple(
            replace(change, at=change.at + before, until=change.until + before)
            for change in conditions.changes
        )
        setting = setting_of(trace, replace(conditions, changes=changes), fluid.STEP_SECONDS)
        scaler = SpillwayScaler(SpillwaySettings(learn_capacity=self.learn_capacity))
        result = fluid.run_setting(setting, scaler, BurstActuator.ADMISSION, record=0)[0]
        return counted_from(result, before)

    def _optimum(self, setting: Setting, attainment: float, usd: float) -> Record:
        # Spillway comes with the replicas that it had: nobody pays for those of the first moment.
        # At finer steps it would be charged for noise that the engines absorb, and be no bound.
        coarse = coarser(setting)
        problem = replace(problem_from(coarse, attainment), initial=None)
        best = optimum(coarse.rates, coarse.step_seconds, problem)
        plan = replace(
            as_result(best, problem, lower=True),
            scaler="optimum",
            configuration=f"attainment {attainment:.4f}",
        )
        return record(self.world, self.price, self.drift, plan, usd, burst=True)


def counted_from(result: Result, seconds: float) -> Result:
    """What a recorded run came to from a moment on.

    Raises:
        ValueError: It was not recorded.
    """
    line = result.timeline
    if line is None:
        msg = f"{result.scaler} must be recorded to be counted from a moment on"
        raise ValueError(msg)
    counts = line.at >= seconds - 1e-9
    step = float(line.at[1] - line.at[0]) if len(line.at) > 1 else result.seconds
    hours = step / SECONDS_PER_HOUR
    arrivals = line.arrivals_per_second[counts]
    return replace(
        result,
        seconds=result.seconds - seconds,
        requests=float(arrivals.sum()) * step,
        cloud_requests=float(line.cloud_per_second[counts].sum()) * step,
        attained_requests=float(np.nansum(line.attainment[counts] * arrivals)) * step,
        gpu_usd=float(line.gpu_usd_per_hour[counts].sum()) * hours,
        api_usd=float(line.api_usd_per_hour[counts].sum()) * hours,
        timeline=None,
    )


Job = RivalsJob | SpillwayJob


def repair_usd(trace: Trace, conditions: Conditions, mu: float) -> float:
    """The least that one more request in time could cost when the run ends.

    Args:
        trace: The load.
        conditions: The world.
        mu: Requests per second that a replica is told to serve.
    """
    factor, prompt, output = 1.0, 1.0, 1.0
    for change in conditions.changes:
        if change.until > trace.seconds:
            factor *= change.api_price_factor
            prompt *= change.prompt_factor
            output *= change.output_factor
    api, lengths = conditions.api, trace.lengths
    tokens_usd = (
        float(lengths.prompt_tokens.mean()) * prompt * api.input_usd_per_million
        + float(lengths.output_tokens.mean()) * output * api.output_usd_per_million
    )
    here = conditions.gpu_usd_per_replica_hour / SECONDS_PER_HOUR / mu
    return min(factor * tokens_usd / 1e6, here)


def _priced(result: Result, factor: float) -> Result:
    return replace(result, api_usd=result.api_usd * factor)
