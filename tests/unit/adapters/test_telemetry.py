"""The operator's own metrics: names, units, HELP, bounded labels, and no ghosts."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spillway.adapters.telemetry import Telemetry
from spillway.api.reasons import Reason

UNITS = (
    "_seconds",
    "_total",
    "_ratio",
    "_usd",
    "_usd_per_hour",
    "_requests",
    "_requests_per_second",
    "_tokens_per_second",
    "_replicas",
    "_pools",
    "_leader",
    "_condition",
    "_overflow_reason",
)
#: Labels and how many values each may have beside the pool; None: bounded by a vocabulary.
BOUNDED = {
    "namespace",
    "pool",
    "role",
    "quantile",
    "kind",
    "period",
    "model_name",
    "signal",
    "type",
    "reason",
    "loop",
    "where",
    "result",
    "valid",
    "le",
}


def filled(*pools: str) -> Telemetry:
    """Every series of some pools."""
    telemetry = Telemetry()
    for pool in pools:
        for gauge in telemetry.pool_gauges:
            gauge.set(("ns", pool), 1, *(f"some-{label}" for label in gauge.labels))
        telemetry.decisions.labels("ns", pool, "some-reason").inc()
    return telemetry


def series(telemetry: Telemetry) -> list[str]:
    return [line for line in telemetry.render().decode().splitlines() if not line.startswith("#")]


def test_every_metric_has_its_prefix_a_unit_and_help() -> None:
    families = {f.name: f for f in text_string_to_metric_families(filled("a").render().decode())}
    assert len(families) >= 22
    for name, family in families.items():
        if name.endswith("_created"):
            continue
        full = f"{name}_total" if family.type == "counter" else name
        assert re.fullmatch(r"spillway_[a-z0-9_]+", full)
        assert full.endswith(UNITS), f"{full} has no unit"
        assert len(family.documentation) > 10
        assert family.documentation.endswith(".")


def test_labels_come_from_a_small_vocabulary() -> None:
    for family in text_string_to_metric_families(filled("a").render().decode()):
        for sample in family.samples:
            assert set(sample.labels) <= BOUNDED


def test_the_reason_of_overflow_is_one() -> None:
    telemetry = Telemetry()
    telemetry.set_overflow_reason("ns", "a", "NoData")
    telemetry.set_overflow_reason("ns", "a", "Shortage")
    shown = [line for line in series(telemetry) if line.startswith("spillway_overflow_reason")]
    assert shown == ['spillway_overflow_reason{namespace="ns",pool="a",reason="Shortage"} 1.0']


def test_a_pool_that_changes_its_model_promises_nothing_for_the_old_one() -> None:
    telemetry = Telemetry()
    telemetry.set_latency_targets("ns", "a", "old", ttft=1, tpot=0.1)
    telemetry.set_latency_targets("ns", "a", "new", ttft=2, tpot=0.2)
    shown = [line for line in series(telemetry) if "latency_target" in line]
    assert len(shown) == 2
    assert all('model_name="new"' in line for line in shown)


def test_the_number_of_series_grows_with_pools_alone() -> None:
    one, three = len(series(filled("a"))), len(series(filled("a", "b", "c")))
    per_pool = (three - one) / 2
    assert per_pool == len(filled().pool_gauges) + 2, "the counter has its creation time too"


def test_a_pool_that_is_gone_takes_all_its_series_along() -> None:
    telemetry = filled("gone", "kept")
    telemetry.decisions.labels("ns", "gone", Reason.DEMAND.value).inc()
    before = [line for line in series(telemetry) if 'pool="gone"' not in line]
    telemetry.forget("ns", "gone")
    assert series(telemetry) == before
    telemetry.forget("ns", "never-seen")


@pytest.mark.parametrize(("namespace", "pool"), [("ns", "kept"), ("elsewhere", "gone")])
def test_only_that_pool_of_that_namespace_is_forgotten(namespace: str, pool: str) -> None:
    telemetry = filled("gone")
    telemetry.desired.set((namespace, pool), 3)
    telemetry.forget("ns", "gone")
    assert f'spillway_desired_replicas{{namespace="{namespace}",pool="{pool}"}} 3.0' in series(
        telemetry
    )


def test_two_operators_of_one_process_do_not_share_a_registry() -> None:
    first, second = Telemetry(), Telemetry()
    first.leader.set(1)
    assert second.registry.get_sample_value("spillway_leader") == 0
