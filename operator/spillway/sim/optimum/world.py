"""From a simulated world to the optimum's problem, and from its answer to a run's result."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.burst_flow import attempts
from spillway.sim.optimum.problem import Problem
from spillway.sim.optimum.step_cost import Regime
from spillway.sim.outcome import Result, Timeline
from spillway.sim.trace import SECONDS_PER_HOUR
from spillway.sim.truth import scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.optimum.solve import Optimum
    from spillway.sim.setting import Phase, Setting

    Floats = NDArray[np.float64]

#: The optimum's step: several times the ten seconds or so that requests of public traces stay.
STEP_SECONDS: Final = 60.0
#: Starts hardly ever take more, or less, than this many standard deviations from the median.
_LEAD_SIGMAS: Final = 3.0
#: The rate limit's bucket holds a minute's worth.
_BUCKET_SECONDS: Final = 60.0


def coarser(setting: Setting, step_seconds: float = STEP_SECONDS) -> Setting:
    """The same run in longer steps, for the optimum; a rest shorter than a step is left out.

    Within a step the optimum takes the load as even and what is in flight as what lasts at that
    load. In shorter steps than a few times a request's stay it would be charged for noise that
    engines absorb, and be no bound.

    Raises:
        ValueError: ``step_seconds`` is no multiple of the setting's step, or longer than the run.
    """
    many = round(step_seconds / setting.step_seconds)
    if many < 1 or abs(many * setting.step_seconds - step_seconds) > 1e-9 * step_seconds:
        msg = (
            f"step_seconds must be a multiple of the setting's {setting.step_seconds:g} s, got "
            f"{step_seconds:g}"
        )
        raise ValueError(msg)
    steps = setting.steps // many
    if steps == 0:
        seconds = setting.steps * setting.step_seconds
        msg = f"for an optimum a load must last {step_seconds:g} s at least, got {seconds:g} s"
        raise ValueError(msg)
    whole = steps * many
    return replace(
        setting,
        step_seconds=step_seconds,
        steps=steps,
        rates=setting.rates[:whole].reshape(steps, many).mean(axis=1),
        phase_of=setting.phase_of[:whole:many],
        interrupted=setting.interrupted[:whole].reshape(steps, many).sum(axis=1),
        start_steps=np.maximum(1, -(-setting.start_steps[:whole:many] // many)),
    )


def problem_from(setting: Setting, attainment: float | None = None) -> Problem:
    """The problem of a run.

    Args:
        setting: The run: load, conditions and what is true when, in steps of a minute or so
            (`coarser`).
        attainment: Share of requests that must keep the promise; None: the conditions'. To compare
            a run at equal attainment, give the share that it reached.
    """
    conditions = setting.conditions
    floor, may_start = _limits(setting)
    return Problem(
        regimes=tuple(_regime(setting, phase, kindest=True) for phase in setting.phases),
        achievable=tuple(_regime(setting, phase, kindest=False) for phase in setting.phases),
        regime_of_step=setting.phase_of,
        gpu_usd_per_replica_hour=conditions.gpu_usd_per_replica_hour,
        lead_seconds=conditions.lead.median_seconds,
        drain_seconds=conditions.drain_seconds,
        attainment=conditions.attainment if attainment is None else attainment,
        max=conditions.max,
        floor=floor,
        vanishing=setting.interrupted,
        may_start=may_start,
        initial=setting.initial_replicas,
    )


def as_result(optimum: Optimum, problem: Problem, *, lower: bool = False) -> Result:
    """The optimum's plan as a run's result; with ``lower`` the bound's cost in its place.

    The bound's cost is split between GPU and API as the plan's is.
    """
    share = optimum.usd_lower / optimum.usd_plan if lower and optimum.usd_plan else 1.0
    seconds = optimum.step_seconds
    changes = int(np.count_nonzero(np.diff(optimum.replicas)))
    return Result(
        scaler="optimum (lower bound)" if lower else "optimum (plan)",
        configuration="all of the load known beforehand",
        seconds=len(optimum.replicas) * seconds,
        requests=optimum.requests,
        cloud_requests=float(optimum.cloud_per_second.sum()) * seconds,
        lost_requests=0.0,
        attained_requests=optimum.requests * optimum.attainment,
        gpu_usd=optimum.gpu_usd * share,
        api_usd=optimum.api_usd * share,
        replica_hours=(
            optimum.gpu_usd / problem.gpu_usd_per_replica_hour
            if problem.gpu_usd_per_replica_hour
            else float(optimum.replicas.sum()) * seconds / SECONDS_PER_HOUR
        ),
        scale_actions=changes,
        ttft_seconds={},
        tpot_seconds={},
        timeline=None if lower else _timeline(optimum, problem),
    )


def _timeline(optimum: Optimum, problem: Problem) -> Timeline:
    seconds, replicas = optimum.step_seconds, optimum.replicas.astype(np.float64)
    most = np.array([regime.loads[-1] for regime in problem.achievable])[problem.regime_of_step]
    arriving = optimum.rates
    with np.errstate(invalid="ignore", divide="ignore"):
        attainment = 1 - optimum.failed_per_second / arriving
    starting, draining = _on_their_way(optimum.replicas, problem, seconds)
    return Timeline(
        at=np.arange(len(replicas), dtype=np.float64) * seconds,
        arrivals_per_second=arriving,
        cloud_per_second=optimum.cloud_per_second,
        capacity_per_second=replicas * most,
        ready=replicas,
        unready=starting,
        waiting=np.zeros(len(replicas)),
        attainment=np.where(arriving > 0, attainment, np.nan),
        gpu_usd_per_hour=(replicas + starting + draining) * problem.gpu_usd_per_replica_hour,
        api_usd_per_hour=optimum.api_usd_per_second * SECONDS_PER_HOUR,
    )


def _on_their_way(
    plan: NDArray[np.int64], problem: Problem, seconds: float
) -> tuple[Floats, Floats]:
    """Replicas that start and that drain in each step, parts of steps counted as parts."""
    before = plan[0] if problem.initial is None else problem.initial
    left = np.maximum(np.concatenate(([before], plan[:-1])) - problem.vanishing, 0)
    change = (plan - left).astype(np.float64)
    ahead = _spread(np.maximum(change, 0)[::-1], problem.lead_seconds / seconds)[::-1]
    # A start is over when the replica serves: it lies in the steps before.
    starting = np.append(ahead[1:], 0.0)
    return starting, _spread(np.maximum(-change, 0), problem.drain_seconds / seconds)


def _spread(events: Floats, steps: float) -> Floats:
    """How many last in each step when each lasts so many steps from its own on."""
    whole = int(steps)
    total = np.concatenate(([0.0], np.cumsum(events)))
    ends = np.arange(1, len(total))
    lasting = total[ends] - total[np.maximum(0, ends - whole)]
    last = np.concatenate((np.zeros(whole), events))[: len(events)]
    return np.asarray(lasting + (steps - whole) * last, dtype=np.float64)


def _regime(setting: Setting, phase: Phase, *, kindest: bool) -> Regime:
    """A phase's regime: as kind as the engine can be to any schedule, or what can be counted on."""
    truth, conditions = phase.truth, setting.conditions
    within = truth.in_flight <= truth.max_concurrency
    in_flight = truth.in_flight[within]
    loads = np.array([truth.rate_at(n) for n in in_flight])
    attained = _attained(setting, phase, in_flight, kindest=kindest)
    freed, requests, usd = _leaving(phase, blind=conditions.burst_blind)
    made = attempts(conditions.api)
    limit = conditions.api.requests_per_minute / 60 / made.made
    if kindest:
        limit *= 1 + _BUCKET_SECONDS / setting.step_seconds
    return Regime(
        loads=loads,
        late=loads * (1 - attained),
        freed=freed,
        requests=requests,
        usd=usd * phase.api_price_factor * made.billed,
        failed_share=1 - (1 - made.lost) * (1 - conditions.api.late_share),
        leave_per_second=0.0 if phase.api_down else limit,
    )


