"""Prometheus and what it says: slow, empty, no numbers, absurd, twice, old, and beginning anew.

Each pool of this module has twice the replicas that it needs, and GPUs that idle by whatever is
wrong: a value that were believed would cost it two of them. The pods' own pages fail too, since
with them nothing would be missing. Prometheus killed and frozen: test_data_faults.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.reasons import Reason
from tests.e2e.faults import (
    BETWEEN,
    BURSTING,
    CLASSIC,
    IDLE,
    SLOW,
    bursting,
    doubled,
    gpus_say,
    ledger_of,
    never_below,
    recovered,
    within_ledger,
)
from tests.e2e.rig.faultproxy import FaultProxy, Row, Samples, valued
from tests.e2e.scenario import Scenario
from tests.e2e.watching import watch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.faults import Faults
    from tests.e2e.rig.rig import Rig

pytestmark = pytest.mark.long

HELD = "4 replicas stay, MetricsAvailable says why"
#: Longer than the rule's two seconds and the oldest sample that counts.
SECONDS = 9.0


def _older(query: str, row: Row) -> list[Row]:
    """A sample of an hour ago: timestamp() says so."""
    if not query.startswith("max by") or "timestamp(" not in query:
        return [row]
    at, text = row["value"]
    return [{**row, "value": [at, str(float(text) - 3600)]}]


def _twice(_: str, row: Row) -> list[Row]:
    """The same series again, and it says that nothing is to do."""
    return [row, {**row, "value": [row["value"][0], "0"]}]


#: By fault: what it does to the rows of a pool, and to its pods.
WRONG: dict[str, tuple[Any, dict[str, Any]]] = {
    "empty answers": (lambda _q, _r: [], {"metrics": "error"}),
    "NaN": (valued("NaN"), {"metrics": "error"}),
    "+Inf": (valued("+Inf"), {"metrics": "error"}),
    "negative values": (valued("-1"), {"metrics": "error"}),
    "samples that are an hour old": (_older, {"metrics": "error"}),
    "DCGM missing": (None, {"gpu_missing": True}),
    "pods' metric pages hang": (None, {"metrics": "hang"}),
}


@pytest.fixture(scope="module")
def proxy(rig: Rig) -> Iterator[FaultProxy]:
    """Between the operator of this module and Prometheus."""
    with FaultProxy(rig.prometheus.url) as proxy:
        rig.start_operator(
            prometheus_url=proxy.url, prometheus_timeout_seconds=2.0, max_sample_age_seconds=6.0
        )
        yield proxy
        rig.stop_operators()


@pytest.fixture(scope="module")
def nodes(rig: Rig) -> Iterator[None]:
    """GPUs for all pools of a test at once."""
    names = [rig.cluster.add_node(f"faults-{number}") for number in range(3)]
    yield
    for name in names:
        rig.cluster.remove_node(name)


@pytest.fixture
def pools(rig: Rig, proxy: FaultProxy, nodes: None) -> Iterator[Callable[..., list[Scenario]]]:  # noqa: ARG001
    """Makes pools, each in a namespace of its own."""
    made: list[Scenario] = []

    def make(count: int, spec: Any = CLASSIC, **more: Any) -> list[Scenario]:
        new = [
            Scenario(rig, rig.cluster.create_namespace(), spec=spec, **more) for _ in range(count)
        ]
        made.extend(new)
        return new

    yield make
    proxy.mend()
    for pool in made:
        pool.rate(0)
        rig.cluster.delete_namespace(pool.namespace)


def test_samples_that_are_missing_or_absurd_take_nothing_away(
    pools: Callable[..., list[Scenario]], proxy: FaultProxy, faults: Faults
) -> None:
    made = dict(zip(WRONG, pools(len(WRONG)), strict=True))
    doubled(*made.values())
    began = time.time()
    proxy.faults.answer = Samples(
        {made[n].namespace: change for n, (change, _) in WRONG.items() if change is not None}
    )
    for name, (_, fault) in WRONG.items():
        gpus_say(made[name], IDLE, **fault)
    for pool in made.values():
        pool.wait_condition("MetricsAvailable", "False", Reason.METRICS_MISSING.value, timeout=60)
    time.sleep(SECONDS)
    for pool in made.values():
        never_below(pool, 4, began)
        assert pool.condition("MetricsAvailable")["status"] == "False"
    proxy.mend()
    for pool in made.values():
        gpus_say(pool, BETWEEN)
    ended = time.time()
    for name, pool in made.items():
        pool.wait_condition("MetricsAvailable", "True", timeout=60)
        faults.survived(f"Prometheus: {name}", HELD, time.time() - ended)
        never_below(pool, 4, began)
        # And the rule works again.
        gpus_say(pool, IDLE)
    for pool in made.values():
        pool.wait("two are left", pool.scale, lambda n: n == 2, timeout=90)


def test_series_that_come_twice_count_once_at_the_larger_value(
    pools: Callable[..., list[Scenario]], proxy: FaultProxy, faults: Faults
) -> None:
    (pool,) = pools(1)
    doubled(pool)
    began = time.time()
    proxy.faults.answer = Samples({pool.namespace: _twice})
    looks = watch_for(pool, SECONDS)
    assert {seen.replicas for seen in looks} == {4}
    never_below(pool, 4, began)
    faults.survived("Prometheus: duplicate series", "the larger counts; 4 replicas stay", None)


def test_counters_that_begin_anew_give_no_money_back(
    pools: Callable[..., list[Scenario]], faults: Faults
) -> None:
    (pool,) = pools(1, BURSTING)
    bursting(pool)
    before = pool.wait(
        "some is spent", lambda: pool.traffic()["cost_usd_total"], lambda usd: usd > 0.05
    )
    pool.wait("the ledger knows", lambda: spent_by_ledger(pool), lambda usd: usd > before / 2)
    known = spent_by_ledger(pool)
    began = time.time()
    # The emulator's pool made anew: engines and gateway count from zero.
    pool.deploy()
    pool.rate(16)
    seconds = recovered(pool, began)
    pool.wait("it spends again", lambda: pool.traffic()["cost_usd_total"], lambda usd: usd > 0.02)
    assert spent_by_ledger(pool) >= known
    never_below(pool, 2, began)
    within_ledger(pool)
    faults.survived("counters of engines and gateway reset", "no money comes back", seconds)


def spent_by_ledger(pool: Scenario) -> float:
    """US dollars that the stored ledger counts as spent this month, reservations left out."""
    ledger = ledger_of(pool)
    return 0.0 if ledger is None else float(max(entry.usd for entry in ledger.spent.values()))


def test_a_slow_prometheus_is_waited_for_up_to_its_deadline(
    pools: Callable[..., list[Scenario]], proxy: FaultProxy, faults: Faults
) -> None:
    (pool,) = pools(1, {"burst": None}, emulator=SLOW)
    pool.start()
    proxy.faults.delay_seconds = 1.0
    began = time.time()
    pool.rate(6)
    pool.wait("it is seen", lambda: (pool.status().get("demand") or {}).get("requestsPerSecond", 0))
    assert pool.condition("MetricsAvailable")["status"] == "True"
    proxy.faults.delay_seconds = 3.0
    # Beyond its deadline it is as good as none, and the pods' own pages suffice.
    watch_for(pool, 6)
    assert pool.condition("MetricsAvailable")["status"] == "True"
    assert pool.traffic()["lost_total"] == 0
    never_below(pool, 2, began)
    faults.survived(
        "Prometheus slower than its deadline", "the pods' own pages serve instead", None
    )
