"""20,000 requests of known price through the callback's account and the ledger, with crashes.

Both are the real ones: `fast_step` grants, a `Pool` of the callback spends, `settle` reads what it
counted. Only the time between them is made up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from spillway.core.fast import fast_step
from spillway.core.ledger import PoolLedger, from_json, settle, to_json
from spillway.core.overflow import OverflowValue, to_dict
from spillway.core.overflow import from_json as value_from_json
from spillway.core.overflow import to_json as value_to_json
from spillway.core.overflow_value import quantise
from spillway.core.periods import Period
from spillway.gateways.litellm_callback import Pool, Provider, Request, Ticket, Value
from tests.unit.core.bursting import inputs, live, spec

if TYPE_CHECKING:
    from decimal import Decimal

NOW = 1_800_000_000.0
REQUESTS = 20_000
PER_SECOND = 40.0
#: US dollars a token, and the mean lengths: a mean request costs $0.006.
USD_IN, USD_OUT = 2e-6, 10e-6
MEAN_IN, MEAN_OUT = 1000.0, 400.0
P95_USD = 3.14 * (MEAN_IN * USD_IN + MEAN_OUT * USD_OUT)
#: Seconds between two looks of the operator at the gateway's counters.
SCRAPE = 15
LEASE = 45.0


@dataclass
class World:
    """An operator that can be killed, what is stored of it, and a gateway."""

    budget: str | None = None
    now: float = NOW
    stored: str = ""
    annotation: str = ""
    counted: tuple[float, float] = (0.0, 0.0)
    requests: int = 0
    usd: float = 0.0
    granted: dict[int, Decimal] = field(default_factory=dict)
    spent: dict[int, float] = field(default_factory=dict)
    under_way: list[tuple[float, Ticket, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gateway = Pool()
        self.gateway.providers["cloud"] = Provider(
            usd_per_prompt_token=USD_IN, usd_per_output_token=USD_OUT
        )
        ledger = settle(PoolLedger.empty("UTC", NOW), 0.0, 0.0, NOW)
        self.stored = to_json(ledger)
        self.begin()

    def begin(self) -> None:
        """An operator starts from what is stored."""
        self.ledger = from_json(self.stored)
        self.previous: OverflowValue | None = (
            value_from_json(self.annotation) if self.annotation else None
        )

    def tick(self, *, killed: str = "") -> None:
        """One fast step; ``killed`` says after which part the operator dies and starts again."""
        facts = inputs(
            spec=spec(driver="LiteLLM", budget={"perDay": self.budget} if self.budget else {}),
            live=replace(live((20.0, 20.0), PER_SECOND), at=self.now),
            p95_cost_usd=P95_USD,
            budget_left_usd=None,
        )
        known = settle(self.ledger, *self.counted, self.now)
        result = fast_step(facts, self.previous, known, self.now, 1, LEASE)
        if result.ledger_changed:
            self.stored = to_json(result.ledger)
            for grant in result.ledger.reservations:
                self.granted[grant.id] = grant.usd
        if killed == "before publish":
            self.begin()
            return
        self.ledger, self.previous = result.ledger, result.value
        self.annotation = value_to_json(quantise(result.value))
        self.gateway.offer(Value.parse(to_dict(result.value), self.now), self.now)
        if killed == "after publish":
            self.begin()

    def send(self, prompt: int, output: int) -> None:
        """One request arrives at replicas that are full; what it costs is known when it ends."""
        request = Request(characters=4 * prompt, most_output_tokens=float(output))
        value = self.gateway.live(self.now)
        provider = self.gateway.choose(request, value, self.now, local=False, reachable=["cloud"])
        if provider:
            ticket = self.gateway.open(request, provider, self.now)
            ticket.sent = True
            usd = prompt * USD_IN + output * USD_OUT
            version = ticket.order[1]
            self.spent[version] = self.spent.get(version, 0.0) + usd
            self.under_way.append((self.now + output / 100, ticket, usd, version))

    def finish(self) -> None:
        """What has ended by now is priced and counted."""
        ended = [each for each in self.under_way if each[0] <= self.now]
        self.under_way = [each for each in self.under_way if each[0] > self.now]
        for _, ticket, usd, _ in ended:
            self.gateway.settle(ticket, usd)
            self.requests += 1
            self.usd += usd

    def never_over_what_was_reserved(self) -> None:
        for version, usd in self.spent.items():
            assert usd <= float(self.granted[version]) + 1e-6, f"version {version}"


def replay(world: World, crashes: dict[int, str], requests: int = REQUESTS) -> None:
    """Send so many, second by second; ``crashes`` by second."""
    rng = random.Random(1)  # noqa: S311 - not for secrets.
    for second in range(int(requests / PER_SECOND)):
        world.tick(killed=crashes.get(second, ""))
        for _ in range(int(PER_SECOND)):
            world.send(
                max(1, int(rng.expovariate(1 / MEAN_IN))),
                max(1, int(rng.expovariate(1 / MEAN_OUT))),
            )
        world.now += 1
        world.finish()
        if second % SCRAPE == 0:
            world.counted = float(world.requests), world.usd
        world.never_over_what_was_reserved()
    # All answers end, and the last grants close.
    world.now += 300
    world.finish()
    world.counted = float(world.requests), world.usd
    world.ledger = settle(world.ledger, *world.counted, world.now)


@pytest.mark.slow
def test_a_replay_of_twenty_thousand_requests_reconciles_within_a_percent() -> None:
    world = World()
    replay(world, {})
    assert world.requests > REQUESTS * 0.4, "most of the overflow could leave"
    spent = float(world.ledger.spent[Period.DAY].usd)
    assert spent == pytest.approx(world.usd, rel=0.01)
    assert not world.ledger.reservations


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before publish", "after publish"])
def test_an_operator_killed_at_the_worst_moments_never_spends_beyond_what_is_reserved(
    moment: str,
) -> None:
    """Between reserving and publishing, and between publishing and crediting, again and again."""
    world = World(budget="40")
    replay(world, dict.fromkeys(range(3, 200, 7), moment), 8000)
    assert world.requests > 500
    spent = float(world.ledger.spent[Period.DAY].usd)
    assert world.usd <= 40
    assert world.usd - 1e-6 <= spent <= 40
