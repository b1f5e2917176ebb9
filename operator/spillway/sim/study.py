"""A study: Spillway beside rivals and the optimum on one trace, and how that shifts with the world.

It says which runs there are (`plan`), does one (`work`; a job is plain data, so that it may be done
in another process) and puts the results together (`gather`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from spillway.sim import fluid
from spillway.sim.optimum import as_result, coarser, optimum, problem_from
from spillway.sim.rivals import RIVALS
from spillway.sim.scaler import BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.spillway_scaler import SpillwayScaler, SpillwaySettings
from spillway.sim.together import Together
from spillway.sim.truth import replica_truth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from spillway.sim.conditions import Api, Conditions
    from spillway.sim.outcome import Result
    from spillway.sim.scaler import Scaler
    from spillway.sim.setting import Setting
    from spillway.sim.trace import Trace

SPILLWAY: Final = "spillway"
OPTIMUM: Final = "optimum"
"""A lower bound: no schedule that keeps the promise costs less."""
SCHEDULE: Final = "schedule"
"""The cheapest that was found: how far the bound may be from what can be done."""
DEFAULT_RIVALS: Final = ("hpa-util", "keda-rate", "classic", "static-peak")
"""Rivals that a study compares with unless others are named."""
_ALIASES: Final = {"hpa": "hpa-util", "keda": "keda-rate"}


class Role(StrEnum):
    """What a run is for."""

    COMPARE = "compare"
    """The table: every scaler as it comes."""
    FRONTIER = "frontier"
    """Cost against attainment: every rival over its tuning grid."""
    LEAD = "lead"
    """The same with other lead times."""
    API_PRICE = "api-price"
    """The same with other API prices."""


@dataclass(frozen=True, slots=True)
class Job:
    """One pass over the trace.

    Attributes:
        role: What for.
        names: `SPILLWAY`, `OPTIMUM`, or rivals that run together.
        actuator: How their requests leave.
        conditions: The world.
        at: Lead in seconds or factor on the API's price, by role; 0 for the others.
        pool: Fields of the pool's spec for Spillway, as `SpillwaySettings.spec` takes them.
    """

    role: Role
    names: tuple[str, ...]
    actuator: BurstActuator
    conditions: Conditions
    at: float = 0.0
    pool: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        """What it does, for progress."""
        who = ", ".join(self.names)
        burst = " with burst" if self.bursts and self.names[0] in RIVALS else ""
        where = {
            Role.LEAD: f", lead {self.at:g} s",
            Role.API_PRICE: f", API price times {self.at:g}",
            Role.FRONTIER: ", tuning grid",
        }.get(self.role, "")
        return f"{who}{burst}{where}"

    @property
    def bursts(self) -> bool:
        """Whether anything may leave for the API."""
        return self.actuator is not BurstActuator.NONE


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table.

    Attributes:
        name: `SPILLWAY`, `OPTIMUM` or a rival's.
        bursts: Whether its requests may leave for the API.
        result: What came of it.
    """

    name: str
    bursts: bool
    result: Result

    @property
    def label(self) -> str:
        """For tables and legends."""
        return f"{self.name} + burst" if self.bursts and self.name in RIVALS else self.name


@dataclass(frozen=True, slots=True)
class Study:
    """What came of all runs.

    Attributes:
        trace: The load.
        conditions: The world.
        requests_per_second: mu: what one replica serves within the targets.
        entries: Spillway first, then rivals by cost.
        optimum: The least that anyone could have paid; None where it was not asked for.
        schedule: The cheapest that was found with all of the load known; None likewise.
        frontier: Rivals over their tuning grids.
        by_lead: Lead in seconds to entries, the optimum last.
        by_api_price: Factor on the API's prices to entries, the optimum last.
    """

    trace: Trace
    conditions: Conditions
    requests_per_second: float
    entries: tuple[Entry, ...]
    optimum: Entry | None
    schedule: Entry | None
    frontier: tuple[Entry, ...]
    by_lead: dict[float, tuple[Entry, ...]]
    by_api_price: dict[float, tuple[Entry, ...]]

    @property
    def spillway(self) -> Entry:
        """Spillway's own line."""
        return next(entry for entry in self.entries if entry.name == SPILLWAY)

    def keeps(self, entry: Entry) -> bool:
        """Whether it kept the latency promise."""
        return entry.result.attainment >= self.conditions.attainment

    def over_optimum(self, entry: Entry) -> float | None:
        """Its cost as a multiple of the optimum's."""
        return over(entry, self.optimum)

    @property
    def best_without_burst(self) -> Entry | None:
        """The cheapest rival that kept the promise on its own GPUs; None if none did."""
        kept = [e for e in self.entries if e.name in RIVALS and not e.bursts and self.keeps(e)]
        return min(kept, key=lambda entry: entry.result.usd, default=None)


