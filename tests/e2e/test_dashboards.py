"""Every query of the dashboard and the alerts, asked of a Prometheus that scrapes an operator."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.rig.waiting import wait_for
from tests.e2e.scenario import CAPACITY_PER_SECOND, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.rig.rig import Rig

FILES = Path(__file__).resolve().parents[2] / "charts" / "spillway" / "files"
#: What a panel's or a variable's placeholder stands for.
CHOSEN = re.compile(r"\$(namespace|pool)")
#: The comparison of an alert, as opposed to the filters within its operands.
COMPARISON = re.compile(r"(?<![=!~<>])(==|!=|>=|<=|>|<)(?![=~])")


def panels() -> list[tuple[str, str]]:
    """Title and PromQL of every query, its variables set to all."""
    board = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
    return [
        (f"{panel['title']}: {target['legendFormat']}", CHOSEN.sub(".*", target["expr"]))
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]  # fmt: skip


def variables() -> list[tuple[str, str, str]]:
    """Name, series and label of every variable that asks Prometheus for its choices."""
    board = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
    found = []
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert asked is not None, variable["query"]
            found.append((variable["name"], CHOSEN.sub(".*", asked[1]), asked[2]))
    return found


def alerts() -> dict[str, str]:
    rules = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))
    return {r["alert"]: r["expr"] for group in rules["groups"] for r in group["rules"]}


def as_number(expression: str) -> str:
    """An alert's expression that returns 1 where it fires and 0 where it does not.

    A comparison returns nothing while it does not hold, and nothing as well when a series or a
    label in it does not exist: with ``bool`` the two can be told apart.
    """
    depth, found = 0, []
    for place, letter in enumerate(expression):
        depth += (letter in "({") - (letter in ")}")
        match = COMPARISON.match(expression, place) if depth == 0 else None
        if match is not None:
            found.append(match.end())
    (end,) = found
    return f"{expression[:end]} bool {expression[end:]}"


@pytest.fixture(scope="module")
def watched(rig: Rig) -> Iterator[Rig]:
    """A rig whose operator has a pool that bursts, with a budget for the day, and a broken one.

    The broken one's target is missing and its GPUs have no price.
    """
    rig.start_operator()
    # A standby computes too: nothing may be doubled by it.
    rig.start_operator("standby")
    namespace = rig.cluster.create_namespace()
    target = {"kind": "Deployment", "name": "nowhere"}
    broken = {"variants": [{"name": "main", "targetRef": target}]}
    Scenario(rig, namespace, name="broken", spec=broken).apply()
    pool = Scenario(
        rig, namespace, spec={"burst": {"budget": {"perDay": "100"}}, "replicas": {"max": 4}}
    )
    pool.start()
    pool.rate(6 * CAPACITY_PER_SECOND)
    pool.wait("it bursts", pool.traffic, lambda seen: seen["cloud_total"] > 0)
    pool.wait(
        "its cost is scraped",
        lambda: rig.prometheus.query('spillway_cost_usd_per_hour{kind="api"} > 0'),
    )
    yield rig
    pool.rate(0)
    rig.cluster.delete_namespace(namespace)
    rig.stop_operators()


def test_every_panel_shows_data(watched: Rig) -> None:
    missing = dict(panels())

    def ask() -> dict[str, str]:
        for title, query in list(missing.items()):
            if watched.prometheus.query(query):
                del missing[title]
        return missing

    wait_for("every query has returned data", ask, lambda left: not left, timeout=40)


def test_every_variable_has_choices(watched: Rig) -> None:
    assert {name for name, _, _ in variables()} == {"namespace", "pool"}
    for name, series, label in variables():
        choices = {found["metric"].get(label) for found in watched.prometheus.query(series)}
        assert choices - {None}, name


def fires(rig: Rig, expression: str) -> dict[str, float]:
    """Whether an alert fires (1) or not (0), by pool ("" for what is of no pool)."""
    found = rig.prometheus.query(as_number(expression))
    return {f["metric"].get("pool", ""): float(f["value"][1]) for f in found}


def test_every_alert_returns_data(watched: Rig) -> None:
    missing = alerts()
    assert missing

    def ask() -> dict[str, str]:
        for name, expression in list(missing.items()):
            # Raises where the expression is not valid.
            watched.prometheus.query(expression)
            if fires(watched, expression):
                del missing[name]
        return missing

    wait_for("every alert's expression has returned data", ask, lambda left: not left, timeout=40)


def test_alerts_fire_for_the_broken_pool_alone(watched: Rig) -> None:
    told = alerts()
    for name in ("SpillwayPoolNotReady", "SpillwayPriceUnknown"):
        wait_for(
            f"{name} fires for the broken pool",
            partial(fires, watched, told[name]),
            lambda found: found == {"broken": 1.0, "llama": 0.0},
        )


@pytest.mark.timeout(480)
def test_nothing_is_wrong_with_the_operator_itself(watched: Rig) -> None:
    told = alerts()
    for name in (
        "SpillwayNoLeader", "SpillwayTwoLeaders", "SpillwaySlowTicks", "SpillwayPoolErrors",
        "SpillwayPrometheusFails", "SpillwayPoolInvalid",
    ):  # fmt: skip
        # What another test's operator met within the last minutes counts as well.
        wait_for(
            f"{name} does not fire",
            partial(fires, watched, told[name]),
            lambda found: set(found.values()) == {0.0},
            timeout=330,
            interval=2.0,
        )
