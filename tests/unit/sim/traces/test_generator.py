"""Made-up load is the same for the same seed, and what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from spillway.sim.traces import MIX_NAMES, SCENARIOS, generate, named, scenario_named
from spillway.sim.workload import MIXES


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "agentic"])
def test_a_seed_decides_everything(name: str) -> None:
    scenario = scenario_named(name)
    one, same, other = (generate(scenario, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.requests_per_second, same.requests_per_second)
    assert np.array_equal(one.lengths.prompt_tokens, same.lengths.prompt_tokens)
    assert not np.array_equal(one.requests_per_second, other.requests_per_second)
    assert one.seconds == scenario.hours * 3600


def test_a_day_in_one_region_has_a_night() -> None:
    hours = generate(scenario_named("day"), seed=1).rates(3600.0)
    assert hours.argmax() in range(13, 22)
    assert hours.argmin() in range(5, 11)
    assert hours.max() > 5 * hours.min()


def test_bursts_lift_the_load_several_times_within_minutes() -> None:
    trace = generate(scenario_named("bursty"), seed=1)
    minutes, hours = trace.rates(60.0), trace.rates(3600.0)
    assert (minutes.reshape(-1, 60).max(axis=1) / hours).max() > 2.0


def test_a_launch_jumps_and_fades() -> None:
    hours = generate(scenario_named("launch"), seed=1).rates(1800.0)
    before, jump, late = hours[:4].mean(), hours[4], hours[-1]
    assert jump / before == pytest.approx(2.3, abs=0.25)
    assert 1.1 < late / before < 1.6


def test_an_outage_is_silent_and_then_rebounds() -> None:
    trace = generate(scenario_named("outage"), seed=1)
    minutes = trace.rates(60.0)
    assert minutes[180:195].sum() == 0
    assert minutes[196:199].mean() > 1.3 * minutes[:180].mean()


def test_agents_send_a_growing_context_in_sessions() -> None:
    trace = generate(scenario_named("agentic"), seed=1, days=1 / 12)
    requests = trace.requests
    assert requests is not None
    assert (np.diff(requests.arrived_at) >= 0).all()
    assert requests.arrived_at[-1] < trace.seconds == 7200
    lengths = requests.lengths
    assert (lengths.cached_tokens < lengths.prompt_tokens).all()
    session = requests.session
    whole = np.flatnonzero(np.bincount(session) >= 15)
    assert len(whole) > 100
    for number in whole[:20]:
        rows = np.flatnonzero(session == number)
        assert (np.diff(lengths.prompt_tokens[rows]) > 0).all()
        assert len(rows) <= 30


def test_agents_have_the_means_of_their_source() -> None:
    lengths = named("agent", seed=3)
    assert len(lengths) == 20_000
    assert lengths.prompt_tokens.mean() == pytest.approx(8596, rel=0.03)
    assert lengths.output_tokens.mean() == pytest.approx(182, rel=0.03)
    share = lengths.cached_tokens.sum() / lengths.prompt_tokens.sum()
    assert share == pytest.approx(0.59, abs=0.02)


@pytest.mark.parametrize("name", list(MIXES))
def test_a_mix_has_its_means(name: str) -> None:
    lengths = named(name, seed=3)
    assert lengths.prompt_tokens.mean() == pytest.approx(MIXES[name].prompt_mean, rel=0.03)
    assert lengths.output_tokens.mean() == pytest.approx(MIXES[name].output_mean, rel=0.03)


def test_what_there_is_is_listed() -> None:
    with pytest.raises(ValueError, match="mix must be one of chat, code, rag, agent, got 'poems'"):
        named("poems")
    with pytest.raises(ValueError, match=r"scenario must be one of day, diurnal, .*, got 'night'"):
        scenario_named("night")
    with pytest.raises(ValueError, match="days must be a number above 0, got 0"):
        generate(scenario_named("day"), days=0)
    assert MIX_NAMES == ("chat", "code", "rag", "agent")