def over(entry: Entry, best: Entry | None) -> float | None:
    """Cost as a multiple of the optimum's; None where that is not known."""
    if best is None or best.result.usd <= 0:
        return None
    return entry.result.usd / best.result.usd


def rivals_named(names: Iterable[str]) -> tuple[str, ...]:
    """Rivals' names in the registry, each once.

    Raises:
        ValueError: There is no such rival; the message lists what there is.
    """
    found: list[str] = []
    for name in names:
        known = _ALIASES.get(name, name)
        if known not in RIVALS:
            msg = f"a rival must be one of {', '.join(RIVALS)}, got {name!r}"
            raise ValueError(msg)
        if known not in found:
            found.append(known)
    return tuple(found)


def scaled_to(trace: Trace, conditions: Conditions, replicas: float) -> Trace:
    """The trace at the rate whose mean ``replicas`` replicas just serve within the targets.

    Raises:
        ValueError: ``replicas`` is not above 0, nothing arrives, or no rate meets the targets.
    """
    if not 0 < replicas < float("inf"):
        msg = f"replicas must be a number above 0, got {replicas}"
        raise ValueError(msg)
    if trace.mean_per_second <= 0:
        msg = f"{trace.name} can't be scaled: nothing arrives in it"
        raise ValueError(msg)
    truth = replica_truth(
        conditions.profile,
        trace.lengths,
        ttft_seconds=conditions.ttft_seconds,
        tpot_seconds=conditions.tpot_seconds,
        attainment=conditions.attainment,
        replicas=replicas,
    )
    if truth.requests_per_second <= 0:
        msg = f"{conditions.profile.name} meets the latency targets at no rate"
        raise ValueError(msg)
    return trace.scaled(replicas * truth.requests_per_second / trace.mean_per_second)


def check(trace: Trace, jobs: Sequence[Job]) -> None:
    """Make sure that the runs of a `plan` can be done.

    Raises:
        ValueError: They can't; the message says why.
    """
    # Its worlds differ in prices and leads alone.
    setting = setting_of(trace, jobs[0].conditions, fluid.STEP_SECONDS)
    if any(job.names == (OPTIMUM,) for job in jobs):
        coarser(setting)


def plan(
    conditions: Conditions,
    rivals: Sequence[str],
    *,
    with_optimum: bool = True,
    leads: Sequence[float] = (),
    api_price_factors: Sequence[float] = (),
    frontier: bool = False,
    burst: bool = True,
    pool: Mapping[str, Any] | None = None,
) -> tuple[Job, ...]:
    """All runs of a study.

    Args:
        conditions: The world.
        rivals: Names in the registry.
        with_optimum: Whether to work out the optimum.
        leads: Other lead times, seconds.
        api_price_factors: Other API prices, as factors.
        frontier: Whether rivals run over their tuning grids.
        burst: Whether anything may leave for the API.
        pool: Fields of the pool's spec for Spillway, as `SpillwaySettings.spec` takes them.
    """

    def world(role: Role, other: Conditions, at: float = 0.0) -> Iterator[Job]:
        """Everyone in one world."""
        away = BurstActuator.ADMISSION if burst else BurstActuator.NONE
        # The longest first, so that none is left to run alone at the end.
        if with_optimum:
            yield Job(role, (OPTIMUM,), away, other, at)
        yield Job(role, (SPILLWAY,), away, other, at, pool)
        yield from among_rivals(role, other, at)

    def among_rivals(role: Role, other: Conditions, at: float = 0.0) -> Iterator[Job]:
        """Rivals with burst and without."""
        if not rivals:
            return
        if burst:
            yield Job(role, tuple(rivals), BurstActuator.ADMISSION, other, at)
        yield Job(role, tuple(rivals), BurstActuator.NONE, other, at)

    jobs = list(world(Role.COMPARE, conditions))
    if frontier:
        jobs += among_rivals(Role.FRONTIER, conditions)
    for lead in leads:
        slower = replace(conditions.lead, median_seconds=lead)
        jobs += world(Role.LEAD, replace(conditions, lead=slower), lead)
    for factor in api_price_factors if burst else ():
        jobs += world(
            Role.API_PRICE, replace(conditions, api=_dearer(conditions.api, factor)), factor
        )
    return tuple(jobs)


