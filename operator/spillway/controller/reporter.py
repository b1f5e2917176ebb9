"""Publishes what was decided: status, events on what changed, and the operator's metrics.

Statuses are written behind the decisions, so that no promotion waits for a status, and only as
often as they say something new: a pool that sits at a limit flips its reasons at every tick, and
its figures drift for ever.
"""

from __future__ import annotations

import math
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from pydantic import ValidationError

from spillway.adapters.kube.errors import ApiError, Conflict, NotFound
from spillway.adapters.kube.throttle import TokenBucket
from spillway.api.conditions import WantedCondition, merge_conditions
from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.reasons import ConditionType, Reason
from spillway.controller.backlog import Backlog
from spillway.core import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spillway.adapters.kube.status import PoolWriter
    from spillway.adapters.telemetry import Telemetry
    from spillway.api.validation import InferencePool
    from spillway.controller.runtime import Key, PoolRuntime
    from spillway.controller.teller import Teller
    from spillway.controller.watches import InvalidPool
    from spillway.core.facts import PoolFacts
    from spillway.core.reported import Report

log = structlog.get_logger(__name__)

#: Fields whose every change is written at once: each goes with a change of the spec or of a pod.
_PROMPT: Final = ("observed_generation", "replicas")
#: Turns of reasons and conditions that are written at once, before a pool has to wait for a quiet
#: period with each. A rollout or an outage has fewer; a pool at the edge of a limit has one a tick.
_TURNS: Final = 10
#: Conditions whose turn is worth an event, and which status is the good one.
_TOLD: Final[Mapping[str, bool]] = {
    ConditionType.READY: True,
    ConditionType.METRICS_AVAILABLE: True,
    ConditionType.OVERFLOW_ACTIVE: False,
    ConditionType.BUDGET_AVAILABLE: True,
    ConditionType.TARGET_CONTESTED: False,
    ConditionType.PRICE_KNOWN: True,
    ConditionType.RUNAWAY_SUSPECTED: False,
}
#: Reasons that foretell such a turn: each that appears is worth an event of its own.
_FORETOLD: Final = frozenset({Reason.BUDGET_RUNNING_OUT})


def parse_status(raw: Mapping[str, Any]) -> InferencePoolStatus:
    """A stored status; an unreadable one (of another version, say) counts as none."""
    try:
        return InferencePoolStatus.model_validate(raw)
    except ValidationError as error:
        log.warning("stored status is not readable; starting anew", problems=error.error_count())
        return InferencePoolStatus()


