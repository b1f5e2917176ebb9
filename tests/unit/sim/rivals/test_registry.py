"""Every rival by name, each with a default and a grid that work."""

from __future__ import annotations

import numpy as np
import pytest

from spillway.sim.rivals import RIVALS
from spillway.sim.trace import Trace
from tests.unit.sim.rivals.hand import LENGTHS, seen, told

PAST = Trace("past", "by hand", 60.0, np.arange(1.0, 11.0), LENGTHS)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_stays_within_the_pools_bounds_on_any_load(name: str) -> None:
    rng = np.random.default_rng(7)
    for made in (RIVALS[name].default(PAST), RIVALS[name].grid(PAST)):
        assert made.name == name
        made.begin(told(floor=2, max=30))
        replicas = np.full(made.configurations, 3)
        for n in range(30):
            load = seen(
                n * made.period_seconds,
                made.configurations,
                gpu_utilization=float(rng.random()),
                arrivals_per_second=float(rng.uniform(0, 90)),
                running=float(rng.uniform(0, 200)),
                waiting=float(rng.uniform(0, 50)),
                kv_usage=float(rng.random()),
            )
            load.requested = load.ready = replicas
            asked = made.decide(load)
            replicas = asked.replicas
            assert replicas.shape == (made.configurations,)
            assert replicas.min() >= 2
            assert replicas.max() <= 30


@pytest.mark.parametrize("name", RIVALS)
def test_a_second_run_is_like_the_first(name: str) -> None:
    made = RIVALS[name].grid(PAST)

    def run() -> list[list[int]]:
        made.begin(told())
        busy = {"gpu_utilization": 0.97, "arrivals_per_second": 30.0, "running": 90.0}
        calls = [seen(n * 15.0, made.configurations, ready=3, **busy) for n in range(6)]
        return [made.decide(each).replicas.tolist() for each in calls]

    assert run() == run()


@pytest.mark.parametrize("name", RIVALS)
def test_a_part_of_a_grid_decides_as_it_does_in_the_whole(name: str) -> None:
    grid = RIVALS[name].grid(PAST)
    few = [grid.configurations - 1, 0]
    part = grid.only(few)
    assert [part.describe(k) for k in range(2)] == [grid.describe(k) for k in few]
    for made in (grid, part):
        made.begin(told())
    busy = {"gpu_utilization": 0.97, "arrivals_per_second": 30.0, "running": 90.0, "kv_usage": 0.9}
    for n in range(8):
        now = n * 15.0
        whole = grid.decide(seen(now, grid.configurations, ready=3, **busy)).replicas
        assert part.decide(seen(now, 2, ready=3, **busy)).replicas.tolist() == whole[few].tolist()
