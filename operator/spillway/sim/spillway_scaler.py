"""The product's own core behind the simulator's seam: what the operator would ask for.

Every rule is the core's: `spillway.core.pool.step` decides and plans, `spillway.core.fast` sets the
overflow value. Here is only what the operator's controller does around them: facts are put together
from what is seen (`spillway.sim.pod_table`), and what is asked for is read from the plan.

The simulated target is one whose pods carry no roles, so replicas go without the wait for an empty
EndpointSlice and without an un-drain; the engines bill their drain. There is no warm pool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from spillway.api.inferencepool import InferencePoolSpec
from spillway.core.burst import live_load, overflow_inputs
from spillway.core.decide import PoolMemory
from spillway.core.facts import GatewayLoad, PoolFacts, TargetFacts, TargetKind
from spillway.core.fast import fast_step
from spillway.core.ledger import PoolLedger, settle
from spillway.core.plan import PlanMemory
from spillway.core.pool import PoolState, step
from spillway.sim.pod_table import PodTable
from spillway.sim.scaler import Asked, BurstActuator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.core.overflow import OverflowValue
    from spillway.core.pool import Outcome
    from spillway.sim.scaler import Seen, Told

#: The run begins at this Unix time, a Monday midnight in UTC: the core's clocks are absolute.
EPOCH: Final = 1_767_571_200.0
SLOW_TICK_SECONDS: Final = 15.0
_VARIANT: Final = "gpu"
_PROVIDER: Final = "api"


@dataclass(frozen=True, slots=True)
class SpillwaySettings:
    """How Spillway is set up in a simulation; the defaults are the product's.

    Attributes:
        learn_capacity: Leave the replicas' capacity to be learned; else what is told is declared.
        spec: Fields of the pool's spec, camelCase as a user writes them, merged over what follows
            from what is told.
        fast_seconds: Time between overflow values. The operator takes 1 to 2 s; here one a slow
            tick is enough, because a bound on requests in flight acts within the engine.
        metric_lag_seconds: Age that the samples are taken to have.
    """

    learn_capacity: bool = False
    spec: Mapping[str, Any] | None = None
    fast_seconds: float = SLOW_TICK_SECONDS
    metric_lag_seconds: float = 15.0


class SpillwayScaler:
    """Spillway as a `spillway.sim.scaler.Scaler` with one configuration.

    Attributes:
        name: For tables.
        configurations: 1.
        period_seconds: Time between decisions; replicas are decided on every 15 s.
        outcome: Of the latest slow step, for whoever explains; None before the first.
    """

    configurations = 1

    def __init__(self, settings: SpillwaySettings | None = None, *, name: str = "spillway") -> None:
        self.name = name
        self._settings = settings or SpillwaySettings()
        self.period_seconds = min(SLOW_TICK_SECONDS, self._settings.fast_seconds)
        self.outcome: Outcome | None = None

    def describe(self, configuration: int) -> str:  # noqa: ARG002 - there is one
        """What differs from the defaults."""
        parts = ["capacity learned" if self._settings.learn_capacity else "capacity declared"]
        parts += [f"{name}: {value}" for name, value in (self._settings.spec or {}).items()]
        return ", ".join(parts)

    def begin(self, told: Told) -> None:
        """Forget everything; a run begins.

        Raises:
            pydantic.ValidationError: `SpillwaySettings.spec` does not fit the API.
        """
        self._told = told
        self._price_factor = 1.0
        self._spec = pool_spec(told, self._settings, 1.0)
        self._pods = PodTable(self._settings.metric_lag_seconds)
        self._state = PoolState(PoolMemory.initial(), PlanMemory())
        self._ledger = PoolLedger.empty("UTC", EPOCH)
        self._value: OverflowValue | None = None
        self._slow_at = -math.inf
        self._replicas = 0
        self.outcome = None

    def decide(self, seen: Seen) -> Asked:
        """What is wanted from now on."""
        now = EPOCH + seen.now
        if seen.api_price_factor != self._price_factor:
            self._price_factor = seen.api_price_factor
            self._spec = pool_spec(self._told, self._settings, seen.api_price_factor)
        facts = self._facts(seen, now)
        reason = ""
        # A period that is no divisor of the slow tick must not make it later each time.
        if now - self._slow_at >= SLOW_TICK_SECONDS - self.period_seconds / 2:
            self._slow_at = now
            reason = self._slow(facts, seen, now)
        outcome = self.outcome
        if outcome is not None and self._spec.burst is not None:
            self._fast(facts, outcome, now)
        self._pods.asked(self._replicas, now)
        value = self._value
        admitted = math.inf
        if value is not None and value.admit is not None:
            admitted = float(value.admit.in_flight)
        return Asked(
            np.array([self._replicas]),
            np.array([0.0 if value is None else value.fraction]),
            np.array([admitted]),
            reason,
        )

    def _facts(self, seen: Seen, now: float) -> PoolFacts:
        sampled_at = now - self._settings.metric_lag_seconds
        total = seen.cloud_requests_total
        self._replicas = int(seen.requested[0])
        target = TargetFacts(
            kind=TargetKind.OTHER,
            spec_replicas=self._replicas,
            owned=True,
            pods=self._pods.seen(seen, now),
        )
        return PoolFacts(
            namespace="simulation",
            name="pool",
            uid="pool",
            generation=1,
            created_at=EPOCH,
            spec=self._spec,
            targets={_VARIANT: target},
            gateway=GatewayLoad(
                sampled_at=sampled_at,
                arrivals_per_second=float(seen.arrivals_per_second[0]),
                cloud_per_second=float(seen.cloud_per_second[0]),
                cloud_requests_total=None if total is None else float(total[0]),
            ),
        )

    def _slow(self, facts: PoolFacts, seen: Seen, now: float) -> str:
        """As the operator's slow loop; what changed and why, for a person."""
        value = self._value
        live = value is not None and value.until > now
        outcome = step(
            facts,
            self._state,
            now,
            read_only=False,
            overflow_fraction=value.fraction if value is not None and live else 0.0,
            budget_left=self._spec.burst is not None,
        )
        self.outcome, self._state = outcome, outcome.state
        if seen.cloud_requests_total is not None and facts.gateway is not None:
            total = float(seen.cloud_requests_total[0])
            self._ledger = settle(self._ledger, total, None, facts.gateway.sampled_at)
        for scale in outcome.plan.scales if outcome.decision.write else ():
            self._replicas = scale.replicas
        return str(outcome.decision) if outcome.decision.changed else ""

    def _fast(self, facts: PoolFacts, outcome: Outcome, now: float) -> None:
        """As the operator's fast loop."""
        live = live_load(facts, self._pods.loads, now)
        inputs = overflow_inputs(facts, outcome, live, now)
        result = fast_step(inputs, self._value, self._ledger, now, epoch=1)
        self._value, self._ledger = result.value, result.ledger