def _dearer(api: Api, factor: float) -> Api:
    return replace(
        api,
        input_usd_per_million=api.input_usd_per_million * factor,
        output_usd_per_million=api.output_usd_per_million * factor,
    )


def work(job: Job, trace: Trace, past: Trace) -> tuple[Entry, ...]:
    """Do a run.

    Args:
        job: Which.
        trace: The load.
        past: The load that fixed sizes are chosen for.

    Raises:
        ValueError: The latency targets can't be met.
    """
    setting = setting_of(trace, job.conditions, fluid.STEP_SECONDS)
    if job.names == (OPTIMUM,):
        return _optimum(setting, bursts=job.bursts)
    scalers = [_scaler(name, job, past) for name in job.names]
    record = 0 if job.role is Role.COMPARE and job.names == (SPILLWAY,) else None
    entries: list[Entry] = []
    for period in sorted({scaler.period_seconds for scaler in scalers}):
        pairs = [
            (name, scaler)
            for name, scaler in zip(job.names, scalers, strict=True)
            if scaler.period_seconds == period
        ]
        together = Together([scaler for _, scaler in pairs])
        results = iter(fluid.run_setting(setting, together, job.actuator, record=record))
        for name, scaler in pairs:
            for configuration in range(scaler.configurations):
                told = scaler.describe(configuration)
                result = replace(next(results), scaler=name, configuration=told)
                entries.append(Entry(name, job.bursts, result))
    return tuple(entries)


def _optimum(setting: Setting, *, bursts: bool) -> tuple[Entry, ...]:
    coarse = coarser(setting)
    problem = problem_from(coarse)
    best = optimum(coarse.rates, coarse.step_seconds, problem)
    bound = as_result(best, problem, lower=True)
    found = replace(bound, scaler=SCHEDULE, gpu_usd=best.gpu_usd, api_usd=best.api_usd)
    return Entry(OPTIMUM, bursts, bound), Entry(SCHEDULE, bursts, found)


def _scaler(name: str, job: Job, past: Trace) -> Scaler:
    if name == SPILLWAY:
        lag = job.conditions.metric_lag_seconds
        return SpillwayScaler(SpillwaySettings(spec=job.pool, metric_lag_seconds=lag))
    rival = RIVALS[name]
    return rival.grid(past) if job.role is Role.FRONTIER else rival.default(past)


_BESTS: Final = (OPTIMUM, SCHEDULE)


def gather(
    trace: Trace, conditions: Conditions, done: Iterable[tuple[Job, tuple[Entry, ...]]]
) -> Study:
    """A study of the runs that were done.

    Raises:
        ValueError: Spillway's own run is not among them, or no rate meets the targets.
    """
    by_world: dict[tuple[Role, float], list[Entry]] = {}
    for job, entries in done:
        by_world.setdefault((job.role, job.at), []).extend(entries)
    table = by_world.get((Role.COMPARE, 0.0), [])
    if not any(entry.name == SPILLWAY for entry in table):
        msg = "a study needs Spillway's own run"
        raise ValueError(msg)
    told = setting_of(trace, conditions, fluid.STEP_SECONDS).told
    return Study(
        trace=trace,
        conditions=conditions,
        requests_per_second=told.requests_per_second / conditions.told_capacity_factor,
        entries=tuple(entry for entry in _sorted(table) if entry.name not in _BESTS),
        optimum=next((entry for entry in table if entry.name == OPTIMUM), None),
        schedule=next((entry for entry in table if entry.name == SCHEDULE), None),
        frontier=tuple(by_world.get((Role.FRONTIER, 0.0), [])),
        by_lead=_worlds(by_world, Role.LEAD, conditions.lead.median_seconds, table),
        by_api_price=_worlds(by_world, Role.API_PRICE, 1.0, table),
    )


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    """Spillway, rivals by cost, the optimum, the schedule."""
    rank = {SPILLWAY: 0, OPTIMUM: 2, SCHEDULE: 3}
    return sorted(entries, key=lambda entry: (rank.get(entry.name, 1), entry.result.usd))


def _worlds(
    by_world: dict[tuple[Role, float], list[Entry]], role: Role, here: float, table: list[Entry]
) -> dict[float, tuple[Entry, ...]]:
    """The other worlds of a role and this one among them; none if there are no others."""
    worlds = {at: entries for (of, at), entries in by_world.items() if of is role}
    if worlds:
        worlds[here] = table
    return {at: tuple(_sorted(worlds[at])) for at in sorted(worlds)}
