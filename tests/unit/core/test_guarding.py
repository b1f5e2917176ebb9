"""The guard in the pool's step: an agent loop that feeds its own context back all day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from spillway.api.inferencepool import InferencePoolSpec, InferencePoolStatus
from spillway.api.reasons import ConditionType, Reason
from spillway.api.status import GuardStatus
from spillway.core.burst import live_load, overflow_inputs
from spillway.core.facts import GatewayLoad, PoolFacts, TargetFacts, TargetKind
from spillway.core.fast import fast_step
from spillway.core.guarding import (
    bearable_usd_per_hour,
    budget_usd_per_hour,
    ceiling_of,
    guard_status,
    restored,
)
from spillway.core.ledger import PoolLedger, settle
from spillway.core.pool import Outcome, PoolState, step
from spillway.core.pool_conditions import conditions
from spillway.core.report import status
from spillway.core.reported import Report
from spillway.core.schedules import Scheduled
from spillway.core.tokenmix import TokenMix
from tests.unit.core.pools import MU, START, burst, load, pod, spec

if TYPE_CHECKING:
    from spillway.core.overflow import OverflowValue

HOUR = 3600.0
TICK = 60.0
#: Overflow is set so often within a tick.
FAST = 20.0
#: 55 requests a second of 1,000 + 200 tokens from users; a replica serves 10 of them.
USERS = 55.0
USER_USD = 0.00036
#: Six agents at once, 100,000 tokens of context a call, two seconds from one call to the next.
AGENTS = 6
CONTEXT = 100_000.0
CONTEXT_USD = CONTEXT * 0.20e-6
#: The prefix cache has most of an agent's context: a second of a replica a call.
CALL_SECONDS = 1.0
#: The users' load alone on the API is $71 an hour; so much a day is allowed.
PER_DAY = 1000


@dataclass
class World:
    """A pool with users and agents on it; the replicas' queue is fluid."""

    spec: InferencePoolSpec
    state: PoolState
    ledger: PoolLedger
    now: float = START
    replicas: int = 7
    backlog: float = 0.0
    fraction: float = 0.0
    value: OverflowValue | None = None
    outcome: Outcome | None = None
    facts: PoolFacts | None = None
    usd: float = 0.0
    served: float = 0.0
    attained: float = 0.0
    left_requests: float = 0.0
    left_usd: float = 0.0

    def tick(self, agents: int) -> None:
        """One slow step, and the fast ones until the next."""
        calls = agents / (2.0 + CALL_SECONDS)
        self.spec = spec_of(self.spec, calls)
        self.facts = self.seen(calls)
        self.outcome = step(
            self.facts,
            self.state,
            self.now,
            read_only=False,
            overflow_fraction=self.fraction,
            budget_left=True,
        )
        self.state = self.outcome.state
        for _ in range(int(TICK / FAST)):
            self.fast(calls)
        self.replicas = self.outcome.decision.desired

    def fast(self, calls: float) -> None:
        """Let time pass; ``backlog`` is in seconds of one replica's work."""
        here = 1 - self.fraction
        work = here * (USERS / MU + calls * CALL_SECONDS)
        self.backlog = max(0.0, self.backlog + FAST * (work - self.replicas))
        in_time = self.backlog <= self.spec.latency.ttft * self.replicas
        self.attained += FAST * USERS * (self.fraction + (here if in_time else 0.0))
        self.served += FAST * USERS
        usd = FAST * self.fraction * (USERS * USER_USD + calls * CONTEXT_USD)
        self.usd += usd
        self.left_usd += usd
        self.left_requests += FAST * self.fraction * (USERS + calls)
        self.now += FAST
        self.ledger = settle(self.ledger, self.left_requests, self.left_usd, self.now)
        facts = self.seen(calls)
        assert self.outcome is not None
        loads = {p.uid: p.load for p in facts.targets["gpu"].pods if p.load is not None}
        inputs = overflow_inputs(facts, self.outcome, live_load(facts, loads, self.now), self.now)
        made = fast_step(inputs, self.value, self.ledger, self.now, 1)
        self.value, self.ledger = made.value, made.ledger
        self.fraction = made.value.fraction

    def seen(self, calls: float) -> PoolFacts:
        here = (1 - self.fraction) / self.replicas
        each = here * (USERS + calls)
        sample = load(
            self.now,
            each,
            running=35.0,
            waiting=self.backlog * MU / self.replicas,
            prompt_tokens_per_second=here * (USERS * 1000 + calls * CONTEXT),
            generation_tokens_per_second=200 * each,
        )
        pods = tuple(pod(f"p{i}", sample) for i in range(self.replicas))
        target = TargetFacts(
            TargetKind.DEPLOYMENT, spec_replicas=self.replicas, owned=True, pods=pods
        )
        gateway = GatewayLoad(
            self.now,
            USERS + calls,
            cloud_per_second=self.fraction * (USERS + calls),
            top_talker="team-a" if calls else "",
            top_talker_share=0.7 if calls else 0.05,
        )
        return PoolFacts("ns", "pool", "u", 1, START - HOUR, self.spec, {"gpu": target}, gateway)

    def run(self, hours: float, agents: int = 0) -> tuple[float, float]:
        """API spend in US dollars and the users' attainment of the time."""
        self.usd = self.served = self.attained = 0.0
        for _ in range(int(hours * HOUR / TICK)):
            self.tick(agents)
        return self.usd, self.attained / self.served


