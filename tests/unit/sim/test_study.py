"""Which runs a study has, what a run gives, and what is read from it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from spillway.sim import fluid
from spillway.sim.conditions import Conditions
from spillway.sim.rivals import RIVALS
from spillway.sim.scaler import BurstActuator
from spillway.sim.study import (
    OPTIMUM,
    SPILLWAY,
    Role,
    gather,
    plan,
    rivals_named,
    scaled_to,
    work,
)
from spillway.sim.together import Together
from tests.unit.sim import builders

RIVAL_NAMES = ("keda-rate", "classic")


def test_everyone_runs_in_every_world_rivals_with_burst_and_without() -> None:
    jobs = plan(Conditions(), RIVAL_NAMES, leads=(60.0,), api_price_factors=(0.5,), frontier=True)
    here = [(job.names, job.bursts) for job in jobs if job.role is Role.COMPARE]
    assert sorted(here) == sorted(
        [((SPILLWAY,), True), ((OPTIMUM,), True), (RIVAL_NAMES, True), (RIVAL_NAMES, False)]
    )
    assert {job.names for job in jobs if job.role is Role.FRONTIER} == {RIVAL_NAMES}
    (lead,) = {j.conditions.lead.median_seconds for j in jobs if j.role is Role.LEAD}
    (api,) = {j.conditions.api for j in jobs if j.role is Role.API_PRICE}
    assert (lead, api.input_usd_per_million, api.output_usd_per_million) == (60.0, 0.15, 0.30)
    assert pickle.loads(pickle.dumps(jobs)) == jobs  # noqa: S301 - our own bytes


def test_without_an_api_nothing_bursts() -> None:
    jobs = plan(Conditions(), RIVAL_NAMES, burst=False, api_price_factors=(0.5,))
    assert {job.actuator for job in jobs} == {BurstActuator.NONE}
    assert {job.role for job in jobs} == {Role.COMPARE}


@pytest.mark.slow
def test_a_study_of_a_steady_load() -> None:
    trace, world = builders.steady(), Conditions(floor=2)
    jobs = plan(world, RIVAL_NAMES, with_optimum=False)
    study = gather(trace, world, [(job, work(job, trace, trace)) for job in jobs])
    assert study.entries[0].name == SPILLWAY
    assert study.spillway.result.timeline is not None
    costs = [entry.result.usd for entry in study.entries[1:]]
    assert costs == sorted(costs)
    assert {entry.label for entry in study.entries[1:]} == {
        "classic", "classic + burst", "keda-rate", "keda-rate + burst",
    }  # fmt: skip
    # 20 minutes of the same: fixed by the load, and kept by all.
    assert all(study.keeps(entry) for entry in study.entries)
    assert study.over_optimum(study.spillway) is None
    assert study.best_without_burst == min(
        (e for e in study.entries if e.name in RIVALS and not e.bursts),
        key=lambda entry: entry.result.usd,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "actuator",
    [
        BurstActuator.NONE,
        BurstActuator.FRACTION,
        BurstActuator.ADMISSION,
    ],
)
def test_rivals_side_by_side_do_what_each_does_alone(actuator: BurstActuator) -> None:
    wave = 40 * (1 + 0.8 * np.sin(np.arange(240) / 40))
    trace, world = replace(builders.steady(), requests_per_second=wave), Conditions()
    makers = [RIVALS[name].default for name in ("hpa-util", "classic")]
    together = Together([make(trace) for make in makers])
    side_by_side = fluid.run(trace, world, together, actuator)
    for number, make in enumerate(makers):
        (alone,) = fluid.run(trace, world, make(trace), actuator)
        beside = side_by_side[number]
        assert (beside.gpu_usd, beside.scale_actions) == (alone.gpu_usd, alone.scale_actions)
        assert beside.api_usd == pytest.approx(alone.api_usd, rel=1e-9)
        # Sums of the same numbers may round otherwise in longer arrays.
        assert beside.attained_requests == pytest.approx(alone.attained_requests, rel=1e-9)
        assert together.named(number) == make(trace).name


def test_scaled_so_that_the_mean_needs_so_many_replicas() -> None:
    trace, world = builders.steady(), Conditions()
    twelve, six = scaled_to(trace, world, 12), scaled_to(trace, world, 6)
    # A larger pool's load scatters less, so each of its replicas takes a little more.
    assert 2.0 <= twelve.mean_per_second / six.mean_per_second < 2.2
    with pytest.raises(ValueError, match="replicas must be a number above 0, got 0"):
        scaled_to(trace, world, 0)


def test_what_is_cheapest_counts_only_where_the_promise_was_kept() -> None:
    study = builders.study()
    best = study.best_without_burst
    assert best is not None
    assert (best.label, best.result.usd) == ("keda-rate", 12.0)
    assert study.over_optimum(study.spillway) == pytest.approx(10 / 9)


def test_names_and_their_short_forms() -> None:
    assert rivals_named(["hpa", "keda-rate", "hpa-util"]) == ("hpa-util", "keda-rate")
    with pytest.raises(ValueError, match=r"a rival must be one of hpa-util, .*, got 'hpq'"):
        rivals_named(["hpq"])
