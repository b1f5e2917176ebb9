"""The whole core against a simple reference, through any sequence of faults.

Reality is a model of a workload controller and a router that spends all that it may. The reference
knows three sums: replicas asked for, dollars really spent, and the moment at which each value ends.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.names import Role
from spillway.core.facts import (
    GatewayLoad,
    MissingData,
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetKind,
)
from spillway.core.prices import Offers, PriceSource, TokenPrice
from tests.fuzz.core import Core, Router
from tests.property.workload_model import Workload

if TYPE_CHECKING:
    from spillway.core.pool import Outcome

#: Noon in the middle of a month: no jump of the clock leaves the month, so what it may spend is one
#: number.
START = 1_794_744_000.0
PER_MONTH = Decimal(9)
HOUR = 3600.0
#: Prices as a catalog may say them; only the third is true.
QUOTED = (0.0, -1.0, 2.0, 2000.0, 1e300)


def pool_spec(floor: int, most: int, *, declared: bool) -> InferencePoolSpec:
    """A pool that bursts within a budget; its provider's price is declared, or a catalog's."""
    provider: dict[str, object] = {"name": "api"}
    if declared:
        provider["price"] = {"inputPerMillion": "2", "outputPerMillion": "2"}
    return InferencePoolSpec.model_validate(
        {
            "modelName": "m",
            "variants": [
                {
                    "name": "gpu",
                    "targetRef": {"name": "gpu"},
                    "price": {"perAcceleratorHour": "3.50"},
                    "capacity": {"requestsPerSecond": "5", "concurrency": 40},
                }
            ],
            "replicas": {"floor": floor, "max": most},
            "scaling": {"persistence": "0s", "releaseWindow": "30s"},
            "burst": {
                "providers": [provider],
                "budget": {"perHour": "2", "perMonth": str(PER_MONTH)},
            },
        }
    )


class Pool(RuleBasedStateMachine):
    """One pool, its pods, its router and its operator, with everything that goes wrong."""

    @initialize(
        seed=st.integers(0, 2**32), floor=st.integers(1, 3), room=st.integers(0, 5),
        kind=st.sampled_from(TargetKind), declared=st.booleans(),
    )  # fmt: skip
    def begin(self, seed: int, floor: int, room: int, kind: TargetKind, *, declared: bool) -> None:
        """A pool at its floor, all pods Ready."""
        self.spec = pool_spec(floor, floor + room, declared=declared)
        self.workload = Workload(Random(seed), kind, replicas=floor, now=START)  # noqa: S311 - dice
        self.workload.reconcile()
        self.router = Router()
        self.core = Core(self.spec, START)
        #: True time; the operator's clock is ``skew`` ahead of it.
        self.skew = 0.0
        self.arrivals = 2.0
        self.metrics = True
        self.reported = True
        self.quoted = 2.0
        for _ in range(4):
            self.workload.advance(0.0, 0.0)

    # What the world does

    @rule(arrivals=st.sampled_from([0.0, 1.0, 8.0, 30.0, 500.0]))
    def traffic(self, arrivals: float) -> None:
        self.arrivals = arrivals

    @rule()
    def metrics_go(self) -> None:
        self.metrics = False

    @rule()
    def metrics_come_back(self) -> None:
        self.metrics = True

    @rule(reported=st.booleans())
    def gateway_counts(self, *, reported: bool) -> None:
        self.reported = reported

    @rule(usd=st.sampled_from(QUOTED))
    def catalog_says(self, usd: float) -> None:
        self.quoted = usd

    @rule(nodes=st.sampled_from([2, 5, 100]))
    def nodes_come_and_go(self, nodes: int) -> None:
        self.workload.nodes = nodes

    @rule(share=st.sampled_from([0.5, 1.0]))
    def pods_are_lost(self, share: float) -> None:
        names = sorted(self.workload.pods)
        for name in names[: int(len(names) * share)]:
            del self.workload.pods[name]
        self.workload.reconcile()

    @rule(replicas=st.integers(0, 12))
    def somebody_scales(self, replicas: int) -> None:
        self.workload.replicas = replicas
        self.workload.version += 1
        self.workload.reconcile()

    @rule(hours=st.sampled_from([-1.0, 1.0]))
    def clock_jumps(self, hours: float) -> None:
        """The operator's clock alone; the router's goes on."""
        if abs(self.skew + hours * HOUR) <= 2 * HOUR:
            self.skew += hours * HOUR
        self._see_clock()

    @rule()
    def clock_is_set_right(self) -> None:
        self.skew = 0.0
        self._see_clock()

    @rule()
    def operator_restarts(self) -> None:
        self.core.restart()

    @rule(share=st.sampled_from([0.1, 1.0]))
    def router_sends(self, share: float) -> None:
        self.router.send(share, self.workload.now)

    # What the operator does

    @rule(seconds=st.sampled_from([1.0, 15.0, 60.0]))
    def slow_loop(self, seconds: float) -> None:
        self._pass_time(seconds)
        facts = self._facts()
        before = self.workload.replicas
        outcome = self.core.slow(facts)
        self._act(outcome)
        if facts.missing or not self._seen(facts):
            assert self.workload.replicas >= min(before, self.spec.replicas.max)
        self._fast()

    @rule(seconds=st.sampled_from([1.0, 2.0, 30.0]))
    def fast_loop(self, seconds: float) -> None:
        self._pass_time(seconds)
        self._fast()

    @precondition(lambda self: self.reported)
    @rule()
    def prometheus_tells_the_spend(self) -> None:
        self.core.reported(float(self.router.requests), float(self.router.spent))

    @precondition(lambda self: not self.reported)
    @rule()
    def prometheus_tells_nothing(self) -> None:
        self.core.reported(None, None)

    # What must hold

    @invariant()
    def no_more_is_spent_than_the_budget(self) -> None:
        if hasattr(self, "router"):
            assert self.router.spent <= PER_MONTH

    # How

    def _pass_time(self, seconds: float) -> None:
        self.workload.now += seconds - 15.0
        self.workload.advance(0.5 if self.arrivals else 0.0, 0.02)
        self._see_clock()

    def _see_clock(self) -> None:
        self.core.now = self.workload.now + self.skew

    def _fast(self) -> None:
        loads = {
            pod.uid: replace(load, sampled_at=self.core.now)
            for pod in self.workload.pods.values()
            if self.metrics and (load := pod.load) is not None
        }
        self.core.fast(loads)
        self.router.poll(self.core)

    def _facts(self) -> PoolFacts:
        now, target = self.core.now, self.workload.facts()
        pods = tuple(self._pod(pod, now) for pod in target.pods)
        counted = GatewayLoad(now, self.arrivals) if self.metrics and self.reported else None
        quote = TokenPrice(self.quoted, self.quoted, PriceSource.CATALOG)
        return PoolFacts(
            "ns",
            "pool",
            "u",
            1,
            START - 9000,
            self.spec,
            {"gpu": replace(target, pods=pods)},
            counted,
            () if self.metrics else (MissingData("up", "nothing"),),
            offers=Offers(apis={"api": (quote,)}),
        )

    def _pod(self, pod: PodFacts, now: float) -> PodFacts:
        """A pod by the operator's clock, with its load where there are metrics."""
        load: ReplicaLoad | None = pod.load if self.metrics else None
        if load is not None:
            queue = self.arrivals / max(1, len(self.workload.pods)) * 4
            load = replace(load, sampled_at=now, running=min(40.0, queue), waiting=queue)
        return replace(pod, load=load)

    def _act(self, outcome: Outcome) -> None:
        if not outcome.decision.write:
            return
        before = self.workload.replicas
        self.workload.apply(outcome.plan)
        bounds, pods = self.spec.replicas, len(self.workload.pods)
        assert self.workload.replicas <= max(bounds.max, before, pods)
        if self.workload.replicas < before:
            assert self.workload.replicas >= bounds.floor
        self.workload.reconcile()

    @staticmethod
    def _seen(facts: PoolFacts) -> bool:
        ready = [
            pod
            for pod in facts.targets["gpu"].pods
            if pod.phase is PodPhase.READY and pod.role is Role.SERVING
        ]
        return all(pod.load is not None for pod in ready)


TestPool = Pool.TestCase
