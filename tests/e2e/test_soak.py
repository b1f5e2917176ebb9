"""Nothing piles up: pods churn, pools burst, come and go, and the operator stays as it was.

Two minutes of it here, with what two minutes can show: no task, connection or memory of a pool that
is gone stays, and resident memory stays within a bound. ``SPILLWAY_SOAK_SECONDS=3600``, as
`make test-nightly` sets it, is an hour, and asserts the slope of resident memory.
``SPILLWAY_SOAK_TRACE=1`` prints which lines of code hold more memory in the end instead.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import statistics
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests

from tests.e2e.rig.fleet import looking
from tests.e2e.rig.fleet.load import SHORT, usual_rate
from tests.e2e.rig.fleet.pools import Fleet, name_of
from tests.e2e.rig.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.rig.fleet.process import FleetExporter
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig

SECONDS: Final = float(os.environ.get("SPILLWAY_SOAK_SECONDS", "100"))
#: Whether to print which lines of code hold more memory in the end.
TRACED: Final = "SPILLWAY_SOAK_TRACE" in os.environ
#: From here on the slope can be told from the noise of an allocator.
LONG_SECONDS: Final = 1800.0
SLOPE_MB_PER_HOUR: Final = 1.0
#: What two minutes may add: forecasts and learned figures fill up, and the allocator keeps pages.
GROWTH_MB: Final = 15.0
STAYING, ALL, PODS = 6, 12, 2
CHURN_PODS_A_MINUTE: Final = 120.0
#: Thirty times the shipped pace.
PERIODS: Final[dict[str, Any]] = {
    "slow_tick_seconds": 0.5,
    "fast_tick_seconds": 0.1,
    "scrape_pages_per_second": 400,
    "writes_per_second": 100,
}
#: One of each exists for each pool or pod that is there, and none for one that is gone.
KINDS: Final = (
    "InferencePool", "PoolRuntime", "PoolLedger", "PoolVersions", "PodRecord", "WorkloadRecord",
    "ServiceRecord",
)  # fmt: skip
#: Tasks and files that come and go by themselves: requests on their way, a connection of each pool.
LOOSE: Final = 12
#: Pages that are read at once, of which each leaves a connection for the next one. How many are
#: kept depends on how many fell due together; one for each pod that ever was would be more.
KEPT_CONNECTIONS: Final = 64

pytestmark = pytest.mark.alone


@pytest.fixture
def exporter(operators: Rig) -> Iterator[FleetExporter]:
    """Plays the fleet's engines."""
    started = operators.start_fleet(pods=PODS)
    yield started
    started.stop()


@pytest.fixture
def fleet(operators: Rig) -> Iterator[Fleet]:
    """A few pools that stay; more come and go. Nothing of earlier tests is there any more."""
    wait_for(
        "namespaces that were deleted are gone",
        lambda: [
            one["metadata"]["name"]
            for one in operators.cluster.api.list("Namespace")
            if one["status"]["phase"] == "Terminating"
        ],
        lambda going: not going,
        timeout=240,
        interval=1.0,
    )
    # Namespaces end when they will, so a second try has others.
    prefix = f"soak-{secrets.token_hex(2)}"
    made = Fleet(operators.cluster, PODS, prefix=prefix, startup_seconds=(0, 1))
    made.grow(STAYING)
    yield made
    made.remove()