def spec_of(before: InferencePoolSpec, calls: float) -> InferencePoolSpec:
    """The spec with the capacity that would be learned of this mix."""
    rate = (USERS + calls) / (USERS / MU + calls * CALL_SECONDS)
    (variant,) = before.variants
    assert variant.capacity is not None
    capacity = variant.capacity.model_copy(update={"requests_per_second": rate})
    return before.model_copy(
        update={"variants": [variant.model_copy(update={"capacity": capacity})]}
    )


def world(mode: str, most: int = 20, per_day: int = PER_DAY) -> World:
    made = spec(
        burst=burst(budget={"perDay": str(per_day)}),
        guard={"mode": mode, "ceiling": {"tokensPerMinute": 10_000_000}},
        replicas={"floor": 2, "max": most},
    )
    state = PoolState.restored(InferencePoolStatus(), START)
    return World(made, state, PoolLedger.empty("UTC", START))


def condition(world: World) -> tuple[bool | None, Reason, str]:
    assert world.facts is not None
    assert world.outcome is not None
    report = Report(world.outcome, world.value, world.ledger)
    (found,) = (
        c
        for c in conditions(world.facts, report, world.now)
        if c.type is ConditionType.RUNAWAY_SUSPECTED
    )
    return found.status, found.reason, found.message


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "most"), [("Freeze", 20), ("Freeze", 7), ("Stop", 20)])
def test_agents_that_loop_all_day_stay_within_the_ceiling_and_users_are_served(
    mode: str, most: int
) -> None:
    pool = world(mode, most)
    pool.run(1)
    _, kept_before = pool.run(1)
    assert condition(pool)[:2] == (False, Reason.USUAL_LOAD)
    loop, kept = pool.run(2, agents=AGENTS)
    told, reason, message = condition(pool)
    assert (told, reason) == (True, Reason.RUNAWAY)
    assert "times the usual, with 1.0 times the usual requests" in message
    assert "team-a" in message
    assert loop / 2 <= bearable_usd_per_hour(pool.spec) == pytest.approx(PER_DAY / 24)
    assert kept_before == 1.0
    assert kept >= 0.98
    assert pool.replicas <= min(most, 10), "half as many again, and one"
    pool.run(1)
    assert condition(pool)[:2] == (False, Reason.USUAL_LOAD)


@pytest.mark.slow
def test_a_loop_that_would_cost_more_than_the_budgets_pace_is_held_to_it() -> None:
    bills = {}
    for mode in ("Off", "Freeze", "Stop"):
        pool = world(mode, most=7, per_day=150)
        pool.run(1.1)
        bills[mode], _ = pool.run(2, agents=AGENTS)
        assert condition(pool)[0] is (mode != "Off")
    assert bills["Off"] / 2 > 10
    assert bills["Stop"] < 2.5, "nothing but what left before it was suspected"
    assert bills["Freeze"] <= 2 * 150 / 24 + bills["Stop"], "the pace, and the first minutes"


@pytest.mark.slow
def test_a_restart_in_the_middle_forgets_nothing() -> None:
    pool = world("Freeze")
    pool.run(1.1)
    pool.run(0.5, agents=AGENTS)
    assert pool.facts is not None
    assert pool.outcome is not None
    said = status(pool.facts, Report(pool.outcome, pool.value, pool.ledger), None, pool.now)
    pool.state = PoolState.restored(said, pool.now)
    memory = pool.state.deciding.guard
    assert memory.suspicion is not None
    assert memory.suspicion.replicas == 6
    pool.run(1, agents=AGENTS)
    assert condition(pool)[0] is True
    pool.facts = None
    pool.run(1)
    assert condition(pool)[0] is False


@pytest.mark.parametrize(
    "told",
    [
        GuardStatus(suspected_since="yesterday", sign="surge", replicas_before=-3),
        GuardStatus(suspected_since="2100-01-01T00:00:00Z", sign="surge"),
        GuardStatus(suspected_since="2026-01-01T00:00:00Z", sign="a sign of another release"),
        GuardStatus(usual_tokens_per_minute=float("nan"), usd_per_hour_before=float("inf")),
    ],
)
def test_a_strange_status_is_no_obstacle(told: GuardStatus) -> None:
    memory = restored(told, START)
    if memory.suspicion is not None:
        assert memory.suspicion.since <= START
        assert memory.suspicion.replicas == 0
    assert guard_status(memory) is None or memory.suspicion is not None


def test_the_ceiling_follows_from_the_tightest_budget() -> None:
    def ceiling(**budget: str) -> float | None:
        return budget_usd_per_hour(spec(burst=burst(budget=budget)))

    assert ceiling() is None
    assert ceiling(perHour="5") == 20
    assert ceiling(perDay="240", perMonth="730") == 4
    assert budget_usd_per_hour(spec()) is None


def test_what_the_pool_may_grow_to_is_no_runaway_unless_a_ceiling_says_so() -> None:
    made = spec(replicas={"floor": 1, "max": 8})
    mix = TokenMix(1000.0, 200.0, 0.0, measured=True)
    assert ceiling_of(made, mix, 10.0, Scheduled()).tokens_per_minute == 8 * 10 * 1200 * 60
    declared = spec(guard={"ceiling": {"tokensPerMinute": 5000}})
    assert ceiling_of(declared, mix, 10.0, Scheduled()).tokens_per_minute == 5000
