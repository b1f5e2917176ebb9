"""The operator's own troubles: a clock that jumps, memory that runs out, a standby that is asked.

Leaders that are killed or frozen: test_leadership.py; restarts: test_restart.py.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.faults import never_below, pair, recovered, within_ledger
from tests.e2e.rig.audit import writes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.faults import Faults
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

HOUR = 3600.0


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says by how many seconds the operator's wall clock is ahead."""
    return tmp_path_factory.mktemp("clock") / "ahead"


@pytest.fixture(scope="module")
def operator(rig: Rig, clock: Path) -> Iterator[OperatorProcess]:
    """An operator whose clock can be set."""
    yield rig.start_operator(altered={"RIG_CLOCK": str(clock)})
    rig.stop_operators()


@pytest.fixture(scope="module")
def pools(rig: Rig, operator: OperatorProcess) -> Iterator[tuple[Scenario, Scenario]]:
    """A pool that bursts, and one with four replicas."""
    assert operator.alive
    made = pair(rig, rig.cluster.create_namespace)
    yield made
    for pool in made:
        pool.rate(0)
        rig.cluster.delete_namespace(pool.namespace)


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_by_an_hour_takes_nothing_away_and_spends_nothing_more(
    pools: tuple[Scenario, Scenario], clock: Path, faults: Faults, hours: int
) -> None:
    burst, steady = pools
    began = time.time()
    clock.write_text(f"{hours * HOUR:g}", encoding="ascii")
    time.sleep(12)
    clock.write_text("0", encoding="ascii")
    ended = time.time()
    # A value made an hour ahead ends by the clock that made it.
    seconds = recovered(burst, ended)
    for pool in pools:
        pool.wait_condition("MetricsAvailable", "True", timeout=60)
        pool.wait_ready()
    never_below(burst, 2, began)
    never_below(steady, 4, began)
    within_ledger(burst)
    faults.survived(
        f"the operator's clock jumps an hour {'ahead' if hours > 0 else 'back'}, for 12 s",
        "4 replicas and 2 stay, spend within the ledger",
        seconds,
    )


def test_an_operator_without_memory_harms_nobody_and_recovers(
    pools: tuple[Scenario, Scenario], operator: OperatorProcess, faults: Faults
) -> None:
    burst, steady = pools
    began = time.time()
    page = resource.getpagesize()
    with open(f"/proc/{operator.pid}/statm", encoding="ascii") as statm:  # noqa: PTH123 - procfs
        size = int(statm.read().split()[0]) * page
    # Not a byte more than it has: what it needs next fails.
    resource.prlimit(operator.pid, resource.RLIMIT_AS, (size, size))
    time.sleep(8)
    if operator.alive:
        # What the kernel does to a container beyond its limit.
        operator.kill()
    operator.start()
    ended = time.time()
    seconds = recovered(burst, ended)
    for pool in pools:
        pool.wait_ready()
    never_below(burst, 2, began)
    never_below(steady, 4, began)
    within_ledger(burst)
    faults.survived(
        "operator out of memory (address space capped for 8 s, then killed and restarted)",
        "4 replicas and 2 stay, spend within the ledger",
        seconds,
    )


def test_gateways_that_all_ask_a_standby_get_the_leader_s_value(
    rig: Rig, pools: tuple[Scenario, Scenario], faults: Faults
) -> None:
    burst, _ = pools
    standby = rig.start_operator("standby")
    rig.emulator.set_operators([standby.url])
    began = time.time()
    seconds = recovered(burst, began)
    sent = burst.traffic()["cloud_total"]
    burst.wait("requests go on leaving", lambda: burst.traffic()["cloud_total"], lambda n: n > sent)
    within_ledger(burst)
    if rig.cluster.owns_control_plane:
        wrote = [w for w in writes(rig.cluster, "spillway-standby", since=began) if w.done]
        assert [w for w in wrote if w.resource != "leases"] == []
    faults.survived(
        "all gateways ask a standby",
        "burst goes on by the annotation; the standby writes nothing",
        seconds,
    )
