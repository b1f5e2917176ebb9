"""The benchmark's parts on ten minutes of load each, small enough for a quick test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spillway.sim.benchmark.jobs import (
    CONTENDERS,
    DRIFTERS,
    RivalsJob,
    SpillwayJob,
    counted_from,
)
from spillway.sim.benchmark.worlds import PRICES, World
from spillway.sim.conditions import Conditions
from spillway.sim.fluid import run
from spillway.sim.rivals import keda
from spillway.sim.scaler import BurstActuator
from spillway.sim.trace import Lengths, Trace

LENGTHS = Lengths.of(np.full(20, 1000), np.full(20, 200))
#: Twenty minutes up and down.
TRACE = Trace("wave", "by hand", 60.0, 5 + 3 * np.sin(np.arange(20) / 3.0), LENGTHS)
WORLD = World("wave", 4, 60.0)


@pytest.mark.slow
def test_every_contender_is_scored_at_every_price() -> None:
    records = RivalsJob(WORLD, PRICES[:2], 0.95, drifts=("API price x2",)).run(TRACE)
    for price in ("A", "B"):
        usual = {r.who for r in records if r.price == price and not r.drift}
        assert usual == set(CONTENDERS)
        drifting = [r.who for r in records if r.price == price and r.drift]
        assert sorted(drifting) == sorted(DRIFTERS)
    assert all(r.requests == pytest.approx(records[0].requests) for r in records)


@pytest.mark.slow
def test_without_burst_nothing_is_paid_to_the_api() -> None:
    records = RivalsJob(WORLD, PRICES[:1], 0.95, burst=False).run(TRACE)
    assert not any(r.api_usd or r.burst for r in records)


@pytest.mark.slow
def test_spillway_is_scored_beside_the_optimum_at_its_attainment() -> None:
    spillway, *optima = SpillwayJob(WORLD, PRICES[0], learn_capacity=False).run(TRACE)
    assert spillway.who == "spillway"
    assert {r.who for r in optima} == {"optimum"}
    assert all(r.requests == pytest.approx(spillway.requests) for r in optima)
    assert min(r.usd for r in optima) <= spillway.usd


def test_a_run_counted_from_the_begin_is_the_run() -> None:
    scaler = keda.on_rate()
    (whole,) = run(TRACE, Conditions(), scaler, BurstActuator.ADMISSION, record=0)
    same = counted_from(whole, 0.0)
    assert same.usd == pytest.approx(whole.usd)
    assert same.attainment == pytest.approx(whole.attainment)
    half = counted_from(whole, 600.0)
    assert half.requests == pytest.approx(TRACE.halves()[1].requests_per_second.sum() * 60)
    assert 0 < half.usd < whole.usd
    with pytest.raises(ValueError, match="recorded"):
        counted_from(replace(whole, timeline=None), 0.0)