class Reporter:
    """Writes status on change, and mirrors it in events and metrics.

    Args:
        writer: Writes statuses.
        teller: Tells people.
        telemetry: The operator's metrics.
        may_write: Asked before each write: whether this process leads, at this very moment.
        quiet_seconds: Figures that only drift are written no more often than this.
        drifts_per_second: Nor more of all pools than this: with many, each waits longer.
        pools: How many pools there are.
        retry: Called with the key of a pool that has changed since its status was decided on.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        writer: PoolWriter,
        teller: Teller,
        telemetry: Telemetry,
        may_write: Callable[[], bool],
        quiet_seconds: float,
        drifts_per_second: float,
        pools: Callable[[], int],
        retry: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._teller = teller
        self._telemetry = telemetry
        self._may_write = may_write
        self._quiet_seconds = quiet_seconds
        self._drifts_per_second = drifts_per_second
        self._pools = pools
        self._retry = retry
        self._clock = clock
        self._backlog = Backlog()

    async def run(self) -> None:
        """Publish what was submitted, until cancelled."""
        await self._backlog.run()

    def submit(self, facts: PoolFacts, runtime: PoolRuntime, said: Report) -> None:
        """Publish this soon, unless something newer comes before its turn."""
        self._backlog.put(runtime.key, partial(self.publish, facts, runtime, said))

    def submit_held(
        self, pool: InferencePool, runtime: PoolRuntime, reason: Reason, message: str
    ) -> None:
        """Say soon that the pool is held because of a failure that is not of its own making."""
        self._backlog.put(runtime.key, partial(self.hold, pool, runtime, reason, message))

    def submit_refused(self, pools: Iterable[InvalidPool]) -> None:
        """Say soon on each invalid pool what is wrong with it."""
        for pool in pools:
            self._backlog.put((pool.namespace, pool.name), partial(self.refuse, pool))

    async def publish(
        self, facts: PoolFacts, runtime: PoolRuntime, said: Report, now: float | None = None
    ) -> None:
        """Bring status, events and metrics up to date."""
        if runtime.gone:
            return
        now = time.time() if now is None else now
        status = report.status(facts, said, runtime.status, now)
        self._measure(facts, said, status)
        await self._bring(facts, runtime, status)

    async def hold(
        self,
        pool: InferencePool,
        runtime: PoolRuntime,
        reason: Reason,
        message: str,
        now: float | None = None,
    ) -> None:
        """Say that the pool is not Ready and why; the rest of its status stays."""
        if runtime.gone:
            return
        now = time.time() if now is None else now
        before = runtime.status or InferencePoolStatus()
        await self._bring(pool, runtime, _not_ready(before, reason, message, pool.generation, now))

    async def refuse(self, pool: InvalidPool, now: float | None = None) -> None:
        """Say on an invalid pool what is wrong with it; it stays as it is otherwise."""
        now = time.time() if now is None else now
        before = parse_status(pool.status_raw)
        status = _not_ready(before, Reason.INVALID_SPEC, pool.message, pool.generation, now)
        if status == before or not self._may_write():
            return
        try:
            await self._write(pool, status, pool.resource_version)
        except ApiError as error:
            self._failed(pool, error)
        else:
            self._teller.tell(pool, Reason.INVALID_SPEC, pool.message, warning=True)

    async def _bring(
        self, pool: PoolFacts | InferencePool, runtime: PoolRuntime, status: InferencePoolStatus
    ) -> None:
        if not self._may_write() or not self._due(runtime, status):
            return
        try:
            await runtime.versions.write(pool.resource_version, partial(self._write, pool, status))
        except Conflict:
            # Somebody has written since: what is said is decided anew, on what they wrote.
            runtime.refused_at = pool.resource_version
            self._retry(runtime.key)
        except ApiError as error:
            self._failed(pool, error)
        else:
            before, runtime.status = runtime.status, status
            runtime.status_at, runtime.refused_at = self._clock(), None
            self._tell(pool, before, status)

    def _due(self, runtime: PoolRuntime, status: InferencePoolStatus) -> bool:
        before = runtime.status
        if before is None or any(getattr(before, n) != getattr(status, n) for n in _PROMPT):
            return True
        now = self._clock()
        drifting = max(self._quiet_seconds, self._pools() / self._drifts_per_second)
        if runtime.status_at is None:
            # Read, not written, by this process: after a restart not all pools drift at once.
            runtime.status_at = now - drifting * _place(runtime.key)
        if now - runtime.status_at >= drifting:
            # Written out, which takes its time: figures that differ may be the same when rounded.
            return before.model_dump(mode="json") != status.model_dump(mode="json")
        if runtime.turns is None:
            runtime.turns = TokenBucket(1 / self._quiet_seconds, _TURNS, clock=self._clock)
        return _turns(before) != _turns(status) and runtime.turns.try_take()

    async def _write(
        self,
        pool: PoolFacts | InferencePool | InvalidPool,
        status: InferencePoolStatus,
        version: str,
    ) -> str:
        body = status.model_dump(mode="json", exclude_none=True)
        written = await self._writer.write_status(
            pool.namespace, pool.name, pool.uid, version, body
        )
        self._telemetry.writes.labels("status", "ok").inc()
        return written

    def _failed(self, pool: PoolFacts | InferencePool | InvalidPool, error: ApiError) -> None:
        if isinstance(error, NotFound | Conflict):
            # The pool is gone, or is another by now: the next pass sees what is there.
            return
        self._telemetry.writes.labels("status", "failed").inc()
        log.warning("status not written", pool=pool.key, error=str(error))

    def _tell(
        self,
        pool: PoolFacts | InferencePool,
        before: InferencePoolStatus | None,
        status: InferencePoolStatus,
    ) -> None:
        stood = {c.type: c for c in before.conditions} if before else {}
        for condition in status.conditions:
            good, old = _TOLD.get(condition.type), stood.get(condition.type)
            if good is None or old is None:
                continue
            foretells = condition.reason in _FORETOLD and condition.reason != old.reason
            if old.status == condition.status and not foretells:
                continue
            bad = foretells or (condition.status == "True") is not good
            note = f"{condition.type} is {condition.status}"
            if condition.message:
                note = f"{note}: {condition.message}"
            self._teller.tell(pool, Reason(condition.reason), note, warning=bad)

    def _measure(self, facts: PoolFacts, said: Report, status: InferencePoolStatus) -> None:
        t, pool = self._telemetry, (facts.namespace, facts.name)
        for role in ("serving", "warm", "starting", "draining"):
            t.replicas.set(pool, getattr(status.replicas, role), role)
        t.desired.set(pool, status.replicas.desired)
        t.lead.set(pool, said.outcome.decision.lead_seconds)
        demand, forecast, cost = status.demand, status.forecast, status.cost
        t.demand.set(pool, demand.requests_per_second if demand else math.nan)
        t.queue.set(pool, demand.queue if demand else math.nan)
        t.forecast.set(pool, forecast.low if forecast else math.nan, "0.05")
        t.forecast.set(pool, forecast.mean if forecast else math.nan, "mean")
        t.forecast.set(pool, forecast.high if forecast else math.nan, "0.95")
        learned, guard = said.outcome.state.deciding.forecasts, status.guard
        covered = learned.coverage
        t.forecast_coverage.set(pool, math.nan if covered is None else covered)
        t.usual_tokens.set(pool, guard.usual_tokens_per_minute / 60 if guard else math.nan)
        capacity = status.capacity
        t.capacity.set(pool, capacity.requests_per_second if capacity else math.nan)
        error = capacity.relative_error if capacity else None
        t.capacity_error.set(pool, math.nan if error is None else error)
        t.cost.set(pool, cost.gpu_per_hour if cost else math.nan, "gpu")
        t.cost.set(pool, cost.api_per_hour if cost else math.nan, "api")
        seen = status.levers
        worth = 0.0 if seen is None else seen.saved_per_hour
        t.cache_saved.set(pool, math.nan if worth is None else worth)
        t.cache_hits.set(pool, seen.cache_hit_share if seen else 0.0)
        t.routed.set(pool, seen.routed_share if seen else 0.0)
        for kind, value in (
            ("all_gpu", cost.all_gpu_per_hour if cost else None),
            ("all_api", cost.all_api_per_hour if cost else None),
        ):
            t.alternative_cost.set(pool, math.nan if value is None else value, kind)
        self._measure_promises(facts, status)
        for condition in status.conditions:
            t.condition.set(pool, condition.status == "True", condition.type)

    def _measure_promises(self, facts: PoolFacts, status: InferencePoolStatus) -> None:
        """What the spec promises and allows, beside which the rest is read."""
        t, pool, spec = self._telemetry, (facts.namespace, facts.name), facts.spec
        latency = spec.latency
        t.attainment_target.set(pool, latency.attainment)
        t.set_latency_targets(*pool, spec.model_name, ttft=latency.ttft, tpot=latency.tpot)
        budget = spec.burst.budget if spec.burst else None
        for period in ("hour", "day", "month") if status.budget is not None else ():
            spent = getattr(status.budget, f"spent_{period}")
            t.budget_spent.set(pool, spent, period)
            limit = getattr(budget, f"per_{period}", None)
            # Unbounded is infinity: what is left is then infinite too.
            t.budget.set(pool, math.inf if limit is None else float(limit), period)


def _not_ready(
    before: InferencePoolStatus, reason: Reason, message: str, generation: int, now: float
) -> InferencePoolStatus:
    """The same status with Ready at False."""
    wanted = [WantedCondition(ConditionType.READY, status=False, reason=reason, message=message)]
    ready = merge_conditions(before.conditions, wanted, generation, now)
    others = [c for c in before.conditions if c.type != ConditionType.READY]
    return before.model_copy(update={"conditions": [*ready, *others]})


def _place(key: Key) -> float:
    """A pool's place in a period, 0 to 1: always the same, and spread evenly over many pools."""
    return zlib.crc32("/".join(key).encode()) / 2**32


def _turns(status: InferencePoolStatus) -> tuple[object, ...]:
    """What has turned when it differs; messages and figures may drift."""
    return (
        status.overflow.fraction > 0,
        status.last_decision,
        [(c.type, c.status, c.reason) for c in status.conditions],
    )
