"""Ratios on records that a person can divide."""

from __future__ import annotations

import math
from typing import Any

import pytest

from spillway.sim.benchmark.records import Record
from spillway.sim.benchmark.tables import drift_attainment, drift_ratios, ratios, rivalries


def made(who: str, usd: float, attainment: float, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "trace": "day",
        "scale": 10,
        "lead_seconds": 180.0,
        "price": "A",
        "drift": "",
        "burst": True,
        "configuration": "",
        "api_usd": 0.0,
        "cloud_share": 0.0,
        "requests": 1000.0,
        "repair_usd": 0.01,
    }
    return Record(who=who, gpu_usd=usd, attainment=attainment, **(values | changes))


RECORDS = [
    made("spillway", 100, 0.97),
    made("optimum", 90, 0.95),
    made("optimum", 95, 0.97),
    made("keda-rate", 98, 0.955),
    made("keda-rate", 104, 0.972),
    made("hpa-util", 105, 0.955, burst=False),
    made("classic", 125, 0.99, burst=False),
]


def test_rivals_must_attain_what_spillway_did() -> None:
    (found,) = rivalries(RECORDS, 0.95, equal=True)
    assert found.optimum is not None
    assert found.optimum.usd == 95
    assert found.with_burst["keda-rate"].usd == 104
    assert found.best_without_burst is not None
    assert found.best_without_burst.who == "classic"


def test_or_only_what_was_promised() -> None:
    (found,) = rivalries(RECORDS, 0.95, equal=False)
    assert found.optimum is not None
    assert found.optimum.usd == 90
    assert found.with_burst["keda-rate"].usd == 98
    assert found.best_without_burst is not None
    assert found.best_without_burst.who == "hpa-util"


def test_ratios_are_geometric_means_over_worlds() -> None:
    other = [
        made("spillway", 100, 0.97, scale=40),
        made("keda-rate", 400, 0.98, scale=40),
    ]
    found = rivalries([*RECORDS, *other], 0.95, equal=True)
    spread = ratios(found, lambda each: each.with_burst.get("keda-rate"), 0.95, equal=True)
    assert spread is not None
    assert spread.mean == pytest.approx(math.sqrt(100 / 104 / 4))
    assert (spread.least, spread.worlds) == (0.25, 2)
    assert spread.most == pytest.approx(100 / 104)


def test_nobody_to_compare_with_is_no_ratio() -> None:
    found = rivalries([made("spillway", 100, 1.0)], 0.95, equal=True)
    assert ratios(found, lambda each: each.best_without_burst, 0.95, equal=True) is None


def test_spillway_pays_for_its_own_shortfall_too() -> None:
    short = [made("spillway", 100, 0.90), made("keda-rate", 100, 0.96)]
    found = rivalries(short, 0.95, equal=False)
    spread = ratios(found, lambda each: each.with_burst.get("keda-rate"), 0.95, equal=False)
    assert spread is not None
    assert spread.mean == pytest.approx(1.005)


def test_a_drifting_world_is_met_with_the_shortfall_bought() -> None:
    drift = "capacity -20 %"
    records = [
        made("spillway", 110, 0.96, drift=drift),
        made("keda-rate", 100, 0.75, drift=drift),
        made("keda-rate", 1, 0.95),
    ]
    spread = drift_ratios(records, "A", drift, "keda-rate", 0.95)
    assert spread is not None
    # A fifth of 1,000 requests at $0.01 is $2.
    assert spread.mean == pytest.approx(110 / 102)
    assert drift_attainment(records, "A", drift, "keda-rate") == 0.75
    assert math.isnan(drift_attainment(records, "B", drift, "keda-rate"))
