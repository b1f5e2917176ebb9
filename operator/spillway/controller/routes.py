"""Keeps the weights of the pools' HTTPRoutes in step with their overflow values.

Written behind the fast loop, one write of a pool at a time, and only on a change: a route's weights
are stored by the API server and read by every gateway. They rise at once and fall in steps, so that
a fleet that bursts costs few writes. Weights don't expire by themselves; ``spillway reset-routes``
is for the time when no operator is there to lower them.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from spillway.adapters.kube.errors import ApiError, Conflict
from spillway.api.inferencepool import BurstDriver, Mode
from spillway.api.reasons import Reason
from spillway.api.validation import InferencePool
from spillway.controller.steering import CONTEST_RESETS, CONTEST_SECONDS, Steering
from spillway.core.facts import RouteFacts
from spillway.core.route import (
    TOTAL_WEIGHT,
    RouteProblem,
    backend_names,
    cloud_share,
    kept_weights,
    locate,
    present_weights,
    restore_patch,
    split_weights,
    weights_patch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spillway.adapters.kube.routes import RouteWriter
    from spillway.adapters.telemetry import Telemetry
    from spillway.api.burst import Burst, RouteRef
    from spillway.controller.runtime import Key, PoolRuntime
    from spillway.controller.watches import Watches
    from spillway.core.overflow import OverflowValue
    from spillway.core.route import Located, Operation, Route

log = structlog.get_logger(__name__)

#: A write that failed is not tried again at each fast tick.
_RETRY_SECONDS: Final = 5.0
#: Between two writes that lower a pool's cloud share: the value falls by a thirtieth a second.
_LOWERING_SECONDS: Final = 3.0
#: ... and so many of these a second for all pools together.
_LOWERINGS_PER_SECOND: Final = 5.0
#: A change below one point is not worth a write.
_STEP: Final = TOTAL_WEIGHT // 100
#: Routes given back in one pass of the sweep; the rest comes next time.
_AT_ONCE: Final = 50


class Routes:
    """Steers the routes of all pools with driver HTTPRoute.

    Args:
        writer: Writes weights.
        watches: Where routes and pools are.
        telemetry: Counts writes.
        may_write: Asked before each write: whether this process leads, at this very moment.
        read_only: The cluster-wide switch: nothing is written.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        writer: RouteWriter,
        watches: Watches,
        telemetry: Telemetry,
        may_write: Callable[[], bool],
        read_only: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._watches = watches
        self._telemetry = telemetry
        self._may_write = may_write
        self._read_only = read_only
        self._clock = clock
        self._steerings: dict[Key, Steering] = {}
        self._writing: dict[Key, asyncio.Task[None]] = {}

    # For the facts

    def facts(self, pool: InferencePool, window_seconds: float, now: float) -> RouteFacts | None:
        """What the core may know of the pool's route; None with drivers that have none.

        Args:
            pool: The pool.
            window_seconds: Rate window of the engines' counters.
            now: Seconds since the epoch.
        """
        burst = pool.spec.burst
        if burst is None or burst.driver is not BurstDriver.HTTP_ROUTE:
            return None
        memory = self._memory(pool)
        if self._watches.routes_unseen():
            # Right after the start nobody knows yet; what the last leader set stays as it is.
            return RouteFacts()
        share = None
        try:
            route, located = self._find(pool.namespace, burst, memory)
            memory.problem = self._contest(route, memory)
            if route.accepted:
                share = cloud_share(present_weights(route, located), _route_ref(burst).local)
        except RouteProblem as problem:
            memory.problem = problem
        memory.note_share(share, now)
        mean = memory.mean_share(now - window_seconds, now)
        if memory.problem is None:
            return RouteFacts(cloud_share=mean)
        return RouteFacts(memory.problem.reason, str(memory.problem), mean)

    def _memory(self, pool: InferencePool) -> Steering:
        key = (pool.namespace, pool.name)
        memory = self._steerings.get(key)
        if memory is None or memory.uid != pool.uid:
            memory = self._steerings[key] = Steering(pool.uid)
        return memory

    def _find(self, namespace: str, burst: Burst, memory: Steering) -> tuple[Route, Located]:
        """The pool's route, the newest that is known, and where its backends are.

        Raises:
            RouteProblem: It can't carry the split.
        """
        ref = _route_ref(burst)
        seen = self._watches.routes.get((namespace, ref.name))
        if seen is None:
            why = self._watches.routes_error()
            msg = f"there is no HTTPRoute {namespace}/{ref.name}" + (f" ({why})" if why else "")
            raise RouteProblem(Reason.ROUTE_NOT_FOUND, msg)
        route = memory.newest(seen)
        return route, locate(route, ref.rule, backend_names(burst))

    def _contest(self, route: Route, memory: Steering) -> RouteProblem | None:
        if self._clock() < memory.contested_until:
            msg = (
                f"somebody else set the weights of HTTPRoute {route.key} {CONTEST_RESETS} times "
                f"within {CONTEST_SECONDS:.0f} s; Spillway leaves them alone for as long. Give "
                "Spillway a route of its own, and keep its weights out of Git"
            )
            return RouteProblem(Reason.ROUTE_CONTESTED, msg)
        if route.accepted is False:
            msg = f"a gateway refuses HTTPRoute {route.key}: {route.refusal}"
            return RouteProblem(Reason.ROUTE_NOT_ACCEPTED, msg)
        if not route.answered:
            msg = (
                f"no gateway has accepted HTTPRoute {route.key}; see its parentRefs, and whether "
                "their gateway runs"
            )
            return RouteProblem(Reason.ROUTE_NOT_ACCEPTED, msg)
        return None

    # For the fast loop

    def steer(self, pools: Sequence[tuple[InferencePool, PoolRuntime]]) -> None:
        """Begin to write the weights that differ from what the pools' values ask for."""
        if self._read_only:
            return
        mine = [
            (pool, runtime)
            for pool, runtime in pools
            if pool.spec.burst is not None
            and pool.spec.burst.driver is BurstDriver.HTTP_ROUTE
            and pool.spec.mode is Mode.ACTIVE
        ]
        bursting = sum(1 for _, r in mine if r.overflow is not None and r.overflow.fraction > 0)
        patience = max(_LOWERING_SECONDS, bursting / _LOWERINGS_PER_SECOND)
        for pool, runtime in mine:
            if runtime.key not in self._writing and pool.spec.burst is not None:
                self._steer(pool, pool.spec.burst, _told(pool, runtime), patience)

    def _steer(
        self, pool: InferencePool, burst: Burst, value: OverflowValue | None, patience: float
    ) -> None:
        memory, now = self._memory(pool), self._clock()
        if now < max(memory.hold_until, memory.contested_until):
            return
        if value is not None and value.reason is Reason.RELEASED:
            # The sweep gives the route back as it was.
            return
        if value is not None and value.lapsed(time.time()):
            value = None
        ref = _route_ref(burst)
        try:
            route, located = self._find(pool.namespace, burst, memory)
            present, weights = present_weights(route, located), split_weights(burst, value)
            if self._yields(memory, route, present, now):
                return
            lower = cloud_share(weights, ref.local) < cloud_share(present, ref.local)
            hurries = value is None or value.idle or not lower
            if not _differs(present, weights) and pool.name in kept_weights(route):
                return
            if not hurries and now < memory.lowered_at + patience:
                return
            patch = weights_patch(route, located, pool.name, ref.rule, weights)
        except RouteProblem as problem:
            memory.problem = problem
            return
        if lower:
            memory.lowered_at = now
        memory.weights = weights
        self._begin((pool.namespace, pool.name), memory, route, patch)

    def _yields(
        self, memory: Steering, route: Route, present: Mapping[str, int], now: float
    ) -> bool:
        """Count weights that somebody else has set; whether they are left alone from now on."""
        if not memory.changed_by_others(route, present):
            return False
        times = memory.count_reset(now)
        log.info("weights were changed by somebody else", route=route.key, times=times)
        return now < memory.contested_until

    # Giving back

    def sweep(self) -> None:
        """Begin to give back what no Active pool of this driver has a claim to."""
        if self._read_only or self._watches.stale() or not self._watches.listed:
            return
        for key in [key for key in self._steerings if self._watches.pools.get(key) is None]:
            if key not in self._writing:
                del self._steerings[key]
        begun = 0
        for route in list(self._watches.routes.values()):
            for name in kept_weights(route):
                key = (route.namespace, name)
                if begun >= _AT_ONCE or key in self._writing or self._claims(route, name):
                    continue
                begun += 1
                memory = self._steerings.pop(key, None) or Steering("")
                self._begin(key, memory, route, restore_patch(route, name))

    def _claims(self, route: Route, name: str) -> bool:
        """Whether a pool may still weigh the route; of an invalid pool nobody can tell."""
        pool = self._watches.pools.get((route.namespace, name))
        if pool is None:
            return False
        if not isinstance(pool, InferencePool):
            return True
        burst, kept = pool.spec.burst, kept_weights(route)[name]
        contested = any(
            self._watches.autoscalers_of(pool.namespace, variant.target_ref)
            for variant in pool.spec.variants
        )
        return (
            burst is not None
            and not contested
            and burst.driver is BurstDriver.HTTP_ROUTE
            and pool.spec.mode is Mode.ACTIVE
            and burst.route_ref is not None
            and (burst.route_ref.name, burst.route_ref.rule or "") == (route.name, kept.rule)
        )

    # Writing

    def _begin(self, key: Key, memory: Steering, route: Route, patch: Sequence[Operation]) -> None:
        if not patch:
            return
        task = asyncio.create_task(self._write(key, memory, route, patch))
        self._writing[key] = task
        task.add_done_callback(partial(self._ended, key))

    async def _write(
        self, key: Key, memory: Steering, route: Route, patch: Sequence[Operation]
    ) -> None:
        if not self._may_write():
            return
        try:
            written = await self._writer.write(route, patch)
        except Conflict as error:
            self._telemetry.writes.labels("route", "conflict").inc()
            log.debug("route decided on an older state", route=route.key, error=str(error))
            memory.weights = None
        except ApiError as error:
            self._telemetry.writes.labels("route", "failed").inc()
            log.warning("weights not written", route=route.key, error=str(error))
            memory.hold_until, memory.weights = self._clock() + _RETRY_SECONDS, None
        else:
            self._telemetry.writes.labels("route", "ok").inc()
            memory.route, memory.decided_on = written, route.resource_version
            log.info("weights", pool="/".join(key), route=route.key, weights=memory.weights)

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._writing.get(key) is task:
            del self._writing[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("weighing failed", pool="/".join(key), error=repr(error))

    async def close(self) -> None:
        """Give up what is still under way."""
        for task in list(self._writing.values()):
            task.cancel()
        await asyncio.gather(*self._writing.values(), return_exceptions=True)


def _told(pool: InferencePool, runtime: PoolRuntime) -> OverflowValue | None:
    """The pool's value; until a new leader has one of its own, the last one's."""
    if runtime.overflow is None:
        runtime.read_annotation(pool)
        return runtime.annotated
    return runtime.overflow


def _route_ref(burst: Burst) -> RouteRef:
    if burst.route_ref is None:
        msg = "driver HTTPRoute needs spec.burst.routeRef"
        raise ValueError(msg)
    return burst.route_ref


def _differs(present: Mapping[str, int], weights: Mapping[str, int]) -> bool:
    """Whether new weights are worth a write."""
    if sum(present.values()) != TOTAL_WEIGHT:
        return True
    ends = any((present[name] == 0) is not (weights[name] == 0) for name in weights)
    return ends or any(abs(present[name] - weights[name]) >= _STEP for name in weights)
