"""The dynamic program against every plan there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.sim.optimum.replica_plan import Switching, cheapest_plan, switching_usd

DOLLARS = st.integers(0, 8).map(float)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, Switching]:
    steps, most = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    costs = draw(
        st.lists(
            st.lists(st.integers(-8, 20).map(float), min_size=most + 1, max_size=most + 1),
            min_size=steps,
            max_size=steps,
        )
    )

    def each(values: st.SearchStrategy[float]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=steps, max_size=steps)))

    initial = draw(st.none() | st.integers(0, most))
    vanishing = each(st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0])).astype(np.int64)
    if initial is None:
        vanishing[0] = 0
    up = each(st.one_of(DOLLARS, st.just(np.inf)))
    return np.array(costs), Switching(up, each(DOLLARS), vanishing, initial)


def spelled_out(costs: np.ndarray, switching: Switching, plan: tuple[int, ...]) -> float:
    total, before = 0.0, plan[0] if switching.initial is None else switching.initial
    for step, replicas in enumerate(plan):
        before = max(0, before - int(switching.vanishing[step]))
        if replicas > before:
            total += (replicas - before) * switching.up_usd[step]
        elif replicas < before:
            total += (before - replicas) * switching.down_usd[step]
        total += costs[step, replicas]
        before = replicas
    return total


@given(worlds(), st.integers(1, 5))
def test_no_plan_costs_less(world: tuple[np.ndarray, Switching], piece: int) -> None:
    costs, switching = world
    every = itertools.product(range(costs.shape[1]), repeat=len(costs))
    least = min(spelled_out(costs, switching, plan) for plan in every)
    pieces = [costs[begin : begin + piece].copy() for begin in range(0, len(costs), piece)]
    if not np.isfinite(least):
        with pytest.raises(ValueError, match="replicas must be able to start"):
            cheapest_plan(pieces, switching)
        return
    usd, plan = cheapest_plan(pieces, switching)
    assert usd == pytest.approx(least)
    assert spelled_out(costs, switching, tuple(plan)) == pytest.approx(least)
    changes = switching_usd(plan, switching)
    assert changes + costs[np.arange(len(plan)), plan].sum() == pytest.approx(least)


def test_nothing_to_do_costs_nothing() -> None:
    none = np.zeros(0)
    switching = Switching(none, none, none.astype(np.int64))
    usd, plan = cheapest_plan([], switching)
    assert (usd, len(plan), switching_usd(plan, switching)) == (0.0, 0, 0.0)
