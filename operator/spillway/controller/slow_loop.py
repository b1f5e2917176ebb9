"""The slow loop: replicas, warm pools and prices of every pool, in one pass.

It also takes pools out of turn when something that they depend on has changed, on the samples that
are there, so that a promotion or the next step of a drain does not wait for the next pass.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from spillway.adapters.kube.errors import ApiError
from spillway.api.inferencepool import Mode
from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.api.validation import InferencePool
from spillway.controller.pace import Pace
from spillway.core.plan import release
from spillway.core.pool import Outcome, step
from spillway.core.reported import Report
from spillway.core.shares import shares

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from spillway.adapters.kube.lease import LeaderLease
    from spillway.adapters.kube.records import PodRecord, WorkloadRecord
    from spillway.adapters.telemetry import Telemetry
    from spillway.api.inferencepool import EngineMetrics
    from spillway.controller.actuator import Actuator
    from spillway.controller.http import Health
    from spillway.controller.observer import Observer
    from spillway.controller.reporter import Reporter
    from spillway.controller.routes import Routes
    from spillway.controller.runtime import PoolRuntime, Runtimes
    from spillway.controller.settings import Settings
    from spillway.controller.sweep import Sweep
    from spillway.controller.watches import InvalidPool, Watched, Watches
    from spillway.controller.world import World
    from spillway.core.facts import PoolFacts

log = structlog.get_logger(__name__)

#: Pools whose steps begin in the same turn of the event loop: each is decided at once, which takes
#: about two milliseconds with all that is around it, and others wait for that.
_BATCH: Final = 2
#: Pools that are read for, and pools that are written to, at the same time. One that does not
#: answer keeps its place for as long as a call may take, so there are many.
_AT_ONCE: Final = 32
#: How long a pass waits for the decisions on the pools that it has begun; one whose facts have to
#: be read for longer goes on by itself, and is left out of the passes until it has ended.
_PATIENCE_SECONDS: Final = 2.0
#: How often pools that were woken are taken out of turn.
_WAKE_SECONDS: Final = 0.5

Key = tuple[str, str]


class SlowLoop:
    """Runs the core over all pools, and acts."""

    def __init__(
        self,
        *,
        settings: Settings,
        watches: Watches,
        world: World,
        observer: Observer,
        runtimes: Runtimes,
        actuator: Actuator,
        reporter: Reporter,
        sweep: Sweep,
        routes: Routes,
        lease: LeaderLease,
        telemetry: Telemetry,
        health: Health,
    ) -> None:
        self._settings = settings
        self._watches = watches
        self._world = world
        self._observer = observer
        self._runtimes = runtimes
        self._actuator = actuator
        self._reporter = reporter
        self._sweep = sweep
        self._routes = routes
        self._telemetry = telemetry
        self._health = health
        self._lease = lease
        self._epoch: int | None = None
        self._woken: set[Key] = set()
        self._changed_pods: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(_AT_ONCE)
        self._writes = asyncio.Semaphore(_AT_ONCE)
        self._dark_from = 0

    def wake(self, key: Key) -> None:
        """Take a pool out of turn at the next opportunity."""
        self._woken.add(key)

    def pool_changed(self, key: Key) -> None:
        """Take a pool whose spec is new out of turn; our own writes to it are no news.

        So too one whose status could not be written because somebody had changed the pool, once
        the watch shows that change.
        """
        pool, runtime = self._watches.pools.get(key), self._runtimes.get(key)
        if pool is None or runtime is None or runtime.facts is None:
            self.wake(key)
            return
        facts, refused_at = runtime.facts, runtime.refused_at
        known = (facts.uid, facts.generation) == (pool.uid, pool.generation)
        if not known or refused_at not in {None, pool.resource_version}:
            self.wake(key)

    def pod_changed(self, key: Key) -> None:
        """Take the pools of a pod out of turn."""
        self._changed_pods.add(key)

    def workload_changed(self, watched: Watched[WorkloadRecord], key: Key) -> None:
        """Take the pools of a workload out of turn."""
        record = watched.get(key)
        if record is not None:
            self._woken.update(
                (p.namespace, p.name) for p in self._watches.pools_of_workload(record)
            )

    async def run(self) -> None:
        """Pass after pass until cancelled; a pass that fails is logged and the next one tries."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                due = max(due + self._settings.slow_tick_seconds, now)
                await self._guarded("tick", self.tick())
                self._health.ticked("slow")
            elif self._woken or self._changed_pods:
                await self._guarded("out of turn", self._out_of_turn())
            await asyncio.sleep(min(_WAKE_SECONDS, max(0.0, due - time.monotonic())))

    async def tick(self) -> None:
        """One pass over all pools."""
        started = time.monotonic()
        self._woken.clear()
        self._changed_pods.clear()
        await self._part("supply", self._count_supply())
        await self._part("prometheus", self._ask_prometheus())
        self._runtimes.retain(self._watches.pools.values())
        await self._part("pages", self._read_unseen())
        pools, invalid = self._valid(), self._invalid()
        await self._part("pass", self._pass(pools))
        await self._part("shares", self._share(pools))
        await self._part("sweep", self._sweep.run(pools, invalid))
        if self._lease.is_leader():
            self._routes.sweep()
        self._reporter.submit_refused(invalid)
        self._telemetry.pools.labels("true").set(len(pools))
        self._telemetry.pools.labels("false").set(len(invalid))
        self._telemetry.tick_seconds.labels("slow").observe(time.monotonic() - started)

    async def _part(self, part: str, work: Awaitable[None]) -> None:
        with self._telemetry.part_seconds.labels(part).time():
            await self._guarded(part, work)

    async def _guarded(self, part: str, work: Awaitable[None]) -> None:
        """Do a part of a pass; if it fails, the others go on and the next pass tries again."""
        try:
            await work
        except Exception:
            log.exception("a part of a pass failed; the next one tries again", part=part)
            self._telemetry.pool_errors.labels("slow").inc()

    async def _count_supply(self) -> None:
        await self._world.refresh_prices()
        self._world.count_supply()

    async def _ask_prometheus(self) -> None:
        await self._observer.ask_past()
        await self._observer.ask_prometheus()

    async def _read_unseen(self) -> None:
        await self._observer.read_pods(await self._unseen(self._valid()))

    async def _share(self, pools: Iterable[InferencePool]) -> None:
        """Settle who may have which scarce GPUs; pools meet it in their next step."""
        decided = []
        for pool in pools:
            runtime = self._runtimes.get((pool.namespace, pool.name))
            if runtime is not None and runtime.facts is not None and runtime.outcome is not None:
                decided.append((runtime.facts, runtime.outcome.decision))
        self._world.set_shares(shares(decided))

    async def _out_of_turn(self) -> None:
        woken, self._woken = self._woken, set()
        pods, self._changed_pods = self._changed_pods, set()
        for key in pods:
            record = self._watches.pods.get(key)
            if record is not None:
                woken.update((p.namespace, p.name) for p in self._watches.pools_of_pod(record))
        records = (self._watches.pools.get(key) for key in woken)
        await self._pass([pool for pool in records if isinstance(pool, InferencePool)])

    async def _pass(self, pools: Iterable[InferencePool]) -> None:
        """Decide and act for these pools, each in a task of its own.

        It ends when all are decided. What they write goes on by itself: an API server that is slow
        must not hold up those that are woken next.
        """
        if self._lease.is_leader() and self._lease.epoch != self._epoch:
            self._runtimes.resume(self._watches.pools.values(), time.time())
            self._epoch = self._lease.epoch
        loop = asyncio.get_running_loop()
        begun: list[asyncio.Future[None]] = []
        for number, pool in enumerate(pools):
            key = (pool.namespace, pool.name)
            if key in self._running:
                # Its last writes are still on their way: what they were decided on is all there is.
                self.wake(key)
                continue
            decided = loop.create_future()
            task = asyncio.create_task(self._step(pool, decided), name=f"pool {pool.key}")
            self._running[key] = task
            task.add_done_callback(partial(self._ended, key, decided))
            begun.append(decided)
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
        if begun:
            await asyncio.wait(begun, timeout=_PATIENCE_SECONDS)

    def _ended(self, key: Key, decided: asyncio.Future[None], task: asyncio.Task[None]) -> None:
        if not decided.done():
            # It was held before it came to a decision.
            decided.set_result(None)
        if self._running.get(key) is task:
            del self._running[key]

    async def close(self) -> None:
        """Give up what is still under way."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _step(self, pool: InferencePool, decided: asyncio.Future[None]) -> None:
        """One step of one pool. Whatever fails holds this pool as it is, and no other."""
        runtime = None
        try:
            runtime = self._runtimes.of(pool, time.time(), partial(self._world.past, pool))
            await self._decide_and_act(pool, runtime, decided)
        except ApiError as error:
            log.warning("pool held: a read failed", pool=pool.key, error=str(error))
            self._telemetry.pool_errors.labels("read").inc()
            if runtime is not None:
                self._reporter.submit_held(pool, runtime, Reason.READ_FAILED, str(error))
        except Exception as error:
            log.exception("pool held: its step failed", pool=pool.key)
            self._telemetry.pool_errors.labels("step").inc()
            if runtime is not None:
                self._reporter.submit_held(pool, runtime, Reason.INTERNAL_ERROR, repr(error))

    async def _decide_and_act(
        self, pool: InferencePool, runtime: PoolRuntime, decided: asyncio.Future[None]
    ) -> None:
        # A standby decides too, to be warm. What it decided is not carried out if it leads later.
        leads = self._lease.is_leader() and self._lease.epoch == self._epoch
        now = time.time()
        async with self._reads:
            facts = await self._world.facts(pool, now)
        overflow = runtime.overflow
        live = overflow is not None and overflow.until > now
        began = time.thread_time()
        outcome = step(
            facts,
            runtime.state,
            now,
            read_only=self._settings.read_only,
            overflow_fraction=overflow.fraction if overflow is not None and live else 0.0,
            budget_left=runtime.budget_left(pool.spec, now),
        )
        self._telemetry.decision_seconds.observe(time.thread_time() - began)
        runtime.facts, runtime.outcome, runtime.state = facts, outcome, outcome.state
        decided.set_result(None)
        self._log_decision(pool, outcome, leads=leads)
        problem = ""
        if leads:
            async with self._writes:
                problem = await self._act(pool, facts, outcome)
        said = Report(
            outcome=outcome,
            overflow=runtime.overflow,
            ledger=runtime.ledger if pool.spec.burst and runtime.ledger_readable else None,
            read_only=self._settings.read_only,
            problem=problem,
            ungranted=pool.spec.burst is not None and runtime.ungranted(now),
        )
        self._reporter.submit(facts, runtime, said)

    def _log_decision(self, pool: InferencePool, outcome: Outcome, *, leads: bool) -> None:
        decision = outcome.decision
        news = leads and decision.changed
        if news:
            reason = decision.notes[0].reason.value
            self._telemetry.decisions.labels(pool.namespace, pool.name, reason).inc()
        level = logging.INFO if news else logging.DEBUG
        if not log.is_enabled_for(level):
            # Telling a decision in words takes a tenth of making it.
            return
        log.log(
            level,
            "decision",
            pool=pool.key,
            decision=decision.id,
            desired=decision.desired,
            reason=decision.notes[0].reason.value,
            limits=[note.reason.value for note in decision.notes[1:]],
            what=str(decision),
        )

    async def _act(self, pool: InferencePool, facts: PoolFacts, outcome: Outcome) -> str:
        """Carry out what was decided; what could not be done, for a person."""
        if self._settings.read_only:
            return ""
        plan = outcome.plan
        if not outcome.decision.write:
            if not _leaves_active(pool, facts):
                return ""
            plan = release(facts)
        return await self._actuator.carry_out(facts, plan, outcome.decision.id)

    def _valid(self) -> list[InferencePool]:
        return [p for p in self._watches.pools.values() if isinstance(p, InferencePool)]

    def _invalid(self) -> list[InvalidPool]:
        return [p for p in self._watches.pools.values() if not isinstance(p, InferencePool)]

    async def _unseen(
        self, pools: Iterable[InferencePool]
    ) -> list[tuple[PodRecord, EngineMetrics]]:
        """Pods whose pages must be read: warm and draining ones, and all that Prometheus lacks."""
        loads = self._observer.snapshot.loads
        idle: list[tuple[PodRecord, EngineMetrics]] = []
        dark: list[tuple[PodRecord, EngineMetrics]] = []
        alive: set[str] = set()
        pace = Pace()
        for pool in pools:
            await pace.pause()
            for pod in self._world.pods(pool):
                alive.add(pod.uid)
                if pod.role is not Role.SERVING:
                    idle.append((pod, pool.spec.metrics))
                elif (pod.namespace, pod.name) not in loads:
                    dark.append((pod, pool.spec.metrics))
        self._observer.retain(alive)
        # Where the budget of pages does not reach, another part is left out each time.
        self._dark_from = (self._dark_from + int(self._settings.scrape_pages_per_second)) % max(
            1, len(dark)
        )
        return idle + dark[self._dark_from :] + dark[: self._dark_from]


def _leaves_active(pool: InferencePool, facts: PoolFacts) -> bool:
    """Whether what Spillway marked must be given back: the pool is not Active, or contested."""
    contested = any(target.contention is not None for target in facts.targets.values())
    return pool.spec.mode is not Mode.ACTIVE or contested
