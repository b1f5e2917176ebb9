"""Many pools at once: made within seconds, or in a shortage all at the same moment.

``SPILLWAY_FLOOD_POOLS`` says how many are made; `make reliability` makes 1,000.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self

import pytest
import requests

from spillway.api.names import API_VERSION, KIND
from tests.e2e.faults import BURSTING, bursting, within_ledger
from tests.e2e.rig.audit import Write, writes
from tests.e2e.rig.fleet.load import SHORT
from tests.e2e.rig.fleet.looking import OPERATOR_NAMES, Page, operator_page, quantile
from tests.e2e.rig.fleet.pools import Fleet, name_of
from tests.e2e.rig.waiting import wait_for
from tests.e2e.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.e2e.faults import Faults
    from tests.e2e.rig.fleet.process import FleetExporter
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig

FLOOD: Final = int(os.environ.get("SPILLWAY_FLOOD_POOLS", "200"))
FLOOD_SECONDS: Final = 10.0
#: Of an operator as shipped, with those of the lease and the ledger.
WRITES_PER_SECOND: Final = 20.0
BURSTING_POOLS: Final = 200
#: With the rig's 4 s a renewal has one second, and on two cores the API server itself takes longer
#: under two hundred pools with their pods, by its own audit log.
SHIPPED_LEASE: Final[dict[str, Any]] = {
    "lease_duration_seconds": 15.0,
    "lease_renew_seconds": 10.0,
    "lease_retry_seconds": 2.0,
    "overflow_lease_seconds": 45.0,
}
#: Over which writes are counted. A bucket that was full adds a second's worth once, and a server
#: that is a second late with its answers counts another second's worth as received together.
WINDOW_SECONDS: Final = 30.0
MOST_WRITES_PER_SECOND: Final = WRITES_PER_SECOND * (1 + 2 / WINDOW_SECONDS)
#: The event loop of a flooded operator is never later than this: a third of the lease's deadline
#: is what a renewal may take.
LAG_SECONDS: Final = 1.0

pytestmark = pytest.mark.alone


def most_writes(rig: Rig, operator: OperatorProcess, since: float) -> float:
    """Writes a second of the operator, over the `WINDOW_SECONDS` that had the most."""
    found = writes(rig.cluster, f"spillway-{operator.identity}", since=since)
    return max((_within(found, write.at) for write in found), default=0) / WINDOW_SECONDS


def _within(found: Sequence[Write], since: float) -> int:
    return sum(since <= write.at < since + WINDOW_SECONDS for write in found)


def lag_p99(before: Page, after: Page) -> float:
    """Of the event loop between two looks, in seconds."""
    name = "spillway_event_loop_lag_seconds"
    return quantile(before.buckets(name), after.buckets(name), 0.99)


class Follower:
    """Looks all the time whether a pool's router has a value that holds, from a thread of its own.

    How much it sends away is another matter: on a busy machine the emulated load ebbs too.
    """

    def __init__(self, pool: Scenario) -> None:
        self.gaps: list[str] = []
        self._pool = pool
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(0.25):
            value = self._pool.traffic()["overflow"]
            if not (value and value["live"]):
                self.gaps.append(f"{time.monotonic() - began:.1f} s: {value}")


def _pool(namespace: str, number: int) -> dict[str, Any]:
    """A pool whose workload is not there yet, as when Git is applied in another order."""
    target = {"kind": "Deployment", "name": f"later-{number}"}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": f"flood-{number}", "namespace": namespace},
        "spec": {
            "modelName": "m",
            "variants": [{"name": "main", "targetRef": target}],
            "replicas": {"floor": 1, "max": 4},
        },
    }


def _flood(rig: Rig, namespace: str, pools: int) -> float:
    """Make pools at an even pace; returns how long it took, in seconds."""
    began = time.monotonic()

    def make(number: int) -> None:
        due = began + number * FLOOD_SECONDS / pools
        time.sleep(max(0.0, due - time.monotonic()))
        rig.cluster.api.create(_pool(namespace, number))

    with ThreadPoolExecutor(8) as several:
        list(several.map(make, range(pools)))
    return time.monotonic() - began


@pytest.mark.timeout(600)
def test_a_flood_of_pools_neither_takes_the_lease_nor_breaks_a_burst(
    operators: Rig, namespace: str, faults: Faults
) -> None:
    rig, operator = operators, operators.start_operator("flooded", **SHIPPED_LEASE)
    pool = Scenario(rig, namespace, spec=BURSTING)
    bursting(pool)
    flooded = rig.cluster.create_namespace()
    before, since = operator_page(operator.url), time.time()
    try:
        with Follower(pool) as router:
            took = _flood(rig, flooded, FLOOD)
            ended = time.time()
            wait_for(
                "every new pool has a status",
                lambda: sum("status" not in p for p in rig.cluster.api.list(KIND, flooded)),
                lambda without: without == 0,
                timeout=60 + 2 * FLOOD / WRITES_PER_SECOND,
                interval=1.0,
            )
            seconds = time.time() - ended
            pool.wait("it bursts on", lambda: pool.traffic()["overflow"]["fraction"] > 0)
        lag = lag_p99(before, operator_page(operator.url))
        led = operator.log_lines(event="leadership changed")
        assert router.gaps == []
        assert [line["leads"] for line in led] == [True], led
        assert lag < LAG_SECONDS
        within_ledger(pool)
        if rig.cluster.owns_control_plane:
            assert most_writes(rig, operator, since) < MOST_WRITES_PER_SECOND
    finally:
        pool.rate(0)
        rig.cluster.delete_namespace(flooded)
    faults.survived(
        f"a flood of {FLOOD} pools in {took:.0f} s",
        f"the leader stays, another pool bursts on; event-loop lag p99 {lag * 1000:.0f} ms",
        seconds,
    )


@pytest.fixture
def exporter(operators: Rig) -> Iterator[FleetExporter]:
    """Plays the fleet's engines."""
    started = operators.start_fleet(pods=1)
    yield started
    started.stop()


