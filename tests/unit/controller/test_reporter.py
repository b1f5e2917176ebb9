"""When a status is written, what is told, and what is measured."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import pytest

from spillway.adapters.kube.errors import Conflict, Forbidden, NotFound
from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.reasons import Reason
from spillway.controller.reporter import Reporter, parse_status
from spillway.controller.runtime import PoolRuntime, Runtimes
from spillway.controller.watches import InvalidPool
from spillway.core.ledger import PoolLedger
from spillway.core.overflow import NO_ALLOWANCE, Allowance, OverflowValue, ProviderShare
from spillway.core.pool import PoolState, step
from spillway.core.reported import Report
from tests.unit.adapters.kube.fake_api import until
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams
from tests.unit.core import pools

QUIET = 60.0
DRIFTS = 4.0
TICK = 15.0


@dataclass
class Setting:
    """A pool that is decided and reported at each tick of a clock that the test moves."""

    pool: pools.Pool = field(default_factory=lambda: pools.Pool(spec=pools.spec()))
    seams: Seams = field(default_factory=Seams)
    seconds: float = 1000.0
    overflow: OverflowValue | None = None
    problem: str = ""
    retried: list[tuple[str, str]] = field(default_factory=list)
    seen: str = "1"
    pools: int = 1

    def __post_init__(self) -> None:
        self.reporter = Reporter(
            writer=cast("Any", self.seams.writer),
            teller=self.seams.teller,
            telemetry=self.seams.telemetry,
            may_write=self.seams.lease.is_leader,
            quiet_seconds=QUIET,
            drifts_per_second=DRIFTS,
            pools=lambda: self.pools,
            retry=self.retried.append,
            clock=lambda: self.seconds,
        )
        parsed = fakes.pool()
        self.runtime = Runtimes(lambda _: None).of(parsed, self.pool.now)
        self.state = PoolState.restored(InferencePoolStatus(), self.pool.now)

    def said(self) -> tuple[Any, Report]:
        facts = replace(self.pool.facts(), resource_version=self.seen)
        outcome = step(
            facts,
            self.state,
            self.pool.now,
            read_only=False,
            overflow_fraction=0.0,
            budget_left=True,
        )
        self.state = outcome.state
        ledger = PoolLedger.empty("UTC", self.pool.now)
        return facts, Report(outcome, self.overflow, ledger, problem=self.problem)

    async def tick(self, seconds: float = TICK) -> None:
        facts, said = self.said()
        await self.reporter.publish(facts, self.runtime, said, self.pool.now)
        self.pool.now += seconds
        self.seconds += seconds

    @property
    def writes(self) -> int:
        return len(self.seams.journal.of("status"))

    def condition(self, kind: str) -> dict[str, Any]:
        (status,) = self.seams.writer.statuses.values()
        return next(c for c in status["conditions"] if c["type"] == kind)


def value(fraction: float, until: float) -> OverflowValue:
    allowance = Allowance(100, 1.0) if fraction else NO_ALLOWANCE
    shares = (ProviderShare("api", fraction),)
    reason = Reason.SHORTAGE if fraction else Reason.COVERED
    return OverflowValue(1, 1, until, fraction, None, allowance, shares, reason)


# When a status is written


async def test_the_first_status_is_written_and_the_same_again_is_not() -> None:
    setting = Setting()
    for _ in range(10):
        facts, said = setting.said()
        await setting.reporter.publish(facts, setting.runtime, said, setting.pool.now)
    assert setting.writes == 1


async def test_a_change_of_replicas_is_written_at_once() -> None:
    setting = Setting()
    await setting.tick()
    setting.pool.replicas = 3
    await setting.tick()
    assert setting.writes == 2
    assert setting.seams.writer.statuses["pool"]["replicas"]["serving"] == 3


async def test_figures_that_drift_are_written_after_a_quiet_period() -> None:
    setting = Setting()
    await setting.tick()
    rng = random.Random(1)  # noqa: S311 - noise
    for _ in range(100):
        setting.pool.rps = 14.0 + rng.uniform(-0.3, 0.3)
        await setting.tick()
    assert 20 <= setting.writes <= 1 + 100 * TICK / QUIET


async def test_figures_that_drift_wait_longer_where_there_are_many_pools() -> None:
    setting = Setting(pools=1000)
    await setting.tick()
    rng = random.Random(1)  # noqa: S311 - noise
    for _ in range(100):
        setting.pool.rps = 14.0 + rng.uniform(-0.3, 0.3)
        await setting.tick()
    longest = math.ceil(1000 / DRIFTS / TICK) * TICK
    assert longest > 4 * QUIET
    assert setting.writes == 1 + int(100 * TICK / longest)
    setting.pool.replicas = 3
    await setting.tick()
    assert setting.writes == 2 + int(100 * TICK / longest), "what matters is written at once"


@pytest.mark.slow
async def test_a_pool_at_the_edge_of_a_limit_does_not_storm() -> None:
    """Noise about the load of exactly two replicas flips proposals and reasons all the time."""
    burst = pools.burst()
    setting = Setting(pools.Pool(spec=pools.spec(burst=burst, scaling={"persistence": "60s"})))
    rng = random.Random(2)  # noqa: S311 - noise
    reasons = set()
    for _ in range(200):
        setting.pool.rps = 20.0 + rng.uniform(-6, 6)
        facts, said = setting.said()
        reasons.add(tuple(n.reason for n in said.outcome.decision.notes))
        await setting.reporter.publish(facts, setting.runtime, said, setting.pool.now)
        setting.pool.now += TICK
        setting.seconds += TICK
    assert len(reasons) > 1, "the test means nothing without turns"
    assert setting.writes <= 10 + 2 * 200 * TICK / QUIET


async def test_turns_are_written_at_once_while_they_are_rare() -> None:
    setting = Setting()
    await setting.tick()
    for number in range(10):
        setting.problem = "may not patch pods" if number % 2 == 0 else ""
        await setting.tick(seconds=0.5)
        assert setting.writes == 2 + number
    setting.problem = "may not patch pods"
    await setting.tick(seconds=0.5)
    assert setting.writes == 11, "one that flips without end has to wait"
    await setting.tick(seconds=QUIET)
    await setting.tick()
    assert setting.writes == 12
    assert setting.condition("Ready")["reason"] == "WriteFailed"


async def test_after_a_restart_not_every_pool_is_written_at_once() -> None:
    before = Setting()
    await before.tick()
    stored = before.seams.writer.statuses["pool"]
    setting = Setting(before.pool)
    setting.runtime.status = parse_status(stored)
    setting.state = before.state
    setting.pool.rps = 10.4
    await setting.tick()
    assert setting.writes == 0
    setting.pool.rps = 10.8
    for _ in range(5):
        await setting.tick()
    assert setting.writes == 1


async def test_after_a_restart_drifting_pools_take_turns() -> None:
    before = Setting()
    await before.tick()
    stored = before.seams.writer.statuses["pool"]
    waited = []
    for number in range(30):
        setting = Setting(before.pool, pools=1000)
        setting.runtime.key = ("team", f"pool-{number}")
        setting.runtime.status, setting.state = parse_status(stored), before.state
        setting.pool.rps = 10.4
        ticks = 0
        while setting.writes == 0:
            await setting.tick()
            ticks += 1
        waited.append(ticks * TICK)
    assert max(waited) <= 1000 / DRIFTS + TICK
    assert all(sum(at == each for at in waited) <= 6 for each in waited), waited


async def test_a_write_that_failed_is_tried_again() -> None:
    setting = Setting()
    setting.seams.writer.failures["pool"] = Forbidden(403, "Forbidden", "may not patch status")
    await setting.tick()
    assert setting.seams.metric("spillway_api_writes_total", kind="status", result="failed") == 1
    setting.seams.writer.failures.clear()
    await setting.tick()
    assert setting.writes == 1


async def test_a_pool_that_is_gone_is_not_written() -> None:
    setting = Setting()
    for error in (NotFound(404, "NotFound", "gone"), Conflict(409, "Replaced", "another uid")):
        setting.seams.writer.failures["pool"] = error
        await setting.tick()
    assert setting.seams.metric("spillway_api_writes_total", kind="status", result="failed") == 0
    setting.seams.writer.failures.clear()
    setting.runtime.gone = True
    await setting.tick()
    assert setting.writes == 0


async def test_a_pool_that_somebody_edits_meanwhile_is_decided_on_anew() -> None:
    setting = Setting()
    await setting.tick()
    setting.seams.writer.versions["pool"] = "9"
    setting.problem = "may not patch pods"
    await setting.tick()
    assert setting.writes == 1
    assert (setting.retried, setting.runtime.refused_at) == ([("serving", "pool")], "1")
    setting.seen = "9"
    await setting.tick()
    assert setting.condition("Ready")["reason"] == "WriteFailed"
    assert setting.runtime.refused_at is None


async def test_an_annotation_in_between_is_no_reason_to_decide_anew() -> None:
    setting = Setting()
    await setting.tick()
    annotate = partial(
        setting.seams.writer.write_overflow, "serving", "pool", "uid-pool", value="{}"
    )
    for _ in range(3):
        await setting.runtime.versions.write(setting.seen, annotate)
    setting.pool.replicas = 3
    await setting.tick()
    assert (setting.writes, setting.retried) == (2, [])


async def test_a_standby_measures_and_writes_nothing() -> None:
    setting = Setting()
    setting.seams.lease.leads = False
    await setting.tick()
    assert setting.seams.journal == []
    labels = {"namespace": "ns", "pool": "pool", "role": "serving"}
    assert setting.seams.metric("spillway_replicas", **labels) == 2


async def test_what_was_submitted_is_published_by_the_reporters_own_task() -> None:
    setting = Setting()
    task = asyncio.create_task(setting.reporter.run())
    facts, said = setting.said()
    setting.reporter.submit(facts, setting.runtime, said)
    assert setting.writes == 0
    await until(lambda: setting.writes == 1)
    parsed = fakes.pool(generation=4)
    setting.reporter.submit_held(parsed, setting.runtime, Reason.READ_FAILED, "may not get scales")
    await until(lambda: setting.writes == 2)
    ready = setting.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadFailed")
    assert (ready["message"], ready["observedGeneration"]) == ("may not get scales", 4)
    assert setting.condition("PriceKnown")["status"] == "True", "the rest of the status stays"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# What is told


async def test_a_turn_is_told_once_and_the_first_status_is_no_turn() -> None:
    setting = Setting()
    await setting.tick()
    assert setting.seams.journal.of("event") == []
    setting.problem = "may not patch pods"
    for _ in range(3):
        await setting.tick()
    told = [("event", "pool", "WriteFailed", "Ready is False: may not patch pods", True)]
    assert setting.seams.journal.of("event") == told
    setting.problem = ""
    await setting.tick()
    assert setting.seams.journal.of("event")[1][2:] == (
        "Reconciled",
        "Ready is True: 2 of at least 1 replicas serve",
        False,
    )


async def test_a_turn_without_a_message_is_told_without_a_colon() -> None:
    setting = Setting(pools.Pool(spec=pools.spec(burst=pools.burst())))
    setting.overflow = value(0.0, setting.pool.now + 45)
    await setting.tick()
    setting.overflow = value(0.4, setting.pool.now + 45)
    await setting.tick()
    (event,) = setting.seams.journal.of("event")
    assert event[2:] == ("Shortage", "OverflowActive is True", True)


async def test_a_budget_that_will_not_last_is_told_before_it_is_spent() -> None:
    bounds = {"perDay": "10", "timeZone": "UTC"}
    setting = Setting(pools.Pool(spec=pools.spec(burst=pools.burst(budget=bounds))))
    setting.overflow = value(0.0, setting.pool.now + 600)
    await setting.tick()
    setting.pool.cloud_rps = 5.0
    for _ in range(3):
        await setting.tick()
    (event,) = setting.seams.journal.of("event")
    assert event[2:] == (
        "BudgetRunningOut",
        "BudgetAvailable is True: at this rate, out by 15:20 on 1970-01-12 (UTC)",
        True,
    )


# Invalid pools

INVALID = InvalidPool("serving", "bad", "u", 3, "spec.replicas.floor must be at most max", {}, "1")


async def test_an_invalid_pool_is_told_what_is_wrong_once() -> None:
    setting = Setting()
    await setting.reporter.refuse(INVALID)
    status = setting.seams.writer.statuses["bad"]
    (ready,) = status["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert (ready["message"], ready["observedGeneration"]) == (INVALID.message, 3)
    assert [e[2] for e in setting.seams.journal.of("event")] == ["InvalidSpec"]
    await setting.reporter.refuse(replace(INVALID, status_raw=status))
    assert setting.writes == 1


async def test_a_pool_that_was_valid_in_between_is_told_again() -> None:
    setting = Setting()
    for version in ("1", "2"):
        await setting.reporter.refuse(replace(INVALID, resource_version=version))
    assert setting.writes == 2


async def test_one_invalid_pool_that_can_not_be_written_holds_up_no_other() -> None:
    setting = Setting()
    setting.seams.writer.failures["bad"] = Forbidden(403, "Forbidden", "no")
    setting.seams.writer.hangs.add("worse")
    task = asyncio.create_task(setting.reporter.run())
    refused = [replace(INVALID, name=name) for name in ("bad", "worse", "worst")]
    setting.reporter.submit_refused(refused)
    await until(lambda: list(setting.seams.writer.statuses) == ["worst"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_status_of_another_version_counts_as_none() -> None:
    assert parse_status({"replicas": "seven"}) == InferencePoolStatus()


# What is measured


async def test_what_is_not_known_is_measured_as_such_and_not_as_the_last_value() -> None:
    setting = Setting()
    await setting.tick()
    of = {"namespace": "ns", "pool": "pool"}
    demand = "spillway_demand_requests_per_second"
    assert setting.seams.metric(demand, **of) == 10.0
    setting.pool.gateway = False
    setting.pool.load_changes = {"sampled_at": 0.0}
    await setting.tick()
    assert math.isnan(setting.seams.metric(demand, **of) or 0.0)


async def test_conditions_are_measured() -> None:
    setting = Setting()
    await setting.tick()
    of = {"namespace": "ns", "pool": "pool"}
    assert setting.seams.metric("spillway_condition", type="Ready", **of) == 1
    assert setting.seams.metric("spillway_condition", type="Paused", **of) == 0


def test_memory_of_a_pool_begins_with_what_its_object_says() -> None:
    raw = {"replicas": {"desired": 4}, "leadTime": {"recentSeconds": [90]}}
    runtime: PoolRuntime = Runtimes(lambda _: None).of(fakes.pool(status=raw), 1e6)
    assert runtime.state.deciding.restored_desired == 4
    assert runtime.state.deciding.lead_times.lead_seconds == 90
