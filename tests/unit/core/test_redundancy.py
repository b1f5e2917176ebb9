"""How many replicas outlive the loss of a zone: by hand, and that one less would not do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.reasons import Reason
from spillway.core.facts import GpuSupply, PoolFacts
from spillway.core.redundancy import replicas_to_survive

from .pools import Pool, burst, reasons, spec

THREE = frozenset("abc")


@pytest.mark.parametrize(
    ("by_zone", "replicas", "needed", "expected"),
    [
        ({"a": 0, "b": 0}, 2, 2, 4),
        ({"a": 0, "b": 0, "c": 0}, 2, 2, 3),
        ({"a": 3, "b": 0}, 3, 2, 5),
        ({"a": 2, "b": 2}, 4, 2, 4),
        ({"a": 4, "b": 1}, 3, 2, 4),
    ],
)
def test_by_hand(by_zone: dict[str, int], replicas: int, needed: int, expected: int) -> None:
    assert replicas_to_survive(by_zone, replicas, needed) == expected


def test_one_zone_can_not_outlive_its_loss() -> None:
    with pytest.raises(ValueError, match="at least 2 zones, got 1"):
        replicas_to_survive({"a": 1}, 1, 1)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 6), min_size=2),
    st.integers(0, 12),
    st.integers(0, 8),
)
def test_never_less_than_wanted_and_never_in_vain(
    by_zone: dict[str, int], replicas: int, needed: int
) -> None:
    found = replicas_to_survive(by_zone, replicas, needed)
    assert found >= max(replicas, needed)
    more = replicas_to_survive(by_zone, replicas, needed + 1)
    assert more >= found
    if found > replicas:
        assert more > found, "with one replica to spare the next need would have been met too"


def observed(pool: Pool, zones: frozenset[str]) -> PoolFacts:
    """The pool's facts with its pods dealt out to the zones."""
    facts = pool.facts()
    names = sorted(zones)
    target = facts.targets["gpu"]
    pods = tuple(
        replace(each, zone=names[index % len(names)]) for index, each in enumerate(target.pods)
    )
    return replace(
        facts,
        targets={"gpu": replace(target, pods=pods)},
        supply={"gpu": GpuSupply(zones=zones)},
    )


def surviving(pool: Pool, zones: frozenset[str], steps: int = 8) -> list[Reason]:
    found: list[Reason] = []
    for _ in range(steps):
        found = reasons(pool.step(observed(pool, zones)))
    return found


def test_without_burst_all_of_the_load_outlives_a_zone() -> None:
    pool = Pool(
        spec=spec(replicas={"floor": 1, "max": 20, "surviveZoneLoss": True}), replicas=4, rps=35.0
    )
    assert Reason.ZONE_REDUNDANCY in surviving(pool, THREE)
    needed = pool.replicas - -(-pool.replicas // 3)
    assert needed * 10 >= 35


def test_with_burst_only_the_floor_must_outlive_it() -> None:
    section = spec(replicas={"floor": 2, "max": 20, "surviveZoneLoss": True}, burst=burst())
    pool = Pool(spec=section, replicas=2, rps=5.0)
    assert Reason.ZONE_REDUNDANCY in surviving(pool, THREE, steps=40)
    assert pool.replicas == 3


def test_with_one_zone_it_says_so_and_changes_nothing() -> None:
    section = spec(replicas={"floor": 2, "max": 20, "surviveZoneLoss": True})
    pool = Pool(spec=section, replicas=2, rps=5.0)
    assert Reason.ONE_ZONE in surviving(pool, frozenset("a"))
    assert pool.replicas == 2


def test_a_cooldown_keeps_what_was_just_changed() -> None:
    scaling = {"persistence": "0s", "releaseWindow": "0s", "cooldown": "10m", "maxStepDown": 9}
    pool = Pool(spec=spec(scaling=scaling), rps=8.0)
    pool.run(1800)
    pool.run(120, lambda _: 45.0)
    raised, at = pool.replicas, pool.now
    assert raised > 2
    decisions = pool.run(1800, lambda _: 8.0)
    first = next(d for d in decisions if d.desired < raised)
    assert first.at - at >= 600 - 120
    assert any(Reason.COOLDOWN in reasons(d) for d in decisions)
