"""The fluid engine: load as a flow, K configurations of a scaler at once, hours in milliseconds.

A world's state is what is in flight on its ready replicas, kept level by the router. In a step the
flow in is what arrives less what leaves for the API, the flow out what the batches of
`spillway.sim.batch` end, single requests' scatter among it. Requests are counted in mean ones:
where the router chooses which ones leave, those that leave are more or fewer than the GPU time that
they free.

What it leaves out, and where it parts from `spillway.sim.request_level`: docs/design/simulation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.batch import Batch
from spillway.sim.burst_flow import BurstFlow
from spillway.sim.burst_order import FIRST_LEAVE
from spillway.sim.fleet import Fleet
from spillway.sim.history import History, Row, gpu_gauge, steady
from spillway.sim.outcome import Result
from spillway.sim.recorder import Recorder
from spillway.sim.scaler import BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.trace import SECONDS_PER_HOUR
from spillway.sim.truth import scattered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.batch import After
    from spillway.sim.conditions import Conditions
    from spillway.sim.scaler import Asked, Scaler
    from spillway.sim.setting import Phase, Setting
    from spillway.sim.trace import Trace
    from spillway.sim.truth import ReplicaTruth

    Floats = NDArray[np.float64]

STEP_SECONDS: Final = 5.0
#: Requests on a replica within which a bound without a window lets go.
_SHARP: Final = 1e-6
#: Below this share of its bound n does not pass it within a step.
_NEAR: Final = 0.5
#: Stands for no bound on requests in flight.
_UNBOUNDED: Final = 1e12
#: Stands for no replica in a division: whatever arrives there waits.
_NOBODY: Final = 1e-6


def run(
    trace: Trace,
    conditions: Conditions,
    scaler: Scaler,
    actuator: BurstActuator,
    *,
    step_seconds: float = STEP_SECONDS,
    record: int | None = None,
) -> list[Result]:
    """Replay a trace; one result for each of the scaler's configurations, in their order.

    Args:
        trace: The load.
        conditions: The world.
        scaler: Who scales; it is begun anew.
        actuator: How requests leave for the API.
        step_seconds: Length of a step; decisions fall on steps.
        record: Configuration whose way is kept (`Result.timeline`).

    Raises:
        ValueError: The latency targets can't be met, or ``record`` is no configuration.
    """
    setting = setting_of(trace, conditions, step_seconds)
    return run_setting(setting, scaler, actuator, record=record)


def run_setting(
    setting: Setting, scaler: Scaler, actuator: BurstActuator, *, record: int | None = None
) -> list[Result]:
    """As `run`, in a setting that was worked out before: many scalers may share it.

    Raises:
        ValueError: ``record`` is no configuration.
    """
    if record is not None and not 0 <= record < scaler.configurations:
        msg = f"record must be from 0 to {scaler.configurations - 1}, got {record}"
        raise ValueError(msg)
    engine = _Engine(setting, scaler, actuator, record)
    for step in range(setting.steps):
        engine.step(step)
    return engine.results()


@dataclass(slots=True)
class _Totals:
    """Sums over the run; shape (K,) each."""

    requests: float
    cloud: Floats
    lost: Floats
    attained: Floats
    api_usd: Floats
    billed_steps: NDArray[np.int64]


class _Engine:
    """K worlds on their way through a run."""

    def __init__(
        self, setting: Setting, scaler: Scaler, actuator: BurstActuator, record: int | None
    ) -> None:
        self._setting, self._scaler, self._actuator = setting, scaler, actuator
        worlds = scaler.configurations
        self._period = max(1, math.ceil(scaler.period_seconds / setting.step_seconds - 1e-9))
        self._fleet = Fleet(setting, worlds)
        self._history = History(worlds, setting.step_seconds, setting.conditions.metric_lag_seconds)
        self._flow = BurstFlow(setting, worlds)
        self._recorder = None if record is None else Recorder(setting, record)
        self._serving = self._fleet.ready.astype(np.float64)
        rates, gauges = steady(setting, self._serving)
        self._history.begin(rates, gauges)
        # On all ready replicas together.
        self._running, self._waiting = gauges[0].copy(), np.zeros(worlds)
        self._scatter = setting.conditions.scatter
        unseen = setting.unseen if self._scatter else None
        self._batches = [
            Batch(phase.truth, setting.step_seconds, unseen) for phase in setting.phases
        ]
        self._blind = setting.conditions.burst_blind
        self._nothing = np.zeros(worlds)
        self._asked_fraction = np.zeros(worlds)
        self._asked_in_flight = np.full(worlds, _UNBOUNDED)
        self._totals = _Totals(
            requests=float(setting.rates.sum() * setting.step_seconds),
            cloud=np.zeros(worlds),
            lost=np.zeros(worlds),
            attained=np.zeros(worlds),
            api_usd=np.zeros(worlds),
            billed_steps=np.zeros(worlds, dtype=np.int64),
        )
        scaler.begin(replace(setting.told, actuator=actuator))

    def step(self, step: int) -> None:
        """Move every world by a step."""
        setting, fleet = self._setting, self._fleet
        phase = setting.phases[setting.phase_of[step]]
        fleet.begin_step(step, schedulable=phase.schedulable)
        if setting.interrupted[step]:
            self._interrupt(step, phase)
        if step % self._period == 0:
            self._decide(step, phase)
        self._serving = np.maximum(fleet.ready, _NOBODY)
        self._move(step, phase)

    def results(self) -> list[Result]:
        """What every configuration came to."""
        setting, totals = self._setting, self._totals
        hours = setting.step_seconds / SECONDS_PER_HOUR
        return [
            Result(
                scaler=self._scaler.name,
                configuration=self._scaler.describe(k),
                seconds=setting.steps * setting.step_seconds,
                requests=totals.requests,
                cloud_requests=float(totals.cloud[k]),
                lost_requests=float(totals.lost[k]),
                attained_requests=float(max(0.0, totals.attained[k])),
                gpu_usd=float(totals.billed_steps[k])
                * hours
                * setting.conditions.gpu_usd_per_replica_hour,
                api_usd=float(totals.api_usd[k]),
                replica_hours=float(totals.billed_steps[k]) * hours,
                scale_actions=int(self._fleet.actions[k]),
                ttft_seconds={},
                tpot_seconds={},
                timeline=(
                    self._recorder.timeline()
                    if self._recorder is not None and self._recorder.configuration == k
                    else None
                ),
            )
            for k in range(self._scaler.configurations)
        ]

    def _decide(self, step: int, phase: Phase) -> None:
        fleet = self._fleet
        asked: Asked = self._scaler.decide(self._history.seen(step, fleet, phase.api_price_factor))
        before, serving = fleet.requested, fleet.ready.copy()
        drained = fleet.ask(asked.replicas, step, schedulable=phase.schedulable)
        if drained.any():
            # They take what they have along and finish it.
            kept = 1 - drained / np.maximum(1, serving)
            self._running *= kept
            self._waiting *= kept
        self._asked_fraction = asked.fraction
        if self._actuator is BurstActuator.ADMISSION:
            self._asked_in_flight = np.minimum(asked.admit_in_flight, _UNBOUNDED)
        if self._recorder is not None:
            self._recorder.note(step, before, fleet.requested, asked.reason)

    def _interrupt(self, step: int, phase: Phase) -> None:
        """Ready replicas vanish; what they had is sent to the others, and is late."""
        fleet = self._fleet
        before = fleet.ready.copy()
        lost = fleet.interrupt(
            step, int(self._setting.interrupted[step]), schedulable=phase.schedulable
        )
        each = (self._running + self._waiting) / np.maximum(1, before)
        moved = each * lost
        truth = phase.truth
        self._totals.attained -= moved * scattered(truth, each, before.astype(np.float64), math.inf)

    def _move(self, step: int, phase: Phase) -> None:
        """What arrives, leaves and is finished within a step."""
        setting, flow, truth, totals = self._setting, self._flow, phase.truth, self._totals
        serving = self._serving
        arriving = float(setting.rates[step]) * setting.step_seconds
        each = arriving / serving
        running, waiting = self._running / serving, self._waiting / serving
        batch = self._batches[setting.phase_of[step]]
        batch.begin(running, waiting, serving, each, float(setting.scatter[step]))
        bound = self._asked_in_flight / serving
        after = None
        if self._actuator is BurstActuator.NONE or arriving == 0:
            left = flow.nothing()
        elif self._actuator is BurstActuator.FRACTION:
            left = flow.share(phase, arriving, self._asked_fraction)
        else:
            after, freed, bound = self._freed(batch, each, bound)
            left = flow.freeing(phase, arriving, freed)
        if after is None or left is not flow.nobody:
            after = batch.after(each * (1 - left.freed))
        total = after.running + after.waiting
        in_time = self._in_time(truth, running + waiting, total, bound)
        attained = arriving * (1 - left.requests) * in_time
        self._running, self._waiting = after.running * serving, after.waiting * serving
        totals.cloud += left.sent
        totals.lost += left.lost
        totals.attained += attained + left.attained
        totals.api_usd += left.usd
        totals.billed_steps += self._fleet.billed
        sample = self._sample(step, truth, arriving, left.sent, after)
        sample[Row.COUNTED] += arriving * (1 - left.requests)
        sample[Row.ATTAINED] += attained
        if self._recorder is not None:
            self._recorder.step(
                step,
                phase,
                self._fleet,
                arriving=arriving,
                sent=left.sent,
                waiting=sample[Row.WAITING],
                attained=attained + left.attained,
                usd=left.usd,
            )

    def _in_time(self, truth: ReplicaTruth, before: Floats, after: Floats, bound: Floats) -> Floats:
        """Share of what stays in a step that meets both targets."""
        if not self._scatter:
            return scattered(truth, (before + after) / 2, self._serving, bound)
        # The way itself scatters.
        n, share = truth.in_flight, truth.attained_exactly
        return np.asarray((np.interp(before, n, share) + np.interp(after, n, share)) / 2)

    def _freed(self, batch: Batch, each: Floats, bound: Floats) -> tuple[After, Floats, Floats]:
        """What is there if nothing leaves, the share of GPU time that the bound sends away, n's.

        A router that chooses lets the share rise from none at `FIRST_LEAVE` of the bound to all at
        the bound; one that does not lets everything in below the bound and nothing at it.
        """
        first = bound if self._blind else FIRST_LEAVE * bound
        after = batch.after(each)
        total = after.running + after.waiting
        if not (total > _NEAR * first).any():
            return after, self._nothing, first
        window = bound - first + _SHARP
        first = first - batch.excursion(self._serving)
        if not (total > first).any():
            return after, self._nothing, first
        return after, batch.leaving(each, first, window, total), first

    def _sample(
        self,
        step: int,
        truth: ReplicaTruth,
        arriving: float,
        sent: Floats,
        after: After,
    ) -> Floats:
        """Fill in what a metrics store will know of this step, attainment apart."""
        sample = self._history.next_sample(step)
        running = after.running
        busy = 1 - np.exp(-running)
        serving = self._fleet.ready
        finished = after.finished * self._serving
        sample[Row.ARRIVALS] += arriving
        sample[Row.CLOUD] += sent
        sample[Row.COMPLETIONS] += finished
        sample[Row.PROMPT_TOKENS] += finished * truth.prompt_tokens
        sample[Row.CACHED_TOKENS] += finished * truth.cached_tokens
        sample[Row.OUTPUT_TOKENS] += finished * truth.output_tokens
        step_seconds = truth.base_seconds + truth.per_request_seconds * running
        sample[Row.STEPS] += serving * busy * self._setting.step_seconds / step_seconds
        sample[Row.RUNNING] = running * serving
        sample[Row.WAITING] = self._waiting
        sample[Row.KV_USAGE] = np.minimum(1.0, running * truth.kv_share_per_request)
        sample[Row.GPU_UTILIZATION] = gpu_gauge(self._setting, truth, running, busy)
        return sample
