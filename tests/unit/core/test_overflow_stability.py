"""The live decision in a loop: a fraction router before request-level replicas at steady overload.

What the operator knows of arrivals is late, as in a cluster: a mean over a window that a scrape
brings now and then. The replicas' requests in flight are seen each tick.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from functools import cache

import pytest

from spillway.core.fast import fast_step
from spillway.core.ledger_value import PoolLedger
from spillway.core.overflow import LiveLoad, OverflowInputs, OverflowValue
from spillway.sim.profiles import ReplicaProfile, profile_named
from spillway.sim.replica import Replica
from spillway.sim.request import Request
from tests.unit.core import bursting

SEQUENCES = 16
PROMPT, OUTPUT = 400, 150
REPLICAS = 2


def engine() -> ReplicaProfile:
    return replace(profile_named("llama-3.1-8b-h100"), max_num_seqs=SEQUENCES)


@cache
def capacity() -> float:
    """Requests per second that one replica finishes with its batch full."""
    replica = Replica(engine(), 0.0)
    for number in range(2000):
        replica.submit(Request(number, 0.0, PROMPT, OUTPUT), 0.0)
    replica.advance(20.0)
    return len(replica.advance(60.0)) / 40


@dataclass
class Loop:
    """One pool for a while.

    Attributes:
        mu: What the operator believes of a replica.
        window: Over which arrivals are a mean, seconds.
        scrape: How often the operator gets that mean, seconds.
        shares: The fraction at the end of each tick.
        in_flight: Requests on the replicas at each tick.
    """

    mu: float
    window: float = 60.0
    scrape: float = 5.0
    seed: int = 1
    shares: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)

    def run(self, phases: list[tuple[float, float]]) -> None:
        """``phases``: (seconds, requests per second), one after the other."""
        rng = random.Random(self.seed)  # noqa: S311 - not for secrets
        start = bursting.NOW
        replicas = [Replica(engine(), start) for _ in range(REPLICAS)]
        arrived: deque[float] = deque()
        ledger = PoolLedger.empty("UTC", start)
        value: OverflowValue | None = None
        known, scraped = 0.0, start - self.scrape
        now, due, number = start, start, 0
        for seconds, rate in phases:
            ends = now + seconds
            due = now + rng.expovariate(rate) if rate else ends
            while now < ends:
                tick = min(now + 1.0, ends)
                while due < tick:
                    arrived.append(due)
                    leaves = value is not None and rng.random() < value.fraction
                    if not leaves:
                        chosen = min(replicas, key=lambda r: r.in_flight)
                        for replica in replicas:
                            replica.advance(due)
                        chosen.submit(Request(number, due, PROMPT, OUTPUT), due)
                        number += 1
                    due += rng.expovariate(rate)
                now = tick
                for replica in replicas:
                    replica.advance(now)
                while arrived and arrived[0] < now - self.window:
                    arrived.popleft()
                if now - scraped >= self.scrape:
                    known, scraped = len(arrived) / self.window, now
                outcome = fast_step(self._inputs(replicas, known, now), value, ledger, now, 1)
                value, ledger = outcome.value, outcome.ledger
                self.shares.append(value.fraction)
                self.in_flight.append(sum(replica.in_flight for replica in replicas))

    def _inputs(self, replicas: list[Replica], known: float, now: float) -> OverflowInputs:
        return bursting.inputs(
            mu=self.mu,
            concurrency=float(SEQUENCES),
            engine_concurrency=float(SEQUENCES),
            demand_per_second=known,
            prefill_seconds=0.02,
            live=LiveLoad(
                now,
                tuple(float(r.in_flight) for r in replicas),
                sum(r.gauges().waiting for r in replicas),
                None,
                len(replicas),
            ),
        )


def believed() -> float:
    """What the operator takes a replica for, in requests a second."""
    return 0.8 * capacity()


def overload() -> float:
    """Three times what the pool takes, in requests a second."""
    return 3 * REPLICAS * capacity()


QUIET, SPIKE = 60, 180


@pytest.mark.slow
@pytest.mark.parametrize("before", [0.0, 0.02, 1.6])
@pytest.mark.parametrize("scrape", [5.0, 15.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_spike_of_three_times_capacity_settles_without_going_back_to_nothing(
    before: float, scrape: float, seed: int
) -> None:
    loop = Loop(believed(), scrape=scrape, seed=seed)
    loop.run([(QUIET, before * capacity()), (SPIKE, overload())])
    shares = loop.shares[QUIET:]
    first = next(tick for tick, share in enumerate(shares) if share > 0)
    full = next(
        tick
        for tick, in_flight in enumerate(loop.in_flight[QUIET:])
        if in_flight > REPLICAS * SEQUENCES
    )
    # A queue of what the TTFT target bears is no shortage yet: 2 s of it fill within the next tick.
    assert first <= full + 1, "the first tick that sees the shortage answers it"
    risen = next(tick for tick, share in enumerate(shares) if share > 0.5)
    assert risen <= 6
    assert min(shares[risen:]) > 0.4, "never back to nothing while the overload lasts"
    assert max(shares) < 0.95, "nor all away while the replicas have room"
    settled = shares[90:]
    assert sum(settled) / len(settled) == pytest.approx(
        1 - believed() * REPLICAS / overload(), abs=0.03
    )
    assert max(settled) - min(settled) < 0.1
    assert max(loop.in_flight[QUIET + 90 :]) < 4 * REPLICAS * SEQUENCES
    assert min(loop.in_flight[QUIET + 90 :]) > 0, "the GPUs keep their work"


def test_when_the_spike_ends_all_comes_home() -> None:
    loop = Loop(believed())
    loop.run([(QUIET, 0.3 * capacity()), (SPIKE, overload()), (100, 0.3 * capacity())])
    ended = QUIET + SPIKE
    assert loop.shares[ended - 1] > 0.5
    assert max(loop.shares[ended + 70 :]) == 0
