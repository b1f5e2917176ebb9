"""The operator's own metrics (``spillway_*``), bounded by pools, roles and reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from spillway.adapters.pool_gauge import POOL_LABELS, Pool, PoolGauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric


class Telemetry:
    """Every metric of the operator.

    A pool's series vanish with the pool (`forget`), so that a deleted pool leaves no ghost behind.

    Attributes:
        registry: Of what is not in `pool_gauges`.
        pool_gauges: The gauges that have series for each pool.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pool_gauges: list[PoolGauge] = []
        self._models: dict[Pool, str] = {}
        self._reasons: dict[Pool, str] = {}
        gauge = self._pool_gauge
        self.replicas = gauge("replicas", "Replicas by what they do.", "role")
        self.desired = gauge("desired_replicas", "Serving replicas that the decision asks for.")
        self.demand = gauge(
            "demand_requests_per_second", "Arrivals upstream of the split, mean of a minute."
        )
        self.forecast = gauge(
            "forecast_requests_per_second", "Demand expected at the lead time.", "quantile"
        )
        self.forecast_coverage = gauge(
            "forecast_coverage_ratio", "Recent share of loads inside their 90 % band, 0 to 1."
        )
        self.usual_tokens = gauge(
            "usual_tokens_per_second", "Tokens per second that the guard takes for usual."
        )
        self.capacity = gauge(
            "replica_capacity_requests_per_second", "What one replica serves within the targets."
        )
        self.capacity_error = gauge(
            "replica_capacity_error_ratio",
            "Standard error of the learned capacity over it; NaN where nothing was measured.",
        )
        self.queue = gauge("queue_requests", "Requests waiting on serving replicas.")
        self.cost = gauge("cost_usd_per_hour", "Cost rate by where the money goes.", "kind")
        self.alternative_cost = gauge(
            "alternative_cost_usd_per_hour",
            "Cost rate if the present load were served otherwise: all_gpu or all_api.",
            "kind",
        )
        self.cache_saved = gauge(
            "cache_saved_usd_per_hour",
            "What serving the answers of the gateway's cache would cost, at the present mean cost "
            "of a token; NaN where that is not known.",
        )
        self.cache_hits = gauge(
            "cache_hit_ratio", "Share of all requests that the gateway's cache answers, 0 to 1."
        )
        self.routed = gauge(
            "routed_ratio",
            "Share of arrivals that the gateway's routing by complexity sent here, 0 to 1.",
        )
        self.latency_target = gauge(
            "latency_target_seconds",
            "Latency that the share of spillway_attainment_target_ratio must meet, by signal.",
            "model_name",
            "signal",
        )
        self.attainment_target = gauge(
            "attainment_target_ratio", "Share of requests that must meet the targets, 0 to 1."
        )
        self.overflow_reason = gauge(
            "overflow_reason", "1 for the reason of the published overflow value.", "reason"
        )
        self.overflow_fraction = gauge("overflow_ratio", "Share of arrivals told to leave, 0 to 1.")
        self.overflow_admit = gauge(
            "overflow_admit_requests", "Requests the serving replicas may hold in flight."
        )
        self.lead = gauge("lead_time_seconds", "95th percentile from creation to first Ready.")
        self.budget_spent = gauge("budget_spent_usd", "Spend, reservations included.", "period")
        self.budget = gauge("budget_usd", "Most that burst may cost in a period.", "period")
        self.condition = gauge("condition", "1 where the condition is True, else 0.", "type")
        self.decisions = Counter(
            "spillway_decisions_total",
            "Decisions that changed the desired replicas, by reason.",
            (*POOL_LABELS, "reason"),
            registry=self.registry,
        )
        self._measure_process()
        self._begin_at_zero()

    def _measure_process(self) -> None:
        """Metrics of the operator itself."""
        self.tick_seconds = Histogram(
            "spillway_tick_seconds",
            "Wall time of one pass over all pools.",
            ("loop",),
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60),
            registry=self.registry,
        )
        self.part_seconds = Histogram(
            "spillway_slow_part_seconds",
            "Wall time of the parts of a pass over all pools.",
            ("part",),
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60),
            registry=self.registry,
        )
        self.pool_errors = Counter(
            "spillway_pool_errors_total",
            "Passes over a pool that failed, by where; the pool is held and tried again.",
            ("where",),
            registry=self.registry,
        )
        self.writes = Counter(
            "spillway_api_writes_total",
            "Writes to the API server, by kind and result.",
            ("kind", "result"),
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "spillway_api_request_seconds",
            "Time until the API server's answer, by HTTP method; watches are not among them.",
            ("method",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 30),
            registry=self.registry,
        )
        self.overflow_delay = Histogram(
            "spillway_overflow_delay_seconds",
            "From the sample that shows a shortage to the overflow value that answers it.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15),
            registry=self.registry,
        )
        self.leader = Gauge(
            "spillway_leader", "1 on the replica that holds the Lease.", registry=self.registry
        )
        self.pools = Gauge(
            "spillway_pools",
            "InferencePools seen, by validity.",
            ("valid",),
            registry=self.registry,
        )
        self.prometheus_failures = Counter(
            "spillway_prometheus_query_failures_total",
            "Queries to Prometheus that failed or came back partial.",
            registry=self.registry,
        )
        self.scrapes_skipped = Counter(
            "spillway_scrapes_skipped_total",
            "Direct scrapes put off because the budget of pages a second was spent.",
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "spillway_event_loop_lag_seconds",
            "How late the event loop is, looked at ten times a second.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.decision_seconds = Histogram(
            "spillway_decision_seconds",
            "CPU time to decide for one pool, once its facts are there.",
            buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1),
            registry=self.registry,
        )

    def _begin_at_zero(self) -> None:
        """Show counters before their first event: an alert on an increase would miss that one."""
        for where in ("fast", "slow", "overflow", "read", "step"):
            self.pool_errors.labels(where)
        for kind in ("scale", "pod", "status", "overflow", "route"):
            for result in ("ok", "failed"):
                self.writes.labels(kind, result)

    def _pool_gauge(self, name: str, text: str, *labels: str) -> PoolGauge:
        made = PoolGauge(f"spillway_{name}", text, labels)
        self.pool_gauges.append(made)
        return made

    def api_called(self, method: str, seconds: float) -> None:
        """Note how long a call of the API server took."""
        self.api_seconds.labels(method).observe(seconds)

    def set_latency_targets(
        self, namespace: str, pool: str, model_name: str, *, ttft: float, tpot: float
    ) -> None:
        """What the pool promises, in seconds; under a model that it served before nothing stays."""
        key = (namespace, pool)
        if self._models.get(key, model_name) != model_name:
            self.latency_target.forget(key)
        self._models[key] = model_name
        self.latency_target.set(key, ttft, model_name, "ttft")
        self.latency_target.set(key, tpot, model_name, "tpot")

    def set_overflow_reason(self, namespace: str, pool: str, reason: str) -> None:
        """Mark the one reason that holds; the one that was shown before it goes."""
        key = (namespace, pool)
        before = self._reasons.get(key, reason)
        if before != reason:
            self.overflow_reason.remove(key, before)
        self._reasons[key] = reason
        self.overflow_reason.set(key, 1, reason)

    def forget(self, namespace: str, pool: str) -> None:
        """Drop every series of a pool that is gone."""
        key = (namespace, pool)
        self._models.pop(key, None)
        self._reasons.pop(key, None)
        for gauge in self.pool_gauges:
            gauge.forget(key)
        self.decisions.remove_by_labels({"namespace": namespace, "pool": pool})

    def families(self) -> Iterator[Metric]:
        """Every metric as it stands, as the client library has it."""
        yield from self.registry.collect()
        for gauge in self.pool_gauges:
            yield from gauge.collect()

    def render(self) -> bytes:
        """The page that /metrics answers, in Prometheus' text format."""
        pools = "".join([gauge.page() for gauge in self.pool_gauges])
        return pools.encode() + generate_latest(self.registry)
