"""The API server and etcd: killed, frozen, slow, refusing, and watches that die in silence.

The lease is 4 s here, not 15: a pause of 8 s is to it what 30 s are to the shipped one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.faults import never_below, pair, recovered, within_ledger
from tests.e2e.rig.faultproxy import READS, Call, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.faults import Faults
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

Pools = tuple["Scenario", "Scenario"]
PAUSE_SECONDS = 8.0
BURST_SECONDS = 3.0
#: Instead of 90: how long a watch may be silent.
IDLE_SECONDS = 6.0
NOTHING_LOST = "4 replicas and 2 stay, spend within the ledger"


@pytest.fixture(scope="module")
def proxy(rig: Rig) -> Iterator[FaultProxy]:
    """Between the operators of this module and the API server."""
    if not rig.cluster.owns_control_plane:
        pytest.skip("this cluster's control plane is not ours to break")
    with FaultProxy(rig.cluster.api.host) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def pools(rig: Rig, proxy: FaultProxy) -> Iterator[Pools]:
    """Two pools that work, and their operator."""
    rig.start_operator(api_url=proxy.url, altered={"RIG_WATCH_IDLE": f"{IDLE_SECONDS:g}"})
    made = pair(rig, rig.cluster.create_namespace)
    yield made
    rig.stop_operators()
    for pool in made:
        pool.rate(0)
        rig.cluster.delete_namespace(pool.namespace)


def held(pools: Pools, began: float, ended: float) -> float:
    """Seconds to recovery, when nothing was lost meanwhile."""
    burst, steady = pools
    seconds = recovered(burst, ended)
    for pool in pools:
        pool.wait_ready()
    never_below(burst, 2, began)
    never_below(steady, 4, began)
    assert len(steady.pods("serving", ready=True)) == 4
    within_ledger(burst)
    return seconds


@pytest.mark.parametrize(
    ("component", "how"),
    [("kube-apiserver", "killed"), ("kube-apiserver", "paused"), ("etcd", "paused")],
)
def test_a_control_plane_that_is_gone_for_a_while_costs_nothing(
    rig: Rig, pools: Pools, faults: Faults, component: str, how: str
) -> None:
    broken = rig.cluster.component(component)
    began = time.time()
    if how == "killed":
        broken.kill()
        time.sleep(BURST_SECONDS)
        broken.start()
        ended = time.time()
    else:
        broken.pause()
        time.sleep(PAUSE_SECONDS)
        broken.resume()
        ended = time.time()
    seconds = held(pools, began, ended)
    long = "" if how == "killed" else f" for {PAUSE_SECONDS:g} s (two leases)"
    faults.survived(f"{component} {how}{long}", NOTHING_LOST, seconds)


def refusing(status: int) -> Callable[[Call], int | None]:
    """409 and 422 refuse writes, 410 refuses reads, the others everything."""

    def refuse(call: Call) -> int | None:
        reads = call.method in READS
        applies = {409: not reads, 422: not reads, 410: reads}.get(status, True)
        return status if applies else None

    return refuse


@pytest.mark.parametrize("status", [409, 410, 422, 429, 500, 503])
def test_a_burst_of_refusals_is_waited_out(
    pools: Pools, proxy: FaultProxy, faults: Faults, status: int
) -> None:
    began = time.time()
    proxy.faults.status = refusing(status)
    time.sleep(BURST_SECONDS)
    proxy.mend()
    seconds = held(pools, began, time.time())
    faults.survived(f"API server answers {status} for {BURST_SECONDS:g} s", NOTHING_LOST, seconds)


def test_a_watch_that_dies_in_silence_is_noticed_and_begun_anew(
    pools: Pools, proxy: FaultProxy, faults: Faults
) -> None:
    burst, _ = pools
    began = time.time()
    proxy.faults.silent_watches = True
    time.sleep(1)
    more = {"spec": {"replicas": {"floor": 3, "max": 3}}}
    burst.rig.cluster.api.patch("InferencePool", burst.name, burst.namespace, more)
    # Each silent watch is followed by a list, which tells what it did not.
    burst.wait("the change is seen", burst.scale, lambda n: n == 3, timeout=4 * IDLE_SECONDS)
    seen = time.time()
    proxy.mend()
    held(pools, began, time.time())
    faults.survived(
        f"watches die in silence ({IDLE_SECONDS:g} s are allowed, not 90)",
        "the change is found by a list; 4 replicas and 2 stay",
        seen - began,
    )


def test_an_api_server_that_takes_two_seconds_a_call_keeps_its_leader(
    rig: Rig, pools: Pools, proxy: FaultProxy, faults: Faults
) -> None:
    """With the shipped lease: two seconds are long to one of four."""
    burst, _ = pools
    rig.stop_operators()
    operator = rig.start_operator(
        "slow",
        api_url=proxy.url,
        overflow_lease_seconds=45,
        lease_duration_seconds=15,
        lease_renew_seconds=10,
        lease_retry_seconds=2,
    )
    began = time.time()
    recovered(burst, began, lease_seconds=45.0)
    proxy.faults.delay_seconds = 2.0
    slow_from = time.time()
    time.sleep(20)
    assert burst.traffic()["overflow"]["live"]
    assert operator.log_lines(event="leadership changed", leads=False) == []
    proxy.mend()
    ended = time.time()
    seconds = recovered(burst, ended, lease_seconds=45.0)
    never_below(pools[0], 2, slow_from)
    never_below(pools[1], 4, slow_from)
    within_ledger(burst)
    faults.survived(
        "API server takes 2 s a call, for 20 s",
        "the leader stays leader, the value is renewed; 4 replicas and 2 stay",
        seconds,
    )