class Soak:
    """The operator under changing load."""

    def __init__(
        self, operator: OperatorProcess, exporter: FleetExporter, fleet: Fleet, census: Path
    ) -> None:
        self.rss: list[tuple[float, float]] = []
        self._operator, self._exporter, self._fleet = operator, exporter, fleet
        self._census = census
        self._chance = random.Random(8)  # noqa: S311 - repeatable

    def round(self) -> None:
        """Pools come, burst while pods are replaced, and go; ends when they are forgotten."""
        fleet = self._fleet
        fleet.grow(ALL)
        wait_for("all have a status", fleet.behind, lambda n: n == 0, timeout=60)
        for pool in range(0, ALL, 2):
            self._rate(pool, SHORT)
        fleet.churn(CHURN_PODS_A_MINUTE, 5.0, self._chance)
        for pool in range(0, ALL, 2):
            self._rate(pool, usual_rate(pool))
        fleet.churn(CHURN_PODS_A_MINUTE, 3.0, self._chance)
        fleet.shrink(STAYING)
        wait_for("only those that stay are known", self._known, lambda n: n == STAYING, timeout=60)
        self.rss.append((time.time(), looking.process(self._operator.pid).rss_mb))

    def census(self) -> dict[str, Any]:
        """What the operator holds, some seconds after the last change."""
        time.sleep(3.0)
        self._census.unlink(missing_ok=True)
        os.kill(self._operator.pid, signal.SIGUSR1)
        wait_for("the census is there", self._census.exists)
        found: dict[str, Any] = json.loads(self._census.read_text(encoding="utf-8"))
        return found

    def _known(self) -> int:
        """Pools that /metrics has a series of."""
        page = looking.Page(
            requests.get(f"{self._operator.url}/metrics", timeout=10).text,
            ["spillway_desired_replicas{"],
        )
        namespace = self._fleet.namespace_of(0)
        return sum(f'namespace="{namespace}"' in series for series in page.values)

    def _rate(self, pool: int, rate: float) -> None:
        self._exporter.set_rate(self._fleet.namespace_of(pool), name_of(pool), rate)


def slope_mb_per_hour(samples: list[tuple[float, float]]) -> float:
    """Of resident memory over time, by least squares."""
    at, mb = zip(*samples, strict=True)
    return statistics.linear_regression(at, mb).slope * 3600.0


def grown_lines(before: dict[str, int], after: dict[str, int]) -> list[tuple[int, str]]:
    """Bytes more that each line of code holds, most first."""
    return sorted(
        ((size - before.get(line, 0), line) for line, size in after.items()), reverse=True
    )


@pytest.mark.timeout(SECONDS + 600)
def test_an_operator_that_has_seen_pools_come_and_go_holds_no_more_than_before(
    operators: Rig,
    exporter: FleetExporter,
    fleet: Fleet,
    tmp_path: Path,
    measured: dict[str, float],
) -> None:
    census = tmp_path / "census.json"
    operator = operators.start_operator(
        altered={"RIG_CENSUS": str(census)} | ({"RIG_TRACE": "1"} if TRACED else {}),
        scrape_url_template=exporter.scrape_url_template,
        **PERIODS,
    )
    soak = Soak(operator, exporter, fleet, census)
    began, rounds = time.time(), 0
    # The first rounds load modules, open connections and fill caches; an hour has time for more.
    warm_up = max(25.0, SECONDS / 4)
    while time.time() - began < warm_up or rounds < 2:
        soak.round()
        rounds += 1
    before, rss = soak.census(), soak.rss[-1][1]
    soak.rss.clear()
    while time.time() - began < SECONDS:
        soak.round()
        rounds += 1
    after = soak.census()
    grown = soak.rss[-1][1] - rss
    measured[f"soak: MB of resident memory more after {rounds} rounds"] = grown

    if TRACED:
        top = grown_lines(before["lines"], after["lines"])[:40]
        lines = [f"MB more that lines of code hold after {rounds} rounds:"]
        sys.stdout.write("\n".join(lines + [f"{size / 1e6:8.3f}  {line}" for size, line in top]))
    # A page of each pod may be on its way just then; a task for each pod that ever was is more.
    loose = LOOSE + ALL * PODS
    assert len(after["tasks"]) <= len(before["tasks"]) + loose, (before["tasks"], after["tasks"])
    assert after["files"] <= before["files"] + LOOSE + KEPT_CONNECTIONS
    for kind in KINDS:
        had, has = before["objects"].get(kind, 0), after["objects"].get(kind, 0)
        # A pod that is being replaced exists twice for a moment.
        assert has <= had + STAYING, f"{kind}: {had} before, {has} after"
        assert has <= 3 * STAYING * PODS + STAYING, f"{kind}: {has} for {STAYING} pools"
    if TRACED:
        # Tracing takes memory of its own.
        return
    assert grown < GROWTH_MB
    if SECONDS >= LONG_SECONDS:
        slope = slope_mb_per_hour(soak.rss)
        measured["soak: MB an hour"] = slope
        more = Counter(after["objects"])
        more.subtract(before["objects"])
        way = [round(mb, 1) for _, mb in soak.rss[:: max(1, len(soak.rss) // 20)]]
        assert slope < SLOPE_MB_PER_HOUR, f"MB: {way}; more of these: {more.most_common(20)}"