def pool_spec(told: Told, settings: SpillwaySettings, api_price_factor: float) -> InferencePoolSpec:
    """The pool that a user who knows what is told would apply.

    Raises:
        pydantic.ValidationError: `SpillwaySettings.spec` does not fit the API.
    """
    variant: dict[str, Any] = {
        "name": _VARIANT,
        "targetRef": {"name": _VARIANT},
        "price": {"perAcceleratorHour": _usd(told.gpu_usd_per_replica_hour)},
    }
    if not settings.learn_capacity:
        variant["capacity"] = {
            "requestsPerSecond": _decimal(told.requests_per_second),
            "concurrency": max(1, round(told.concurrency)),
        }
    spec: dict[str, Any] = {
        "modelName": "simulated",
        "variants": [variant],
        "replicas": {"floor": told.floor, "max": told.max},
        "latency": {
            "ttft": f"{told.ttft_seconds * 1000:.0f}ms",
            "tpot": f"{told.tpot_seconds * 1000:.0f}ms",
            "attainment": _decimal(told.attainment),
        },
    }
    if told.actuator is not BurstActuator.NONE:
        spec["burst"] = _burst(told, api_price_factor)
    return InferencePoolSpec.model_validate(_merged(spec, settings.spec or {}))


def _burst(told: Told, api_price_factor: float) -> dict[str, Any]:
    admits = told.actuator is BurstActuator.ADMISSION
    provider: dict[str, Any] = {
        "name": _PROVIDER,
        "price": {
            "inputPerMillion": _usd(told.input_usd_per_million * api_price_factor),
            "outputPerMillion": _usd(told.output_usd_per_million * api_price_factor),
        },
        "maxContextTokens": told.api_max_context_tokens,
    }
    if math.isfinite(told.api_requests_per_minute):
        provider["limits"] = {"requestsPerMinute": max(1, int(told.api_requests_per_minute))}
    return {"driver": "EdgeEnvoy" if admits else "Annotation", "providers": [provider]}


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` wins, field by field; a list is replaced as a whole."""
    merged = dict(base)
    for name, value in over.items():
        inner = base.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[name] = _merged(inner, value) if both and inner is not None else value
    return merged


def _usd(amount: float) -> str:
    """A decimal string with micro-dollars."""
    return f"{amount:.6f}"


def _decimal(value: float) -> str:
    return f"{value:.6g}"
