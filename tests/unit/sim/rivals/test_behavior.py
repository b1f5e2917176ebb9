"""Stabilisation and scaling policies, each step worked out by hand from the controller's rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.sim.rivals.behavior import (
    SCALE_DOWN,
    SCALE_UP,
    Behavior,
    Normalizer,
    PolicySelect,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOOR, MOST = np.array([1.0]), np.array([100.0])


def follow(
    behavior: Behavior | None, wanted: Sequence[float], start: float, every: float = 15.0
) -> list[int]:
    """Replicas after each recommendation, ``every`` seconds apart."""
    normalizer = Normalizer([behavior])
    current, found = np.array([start]), []
    for n, each in enumerate(wanted):
        current = normalizer.normalize(n * every, current, np.array([each]), FLOOR, MOST)
        found.append(int(current[0]))
    return found


def test_the_default_up_is_the_larger_of_four_pods_and_double_in_15_seconds() -> None:
    # 1 + 4, then 5 x 2, then 10 x 2, then the 23 that were asked for.
    assert follow(Behavior(), [23] * 4, 1) == [5, 10, 20, 23]


def test_without_behavior_up_is_double_but_at_least_to_four() -> None:
    assert follow(None, [23] * 4, 1) == [4, 8, 16, 23]


def test_the_default_down_waits_until_300_seconds_have_no_higher_recommendation() -> None:
    # 8 was last recommended at 0 s: 300 s later, at the 21st sync, it is out of the window.
    assert follow(Behavior(), [8] + [3] * 20, 8) == [8] * 20 + [3]


@pytest.mark.parametrize("behavior", [None, Behavior()])
def test_the_replicas_that_are_found_count_as_a_recommendation(behavior: Behavior | None) -> None:
    assert follow(behavior, [2] * 21, 6) == [6] * 20 + [2]


def test_down_follows_the_highest_recommendation_of_the_window() -> None:
    behavior = Behavior(down=replace(SCALE_DOWN, stabilization_seconds=30))
    # At 30 s the window holds 7 (15 s ago) and 4; at 45 s it holds 4 and 5.
    assert follow(behavior, [10, 7, 4, 5, 5], 10) == [10, 10, 7, 5, 5]


def test_up_follows_the_lowest_recommendation_of_the_window() -> None:
    behavior = Behavior(up=replace(SCALE_UP, stabilization_seconds=30))
    # The 2 that were found at 0 s count until 30 s; then the lower of 5 (15 s ago) and 9.
    assert follow(behavior, [5, 5, 9, 9], 2) == [2, 2, 5, 9]


def test_without_behavior_an_older_higher_recommendation_still_raises() -> None:
    # From 2, 10 is cut to 4; the next asks for 5, but 10 is the highest of 5 minutes: 8, then 10.
    assert follow(None, [10, 5, 5], 2) == [4, 8, 10]


def test_policies_count_what_was_changed_within_their_period() -> None:
    up = ScalingRules((ScalingPolicy(PolicyType.PODS, 2, 60),), 0)
    # 2 in the first minute, and 2 again once the first change is 60 s old.
    assert follow(Behavior(up=up), [20] * 9, 4) == [6, 6, 6, 6, 8, 8, 8, 8, 10]


def test_a_percentage_is_rounded_up_on_the_way_up_and_cut_on_the_way_down() -> None:
    ten = (ScalingPolicy(PolicyType.PERCENT, 10, 15),)
    assert follow(Behavior(up=ScalingRules(ten, 0)), [9] * 3, 3) == [4, 5, 6]
    # 11 x 0.9 = 9.9 -> 9, 9 x 0.9 = 8.1 -> 8.
    assert follow(Behavior(down=ScalingRules(ten, 0)), [1] * 2, 11) == [9, 8]


@pytest.mark.parametrize(("select", "expected"), [("Max", 10), ("Min", 7), ("Disabled", 5)])
def test_select_policy_picks_the_largest_or_smallest_change_or_none(
    select: str, expected: int
) -> None:
    rules = (ScalingPolicy(PolicyType.PODS, 2, 15), ScalingPolicy(PolicyType.PERCENT, 100, 15))
    up = ScalingRules(rules, 0, PolicySelect(select))
    assert follow(Behavior(up=up), [50], 5) == [expected]


@pytest.mark.parametrize(("select", "expected"), [("Max", 2), ("Min", 7), ("Disabled", 9)])
def test_select_policy_on_the_way_down(select: str, expected: int) -> None:
    rules = (ScalingPolicy(PolicyType.PODS, 2, 15), ScalingPolicy(PolicyType.PERCENT, 70, 15))
    down = ScalingRules(rules, 0, PolicySelect(select))
    assert follow(Behavior(down=down), [1], 9) == [expected]


def test_what_was_removed_a_moment_ago_may_come_back_at_once() -> None:
    # The period began with 8: 8 + 1 may be had, though 4 were just removed.
    up = ScalingRules((ScalingPolicy(PolicyType.PODS, 1, 60),), 0)
    behavior = Behavior(up, replace(SCALE_DOWN, stabilization_seconds=0))
    assert follow(behavior, [4, 20], 8) == [4, 9]


def test_an_unreadable_metric_changes_nothing_and_is_not_remembered() -> None:
    behavior = Behavior(down=replace(SCALE_DOWN, stabilization_seconds=30))
    assert follow(behavior, [9, np.nan, np.nan, 2], 9) == [9, 9, 9, 2]


def test_replicas_outside_of_the_bounds_come_back_whatever_the_metric_says() -> None:
    normalizer = Normalizer([Behavior(), None])
    floor, most = np.array([2.0, 2.0]), np.array([10.0, 10.0])
    wanted = np.full(2, 5.0)
    assert list(normalizer.normalize(0, np.array([14.0, 1.0]), wanted, floor, most)) == [10, 2]


def test_a_new_run_remembers_nothing() -> None:
    normalizer = Normalizer([Behavior()])
    normalizer.normalize(0, np.array([9.0]), np.array([50.0]), FLOOR, MOST)
    normalizer.begin()
    got = normalizer.normalize(0, np.array([3.0]), np.array([2.0]), FLOOR, MOST)
    assert got == [3]


@given(
    st.lists(st.integers(0, 200) | st.just(float("nan")), min_size=1, max_size=40),
    st.integers(1, 100),
    st.sampled_from([None, Behavior(), Behavior(replace(SCALE_UP, stabilization_seconds=45))]),
)
def test_the_bounds_always_hold_and_each_hpa_is_on_its_own(
    wanted: list[float], start: int, behavior: Behavior | None
) -> None:
    alone = follow(behavior, wanted, start)
    assert all(1 <= each <= 100 for each in alone)
    both = Normalizer([Behavior(), behavior])
    current = np.array([7.0, float(start)])
    floor, most = np.full(2, 1.0), np.full(2, 100.0)
    for n, each in enumerate(wanted):
        current = both.normalize(n * 15.0, current, np.array([3.0, each]), floor, most)
        assert current[1] == alone[n]
