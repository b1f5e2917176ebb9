"""What a metrics store would answer: lagged gauges and rates over the last minute."""

from __future__ import annotations

import math
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.conditions import GpuGauge
from spillway.sim.scaler import Seen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.fleet import Fleet
    from spillway.sim.setting import Setting
    from spillway.sim.truth import ReplicaTruth

    Floats = NDArray[np.float64]

RATE_SECONDS: Final = 60.0
ATTAINMENT_SECONDS: Final = 300.0


class Row(IntEnum):
    """Rows of a sample: counters, by name what they count, then gauges."""

    ARRIVALS = 0
    CLOUD = auto()
    COMPLETIONS = auto()
    PROMPT_TOKENS = auto()
    CACHED_TOKENS = auto()
    OUTPUT_TOKENS = auto()
    STEPS = auto()
    COUNTED = auto()
    """Local requests that were judged."""
    ATTAINED = auto()
    """Of these, within the targets."""
    RUNNING = auto()
    WAITING = auto()
    KV_USAGE = auto()
    GPU_UTILIZATION = auto()


#: Rows before it are shown as rates of a minute.
_RATED: Final = int(Row.COUNTED)
#: Rows before it count, from it on they are gauges.
_COUNTERS: Final = int(Row.RUNNING)


class History:
    """Samples at the end of each step, as long as anybody may ask for them.

    Before the run began the world was steady: counters rose as the first sample says, gauges stood.
    """

    def __init__(self, worlds: int, step_seconds: float, lag_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._lag = math.ceil(lag_seconds / step_seconds - 1e-9)
        self._rated = max(1, round(RATE_SECONDS / step_seconds))
        self._judged = max(1, round(ATTAINMENT_SECONDS / step_seconds))
        self._size = self._lag + max(self._rated, self._judged) + 1
        self._ring = np.zeros((self._size, len(Row), worlds))

    def begin(self, rates: Floats, gauges: Floats) -> None:
        """Fill in the time before the run.

        Args:
            rates: Counters' increase per second; shape (counters, K).
            gauges: Shape (gauges, K).
        """
        for back in range(self._size):
            sample = self._ring[-back % self._size]
            sample[:_COUNTERS] = -rates * (back * self._step_seconds)
            sample[_COUNTERS:] = gauges

    def next_sample(self, step: int) -> Floats:
        """The sample of the end of a step, to be filled: counters so far, gauges; (rows, K)."""
        ring = self._ring
        sample: Floats = ring[(step + 1) % self._size]
        sample[:] = ring[step % self._size]
        return sample

    def seen(self, step: int, fleet: Fleet, price_factor: float) -> Seen:
        """What a scaler sees at the begin of a step."""
        ring, size = self._ring, self._size
        at = step - self._lag
        sample = ring[at % size]
        seconds = self._rated * self._step_seconds
        rates = (sample[:_RATED] - ring[(at - self._rated) % size, :_RATED]) / seconds
        counted, attained = (sample - ring[(at - self._judged) % size])[_RATED:_COUNTERS]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = attained / counted
        return Seen(
            now=step * self._step_seconds,
            requested=fleet.requested.copy(),
            ready=fleet.ready.copy(),
            unready=fleet.starting + fleet.pending,
            arrivals_per_second=rates[Row.ARRIVALS],
            cloud_per_second=rates[Row.CLOUD],
            completions_per_second=rates[Row.COMPLETIONS],
            running=sample[Row.RUNNING].copy(),
            waiting=sample[Row.WAITING].copy(),
            kv_usage=sample[Row.KV_USAGE].copy(),
            gpu_utilization=sample[Row.GPU_UTILIZATION].copy(),
            attainment=share,
            unschedulable=fleet.pending.copy(),
            prompt_tokens_per_second=rates[Row.PROMPT_TOKENS],
            cached_tokens_per_second=rates[Row.CACHED_TOKENS],
            output_tokens_per_second=rates[Row.OUTPUT_TOKENS],
            steps_per_second=rates[Row.STEPS],
            cloud_requests_total=np.maximum(0.0, sample[Row.CLOUD]),
            api_price_factor=price_factor,
        )


def steady(setting: Setting, serving: Floats) -> tuple[Floats, Floats]:
    """Rates of counters, and gauges, of a world that has long been as it is at the run's begin.

    Args:
        setting: The run.
        serving: Ready replicas; shape (K,).

    Returns:
        Shapes (counters, K) and (gauges, K).
    """
    truth, rate = setting.phases[setting.phase_of[0]].truth, float(setting.rates[0])
    each = in_flight_at(truth, rate, serving)
    step_seconds = truth.base_seconds + truth.per_request_seconds * each
    busy = 1 - np.exp(-each)
    by_row = {
        Row.PROMPT_TOKENS: rate * truth.prompt_tokens,
        Row.CACHED_TOKENS: rate * truth.cached_tokens,
        Row.OUTPUT_TOKENS: rate * truth.output_tokens,
        Row.STEPS: serving * busy / step_seconds,
        Row.CLOUD: 0.0,
    }
    counters = list(Row)[:_COUNTERS]
    rates = np.array([np.broadcast_to(by_row.get(row, rate), each.shape) for row in counters])
    gauges = np.array(
        [
            each * serving,
            np.zeros_like(each),
            np.minimum(1.0, each * truth.kv_share_per_request),
            gpu_gauge(setting, truth, each, busy),
        ]
    )
    return rates, gauges


def in_flight_at(truth: ReplicaTruth, rate: float, serving: Floats) -> Floats:
    """Requests in flight on each of so many replicas at a rate that has lasted; shape (K,)."""
    return np.array([truth.in_flight_at(rate / count) for count in serving])


def gpu_gauge(setting: Setting, truth: ReplicaTruth, running: Floats, busy: Floats) -> Floats:
    """GPU utilisation as scalers see it.

    Args:
        setting: Says which reading.
        truth: What a replica serves.
        running: Requests in the batch of a replica.
        busy: Share of the time in which it steps.
    """
    if setting.conditions.gpu_gauge is GpuGauge.DUTY_CYCLE:
        return busy
    step_seconds = truth.base_seconds + truth.per_request_seconds * running
    rate = running / (truth.output_tokens * step_seconds)
    return np.asarray(rate / truth.max_requests_per_second, dtype=np.float64)
