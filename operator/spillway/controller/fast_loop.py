"""The fast loop: overflow alone, from the engines' own pages, once a second, of busy pools twice.

Order matters where money is spent: first the ledger is stored, then the value that may spend it is
published. A standby publishes what the leader's annotation says.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import TYPE_CHECKING, Final

import structlog

from spillway.api.names import Role
from spillway.api.validation import InferencePool
from spillway.controller.pace import Pace
from spillway.controller.scrape_schedule import ScrapeSchedule
from spillway.core.burst import live_load, overflow_inputs, shows_load
from spillway.core.fast import fast_step
from spillway.core.ledger import settle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.adapters.kube.lease import LeaderLease
    from spillway.adapters.telemetry import Telemetry
    from spillway.controller.annotator import Annotator
    from spillway.controller.http import Health
    from spillway.controller.ledgers import Ledgers
    from spillway.controller.observer import Observer
    from spillway.controller.routes import Routes
    from spillway.controller.runtime import Key, PoolRuntime, Runtimes
    from spillway.controller.settings import Settings
    from spillway.controller.slow_loop import SlowLoop
    from spillway.controller.watches import Watches
    from spillway.core.facts import ReplicaLoad
    from spillway.core.fast import FastOutcome
    from spillway.core.ledger import PoolLedger
    from spillway.core.overflow import OverflowValue

log = structlog.get_logger(__name__)

#: A direct sample older than this many ticks is left to Prometheus' slower one.
_FRESH_TICKS: Final = 4.0
#: Annotation renewals of all pools together stay below this many a second: a lease is renewed at
#: half of its life, so it must last at least 2 n / this.
_RENEWALS_PER_SECOND: Final = 10.0
#: Settlements alone are stored no more often than this; grants are stored before they are used.
_STORE_SECONDS: Final = 60.0
#: Share of a tick that pages may take; one that takes longer is used at the next look, so a pod
#: that hangs delays nobody else's overflow by more than this.
_READING_SHARE: Final = 0.25


class FastLoop:
    """Sets every pool's overflow value."""

    def __init__(
        self,
        *,
        settings: Settings,
        watches: Watches,
        observer: Observer,
        runtimes: Runtimes,
        ledgers: Ledgers,
        annotator: Annotator,
        routes: Routes,
        lease: LeaderLease,
        slow: SlowLoop,
        telemetry: Telemetry,
        health: Health,
    ) -> None:
        self._settings = settings
        self._watches = watches
        self._observer = observer
        self._runtimes = runtimes
        self._ledgers = ledgers
        self._annotator = annotator
        self._routes = routes
        self._lease = lease
        self._slow = slow
        self._telemetry = telemetry
        self._health = health
        self._stored_at = time.monotonic()
        self._scrapes = ScrapeSchedule(settings, watches)
        self._news: set[str] = set()

    async def run(self) -> None:
        """Tick after tick until cancelled, and between two of them another look at busy pools.

        So a shortage of a busy pool is answered within a second, wherever in a tick it falls.
        """
        half = self._settings.fast_tick_seconds / 2
        looks = itertools.cycle((self.tick, self.look_at_busy))
        while True:
            due = time.monotonic() + half
            try:
                await next(looks)()
                self._health.ticked("fast")
            except Exception:
                log.exception("a fast tick failed; the next one tries again")
                self._telemetry.pool_errors.labels("fast").inc()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def tick(self) -> None:
        """One look at the pods that matter, and the values that follow."""
        with self._telemetry.tick_seconds.labels("fast").time():
            self._telemetry.leader.set(self._lease.is_leader())
            pools = self._known([runtime.key for runtime in self._runtimes.all()])
            await self._read(pools)
            await self._set_values(pools)
            self._news.clear()

    async def look_at_busy(self) -> None:
        """Likewise for pools that burst or were near it at the last tick, and for no others."""
        with self._telemetry.tick_seconds.labels("busy").time():
            pools = self._known(self._scrapes.busy)
            await self._read(pools, busy_only=True)
            await self._set_values(pools)

    async def _set_values(self, pools: list[tuple[InferencePool, PoolRuntime]]) -> None:
        if self._lease.is_leader():
            await self._lead(pools)
            return
        for pool, runtime in pools:
            runtime.read_annotation(pool)
            runtime.overflow = runtime.annotated

    def _known(self, keys: Iterable[Key]) -> list[tuple[InferencePool, PoolRuntime]]:
        """Valid pools that have been seen by the slow loop."""
        return [
            (pool, runtime)
            for key in keys
            if isinstance(pool := self._watches.pools.get(key), InferencePool)
            and (runtime := self._runtimes.get(key)) is not None
            and runtime.uid == pool.uid
        ]

    # Looking

    async def _read(
        self, pools: list[tuple[InferencePool, PoolRuntime]], *, busy_only: bool = False
    ) -> None:
        """Read the pages that are due, and take drains that answer out of turn."""
        pages = await self._scrapes.due(pools, busy_only=busy_only)
        read = await self._observer.read_pods(
            [(page.pod, page.metrics) for page in pages],
            patience_seconds=_READING_SHARE * self._settings.fast_tick_seconds,
        )
        for page in pages:
            if page.pod.role is Role.DRAINING and page.pod.uid in read:
                self._slow.wake(page.pool)

    def _loads(self, runtime: PoolRuntime, now: float) -> dict[str, ReplicaLoad]:
        """Samples of the serving pods: direct ones where fresh, else what Prometheus has.

        A pod that reports another model than the pool's has none.
        """
        loads: dict[str, ReplicaLoad] = {}
        if runtime.facts is None:
            return loads
        fresh = _FRESH_TICKS * max(1.0, self._settings.fast_tick_seconds)
        oldest = self._settings.max_sample_age_seconds
        stored = self._observer.snapshot.loads
        model = runtime.facts.spec.model_name
        for target in runtime.facts.targets.values():
            for pod in target.pods:
                models = self._observer.models(runtime.key[0], pod.name, pod.uid)
                if models and model not in models:
                    continue
                direct = self._observer.direct(pod.uid, now)
                if direct is not None and abs(now - direct.sampled_at) <= fresh:
                    loads[pod.uid] = direct
                    continue
                known = stored.get((runtime.key[0], pod.name))
                if known is not None and abs(now - known.sampled_at) <= oldest:
                    loads[pod.uid] = known
        return loads

    # Leading

    async def _lead(self, pools: list[tuple[InferencePool, PoolRuntime]]) -> None:
        alive = {(pool.namespace, pool.name) for pool in self._watches.pools.values()}
        if not await self._ledgers.ready(self._lease.epoch, alive, time.time()):
            for _, runtime in pools:
                runtime.ungranted_at = time.time()
            return
        renewed = sum(_is_renewed(runtime) for runtime in self._runtimes.all())
        lease = max(self._settings.overflow_lease_seconds, 2 * renewed / _RENEWALS_PER_SECOND)
        results = await self._computed(pools, lease)
        unsaved = await self._ledgers.save(self._to_store(results))
        pace = Pace()
        for pool, runtime, result in results:
            await pace.pause()
            if runtime.gone or not self._lease.is_leader():
                continue
            if result.ledger_changed and runtime.key in unsaved:
                # What the value would spend is not reserved; the old one runs out by itself.
                runtime.computed_on, runtime.ungranted_at = None, time.time()
                continue
            if result.ledger_changed:
                runtime.ungranted_at = None
            runtime.ledger = result.ledger
            self._publish(pool, runtime, result.value, lease)
        self._routes.steer(pools)

    async def _computed(
        self, pools: list[tuple[InferencePool, PoolRuntime]], lease_seconds: float
    ) -> list[tuple[InferencePool, PoolRuntime, FastOutcome]]:
        """The next step of every pool that may have one; one that fails holds no other up."""
        results: list[tuple[InferencePool, PoolRuntime, FastOutcome]] = []
        self._news |= self._observer.news()
        pace = Pace()
        for pool, runtime in pools:
            await pace.pause()
            if self._settled_down(runtime):
                continue
            try:
                runtime.computed_on = runtime.facts
                result = self._next(pool, runtime, lease_seconds)
            except Exception:
                # Held as it is; its value expires by itself.
                log.exception("overflow held: the step failed", pool=pool.key)
                self._telemetry.pool_errors.labels("overflow").inc()
                continue
            if result is not None:
                results.append((pool, runtime, result))
        return results

    def _settled_down(self, runtime: PoolRuntime) -> bool:
        """Whether the value would come out the same: it lets nothing leave, and nothing is new."""
        value, facts = runtime.overflow, runtime.facts
        return (
            value is not None
            and facts is not None
            and value.idle
            and value.epoch == self._lease.epoch
            and runtime.computed_on is facts
            and self._news.isdisjoint(runtime.serving)
        )

    def _to_store(
        self, results: list[tuple[InferencePool, PoolRuntime, FastOutcome]]
    ) -> dict[Key, PoolLedger]:
        """Ledgers that grant something new; now and then those that only counted as well.

        What gateways counted is cumulative, so a restart loses nothing of it.
        """
        granted = {r.key: result.ledger for _, r, result in results if result.ledger_changed}
        now = time.monotonic()
        if now - self._stored_at < _STORE_SECONDS:
            return granted
        self._stored_at = now
        latest = {r.key: result.ledger for _, r, result in results}
        counted = {
            runtime.key: ledger
            for runtime in self._runtimes.all()
            if runtime.settled_at is not None
            and (ledger := latest.get(runtime.key, runtime.ledger)) is not runtime.stored
        }
        return counted | granted

    def _next(
        self, pool: InferencePool, runtime: PoolRuntime, lease_seconds: float
    ) -> FastOutcome | None:
        facts, outcome = runtime.facts, runtime.outcome
        if facts is None or outcome is None or self._settings.read_only:
            return None
        if pool.spec.burst is None and runtime.annotation is None:
            return None
        if not runtime.ledger_readable:
            return None
        now = time.time()
        loads = self._loads(runtime, now)
        if any(shows_load(load, outcome) for load in loads.values()):
            self._scrapes.rises(runtime.key)
        live = live_load(facts, loads, now)
        result = fast_step(
            overflow_inputs(facts, outcome, live, now),
            runtime.overflow,
            self._settled(runtime, now),
            now,
            self._lease.epoch,
            lease_seconds,
        )
        if live is not None and result.value.fraction > 0 and not runtime.bursts:
            self._telemetry.overflow_delay.observe(max(0.0, time.time() - live.at))
        return result

    def _settled(self, runtime: PoolRuntime, now: float) -> PoolLedger:
        """The ledger with what gateways have counted, once a snapshot."""
        snapshot_at = self._observer.snapshot.at
        if runtime.settled_at == snapshot_at:
            return runtime.ledger
        runtime.settled_at = snapshot_at
        gateway = self._observer.gateway(*runtime.key, now)
        if gateway is None or gateway.cloud_requests_total is None:
            return settle(runtime.ledger, None, None, now)
        counted = gateway.cloud_requests_total, gateway.cloud_usd_total
        return settle(runtime.ledger, *counted, gateway.sampled_at)

    # Publishing

    def _publish(
        self,
        pool: InferencePool,
        runtime: PoolRuntime,
        value: OverflowValue,
        lease_seconds: float,
    ) -> None:
        """Over HTTP at once, as an annotation where it must be written."""
        before, runtime.overflow = runtime.overflow, value
        self._telemetry.overflow_fraction.set(runtime.key, value.fraction)
        admitted = math.nan if value.admit is None else value.admit.in_flight
        self._telemetry.overflow_admit.set(runtime.key, admitted)
        self._telemetry.set_overflow_reason(*runtime.key, value.reason)
        if before is None or (before.fraction > 0) is not (value.fraction > 0):
            log.info(
                "overflow",
                pool=pool.key,
                fraction=round(value.fraction, 4),
                reason=value.reason.value,
                version=value.version,
                epoch=value.epoch,
            )
            self._slow.wake(runtime.key)
        self._annotator.publish(pool, runtime, value, lease_seconds)


def _is_renewed(runtime: PoolRuntime) -> bool:
    """Whether the pool's value may spend: also where nothing leaves yet, by an allowance."""
    return runtime.overflow is not None and not runtime.overflow.idle
