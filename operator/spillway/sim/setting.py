"""All of a run that no scaler can change, worked out before it begins.

Both engines and every scaler get the same: load by step, what is true of a replica when, what the
API charges and refuses, how long each start takes, and what scalers are told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.burst_order import FIRST_LEAVE, burst_order
from spillway.sim.scaler import Told
from spillway.sim.trace import Lengths
from spillway.sim.truth import faster, replica_truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.burst_order import BurstOrder
    from spillway.sim.conditions import Change, Conditions
    from spillway.sim.profiles import ReplicaProfile
    from spillway.sim.trace import Trace
    from spillway.sim.truth import ReplicaTruth

    Floats = NDArray[np.float64]

#: Starts drawn for each step; more replicas created at once share them by turns.
STARTS: Final = 8
#: Pool that the first guess of mu is made for.
_FIRST_GUESS_REPLICAS: Final = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """A span of a run in which nothing but the load changes.

    Attributes:
        profile: A replica.
        prompt_factor: On the trace's prompt lengths.
        output_factor: On the trace's output lengths.
        truth: What it serves.
        order: Which requests leave first.
        api_price_factor: On the API's prices.
        api_down: The API answers nothing.
        schedulable: New replicas find a GPU.
    """

    profile: ReplicaProfile
    prompt_factor: float
    output_factor: float
    truth: ReplicaTruth
    order: BurstOrder
    api_price_factor: float
    api_down: bool
    schedulable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A trace under conditions, step by step.

    Attributes:
        conditions: The world.
        step_seconds: Length of a step.
        steps: Number of steps.
        rates: Arrivals per second; shape (steps,).
        phases: What holds when.
        phase_of: Index into ``phases``; shape (steps,).
        interrupted: Ready replicas that vanish at the begin of a step; shape (steps,).
        start_steps: Steps from creation to Ready for replicas created in a step; at least 1; shape
            (steps, STARTS).
        scatter: What single requests do to a step, in standard deviations; shape (steps,).
        unseen: Share of the variance of a step's arrivals that bins of the trace's length can't
            show.
        initial_replicas: Ready when the run begins, whoever scales it.
        told: What scalers are told; how requests leave is for the engine to add.
    """

    conditions: Conditions
    step_seconds: float
    steps: int
    rates: Floats
    phases: tuple[Phase, ...]
    phase_of: NDArray[np.int64]
    interrupted: NDArray[np.int64]
    start_steps: NDArray[np.int64]
    scatter: Floats
    unseen: float
    initial_replicas: int
    told: Told

    @property
    def drain_steps(self) -> int:
        """Steps for which a removed replica is billed on."""
        return math.ceil(self.conditions.drain_seconds / self.step_seconds - 1e-9)


def setting_of(trace: Trace, conditions: Conditions, step_seconds: float) -> Setting:
    """Work out a run.

    Raises:
        ValueError: ``step_seconds`` is not above 0, or no load at all meets the latency targets.
    """
    if not 0 < step_seconds < math.inf:
        msg = f"step_seconds must be a number above 0, got {step_seconds}"
        raise ValueError(msg)
    rates = trace.rates(step_seconds)
    steps = len(rates)
    truth = _truth(trace, conditions, conditions.profile, trace.lengths, _FIRST_GUESS_REPLICAS)
    if truth.requests_per_second <= 0:
        msg = (
            f"a replica {conditions.profile.name} meets ttft {conditions.ttft_seconds:g} s and "
            f"tpot {conditions.tpot_seconds:g} s for no more than {truth.attained[0]:.1%} of "
            f"{trace.name}'s requests even when idle; attainment must be below that, got "
            f"{conditions.attainment:g}"
        )
        raise ValueError(msg)
    typical = _clipped(trace.mean_per_second / truth.requests_per_second, conditions)
    phases, phase_of = _phases(trace, conditions, steps, step_seconds, typical)
    first = _clipped(math.ceil(rates[0] / phases[0].truth.requests_per_second - 1e-9), conditions)
    plain = _phase(trace, conditions, (), typical)
    return Setting(
        conditions=conditions,
        step_seconds=step_seconds,
        steps=steps,
        rates=rates,
        phases=phases,
        phase_of=phase_of,
        interrupted=_interrupted(conditions, steps, step_seconds),
        start_steps=_start_steps(conditions, steps, step_seconds),
        scatter=np.random.default_rng([conditions.seed, 2]).standard_normal(steps),
        unseen=max(0.0, 1 - step_seconds / trace.bin_seconds),
        initial_replicas=int(first),
        told=_told(conditions, trace, plain),
    )


def _clipped(replicas: float, conditions: Conditions) -> float:
    return min(float(conditions.max), max(float(conditions.floor), replicas))


def _truth(
    trace: Trace,
    conditions: Conditions,
    profile: ReplicaProfile,
    lengths: Lengths,
    replicas: float,
) -> ReplicaTruth:
    if len(lengths) == 0:
        msg = f"{trace.name} must have at least one pair of lengths"
        raise ValueError(msg)
    return replica_truth(
        profile,
        lengths,
        ttft_seconds=conditions.ttft_seconds,
        tpot_seconds=conditions.tpot_seconds,
        attainment=conditions.attainment,
        replicas=replicas,
    )


