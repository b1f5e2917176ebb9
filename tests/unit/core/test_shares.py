"""Pools that share a full node: what each may have, and that they then do have it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from spillway.api.reasons import Reason
from spillway.core.facts import GpuSupply, PoolFacts
from spillway.core.shares import shares

from .pools import Pool, burst, reasons, spec

if TYPE_CHECKING:
    from spillway.core.decide import Decision

SCALING = {"persistence": "0s", "releaseWindow": "0s", "maxStepDown": 1}


def pool(usd: str, rps: float, replicas: int, **changes: object) -> Pool:
    """A pool whose API charges ``usd`` for a million prompt tokens, and as much again for ten."""
    section = spec(burst=burst(usd), scaling=SCALING, **changes)
    return Pool(spec=section, replicas=replicas, rps=rps)


class Fleet:
    """Pools on one kind of GPU, of which there are so many and no more."""

    def __init__(self, gpus: int, **pools: Pool) -> None:
        self.gpus, self.pools = gpus, pools
        self.share: dict[str, dict[str, int]] = {}
        self.last: dict[str, Decision] = {}

    def facts(self, name: str) -> PoolFacts:
        held = sum(pool.replicas for pool in self.pools.values())
        supply = {"gpu": GpuSupply(free=self.gpus - held, elastic=False)}
        share = self.share.get(f"ns/{name}", {})
        return replace(self.pools[name].facts(), name=name, supply=supply, share=share)

    def run(self, ticks: int) -> list[tuple[int, ...]]:
        """Replicas of the pools after each tick."""
        seen = []
        for _ in range(ticks):
            before = {name: self.facts(name) for name in self.pools}
            self.last = {name: pool.step(before[name]) for name, pool in self.pools.items()}
            self.share = shares((before[name], self.last[name]) for name in self.pools)
            seen.append(tuple(pool.replicas for pool in self.pools.values()))
        return seen


def test_scarce_gpus_go_to_the_pool_whose_api_is_dearer() -> None:
    fleet = Fleet(6, dear=pool("2.00", 40.0, 1), cheap=pool("0.40", 40.0, 1))
    assert fleet.run(60)[-1] == (4, 2)


def test_a_pool_gives_up_gpus_one_by_one_to_another_that_has_more_use_for_them() -> None:
    fleet = Fleet(5, dear=pool("2.00", 5.0, 1), cheap=pool("0.40", 40.0, 4))
    assert fleet.run(20)[-1] == (1, 4)
    fleet.pools["dear"].rps = 40.0
    seen = fleet.run(120)
    assert seen[-1] == (4, 1)
    assert all(sum(each) <= 5 for each in seen)
    assert all(a[1] - b[1] <= 1 for a, b in pairwise(seen))


def test_equal_pools_do_not_pass_a_replica_back_and_forth() -> None:
    fleet = Fleet(6, one=pool("0.40", 40.0, 1), two=pool("0.40", 40.0, 1))
    settled = fleet.run(120)[60:]
    assert len(set(settled)) == 1
    assert sum(settled[-1]) == 6


def test_priority_comes_before_dollars() -> None:
    fleet = Fleet(6, dear=pool("2.00", 40.0, 1), first=pool("0.40", 35.0, 1, priority=5))
    assert fleet.run(120)[-1][1] >= 4


def test_with_room_for_all_there_is_no_contest() -> None:
    fleet = Fleet(30, one=pool("0.40", 40.0, 1), two=pool("0.40", 40.0, 1))
    fleet.run(60)
    assert fleet.share == {}


def test_where_nodes_can_be_added_there_is_no_contest() -> None:
    one = pool("0.40", 40.0, 1)
    before = replace(one.facts(), supply={"gpu": GpuSupply(free=0, elastic=True)})
    assert shares([(before, one.step(before))]) == {}


def test_the_share_is_said_to_be_the_reason() -> None:
    fleet = Fleet(4, dear=pool("2.00", 35.0, 1), cheap=pool("0.40", 40.0, 1))
    seen = set()
    for _ in range(60):
        fleet.run(1)
        seen |= set(reasons(fleet.last["cheap"]))
    assert Reason.FLEET_SHARE in seen
    assert fleet.pools["cheap"].replicas >= 1, "the floor"
