"""What a pool does when the sources of its prices fail: it goes on as before, and says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.reasons import Reason
from spillway.core.burst import overflow_inputs
from spillway.core.ledger import PoolLedger
from spillway.core.pool import Outcome, PoolState, step
from spillway.core.pool_conditions import conditions
from spillway.core.prices import GpuPrice, Offers, PriceSource, TokenPrice
from spillway.core.report import status
from spillway.core.reported import Report
from tests.unit.core import pools

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts

SPEC = pools.spec(variants=[pools.variant(usd=None)], burst=pools.burst(input_usd=None))


def offers(gpu: float | None = 3.5, prompt: float | None = 0.2, answer: float = 0.8) -> Offers:
    catalog = PriceSource.CATALOG
    return Offers(
        gpus={} if gpu is None else {"gpu": (GpuPrice(gpu, catalog),)},
        apis={} if prompt is None else {"api": (TokenPrice(prompt, answer, catalog),)},
    )


class Run:
    """A pool at 35 requests a second (3.5 replicas), stepped with what its sources say."""

    def __init__(self) -> None:
        self.pool = pools.Pool(spec=SPEC, rps=35.0, replicas=4)
        self.state = PoolState.restored(InferencePoolStatus(), self.pool.now)
        self.facts: PoolFacts | None = None
        self.outcome: Outcome | None = None

    def step(self, says: Offers, ticks: int = 12) -> Outcome:
        for _ in range(ticks):
            self.facts = replace(self.pool.facts(), offers=says)
            self.outcome = step(
                self.facts,
                self.state,
                self.pool.now,
                read_only=False,
                overflow_fraction=0.0,
                budget_left=True,
            )
            self.state = self.outcome.state
            self.pool.now += pools.TICK
        assert self.outcome is not None
        return self.outcome

    def price_known(self) -> tuple[bool | None, Reason, str]:
        assert self.facts is not None
        assert self.outcome is not None
        report = Report(self.outcome, None, PoolLedger.empty("UTC", self.pool.now))
        found = {c.type.value: c for c in conditions(self.facts, report, self.pool.now)}
        condition = found["PriceKnown"]
        return condition.status, condition.reason, condition.message


def test_prices_of_the_catalog_decide_as_declared_ones_do() -> None:
    run = Run()
    economics = run.step(offers()).decision.economics
    assert economics.gpu_per_replica_hour == 3.5
    assert economics.api_per_replica_hour == pytest.approx(12.96)
    assert run.price_known()[:2] == (True, Reason.PRICES_KNOWN)


@pytest.mark.parametrize(
    "later",
    [
        offers(gpu=3500.0),
        offers(gpu=0.0),
        offers(gpu=None),
        offers(prompt=200.0, answer=800.0),
        offers(prompt=0.0002, answer=0.0008),
        offers(prompt=None),
        offers(gpu=-3.5, prompt=-0.2),
        offers(gpu=None, prompt=None),
    ],
)
def test_a_source_that_fails_changes_neither_replicas_nor_spending(later: Offers) -> None:
    run = Run()
    before = run.step(offers()).decision
    after = run.step(later).decision
    assert after.desired == before.desired
    assert after.economics.gpu_per_replica_hour == 3.5
    assert after.economics.api_per_request == pytest.approx(0.00036)
    known, reason, message = run.price_known()
    assert (known, reason) == (True, Reason.PRICE_HELD)
    assert "holds, because" in message
    assert run.facts is not None
    assert run.outcome is not None
    inputs = overflow_inputs(run.facts, run.outcome, None, run.pool.now)
    assert inputs.price_known
    assert inputs.cost_by_provider == {"api": pytest.approx(0.00036)}


def test_the_message_does_not_move_from_tick_to_tick() -> None:
    run = Run()
    run.step(offers())
    run.step(offers(gpu=3500.0), ticks=1)
    first = run.price_known()
    run.step(offers(gpu=3500.0), ticks=20)
    assert run.price_known() == first


def test_without_any_price_nothing_bursts_and_the_condition_says_why() -> None:
    run = Run()
    outcome = run.step(replace(offers(None, None), problems=("prices.yaml: not YAML",)))
    assert outcome.decision.economics.gpu_per_replica_hour is None
    assert run.facts is not None
    assert not overflow_inputs(run.facts, outcome, None, run.pool.now).price_known
    known, reason, message = run.price_known()
    assert (known, reason) == (False, Reason.PRICE_UNKNOWN)
    assert "no price for variant gpu, provider api" in message
    assert "prices.yaml: not YAML" in message


def test_the_last_price_survives_a_restart() -> None:
    run = Run()
    run.step(offers())
    assert run.facts is not None
    assert run.outcome is not None
    report = Report(run.outcome, None, PoolLedger.empty("UTC", run.pool.now))
    stored = status(run.facts, report, None, run.pool.now)
    run.state = PoolState.restored(stored, run.pool.now)
    after = run.step(offers(gpu=3500.0, prompt=None)).decision
    assert after.economics.gpu_per_replica_hour == 3.5
    assert after.economics.api_per_request == pytest.approx(0.00036)