def _active(changes: tuple[Change, ...], at: float) -> tuple[Change, ...]:
    return tuple(change for change in changes if change.at <= at < change.until)


def _phases(
    trace: Trace, conditions: Conditions, steps: int, step_seconds: float, replicas: float
) -> tuple[tuple[Phase, ...], NDArray[np.int64]]:
    """The phases and which one each step is in; a change takes hold at the next step's begin."""
    edges = {0}
    for change in conditions.changes:
        for moment in (change.at, change.until):
            if moment < steps * step_seconds:
                edges.add(max(0, math.ceil(moment / step_seconds - 1e-9)))
    begins = sorted(edge for edge in edges if edge < steps)
    made: dict[tuple[Change, ...], Phase] = {}
    numbers: dict[tuple[Change, ...], int] = {}
    phase_of = np.zeros(steps, dtype=np.int64)
    for begin, end in zip(begins, [*begins[1:], steps], strict=True):
        active = _active(conditions.changes, begin * step_seconds)
        if active not in made:
            numbers[active] = len(made)
            made[active] = _phase(trace, conditions, active, replicas)
        phase_of[begin:end] = numbers[active]
    return tuple(made.values()), phase_of


def _phase(
    trace: Trace, conditions: Conditions, active: tuple[Change, ...], replicas: float
) -> Phase:
    prompt = math.prod(change.prompt_factor for change in active)
    output = math.prod(change.output_factor for change in active)
    profile = faster(conditions.profile, math.prod(c.capacity_factor for c in active))
    lengths = stretched(trace.lengths, prompt, output)
    truth = _truth(trace, conditions, profile, lengths, replicas)
    # Of a bound of about B* on each replica.
    window = (1 - FIRST_LEAVE) * replicas * truth.concurrency
    return Phase(
        profile=profile,
        prompt_factor=prompt,
        output_factor=output,
        truth=truth,
        order=burst_order(profile, lengths, conditions.api, window_requests=window),
        api_price_factor=math.prod(change.api_price_factor for change in active),
        api_down=any(change.api_down for change in active),
        schedulable=all(change.schedulable for change in active),
    )


def stretched(lengths: Lengths, prompt_factor: float, output_factor: float) -> Lengths:
    """The lengths times a factor each, in whole tokens, at least one."""
    if prompt_factor == 1.0 == output_factor:
        return lengths

    def scaled(tokens: NDArray[np.int64], factor: float) -> NDArray[np.int64]:
        whole: NDArray[np.int64] = np.maximum(1, np.rint(tokens * factor)).astype(np.int64)
        return whole

    prompt = scaled(lengths.prompt_tokens, prompt_factor)
    cached = np.rint(lengths.cached_tokens * prompt_factor).astype(np.int64)
    return Lengths(
        prompt, scaled(lengths.output_tokens, output_factor), np.minimum(cached, prompt - 1)
    )


def _interrupted(conditions: Conditions, steps: int, step_seconds: float) -> NDArray[np.int64]:
    interrupted = np.zeros(steps, dtype=np.int64)
    for change in conditions.changes:
        step = math.ceil(change.at / step_seconds - 1e-9)
        if change.interrupted_replicas and 0 <= step < steps:
            interrupted[step] += change.interrupted_replicas
    return interrupted


def _start_steps(conditions: Conditions, steps: int, step_seconds: float) -> NDArray[np.int64]:
    lead = conditions.lead
    rng = np.random.default_rng([conditions.seed, 1])
    drawn = lead.median_seconds * np.exp(lead.sigma * rng.standard_normal((steps, STARTS)))
    return np.maximum(1, np.ceil(drawn / step_seconds - 1e-9)).astype(np.int64)


def _told(conditions: Conditions, trace: Trace, plain: Phase) -> Told:
    truth, api, factor = plain.truth, conditions.api, conditions.told_capacity_factor
    return Told(
        requests_per_second=truth.requests_per_second * factor,
        concurrency=truth.concurrency * factor,
        max_requests_per_second=truth.max_requests_per_second * factor,
        max_concurrency=truth.max_concurrency,
        lengths=trace.lengths,
        gpu_usd_per_replica_hour=conditions.gpu_usd_per_replica_hour,
        api_usd_per_request=(
            truth.prompt_tokens * api.input_usd_per_million
            + truth.output_tokens * api.output_usd_per_million
        )
        / 1e6,
        lead_seconds=conditions.lead.median_seconds,
        floor=conditions.floor,
        max=conditions.max,
        ttft_seconds=conditions.ttft_seconds,
        tpot_seconds=conditions.tpot_seconds,
        attainment=conditions.attainment,
        kv_capacity_tokens=conditions.profile.kv_capacity_tokens,
        input_usd_per_million=api.input_usd_per_million,
        output_usd_per_million=api.output_usd_per_million,
        api_requests_per_minute=api.requests_per_minute,
        api_max_context_tokens=api.max_context_tokens,
    )
