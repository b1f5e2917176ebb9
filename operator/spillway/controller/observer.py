"""Joins what Prometheus knows of a replica with what its own page has just said."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from spillway.adapters.metrics import (
    ArrivalHistory,
    CounterWindow,
    MetricsSnapshot,
    QueryFailure,
    ScrapeError,
    ScrapeFailure,
    ScrapeTarget,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from spillway.adapters.kube.records import PodRecord
    from spillway.adapters.metrics import EnginePage, EngineScraper, PrometheusSource
    from spillway.adapters.telemetry import Telemetry
    from spillway.api.inferencepool import EngineMetrics
    from spillway.core.facts import GatewayLoad, ReplicaLoad

log = structlog.get_logger(__name__)


class Observer:
    """The operator's view of load.

    Attributes:
        snapshot: The latest answer of Prometheus; empty before the first.
        past: Arrivals before the start; empty until asked for, and where the answer can't be used.
        window_seconds: The window over which counters become rates.
    """

    def __init__(
        self,
        prometheus: PrometheusSource,
        scraper: EngineScraper,
        telemetry: Telemetry,
        *,
        window_seconds: float,
        max_age_seconds: float,
    ) -> None:
        self.snapshot = MetricsSnapshot(at=0.0)
        self.past = ArrivalHistory()
        self._max_age_seconds = max_age_seconds
        self._asked_past = False
        self._prometheus = prometheus
        self._scraper = scraper
        self._telemetry = telemetry
        self._awaited: set[str] = set()
        self._news: set[str] = set()
        self._gateways_missing: dict[tuple[str, str], float] = {}
        self._reads: set[asyncio.Task[None]] = set()
        self.window_seconds = window_seconds
        self._window = CounterWindow(window_seconds=window_seconds, max_age_seconds=max_age_seconds)

    async def ask_prometheus(self) -> None:
        """Take a new snapshot; failures are in it, not raised."""
        now = time.time()
        try:
            self.snapshot = await self._prometheus.snapshot(now)
        except Exception as error:
            # An answer that nobody foresaw: what it would have told is not known.
            log.exception("Prometheus' answers could not be read")
            failures = tuple(
                QueryFailure(signal, query, repr(error))
                for signal, query in self._prometheus.queries.items()
            )
            self.snapshot = MetricsSnapshot(at=now, failures=failures)
        self._telemetry.prometheus_failures.inc(len(self.snapshot.failures))

    async def ask_past(self) -> None:
        """Ask for the arrivals before the start, once; without them forecasts begin empty."""
        if self._asked_past:
            return
        self._asked_past = True
        self.past = await self._prometheus.history(time.time())
        if self.past.failure:
            log.warning("no history of arrivals: forecasts begin empty", error=self.past.failure)

    async def read_pods(
        self,
        pods: Iterable[tuple[PodRecord, EngineMetrics]],
        *,
        patience_seconds: float | None = None,
    ) -> set[str]:
        """Read pods' own pages, most urgent first.

        Args:
            pods: Pods and where their pages are.
            patience_seconds: How long to wait; pages that come later are kept all the same. None
                waits for all.

        Returns:
            UIDs of the pods that have answered.
        """
        targets = [
            ScrapeTarget(
                uid=pod.uid,
                namespace=pod.namespace,
                pod=pod.name,
                ip=pod.ip,
                port=metrics.port,
                path=metrics.path,
            )
            for pod, metrics in pods
            if pod.ip is not None and pod.uid not in self._awaited
        ]
        read: set[str] = set()
        if targets:
            task = asyncio.create_task(self._read(targets, read))
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)
            await asyncio.wait({task}, timeout=patience_seconds)
        return read.copy()

    async def _read(self, targets: Sequence[ScrapeTarget], read: set[str]) -> None:
        uids = {target.uid for target in targets}
        self._awaited |= uids

        def keep(uid: str, page: EnginePage) -> None:
            self._window.observe(uid, page)
            self._news.add(uid)
            read.add(uid)
            self._awaited.discard(uid)

        try:
            answers = await self._scraper.scrape(targets, on_page=keep)
        finally:
            self._awaited -= uids - read
        skipped = sum(
            isinstance(answer, ScrapeError) and answer.failure is ScrapeFailure.SKIPPED
            for answer in answers.values()
        )
        self._telemetry.scrapes_skipped.inc(skipped)

    async def close(self) -> None:
        """Give up pages that are still awaited."""
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)

    def news(self) -> set[str]:
        """UIDs of the pods whose pages have come since this was asked last."""
        news, self._news = self._news, set()
        return news

    def retain(self, uids: Collection[str]) -> None:
        """Forget pods that are gone."""
        self._window.retain(uids)
        # A standby asks for no news.
        self._news.intersection_update(uids)

    def direct(self, uid: str, now: float) -> ReplicaLoad | None:
        """What the pod's own page last said; None without a fresh one."""
        return self._window.load(uid, now)

    def load(self, pod: PodRecord, now: float) -> ReplicaLoad | None:
        """The pod's load: Prometheus' rates, with the gauges of whichever sample is newer.

        None without a sample that is fresh now: what was fresh when Prometheus was asked may have
        become too old since.
        """
        direct = self.direct(pod.uid, now)
        stored = self.snapshot.loads.get((pod.namespace, pod.name))
        if stored is not None and not self._fresh(stored.sampled_at, now):
            stored = None
        if stored is None or direct is None:
            return direct if stored is None else stored
        if direct.sampled_at <= stored.sampled_at:
            return stored
        return replace(
            stored,
            sampled_at=direct.sampled_at,
            running=direct.running,
            waiting=direct.waiting,
            waiting_all=direct.waiting_all,
            kv_usage=direct.kv_usage,
        )

    def models(self, namespace: str, pod: str, uid: str) -> frozenset[str]:
        """Models that the pod reports: to Prometheus, else on its own page; empty if unknown."""
        return self.snapshot.model_names.get((namespace, pod)) or self._window.models(uid)

    def gateway(self, namespace: str, pool: str, now: float) -> GatewayLoad | None:
        """Traffic upstream of the split, where a gateway reports it and its sample is fresh."""
        found = self.snapshot.gateways.get((namespace, pool))
        return found if found is not None and self._fresh(found.sampled_at, now) else None

    def gateway_missing_since(self, namespace: str, pool: str, now: float) -> float | None:
        """Since when no gateway of the pool was seen, by this operator; None while one is."""
        if self.gateway(namespace, pool, now) is not None:
            self._gateways_missing.pop((namespace, pool), None)
            return None
        return self._gateways_missing.setdefault((namespace, pool), now)

    def forget(self, namespace: str, pool: str) -> None:
        """Drop what is remembered of a pool that is gone."""
        self._gateways_missing.pop((namespace, pool), None)

    def _fresh(self, sampled_at: float, now: float) -> bool:
        return abs(now - sampled_at) <= self._max_age_seconds
