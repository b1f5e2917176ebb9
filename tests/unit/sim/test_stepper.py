from __future__ import annotations

from dataclasses import replace

import pytest

from spillway.sim.profiles import profile_named
from spillway.sim.replica import Replica
from spillway.sim.stepper import Stepper
from spillway.sim.workload import RateProfile, Workload, mix_named


@pytest.mark.parametrize(
    ("profile", "mix", "rate", "hits"),
    [
        ("llama-3.1-8b-h100", "chat", 12.0, 0.0),
        ("llama-3.1-8b-l40s", "code", 2.0, 0.3),
        ("llama-3.1-8b-a100", "rag", 1.5, 0.0),
    ],
)
def test_its_times_are_those_of_the_replica(
    profile: str, mix: str, rate: float, hits: float
) -> None:
    engine = profile_named(profile)
    lengths = replace(mix_named(mix), prefix_hit_ratio=hits)
    requests = Workload(lengths, RateProfile.constant(rate), seed=3).requests_between(0, 30)
    replica, stepper = Replica(engine, 0.0), Stepper(engine)
    ended = []
    for request in requests:
        replica.submit(request, request.arrived_at)
        ended += stepper.advance(request.arrived_at)
        stepper.submit(request)
        assert stepper.in_flight == replica.in_flight
    ended += stepper.advance(1000.0)
    expected = {s.request.id: s for s in replica.advance(1000.0)}
    assert len(ended) == len(expected) == len(requests)
    for times in ended:
        stream = expected[times.request.id]
        assert times.ttft == pytest.approx(stream.ttft_seconds, abs=1e-9)
        assert times.tpot == pytest.approx(stream.tpot_seconds or 0.0, abs=1e-9)
        assert times.ended_at == pytest.approx(stream.finished_at, abs=1e-9)


def test_places_in_the_batch_are_limited() -> None:
    engine = replace(profile_named("llama-3.1-8b-h100"), max_num_seqs=2)
    requests = Workload(mix_named("code"), RateProfile.constant(20), seed=1).requests_between(0, 5)
    replica, stepper = Replica(engine, 0.0), Stepper(engine)
    ended = []
    for request in requests:
        replica.submit(request, request.arrived_at)
        ended += stepper.advance(request.arrived_at)
        stepper.submit(request)
    ended += stepper.advance(1000.0)
    expected = {s.request.id: s.ttft_seconds for s in replica.advance(1000.0)}
    assert {t.request.id: pytest.approx(t.ttft, abs=1e-9) for t in ended} == expected
