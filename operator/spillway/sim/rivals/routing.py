"""Spillway's own burst for rivals: they size their replicas, the router is the same for all.

What to admit and which share to send away are asked of `spillway.core.overflow`, with the capacity
that rivals are told and what they see, so that a comparison with a rival is one of replicas alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.reasons import Reason
from spillway.core.capacity import GENERIC_PROFILE
from spillway.core.overflow import (
    LiveLoad,
    OverflowInputs,
    OverflowValue,
    admitted_in_flight,
    target_fraction,
)
from spillway.core.overflow_value import NO_ALLOWANCE
from spillway.sim.scaler import Asked, BurstActuator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.scaler import Seen, Told


class Router:
    """Admission or fraction for K configurations."""

    def __init__(self, told: Told, configurations: int) -> None:
        self._told = told
        self._spec = InferencePoolSpec.model_validate(
            {
                "modelName": "model",
                "variants": [{"name": "gpu", "targetRef": {"name": "gpu"}}],
                "replicas": {"floor": told.floor, "max": told.max},
                "latency": {
                    "ttft": f"{told.ttft_seconds}s",
                    "tpot": f"{told.tpot_seconds}s",
                    "attainment": str(told.attainment),
                },
                "burst": {"providers": [{"name": "api"}]},
            }
        )
        computed = (told.lengths.prompt_tokens - told.lengths.cached_tokens).mean()
        self._prefill_seconds = GENERIC_PROFILE.per_prefill_token * float(computed)
        self._admitted: list[int] = []
        self._previous: list[OverflowValue | None] = [None] * configurations

    def ask(self, seen: Seen, replicas: NDArray[np.int64], reason: str = "") -> Asked:
        """The replicas that a rival wants, with the router's part beside them."""
        none = np.zeros(len(replicas))
        if self._told.actuator is BurstActuator.ADMISSION:
            return Asked(replicas, none, self._admissions(seen), reason)
        unbounded = np.full(len(replicas), np.inf)
        if self._told.actuator is BurstActuator.FRACTION:
            shares = [self._fraction(seen, k) for k in range(len(replicas))]
            return Asked(replicas, np.array(shares), unbounded, reason)
        return Asked(replicas, none, unbounded, reason)

    def _admissions(self, seen: Seen) -> NDArray[np.float64]:
        for ready in range(len(self._admitted), int(seen.ready.max()) + 1):
            load = LiveLoad(seen.now, (), 0.0, None, ready)
            # A router counts whole requests: the core publishes the bound without its fraction.
            self._admitted.append(math.floor(admitted_in_flight(self._inputs(load)) or 0.0))
        return np.asarray(self._admitted, dtype=np.float64)[seen.ready]

    def _fraction(self, seen: Seen, k: int) -> float:
        ready = int(seen.ready[k])
        in_flight = float(seen.running[k] + seen.waiting[k])
        load = LiveLoad(
            at=seen.now,
            in_flight_by_pod=(in_flight / ready,) if ready else (),
            waiting=float(seen.waiting[k]),
            arrivals_per_second=float(seen.arrivals_per_second[k]),
            replicas_serving=ready,
        )
        fraction = target_fraction(self._inputs(load), self._previous[k], seen.now) or 0.0
        self._previous[k] = OverflowValue(
            version=0,
            epoch=0,
            until=math.inf,
            fraction=fraction,
            admit=None,
            allowance=NO_ALLOWANCE,
            providers=(),
            reason=Reason.SHORTAGE,
            set_at=seen.now,
        )
        return fraction

    def _inputs(self, load: LiveLoad) -> OverflowInputs:
        return OverflowInputs(
            spec=self._spec,
            mu=self._told.requests_per_second,
            concurrency=self._told.concurrency,
            demand_per_second=None,
            live=load,
            prefill_seconds=self._prefill_seconds,
            p95_cost_usd=self._told.api_usd_per_request,
            price_known=True,
            budget_left_usd=None,
            release=False,
            engine_concurrency=self._told.max_concurrency,
        )