def _attained(setting: Setting, phase: Phase, in_flight: Floats, *, kindest: bool) -> Floats:
    """Share in time with so many in flight and a router that lets no more in.

    Pools of another size scatter more or less, to either side: the kindest of the extremes.
    """
    conditions, truth = setting.conditions, phase.truth

    def of(replicas: float) -> Floats:
        sizes = np.full(len(in_flight), replicas)
        return np.asarray(scattered(truth, in_flight, sizes, in_flight), dtype=np.float64)

    if kindest:
        return np.maximum(of(float(conditions.floor)), of(math.inf))
    return of(float(max(conditions.floor, setting.initial_replicas)))


def _leaving(phase: Phase, *, blind: bool) -> tuple[Floats, Floats, Floats]:
    order = phase.order
    if not blind:
        return order.freed, order.requests, order.usd
    ends = np.array([0.0, order.eligible])
    return ends * order.mean_freed, ends, ends * order.mean_usd


def _limits(setting: Setting) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The floor where anybody could hold it, and the steps in which a replica can become ready."""
    conditions, seconds = setting.conditions, setting.step_seconds
    spread = math.exp(_LEAD_SIGMAS * conditions.lead.sigma)
    longest = conditions.lead.median_seconds * spread
    shortest = conditions.lead.median_seconds / spread
    at = np.arange(setting.steps) * seconds
    floor = np.full(setting.steps, conditions.floor, dtype=np.int64)
    may_start = np.ones(setting.steps, dtype=np.bool_)
    for change in conditions.changes:
        if not change.schedulable:
            may_start &= ~((at >= change.at + longest) & (at < change.until + shortest))
            floor[(at >= change.at) & (at < change.until + 2 * longest)] = 0
        if change.interrupted_replicas:
            floor[(at >= change.at - seconds) & (at < change.at + 2 * longest)] = 0
    return floor, may_start
