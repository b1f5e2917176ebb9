"""Small worlds, and what a schedule costs in one, written out: to hold the optimum to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from spillway.sim.optimum import Problem, Regime

STEP = 60.0
#: One request a second on a replica; an API request costs what it costs, any size the same.
HOUR = 3600.0


def hard(
    mu: float = 1.0, api_usd: float = 0.01, failed_share: float = 0.0, limit: float = np.inf
) -> Regime:
    """Everything in time up to mu, nothing more; the API takes any request."""
    ends = np.array([0.0, 1.0])
    return Regime(ends * mu, ends * 0, ends, ends, ends * api_usd, failed_share, limit)


def soft(late: float, api_usd: float = 0.01, failed_share: float = 0.02) -> Regime:
    """In time up to 1 request/s on a replica; of what comes beyond, up to 1.3, ever more is late.

    Heavy requests leave first: 30 % of the work are 20 % of the requests and of the price.
    """
    return Regime(
        loads=np.array([0.0, 1.0, 1.2, 1.3]),
        late=np.array([0.0, 0.0, 0.2 * late, 0.2 * late + 0.1 * 3]),
        freed=np.array([0.0, 0.3, 1.0]),
        requests=np.array([0.0, 0.2, 1.0]),
        usd=np.array([0.0, 0.2, 1.0]) * api_usd,
        failed_share=failed_share,
    )


@dataclass(frozen=True)
class Schedule:
    """Replicas and share of the work that leaves, by step."""

    replicas: np.ndarray
    freed: np.ndarray


@dataclass(frozen=True)
class Outcome:
    usd: float
    attainment: float
    left_over: float


def played(problem: Problem, rates: np.ndarray, schedule: Schedule) -> Outcome:
    """A schedule in a world with one queue, first come first served, step by step."""
    usd, failed, queue = 0.0, 0.0, 0.0
    per_second = problem.gpu_usd_per_replica_hour / HOUR
    before = problem.initial
    steps = len(rates)
    for step in range(steps):
        regime = problem.regimes[int(problem.regime_of_step[step])]
        replicas, rate = int(schedule.replicas[step]), rates[step]
        usd += replicas * per_second * STEP
        if before is not None and replicas > before:
            usd += (replicas - before) * per_second * problem.lead_seconds
        elif before is not None:
            drain = min(problem.drain_seconds, (steps - step) * STEP)
            usd += (before - replicas) * per_second * drain
        before = replicas
        freed = schedule.freed[step] * regime.freed[-1]
        sent = rate * float(np.interp(freed, regime.freed, regime.requests))
        usd += rate * float(np.interp(freed, regime.freed, regime.usd)) * STEP
        failed += sent * regime.failed_share * STEP
        local = rate * (1 - freed)
        room = replicas * regime.loads[-1]
        if queue > 1e-9 or local > room * (1 + 1e-12):
            failed += (rate - sent) * STEP
            queue = max(0.0, queue + (local - room) * STEP)
        elif replicas:
            share = float(np.interp(local / replicas, regime.loads, regime.late)) * replicas
            failed += share * (rate - sent) / max(local, 1e-12) * STEP
    arrived = rates.sum() * STEP
    return Outcome(usd, 1 - failed / arrived if arrived else 1.0, queue)


RATES = st.lists(st.one_of(st.just(0.0), st.floats(0.1, 4.0)), min_size=2, max_size=8).map(np.array)
