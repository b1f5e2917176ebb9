"""What must hold of every fault, and the record of what did.

Two pools look at a fault side by side: one bursts, so that money is at stake, and one has more
replicas than its floor, so that a wrong step down would show.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spillway.core.ledger import PoolLedger, from_json
from spillway.core.periods import Period
from tests.e2e.rig.audit import writes
from tests.e2e.rig.operator_process import FAST
from tests.e2e.scenario import CAPACITY_PER_SECOND, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.e2e.rig.rig import Rig

#: Twice what two replicas take.
SPIKE = 4 * CAPACITY_PER_SECOND
#: The classic rule with short periods: it moves by what DCGM says.
CLASSIC: Mapping[str, Any] = {
    "policy": "Utilization",
    "utilization": {"scaleUpAfter": "2s", "scaleDownAfter": "2s"},
    "replicas": {"floor": 2, "max": 4},
    "burst": None,
}
BUSY, BETWEEN, IDLE = 95, 50, 5
#: An answer takes three seconds, and a replica is full at five requests a second.
SLOW = {"profile": {"overrides": {"base_seconds": 0.03, "max_num_seqs": 16}}}
#: Enough that only a fault in the ledger could exceed it.
BUDGET_USD = 50.0
BURSTING: Mapping[str, Any] = {
    "replicas": {"floor": 2, "max": 2},
    "burst": {"budget": {"perHour": f"{BUDGET_USD:g}"}},
}


@dataclass(frozen=True)
class FaultRecord:
    """A row of the table in docs/reliability.md.

    Attributes:
        fault: What was done to the operator's surroundings, or to itself.
        held: What was looked at meanwhile and held.
        seconds: From the end of the fault until all was as before; None where nothing recovers.
        test: Which test showed it.
        day: When, as 2026-11-30.
    """

    fault: str
    held: str
    seconds: float | None
    test: str = ""
    day: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return asdict(self)


class Faults:
    """Where a test notes the faults that it has tried.

    Args:
        test: Its name.
    """

    def __init__(self, test: str) -> None:
        self.records: list[FaultRecord] = []
        self._test = test

    def survived(self, fault: str, held: str, seconds: float | None) -> None:
        """Note a fault, what held, and the seconds to recovery."""
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        self.records.append(FaultRecord(fault, held, seconds, self._test, day))


def merge(path: Path, records: list[dict[str, Any]]) -> None:
    """Put records into a file, over those of the same faults; the machine is told with them.

    Args:
        path: JSON, as tools/gen_reliability.py reads it; made where there is none.
        records: `FaultRecord.to_json` of each.
    """
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"faults": []}
    rows = {row["fault"]: row for row in (*known["faults"], *records)}
    document = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}",
        "faults": [rows[name] for name in sorted(rows)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def doubled(*pools: Scenario) -> None:
    """Have pools of the classic rule double to four; as soon as GPUs idle, two would go."""
    for pool in pools:
        pool.deploy()
        pool.apply()
    for pool in pools:
        pool.wait_ready()
        gpus_say(pool, BUSY)
    for pool in pools:
        pool.wait_roles(serving=4)
        gpus_say(pool, BETWEEN)


def gpus_say(pool: Scenario, percent: float, **fault: Any) -> None:
    """Have DCGM report this utilisation for every GPU of the pool."""
    pool.rig.emulator.set_fault(pool.key, gpu_utilization=percent, **fault)


def bursting(pool: Scenario) -> None:
    """Start a pool that sends a share of its requests away."""
    pool.start()
    pool.rate(SPIKE)
    pool.wait(
        "a share of the requests bursts",
        lambda: pool.traffic()["overflow"],
        lambda value: value and value["live"] and value["fraction"] > 0.2,
    )


def ledger_of(pool: Scenario) -> PoolLedger | None:
    """The pool's ledger as the cluster has it."""
    for shard in pool.rig.cluster.api.list("ConfigMap", pool.rig.system_namespace):
        for text in (shard.get("data") or {}).values():
            name, _, payload = text.partition("\n")
            if name == pool.key:
                return from_json(payload)
    return None


def within_ledger(pool: Scenario) -> None:
    """Assert that no more was spent than the ledger has put aside, nor than the budget."""
    spent = pool.traffic()["cost_usd_total"]
    ledger = ledger_of(pool)
    assert ledger is not None
    assert spent <= float(ledger.committed(Period.HOUR)) + 1e-6
    assert spent <= BUDGET_USD


def never_below(pool: Scenario, replicas: int, since: float) -> None:
    """Assert that nobody has asked for fewer replicas since, and that none is gone."""
    assert pool.scale() >= replicas
    if pool.rig.cluster.owns_control_plane:
        found = writes(
            pool.rig.cluster, namespace=pool.namespace, resource="deployments/scale", since=since
        )
        assert [w for w in found if w.body["spec"]["replicas"] < replicas] == []


def recovered(
    pool: Scenario,
    since: float,
    timeout: float = 60.0,
    lease_seconds: float = FAST["overflow_lease_seconds"],
) -> float:
    """Seconds from ``since`` until the router had a value that was made after it."""

    def made_at() -> float:
        value = pool.traffic()["overflow"]
        if value is None or not value["live"] or value["fraction"] <= 0:
            return 0.0
        made = datetime.fromisoformat(value["until"]).timestamp() - lease_seconds
        # One that a clock ahead has made is none of now.
        return made if made <= time.time() + 1.0 else 0.0

    pool.wait("the router has a value of after the fault", made_at, lambda at: at > since, timeout)
    return time.time() - since


def pair(rig: Rig, namespace: Callable[[], str]) -> tuple[Scenario, Scenario]:
    """A bursting pool and one of four replicas, both of which work."""
    burst = Scenario(rig, namespace(), spec=BURSTING)
    steady = Scenario(rig, namespace(), spec=CLASSIC)
    doubled(steady)
    bursting(burst)
    return burst, steady