@pytest.fixture
def fleet(operators: Rig) -> Iterator[Fleet]:
    """Two hundred pools of one replica that may have no more."""
    # Namespaces end when they will, so a second try has others.
    prefix = f"burst-{secrets.token_hex(2)}"
    made = Fleet(operators.cluster, pods=1, prefix=prefix, max_replicas=1)
    made.grow(BURSTING_POOLS)
    yield made
    made.remove()


def _bursting(operator: OperatorProcess, fleet: Fleet) -> int:
    """Pools of which gateways are told to send a share away."""
    page = Page(
        requests.get(f"{operator.url}/metrics", timeout=30).text,
        [*OPERATOR_NAMES, "spillway_overflow_ratio"],
    )
    return sum(
        value > 0
        for series, value in page.values.items()
        if series.startswith("spillway_overflow_ratio{")
        and f'"{fleet.namespace_of(0)[:-1]}' in series
    )


@pytest.mark.timeout(600)
def test_two_hundred_pools_that_burst_at_once_stay_under_the_write_limit(
    operators: Rig, exporter: FleetExporter, fleet: Fleet, faults: Faults
) -> None:
    rig = operators
    operator = rig.start_operator(
        "crowded",
        scrape_url_template=exporter.scrape_url_template,
        # As shipped, or near it: the rig's Prometheus does not know these pods, so that all their
        # own pages are read by the second, which is what two hundred a second allow.
        fast_tick_seconds=1.0,
        slow_tick_seconds=10.0,
        **SHIPPED_LEASE,
    )
    wait_for("every pool has a status", fleet.behind, lambda n: n == 0, timeout=90, interval=1.0)
    before, since = operator_page(operator.url), time.time()
    for number in range(BURSTING_POOLS):
        exporter.set_rate(fleet.namespace_of(number), name_of(number), SHORT)
    began = time.time()
    wait_for(
        "all pools burst",
        lambda: _bursting(operator, fleet),
        lambda n: n == BURSTING_POOLS,
        timeout=90,
        interval=1.0,
    )
    seconds = time.time() - began
    # Long enough that every annotation is renewed once, at half of its stretched life.
    time.sleep(30)
    lag = lag_p99(before, operator_page(operator.url))
    assert [line["leads"] for line in operator.log_lines(event="leadership changed")] == [True]
    assert lag < LAG_SECONDS
    assert _bursting(operator, fleet) == BURSTING_POOLS
    most = 0.0
    if rig.cluster.owns_control_plane:
        most = most_writes(rig, operator, since)
        assert most < MOST_WRITES_PER_SECOND
    faults.survived(
        f"{BURSTING_POOLS} pools burst at once",
        f"all burst on; at most {most:.0f} writes/s over {WINDOW_SECONDS:.0f} s, the lease's too",
        seconds,
    )
