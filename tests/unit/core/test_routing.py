from __future__ import annotations

import math
import random

import pytest

from spillway.api.names import Role
from spillway.core.routing import RoutingMemory, idle_share, observe

from .pools import START, TICK, load, pod


def seen(counts_at: list[list[float]], stretch: float = 1.0) -> RoutingMemory:
    memory = RoutingMemory()
    for i, counts in enumerate(counts_at):
        now = START + i * TICK
        pods = [pod(f"p{j}", load(now, running=count)) for j, count in enumerate(counts)]
        memory = observe(memory, pods, stretch, now)
    return memory


def test_replicas_that_carry_the_same_share_the_ups_and_downs() -> None:
    even = seen([[20.0, 21.0, 20.0, 20.0], [40.0, 40.0, 41.0, 40.0]] * 60)
    assert even.pooling == pytest.approx(4, rel=0.05)


def test_replicas_that_scatter_as_chance_has_it_share_nothing() -> None:
    rng = random.Random(1)  # noqa: S311 - not for secrets
    at_random = [[float(sum(rng.random() < 0.2 for _ in range(100))) for _ in range(4)]
                 for _ in range(120)]  # fmt: skip
    assert seen(at_random).pooling < 1.5


def test_what_is_chance_in_long_steps_is_none_in_short_ones() -> None:
    rng = random.Random(1)  # noqa: S311 - not for secrets
    at_random = [[float(sum(rng.random() < 0.2 for _ in range(100))) for _ in range(4)]
                 for _ in range(120)]  # fmt: skip
    assert seen(at_random, stretch=4.0).pooling > 3


def test_one_replica_shares_with_nobody_and_few_requests_say_nothing() -> None:
    assert seen([[20.0]] * 60).pooling == 1
    assert seen([[1.0, 0.0, 0.0]] * 60).scatter == RoutingMemory().scatter


def test_replicas_that_do_not_serve_are_not_compared() -> None:
    pods = [
        pod("a", load(START, running=20.0)),
        pod("w", load(START, running=0.0), role=Role.WARM),
        pod("d", load(START, running=3.0), role=Role.DRAINING),
    ]
    assert observe(RoutingMemory(), pods, 1.0, START).replicas == 1


def test_idle_time_of_one_replica_is_that_of_chance() -> None:
    # A mean of 2 over all time is idle for exp(-2) of it, and of 2 / (1 - exp(-2)) while busy.
    assert idle_share(2 / (1 - math.exp(-2)), 1.0) == pytest.approx(math.exp(-2), rel=0.05)
    assert idle_share(3.0, 4.0) < 0.01 < idle_share(3.0, 1.0)
