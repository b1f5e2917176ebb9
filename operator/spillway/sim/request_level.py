"""The request-level engine: every request and every step of every replica, one world at a time.

It takes the same trace, conditions, scalers and actuators as `spillway.sim.fluid` and gives the
same result, with latencies beside it. Replicas are those of `spillway.sim.replica`; arrivals of a
trace of counts are made up from the seed. Both engines share lead times, bills and metrics
(`spillway.sim.fleet`, `spillway.sim.history`).
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.cloud import Cloud
from spillway.sim.conditions import GpuGauge
from spillway.sim.fleet import Fleet
from spillway.sim.history import History, Row, steady
from spillway.sim.outcome import Result
from spillway.sim.profiles import BLOCK_TOKENS
from spillway.sim.recorder import Recorder
from spillway.sim.request import Request
from spillway.sim.router import Router
from spillway.sim.setting import setting_of
from spillway.sim.trace import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.conditions import Conditions
    from spillway.sim.request import Stream
    from spillway.sim.scaler import BurstActuator, Scaler
    from spillway.sim.setting import Setting
    from spillway.sim.trace import Requests, Trace

    Floats = NDArray[np.float64]

STEP_SECONDS: Final = 5.0
#: Requests that are still under way at the end of the trace may go on for so long, unbilled, to be
#: judged; what ends later is late by any target.
_AFTERWARDS_SECONDS: Final = 600.0
PERCENTILES: Final = (50, 95, 99)


def run(
    trace: Trace,
    conditions: Conditions,
    scaler: Scaler,
    actuator: BurstActuator,
    *,
    step_seconds: float = STEP_SECONDS,
    record: int | None = None,
) -> list[Result]:
    """Replay a trace request by request; a list of one result, as `spillway.sim.fluid.run`.

    Args:
        trace: The load.
        conditions: The world.
        scaler: Who scales, with one configuration; it is begun anew.
        actuator: How requests leave for the API.
        step_seconds: Time between looks at metrics, prices and replicas that have become ready.
        record: 0 keeps the way (`Result.timeline`).

    Raises:
        ValueError: The scaler has more than one configuration, or the targets can't be met.
    """
    if scaler.configurations != 1:
        msg = f"the request-level engine takes one configuration, got {scaler.configurations}"
        raise ValueError(msg)
    setting = setting_of(trace, conditions, step_seconds)
    engine = _Engine(setting, trace.sampled(conditions.seed), scaler, actuator, record)
    for step in range(setting.steps):
        engine.step(step)
    return [engine.result()]


class _Engine:
    """One world on its way through a run."""

    def __init__(
        self,
        setting: Setting,
        requests: Requests,
        scaler: Scaler,
        actuator: BurstActuator,
        record: int | None,
    ) -> None:
        conditions = setting.conditions
        self._setting, self._scaler, self._requests = setting, scaler, requests
        self._period = max(1, math.ceil(scaler.period_seconds / setting.step_seconds - 1e-9))
        self._fleet = Fleet(setting, 1)
        self._history = History(1, setting.step_seconds, conditions.metric_lag_seconds)
        self._recorder = None if record is None else Recorder(setting, record)
        self._router = Router(
            actuator, blind=conditions.burst_blind, rng=_rng(conditions.seed, "router")
        )
        self._cloud = Cloud(conditions.api, _rng(conditions.seed, "cloud"))
        self._next = 0
        self._counted = np.zeros(setting.steps)
        self._attained = np.zeros(setting.steps)
        self._latencies: tuple[list[float], list[float]] = ([], [])
        self._sent = self._lost = self._billed_steps = 0
        self._usd = 0.0
        self._phase = setting.phases[setting.phase_of[0]]
        # Of this step alone.
        self._step_sent = 0
        self._step_usd = 0.0
        # Seconds that all replicas have been busy, at the end of the last step.
        self._busy = 0.0
        serving = self._fleet.ready.astype(np.float64)
        self._history.begin(*steady(setting, serving))
        scaler.begin(replace(setting.told, actuator=actuator))

    def step(self, step: int) -> None:
        """Move the world by a step."""
        setting, fleet, router = self._setting, self._fleet, self._router
        now = step * setting.step_seconds
        phase = setting.phases[setting.phase_of[step]]
        if phase.profile is not self._phase.profile:
            router.change_profile(phase.profile)
        self._phase = phase
        fleet.begin_step(step, schedulable=phase.schedulable)
        router.resize(int(fleet.ready[0]), phase.profile, now)
        if setting.interrupted[step]:
            lost = fleet.interrupt(
                step, int(setting.interrupted[step]), schedulable=phase.schedulable
            )
            router.interrupt(int(lost[0]), now)
        if step % self._period == 0:
            self._decide(step, now)
        self._step_sent, self._step_usd = 0, 0.0
        self._arrive(step, now + setting.step_seconds)
        router.advance(now + setting.step_seconds)
        self._billed_steps += int(fleet.billed[0])
        self._sample(step)

    def result(self) -> Result:
        """What it came to."""
        setting = self._setting
        self._router.advance(setting.steps * setting.step_seconds + _AFTERWARDS_SECONDS)
        self._judge()
        hours = self._billed_steps * setting.step_seconds / SECONDS_PER_HOUR
        if self._recorder is not None:
            self._recorder.attained(self._counted, self._attained)
        ttft, tpot = (
            {p: float(np.percentile(kind, p)) for p in PERCENTILES} if kind else {}
            for kind in self._latencies
        )
        return Result(
            scaler=self._scaler.name,
            configuration=self._scaler.describe(0),
            seconds=setting.steps * setting.step_seconds,
            requests=float(self._counted.sum()),
            cloud_requests=float(self._sent),
            lost_requests=float(self._lost),
            attained_requests=float(self._attained.sum()),
            gpu_usd=hours * setting.conditions.gpu_usd_per_replica_hour,
            api_usd=self._usd,
            replica_hours=hours,
            scale_actions=int(self._fleet.actions[0]),
            ttft_seconds=ttft,
            tpot_seconds=tpot,
            timeline=None if self._recorder is None else self._recorder.timeline(),
        )

    def _decide(self, step: int, now: float) -> None:
        fleet, router = self._fleet, self._router
        asked = self._scaler.decide(self._history.seen(step, fleet, self._phase.api_price_factor))
        before = fleet.requested
        fleet.ask(asked.replicas, step, schedulable=self._phase.schedulable)
        router.resize(int(fleet.ready[0]), self._phase.profile, now)
        router.fraction = float(asked.fraction[0])
        router.admit_in_flight = float(asked.admit_in_flight[0])
        if self._recorder is not None:
            self._recorder.note(step, before, fleet.requested, asked.reason)

    def _arrive(self, step: int, end: float) -> None:
        """Deal out the requests of a step."""
        requests, router, phase = self._requests, self._router, self._phase
        lengths, times = requests.lengths, requests.arrived_at
        first, self._next = self._next, int(np.searchsorted(times, end))
        rows = slice(first, self._next)
        prompts = np.rint(lengths.prompt_tokens[rows] * phase.prompt_factor)
        outputs = np.rint(lengths.output_tokens[rows] * phase.output_factor)
        cached = np.rint(lengths.cached_tokens[rows] * phase.prompt_factor)
        kv_tokens = phase.profile.kv_blocks * BLOCK_TOKENS
        for number, (at, prompt, output, hit) in enumerate(
            zip(
                times[rows].tolist(),
                prompts.astype(int).tolist(),
                outputs.astype(int).tolist(),
                cached.astype(int).tolist(),
                strict=True,
            )
        ):
            prompt, output = max(1, prompt), max(1, output)  # noqa: PLW2901 - whole tokens
            request = Request(first + number, at, prompt, output, min(hit, prompt - 1))
            self._counted[step] += 1
            router.settle(at)
            if router.sends_away(request, phase) and self._send(step, request):
                continue
            if prompt + output > kv_tokens:
                self._lost += 1  # The engine refuses what its cache can never hold.
                continue
            router.place(request, at)

    def _send(self, step: int, request: Request) -> bool:
        """Send a request to the API; False where it has to stay after all."""
        phase = self._phase
        if phase.api_down or not self._cloud.takes(request.prompt_tokens):
            return False
        answer = self._cloud.send(
            request.arrived_at,
            request.prompt_tokens,
            request.output_tokens,
            phase.api_price_factor,
        )
        if answer is None:
            return False
        self._sent += 1
        self._step_sent += 1
        self._usd += answer.usd
        self._step_usd += answer.usd
        if not answer.answered:
            self._lost += 1
            return True
        self._attained[step] += answer.in_time
        api = self._setting.conditions.api
        self._latencies[0].append(api.ttft_seconds)
        if request.output_tokens > 1:
            self._latencies[1].append(api.tpot_seconds)
        return True

    def _judge(self) -> tuple[int, int]:
        """Judge the local requests that ended; how many, and of these in time."""
        conditions, finished = self._setting.conditions, self._router.finished
        ttfts, tpots = self._latencies
        attained = 0
        last = self._setting.steps - 1
        for stream in finished:
            ttft, tpot = _latencies(stream)
            ttfts.append(ttft)
            if tpot is not None:
                tpots.append(tpot)
            if ttft <= conditions.ttft_seconds and (tpot or 0.0) <= conditions.tpot_seconds:
                attained += 1
                step = int(stream.request.arrived_at / self._setting.step_seconds)
                self._attained[min(step, last)] += 1
        ended = len(finished)
        finished.clear()
        return ended, attained

    def _sample(self, step: int) -> None:
        """Fill in what a metrics store will know of this step."""
        setting, router, phase = self._setting, self._router, self._phase
        sample = self._history.next_sample(step)
        finished = list(router.finished)
        ended, attained = self._judge()
        running = waiting = kv_usage = 0.0
        for replica in router.serving:
            gauges = replica.gauges()
            running += gauges.running
            waiting += gauges.waiting
            kv_usage += gauges.kv_usage
        each = max(1, len(router.serving))
        totals = router.totals()
        sample[Row.ARRIVALS] += self._counted[step]
        sample[Row.CLOUD] += self._step_sent
        sample[Row.COMPLETIONS] += ended
        sample[Row.PROMPT_TOKENS] += sum(stream.request.prompt_tokens for stream in finished)
        sample[Row.CACHED_TOKENS] += sum(stream.request.cached_tokens for stream in finished)
        sample[Row.OUTPUT_TOKENS], sample[Row.STEPS] = totals.output_tokens, totals.steps
        sample[Row.COUNTED] += ended
        sample[Row.ATTAINED] += attained
        sample[Row.RUNNING], sample[Row.WAITING] = running, waiting + router.stranded
        sample[Row.KV_USAGE] = kv_usage / each
        if setting.conditions.gpu_gauge is GpuGauge.DUTY_CYCLE:
            busy = totals.busy_seconds - self._busy
            self._busy = totals.busy_seconds
            sample[Row.GPU_UTILIZATION] = busy / (each * setting.step_seconds)
        else:
            truth = phase.truth
            sample[Row.GPU_UTILIZATION] = (
                truth.rate_at(running / each) / truth.max_requests_per_second
            )
        if self._recorder is not None:
            self._recorder.step(
                step,
                phase,
                self._fleet,
                arriving=float(self._counted[step]),
                sent=np.array([float(self._step_sent)]),
                waiting=sample[Row.WAITING],
                attained=np.array([0.0]),
                usd=np.array([self._step_usd]),
            )


def _rng(seed: int, purpose: str) -> random.Random:
    return random.Random(f"{seed}/{purpose}")  # noqa: S311 - not for secrets


def _latencies(stream: Stream) -> tuple[float, float | None]:
    """Time to first token and mean time per further token; None where there is only one."""
    ttft = stream.ttft_seconds
    return math.inf if ttft is None else ttft, stream.tpot_seconds
