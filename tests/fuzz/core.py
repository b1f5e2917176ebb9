"""One pool under the whole core, as the operator's two loops drive it, and what must hold of it.

The facts come from the caller, as strange as it likes. What is asserted is a reference of its own:
bounds, money and expiry, counted without a look into how the core comes to its figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from spillway.core.burst import live_load, overflow_inputs
from spillway.core.decide import PoolMemory
from spillway.core.fast import fast_step
from spillway.core.ledger import PoolLedger, from_json, limits, settle, to_json
from spillway.core.overflow import OverflowValue, quantise
from spillway.core.overflow import from_json as value_from_json
from spillway.core.overflow import to_json as value_to_json
from spillway.core.plan import PlanMemory
from spillway.core.pool import Outcome, PoolState, step
from spillway.core.report import status
from spillway.core.reported import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.api.inferencepool import InferencePoolSpec, InferencePoolStatus
    from spillway.core.facts import PoolFacts, ReplicaLoad

LEASE_SECONDS = 45.0


@dataclass
class Core:
    """What the operator remembers of one pool.

    Attributes:
        spec: The pool's spec.
        now: The operator's clock, seconds since the epoch.
        epoch: Of its leadership.
        state: The core's memory.
        ledger: As it was stored last: nothing is published that is not in it.
        value: The overflow value that is published.
        facts: Of the last slow step.
        outcome: Of the last slow step.
        status: As it was written last.
    """

    spec: InferencePoolSpec
    now: float
    epoch: int = 1
    state: PoolState = field(default_factory=lambda: PoolState(PoolMemory.initial(), PlanMemory()))
    ledger: PoolLedger = field(init=False)
    value: OverflowValue | None = None
    facts: PoolFacts | None = None
    outcome: Outcome | None = None
    status: InferencePoolStatus | None = None

    def __post_init__(self) -> None:
        """Begin with an empty ledger."""
        burst = self.spec.burst
        zone = burst.budget.time_zone if burst is not None else "UTC"
        self.ledger = PoolLedger.empty(zone, self.now)

    def slow(self, facts: PoolFacts) -> Outcome:
        """A pass of the slow loop; returns what it wants done."""
        live = self.value is not None and self.value.until > self.now
        self.outcome = outcome = step(
            facts,
            self.state,
            self.now,
            read_only=False,
            overflow_fraction=self.value.fraction if self.value is not None and live else 0.0,
            budget_left=True,
        )
        self.facts, self.state = facts, outcome.state
        self._within_bounds(facts, outcome)
        report = Report(outcome=outcome, overflow=self.value, ledger=self.ledger)
        self.status = status(facts, report, self.status, self.now)
        assert self.status.replicas.desired == outcome.decision.desired
        return outcome

    def fast(self, loads: Mapping[str, ReplicaLoad]) -> None:
        """A tick of the fast loop on these samples, by UID."""
        if self.facts is None or self.outcome is None:
            return
        live = live_load(self.facts, loads, self.now)
        inputs = overflow_inputs(self.facts, self.outcome, live, self.now)
        before = self.ledger
        result = fast_step(inputs, self.value, before, self.now, self.epoch, LEASE_SECONDS)
        self._leased(result.value)
        self._within_budget(before, result.ledger)
        # Stored, then published.
        self.ledger = from_json(to_json(result.ledger))
        self.value = result.value

    def reported(self, requests: float | None, usd: float | None) -> None:
        """The gateways' counters, or their silence."""
        self.ledger = settle(self.ledger, requests, usd, self.now)

    def restart(self) -> None:
        """Another process goes on from what is stored: status, ledger and annotation."""
        assert self.status is None or self.status.model_dump_json()
        self.state = PoolState(PoolMemory.initial(), PlanMemory())
        if self.status is not None:
            self.state = PoolState.restored(self.status, self.now)
        self.ledger = from_json(to_json(self.ledger))
        if self.value is not None:
            self.value = value_from_json(value_to_json(quantise(self.value)))
        self.facts = self.outcome = None
        self.epoch += 1

    # What must hold

    def _within_bounds(self, facts: PoolFacts, outcome: Outcome) -> None:
        decision, bounds = outcome.decision, facts.spec.replicas
        assert bounds.floor <= decision.desired <= bounds.max
        assert sum(decision.by_variant.values()) == decision.desired
        assert 0 <= decision.warm <= bounds.max - decision.desired
        if not decision.write:
            return
        asked = {name: t.spec_replicas for name, t in facts.targets.items() if t.exists}
        before = sum(asked.values())
        for scale in outcome.plan.scales:
            was = facts.targets[scale.variant]
            assert was.contention is None
            assert scale.replicas >= 0
            if decision.hold:
                assert scale.replicas >= was.spec_replicas
            asked[scale.variant] = scale.replicas
        after = sum(asked.values())
        # What is there already may be out of bounds; nothing that is written leads further out.
        pods = sum(len(t.pods) for t in facts.targets.values() if t.exists)
        assert after <= max(bounds.max, before, pods)
        if after < before:
            assert after >= bounds.floor

    def _leased(self, value: OverflowValue) -> None:
        """No value without expiry, none beyond its lease, none that sends away too much."""
        assert (
            self.now
            < value.until
            <= max(self.now + LEASE_SECONDS, 0.0 if self.value is None else self.value.until)
        )
        most = 0.0 if self.spec.burst is None else self.spec.burst.max_fraction
        assert 0 <= value.fraction <= most + 1e-9
        assert abs(sum(p.fraction for p in value.providers) - value.fraction) < 1e-9
        for text in (value_to_json(value), value_to_json(quantise(value))):
            read = value_from_json(text)
            assert read.until == value.until
            assert read.fraction <= value.fraction
        if value.fraction > 0:
            assert value.allowance.requests > 0

    def _within_budget(self, before: PoolLedger, after: PoolLedger) -> None:
        known = {r.id for r in before.reservations}
        if self.spec.burst is None or all(r.id in known for r in after.reservations):
            return
        for period, bound in limits(self.spec.burst.budget).items():
            assert after.committed(period) <= bound


@dataclass
class Router:
    """A consumer that does what docs/design/0003-overflow-lease.md asks of one, and no more.

    It spends the allowance of the newest value that it has seen, as fast as it likes.

    Attributes:
        value: The value that it holds.
        spent: US dollars so far: what a provider's bill would say.
        requests: Requests sent away so far.
    """

    value: OverflowValue | None = None
    spent: Decimal = Decimal(0)
    requests: int = 0
    _left_usd: Decimal = Decimal(0)
    _left_requests: int = 0

    def poll(self, core: Core) -> None:
        """Take the published value; a new version begins a new count."""
        value = core.value
        if value is None or (self.value is not None and value.epoch < self.value.epoch):
            return
        if self.value is None or value.version != self.value.version:
            self._left_usd = Decimal(str(value.allowance.usd))
            self._left_requests = value.allowance.requests
        self.value = replace(value)

    def send(self, share: float, now: float) -> None:
        """Use this share of what is left, while the value holds."""
        if self.value is None or now >= self.value.until or self.value.fraction <= 0:
            return
        requests = int(self._left_requests * share)
        usd = (self._left_usd * Decimal(share)).quantize(Decimal("0.000001"))
        self._left_requests -= requests
        self._left_usd -= usd
        self.requests += requests
        self.spent += usd
