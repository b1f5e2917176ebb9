from __future__ import annotations

import math
from dataclasses import replace

from spillway.core.facts import PodFacts, PodPhase, PoolFacts
from spillway.core.leadtime import DEFAULT_LEAD_SECONDS, LeadTimeMemory, observe

from .pools import START, Pool, pod


def with_pods(*pods: PodFacts) -> PoolFacts:
    facts = Pool().facts()
    return replace(facts, targets={"gpu": replace(facts.targets["gpu"], pods=pods)})


def one(phase: PodPhase, since: float, ready_at: float | None = None) -> PodFacts:
    return replace(pod("new", None, phase=phase, since=since), created_at=START, ready_at=ready_at)


def test_until_a_start_was_seen_the_default_stands_in() -> None:
    memory = LeadTimeMemory()
    assert memory.p95_seconds is None
    assert memory.lead_seconds == DEFAULT_LEAD_SECONDS


def test_creation_to_first_ready_is_measured_once() -> None:
    memory = observe(LeadTimeMemory(), with_pods(one(PodPhase.STARTING, START)), START + 10)
    ready = with_pods(one(PodPhase.READY, START + 95, ready_at=START + 95))
    memory = observe(memory, ready, START + 100)
    memory = observe(memory, ready, START + 115)
    assert memory.recent_seconds == (95.0,)


def test_time_without_a_node_counts_up_to_the_usual_node_lead_only() -> None:
    # 1,000 s unschedulable, of which 300 s are the usual node lead; then 60 s to start.
    memory = LeadTimeMemory()
    for at in (0, 500, 1000):
        waiting = with_pods(one(PodPhase.UNSCHEDULABLE, START))
        memory = observe(memory, waiting, START + at)
    memory = observe(memory, with_pods(one(PodPhase.STARTING, START + 1000)), START + 1010)
    ready = with_pods(one(PodPhase.READY, START + 1060, ready_at=START + 1060))
    memory = observe(memory, ready, START + 1070)
    assert memory.recent_seconds == (360.0,)


def test_pods_that_were_ready_before_watching_began_are_not_measured() -> None:
    long_ready = with_pods(one(PodPhase.READY, START, ready_at=START + 5000))
    memory = observe(LeadTimeMemory(), long_ready, START + 6000)
    assert memory.recent_seconds == ()


def test_the_percentile_is_of_the_latest_twenty() -> None:
    memory = LeadTimeMemory.restored([1000.0, *map(float, range(1, 21))])
    assert memory.recent_seconds == tuple(map(float, range(1, 21)))
    assert memory.p95_seconds == 19


def test_values_that_are_no_duration_are_left_out() -> None:
    assert LeadTimeMemory.restored([math.nan, -5.0, math.inf, 60.0]).recent_seconds == (60.0,)
