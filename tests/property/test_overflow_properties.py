"""What every overflow value keeps, whatever the load, the budget and the text."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillway.api.reasons import Reason
from spillway.core.fast import fast_step
from spillway.core.ledger import PoolLedger, left, limits
from spillway.core.overflow import (
    Admit,
    Allowance,
    LiveLoad,
    OverflowInputs,
    OverflowValue,
    ProviderShare,
    from_json,
    needs_rewrite,
    next_value,
    quantise,
    to_json,
)
from tests.unit.core.bursting import NOW, inputs, spec

amounts = st.floats(0, 1000)
maybe = st.none() | amounts
lives = st.builds(
    LiveLoad,
    at=st.just(NOW),
    in_flight_by_pod=st.lists(amounts, max_size=5).map(tuple),
    waiting=amounts,
    arrivals_per_second=maybe,
    replicas_serving=st.integers(0, 5),
)
bursts = st.fixed_dictionaries(
    {
        "maxFraction": st.sampled_from(["0", "0.05", "0.333333", "0.9", "1"]),
        "driver": st.sampled_from(["Annotation", "EdgeEnvoy"]),
        "budget": st.sampled_from([{}, {"perHour": "0.5"}, {"perDay": "3", "perMonth": "2.5"}]),
        "providers": st.lists(
            st.fixed_dictionaries({"limits": st.sampled_from([{}, {"requestsPerMinute": 30}])}),
            min_size=1,
            max_size=3,
        ).map(lambda found: [{"name": f"p{i}", **p} for i, p in enumerate(found)]),
    }
)
all_inputs = st.builds(
    lambda burst, **changes: inputs(spec=spec(**burst), **changes),
    bursts,
    mu=st.none() | st.floats(0, 50),
    concurrency=st.none() | st.floats(1, 200),
    demand_per_second=maybe,
    live=st.none() | lives,
    prefill_seconds=st.floats(0, 5),
    p95_cost_usd=st.none() | st.floats(0, 5),
    price_known=st.booleans(),
    budget_left_usd=st.none(),
    release=st.booleans(),
)


def max_fraction(of: OverflowInputs) -> float:
    return 0.0 if of.spec.burst is None else of.spec.burst.max_fraction


def check(of: OverflowInputs, value: OverflowValue, now: float) -> None:
    assert 0 <= value.fraction <= max_fraction(of) + 1e-12
    assert sum(p.fraction for p in value.providers) == pytest.approx(value.fraction)
    assert value.until > now
    assert from_json(to_json(value)) == value
    coarse = quantise(value)
    assert coarse.fraction <= value.fraction
    assert sum(p.fraction for p in coarse.providers) == pytest.approx(coarse.fraction)
    assert quantise(coarse) == coarse
    assert not needs_rewrite(value, value, now) or value.until - now < 22.5


@settings(deadline=None)
@given(st.lists(st.tuples(all_inputs, st.floats(0.1, 40)), min_size=1, max_size=12))
def test_any_sequence_of_steps_keeps_the_bounds(steps: list[tuple[OverflowInputs, float]]) -> None:
    ledger, value, now = PoolLedger.empty("UTC", NOW), None, NOW
    for of, seconds in steps:
        outcome = fast_step(of, value, ledger, now, 1)
        check(of, outcome.value, now)
        reserved = {r.id: Allowance(r.requests, float(r.usd)) for r in outcome.ledger.reservations}
        if outcome.value.allowance != Allowance():
            grant = outcome.ledger.live_grant(now)
            assert grant is not None
            assert outcome.value.allowance == reserved[outcome.value.version]
            assert outcome.value.until <= grant.until
        if value is not None:
            assert outcome.value.version >= value.version
        if of.live is None or of.mu is None:
            assert not outcome.ledger_changed
        assert of.spec.burst is not None
        if outcome.ledger.outstanding > ledger.outstanding:
            for period, bound in limits(of.spec.burst.budget).items():
                assert outcome.ledger.committed(period) <= bound
        rest = left(outcome.ledger, of.spec.burst.budget, now)
        assert rest is None or rest >= Decimal(0)
        ledger, value, now = outcome.ledger, outcome.value, now + seconds


@given(all_inputs, lives, st.floats(1, 5))
def test_more_load_never_sends_less_away(of: OverflowInputs, live: LiveLoad, more: float) -> None:
    plenty = Allowance(10**9, 1e9)
    heavier = dataclasses.replace(
        live,
        in_flight_by_pod=tuple(x * more for x in live.in_flight_by_pod),
        waiting=live.waiting * more,
    )
    fractions = [
        next_value(dataclasses.replace(of, live=x), None, NOW, 1, plenty).fraction
        for x in (live, heavier)
    ]
    assert fractions[0] <= fractions[1] + 1e-9


values = st.builds(
    OverflowValue,
    version=st.integers(0, 2**53),
    epoch=st.integers(0, 2**53),
    until=st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000),
    fraction=st.floats(0, 1),
    admit=st.none() | st.builds(Admit, st.integers(0, 2**40), st.none() | st.integers(0, 2**40)),
    allowance=st.builds(Allowance, st.integers(0, 2**40), st.floats(0, 1e12)),
    providers=st.lists(
        st.builds(ProviderShare, st.text(max_size=63), st.floats(0, 1)), max_size=8
    ).map(tuple),
    reason=st.sampled_from(Reason),
)


@given(values)
def test_a_value_survives_as_text(value: OverflowValue) -> None:
    assert from_json(to_json(value)) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    values,
    st.dictionaries(
        st.sampled_from(
            sorted(
                json.loads(
                    to_json(OverflowValue(0, 0, 0.0, 0.0, None, Allowance(), (), Reason.COVERED))
                )
            )
        ),
        json_values,
    ),
)
def test_a_tampered_value_is_read_or_refused_and_nothing_else(
    value: OverflowValue, changes: dict[str, Any]
) -> None:
    with contextlib.suppress(ValueError):
        read = from_json(json.dumps({**json.loads(to_json(value)), **changes}))
        assert 0 <= read.fraction <= 1


@given(st.text())
def test_any_text_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        from_json(text)
