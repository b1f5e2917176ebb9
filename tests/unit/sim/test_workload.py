"""Traffic: the same for the same seed, at the rate and the lengths that were asked for."""

from __future__ import annotations

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.sim.workload import MIXES, RateProfile, TokenMix, Workload, mix_named

T0 = 1_700_000_000.0


def test_the_rate_follows_the_lines_between_the_points() -> None:
    profile = RateProfile([(0, 2), (10, 4), (20, 0)])
    assert [profile.at(t) for t in (-5, 0, 5, 10, 15, 20, 99)] == [2, 2, 3, 4, 2, 0, 0]
    assert profile.peak(5, 15) == 4


def test_arrivals_come_at_the_rate_of_the_profile() -> None:
    workload = Workload(MIXES["chat"], RateProfile([(T0, 0), (T0 + 200, 40)]), seed=1)
    early = len(workload.requests_between(T0, T0 + 100))
    late = len(workload.requests_between(T0 + 100, T0 + 200))
    # 1,000 and 3,000 expected; four standard deviations of a Poisson count are 126 and 219.
    assert abs(early - 1000) < 126
    assert abs(late - 3000) < 219


def test_lengths_have_the_means_that_were_asked_for() -> None:
    requests = Workload(MIXES["chat"], RateProfile.constant(50), seed=2).requests_between(0, 100)
    assert statistics.mean(r.prompt_tokens for r in requests) == pytest.approx(1155, rel=0.06)
    assert statistics.mean(r.output_tokens for r in requests) == pytest.approx(211, rel=0.06)


def test_nothing_arrives_at_rate_zero() -> None:
    assert Workload(MIXES["rag"], RateProfile.constant(0), 1).requests_between(0, 100) == []


def test_prompts_carry_their_cached_share() -> None:
    mix = TokenMix(1000, 0, 10, 0, prefix_hit_ratio=0.5)
    first = Workload(mix, RateProfile.constant(10), 1).requests_between(0, 10)[0]
    assert (first.prompt_tokens, first.output_tokens, first.cached_tokens) == (1000, 10, 500)


@given(seed=st.integers(), cuts=st.lists(st.floats(0, 5), max_size=6))
def test_any_way_to_cut_time_gives_the_same_requests(seed: int, cuts: list[float]) -> None:
    profile = RateProfile([(0, 1), (2.5, 20), (5, 3)])
    whole = Workload(MIXES["code"], profile, seed).requests_between(0, 5)
    pieces = Workload(MIXES["code"], profile, seed)
    edges = [0.0, *sorted(cuts), 5.0]
    found = [
        request
        for start, end in itertools.pairwise(edges)
        for request in pieces.requests_between(start, end)
    ]
    assert found == whole
    assert len({request.id for request in whole}) == len(whole)


def test_another_seed_gives_other_requests() -> None:
    profile = RateProfile.constant(10)
    one, other = (Workload(MIXES["chat"], profile, seed).requests_between(0, 5) for seed in (1, 2))
    assert one != other


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "at least one"),
        ([(1, 1), (1, 2)], "ascend"),
        ([(0, -1)], "from 0 to"),
        ([(0, float("nan"))], "from 0 to"),
    ],
)
def test_bad_profiles_are_refused(points: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateProfile(points)


def test_bad_mixes_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt_mean must be a number from 1 up, got 0"):
        TokenMix(0, 1, 1, 1)
    with pytest.raises(ValueError, match="prefix_hit_ratio must be from 0 to 1, got 2"):
        TokenMix(1, 1, 1, 1, prefix_hit_ratio=2)
    with pytest.raises(ValueError, match="one of chat, code, rag, got 'poetry'"):
        mix_named("poetry")
