"""Who gets the GPUs when there are not enough: by hand, and against trying everything."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.fleet import Claim, share


def claim(key: str, *worth: float, size: int = 1, held: int = 0, floor: int = 0) -> Claim:
    return Claim(key, size, held, floor, len(worth), worth=worth)


def test_with_room_for_all_everybody_gets_what_they_want() -> None:
    assert share([claim("a", 5, 4), claim("b", 1)], 3) == {"a": 2, "b": 1}


def test_each_gpu_goes_where_its_absence_would_cost_most() -> None:
    pools = [claim("chat", 9, 5, 1), claim("code", 7, 6, 2)]
    assert share(pools, 3) == {"chat": 1, "code": 2}
    assert share(pools, 4) == {"chat": 2, "code": 2}


def test_floors_come_before_any_dollar() -> None:
    pools = [claim("rich", 90, 80, 70), claim("poor", 1, 1, floor=2)]
    assert share(pools, 3) == {"rich": 1, "poor": 2}


def test_a_higher_priority_is_served_in_full_first() -> None:
    high = Claim("high", 1, 0, 0, 2, priority=1, worth=(0.5, 0.5))
    assert share([claim("low", 9, 9), high], 3) == {"high": 2, "low": 1}


def test_a_pool_without_an_api_comes_before_those_that_can_burst() -> None:
    alone = Claim("alone", 1, 0, 1, 3)
    assert share([claim("bursts", 50, 50), alone], 4) == {"alone": 3, "bursts": 1}


def test_a_replica_does_not_move_between_pools_of_equal_value() -> None:
    assert share([claim("a", 5, 5), claim("b", 5, 5, held=1)], 1) == {"a": 0, "b": 1}
    assert share([claim("a", 5.4), claim("b", 5, held=1)], 1) == {"a": 0, "b": 1}
    assert share([claim("a", 5.6), claim("b", 5, held=1)], 1) == {"a": 1, "b": 0}


def test_two_small_replicas_beat_a_large_one_that_is_worth_less_a_gpu() -> None:
    large = claim("large", 10, size=4)
    assert share([large, claim("small", 6, 5, size=2)], 4) == {"large": 0, "small": 2}
    assert share([large, claim("small", 6, 3, size=2)], 4) == {"large": 1, "small": 0}


def test_without_gpus_nobody_gets_any() -> None:
    assert share([claim("a", 5, floor=1)], 0) == {"a": 0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus_per_replica": 0}, "gpus_per_replica of p must be at least 1, got 0"),
        ({"floor": 3}, r"floor of p must be from 0 to most \(2\), got 3"),
        ({"worth": (1.0,)}, "worth of p must have 2 values, got 1"),
    ],
)
def test_an_impossible_claim_is_refused(changes: dict[str, object], words: str) -> None:
    fields = {"key": "p", "gpus_per_replica": 1, "held": 0, "floor": 0, "most": 2} | changes
    with pytest.raises(ValueError, match=words):
        Claim(**fields)  # type: ignore[arg-type]


@st.composite
def contests(draw: st.DrawFn) -> tuple[list[Claim], int]:
    claims = []
    for key in "abc"[: draw(st.integers(1, 3))]:
        worth = sorted(draw(st.lists(st.integers(0, 20), max_size=3)), reverse=True)
        held = draw(st.integers(0, 3))
        size = draw(st.integers(1, 3))
        claims.append(claim(key, *map(float, worth), size=size, held=held))
    return claims, draw(st.integers(0, 8))


def total(claims: list[Claim], replicas: tuple[int, ...]) -> float:
    return sum(
        sum(c.worth_of(n) for n in range(1, given + 1))
        for c, given in zip(claims, replicas, strict=True)
    )


@given(contests())
def test_nothing_else_that_fits_is_worth_more(contest: tuple[list[Claim], int]) -> None:
    claims, gpus = contest
    given_to = share(claims, gpus)
    chosen = tuple(given_to[c.key] for c in claims)
    fitting = [
        replicas
        for replicas in product(*(range(c.most + 1) for c in claims))
        if sum(n * c.gpus_per_replica for n, c in zip(replicas, claims, strict=True)) <= gpus
    ]
    assert chosen in fitting
    assert total(claims, chosen) == pytest.approx(max(total(claims, r) for r in fitting))


@st.composite
def ranked_contests(draw: st.DrawFn) -> tuple[list[Claim], int]:
    """Pools of some priority, with floors that fit."""
    claims = []
    for key in "abc"[: draw(st.integers(1, 3))]:
        worth = sorted(draw(st.lists(st.integers(0, 20), max_size=3)), reverse=True)
        claims.append(
            Claim(
                key,
                gpus_per_replica=draw(st.integers(1, 3)),
                held=draw(st.integers(0, 3)),
                floor=draw(st.integers(0, len(worth))),
                most=len(worth),
                priority=draw(st.integers(0, 1)),
                worth=tuple(map(float, worth)),
            )
        )
    floors = sum(c.floor * c.gpus_per_replica for c in claims)
    return claims, floors + draw(st.integers(0, 6))


@given(ranked_contests())
def test_floors_stand_and_no_tier_could_do_better_with_what_the_higher_ones_left(
    contest: tuple[list[Claim], int],
) -> None:
    claims, room = contest
    given_to = share(claims, room)
    assert all(given_to[c.key] >= c.floor for c in claims)
    for priority in sorted({c.priority for c in claims}, reverse=True):
        tier = [c for c in claims if c.priority == priority]
        lower = sum(c.floor * c.gpus_per_replica for c in claims if c.priority < priority)
        chosen = tuple(given_to[c.key] for c in tier)
        best = max(
            total(tier, replicas)
            for replicas in product(*(range(c.floor, c.most + 1) for c in tier))
            if sum(n * c.gpus_per_replica for n, c in zip(replicas, tier, strict=True))
            <= room - lower
        )
        assert total(tier, chosen) == pytest.approx(best)
        room -= sum(n * c.gpus_per_replica for n, c in zip(chosen, tier, strict=True))


@given(contests())
def test_what_was_decided_stays_when_it_is_decided_again(contest: tuple[list[Claim], int]) -> None:
    claims, gpus = contest
    first = share(claims, gpus)
    again = [
        Claim(c.key, c.gpus_per_replica, first[c.key], c.floor, c.most, worth=c.worth)
        for c in claims
    ]
    assert share(again, gpus) == first
