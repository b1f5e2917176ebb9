"""The overflow value as text, and when the annotation is rewritten."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from spillway.api.reasons import Reason
from spillway.core.overflow import (
    NO_ALLOWANCE,
    Admit,
    Allowance,
    OverflowValue,
    ProviderShare,
    from_json,
    needs_rewrite,
    quantise,
    to_dict,
    to_json,
)

NOW = 1_800_000_000.0
VALUE = OverflowValue(
    version=3,
    epoch=2,
    until=NOW + 45,
    fraction=0.25,
    admit=Admit(55, 90_000),
    allowance=Allowance(120, 1.5),
    providers=(ProviderShare("cheap", 0.2), ProviderShare("dear", 0.05)),
    reason=Reason.SHORTAGE,
    set_at=NOW,
)
TEXT = (
    '{"version":3,"epoch":2,"until":"2027-01-15T08:00:45.000Z","fraction":0.25,'
    '"admit":{"inFlight":55,"promptTokens":90000},"allowance":{"requests":120,"usd":1.5},'
    '"providers":[{"name":"cheap","fraction":0.2},{"name":"dear","fraction":0.05}],'
    '"reason":"Shortage"}'
)


def test_consumers_read_camel_case_and_a_time_in_utc() -> None:
    assert to_json(VALUE) == TEXT
    assert from_json(TEXT) == VALUE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": -1}, "version: must be an integer from 0 to"),
        ({"version": True}, "version: must be an integer"),
        ({"version": 10**400}, "version: must be an integer"),
        ({"fraction": 1.5}, "fraction: must be a number from 0 to 1, got 1.5"),
        ({"fraction": "0.5"}, "fraction: must be a number from 0 to 1, got '0.5'"),
        ({"until": "tomorrow"}, 'until: must be an RFC 3339 time such as "2026-11-21T08:00:00Z"'),
        ({"until": "2026-13-21T08:00:00Z"}, "until: "),
        ({"admit": 5}, "admit: must be an object, got 5"),
        ({"admit": {"inFlight": -5}}, "admit.inFlight: must be an integer"),
        ({"allowance": None}, "allowance: must be an object, got None"),
        (
            {"allowance": {"requests": 1}},
            "allowance.usd: must be a number from 0 to .* got nothing",
        ),
        ({"providers": [{"name": "x", "fraction": 2}]}, r"providers\[0\].fraction: must be"),
        ({"providers": [1]}, r"providers\[0\]: must be an object, got 1"),
        ({"providers": [{}] * 9}, "providers: must be a list of at most 8 objects"),
        ({"reason": "Because"}, "reason: must be a reason that Spillway gives, got 'Because'"),
    ],
)
def test_a_bad_field_is_named_with_what_is_accepted(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**to_dict(VALUE), **change})
    with pytest.raises(ValueError, match=message):
        from_json(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "NaN", '{"fraction":NaN}', "[" * 60_000, "1" * 9999]
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        from_json(text)


def test_quantising_never_adds() -> None:
    fine = dataclasses.replace(VALUE, fraction=0.2567, allowance=Allowance(120, 1.23456789))
    coarse = quantise(fine)
    assert coarse.fraction == pytest.approx(0.25)
    assert coarse.allowance.usd == pytest.approx(1.234567)
    assert [p.fraction for p in coarse.providers] == pytest.approx([0.2, 0.05])


@pytest.mark.parametrize(
    "change",
    [
        {"version": 4},
        {"epoch": 3},
        {"fraction": 0.3},
        {"reason": Reason.BUDGET_EXHAUSTED},
        {"allowance": Allowance(240, 3.0)},
        {"admit": None},
        {"admit": Admit(60, 90_000)},
        {"admit": Admit(0, 90_000)},
        {"admit": Admit(55)},
        {"providers": (ProviderShare("dear", 0.25),)},
        {"providers": (ProviderShare("cheap", 0.1), ProviderShare("dear", 0.15))},
    ],
)
def test_a_real_change_is_written(change: dict[str, Any]) -> None:
    assert needs_rewrite(VALUE, dataclasses.replace(VALUE, **change), NOW)


@pytest.mark.parametrize(
    "change", [{"until": NOW + 60}, {"fraction": 0.252}, {"admit": Admit(56, 91_000)}]
)
def test_noise_is_not_written(change: dict[str, Any]) -> None:
    assert not needs_rewrite(VALUE, dataclasses.replace(VALUE, **change), NOW)


def test_a_fraction_at_the_edge_between_two_steps_is_not_written_at_every_tick() -> None:
    published, writes = VALUE, 0
    for number in range(100):
        fraction = 0.25 + (0.001 if number % 2 else -0.001)
        value = dataclasses.replace(VALUE, fraction=fraction)
        if needs_rewrite(published, value, NOW):
            published, writes = value, writes + 1
    assert writes == 0


def test_the_last_of_a_fraction_is_taken_back_at_once() -> None:
    small = dataclasses.replace(VALUE, fraction=0.004, providers=(ProviderShare("cheap", 0.004),))
    none = dataclasses.replace(
        small, fraction=0.0, providers=(ProviderShare("cheap", 0.0),), reason=Reason.COVERED
    )
    assert needs_rewrite(small, none, NOW)
    assert not needs_rewrite(none, small, NOW), "less than a step is not worth a write"


def test_half_of_its_life_later_a_value_is_written_again_unless_it_lets_nothing_leave() -> None:
    assert not needs_rewrite(VALUE, VALUE, NOW + 20)
    assert needs_rewrite(VALUE, VALUE, NOW + 25)
    assert not needs_rewrite(VALUE, VALUE, NOW + 25, lease_seconds=20)
    idle = dataclasses.replace(VALUE, fraction=0.0, allowance=NO_ALLOWANCE, reason=Reason.COVERED)
    assert not needs_rewrite(idle, idle, NOW + 1000)
    assert needs_rewrite(None, idle, NOW)
    assert not needs_rewrite(None, dataclasses.replace(idle, reason=Reason.BURST_DISABLED), NOW)
