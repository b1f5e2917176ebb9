"""Writes the Grafana dashboard of the chart: charts/spillway/files/dashboard.json.

    python -m tools.gen_dashboard            # write
    python -m tools.gen_dashboard --check    # exit 1 when it is stale

A panel is a title, a unit, a sentence for whoever is on call, and its queries; Grafana's JSON is
made from that, so that a change of a query is one line in a review.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tools.generated import write_or_check
from tools.helm import CHART

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = CHART / "files" / "dashboard.json"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
#: Lines of what should be, beside those of what is.
WISHES: Final = ("desired", "target")
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot.

    Attributes:
        title: What it shows.
        unit: Grafana's unit.
        about: What to read from it.
        queries: PromQL by legend.
        stacked: Whether the lines add up.
    """

    title: str
    unit: str
    about: str
    queries: dict[str, str]
    stacked: bool = False


def led(series: str, by: str = "", **labels: str) -> str:
    """A pool's series as the leader sees it: standbys compute too, and would double every line."""
    chosen = ",".join(
        ['namespace=~"$namespace"', 'pool=~"$pool"', *(f'{k}="{v}"' for k, v in labels.items())]
    )
    kept = "namespace, pool, " + by if by else "namespace, pool"
    return f"max by ({kept}) ({series}{{{chosen}}} and on (instance) spillway_leader == 1)"


def _by(label: str, series: str) -> str:
    return led(series, label)


def _slowest(histogram: str) -> str:
    chosen = 'namespace=~"$namespace"'
    rate = f"sum by (namespace, model_name, le) (rate({histogram}_bucket{{{chosen}}}[5m]))"
    return f"histogram_quantile(0.95, {rate})"


#: p95 of each further token; engines before vLLM 0.11 name it by its older name.
_PER_TOKEN: Final = (
    _slowest("vllm:inter_token_latency_seconds")
    + " or "
    + _slowest("vllm:time_per_output_token_seconds")
)


def _target(signal: str) -> str:
    """The targets of a signal by namespace and model, the loosest where pools share a model."""
    chosen = f'namespace=~"$namespace",pool=~"$pool",signal="{signal}"'
    series = f"spillway_latency_target_seconds{{{chosen}}} and on (instance) spillway_leader == 1"
    return f"max by (namespace, model_name) ({series})"


def _kept(latency: str, signal: str) -> str:
    """The share of the last half hour in which the 95th percentile met the target."""
    met = f"({latency}) <= bool on (namespace, model_name) {_target(signal)}"
    return f"avg_over_time(({met})[30m:15s])"


def _sum(first: str, second: str, sign: str) -> str:
    return f"({first} {sign} {second})"


_CAPACITY: Final = (
    led("spillway_replica_capacity_requests_per_second")
    + " * "
    + led("spillway_replicas", role="serving")
)
_SPENT: Final = _sum(
    led("spillway_cost_usd_per_hour", kind="gpu"),
    led("spillway_cost_usd_per_hour", kind="api"),
    "+",
)


def _saved(alternative: str) -> str:
    return _sum(led("spillway_alternative_cost_usd_per_hour", kind=alternative), _SPENT, "-")


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Load and replicas": (
        Panel(
            "Load against capacity", "reqps",
            "Arrivals upstream of the split, against what the serving replicas take within the "
            "latency promise. Demand above capacity is what overflows or waits.",
            {"demand": led("spillway_demand_requests_per_second"), "capacity": _CAPACITY},
        ),
        Panel(
            "Replicas by role", "short",
            "Serving, warm, starting and draining pods; the dashed line is what the last decision "
            "asks for.",
            {"{{role}}": _by("role", "spillway_replicas"),
             "desired": led("spillway_desired_replicas")},
        ),
        Panel(
            "Forecast with its band, and what came", "reqps",
            "The 90 % band of demand one lead time ahead. The realised line should be inside it, "
            "shifted by the lead time, nine times of ten.",
            {"low": led("spillway_forecast_requests_per_second", quantile="0.05"),
             "mean": led("spillway_forecast_requests_per_second", quantile="mean"),
             "high": led("spillway_forecast_requests_per_second", quantile="0.95"),
             "realised": led("spillway_demand_requests_per_second")},
        ),
        Panel(
            "Share of loads inside their band", "percentunit",
            "Should stay near 90 %; far below, sizing leans on a forecast that does not hold.",
            {"covered": led("spillway_forecast_coverage_ratio")},
        ),
        Panel(
            "Queue", "short", "Requests waiting on serving replicas.",
            {"waiting": led("spillway_queue_requests")},
        ),
        Panel(
            "Lead time", "s", "95th percentile from a pod's creation to its first Ready.",
            {"p95": led("spillway_lead_time_seconds")},
        ),
    ),
    "Overflow": (
        Panel(
            "Share that leaves", "percentunit", "Of arrivals, to a paid API.",
            {"overflow": led("spillway_overflow_ratio")},
        ),
        Panel(
            "Why", "short", "The reason of the published value: 1 while it holds.",
            {"{{reason}}": _by("reason", "spillway_overflow_reason")}, stacked=True,
        ),
    ),
    "Money": (
        Panel(
            "Cost rate", "currencyUSD", "US dollars an hour for the GPUs held and the API used.",
            {"{{kind}}": _by("kind", "spillway_cost_usd_per_hour")}, stacked=True,
        ),
        Panel(
            "Saved against one side alone", "currencyUSD",
            "US dollars an hour that all-API or all-GPU would cost more. Below zero: the floor or "
            "the warm pool is dearer than its load; that is the price of the promise.",
            {"against all-API": _saved("all_api"), "against all-GPU": _saved("all_gpu")},
        ),
        Panel(
            "Budget burn", "percentunit",
            "Spent, reservations included, over the budget of the period.",
            {"{{period}}": _sum(
                _by("period", "spillway_budget_spent_usd"), _by("period", "spillway_budget_usd"),
                "/",
            )},
        ),
        Panel(
            "Days' budget left", "currencyUSD", "US dollars; nothing is shown without a budget.",
            {"left": "(" + led("spillway_budget_usd", period="day") + " < +Inf) - "
                     + led("spillway_budget_spent_usd", period="day")},
        ),
    ),
    "Latency": (
        Panel(
            "Attainment", "percentunit",
            "Share of the last half hour in which 95 % of requests met the target. A histogram "
            "whose buckets do not end at the target can't say the share of requests itself.",
            {"first token {{model_name}}": _kept(
                _slowest("vllm:time_to_first_token_seconds"), "ttft"),
             "further tokens {{model_name}}": _kept(_PER_TOKEN, "tpot")},
        ),
        Panel(
            "Time to first token, p95", "s",
            "Of the engines in the cluster, against the target. The promise is the attainment's "
            "quantile, 95 % unless the pool says otherwise.",
            {"p95 {{model_name}}": _slowest("vllm:time_to_first_token_seconds"),
             "target": led("spillway_latency_target_seconds", signal="ttft")},
        ),
        Panel(
            "Time per output token, p95", "s", "The same for tokens after the first.",
            {"p95 {{model_name}}": _PER_TOKEN,
             "target": led("spillway_latency_target_seconds", signal="tpot")},
        ),
    ),
    "Decisions": (
        Panel(
            "Decisions by reason", "short", "Changes of the desired replicas in ten minutes.",
            {"{{reason}}": 'sum by (reason) (increase(spillway_decisions_total'
                           '{namespace=~"$namespace",pool=~"$pool"}[10m]))'}, stacked=True,
        ),
        Panel(
            "Conditions", "short", "1 where True.",
            {"{{type}}": _by("type", "spillway_condition")},
        ),
    ),
    "The operator": (
        Panel(
            "Leader", "short", "1 on the replica that writes: the sum must be 1.",
            {"{{instance}}": "spillway_leader"},
        ),
        Panel(
            "Time of a pass, p95", "s", "Must stay well below the period of the loop.",
            {"{{loop}}": "histogram_quantile(0.95, sum by (loop, le) "
                         "(rate(spillway_tick_seconds_bucket[5m])))"},
        ),
        Panel(
            "Writes", "ops", "To the API server, by kind and result.",
            {"{{kind}} {{result}}": "sum by (kind, result) (rate(spillway_api_writes_total[5m]))"},
        ),
        Panel(
            "From shortage to overflow, p95", "s",
            "From the sample that shows a shortage to the value that answers it.",
            {"delay": "histogram_quantile(0.95, sum by (le) "
                      "(rate(spillway_overflow_delay_seconds_bucket[5m])))"},
        ),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Grafana's model of the dashboard."""
    return {
        "uid": "spillway",
        "title": "Spillway",
        "description": "Load, replicas, overflow, money, latency and decisions of InferencePools.",
        "tags": ["llm", "autoscaling", "finops"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
    for name, query in (
        ("namespace", "label_values(spillway_desired_replicas, namespace)"),
        ("pool", 'label_values(spillway_desired_replicas{namespace=~"$namespace"}, pool)'),
    ):
        yield {
            "name": name, "type": "query", "datasource": _SOURCE, "query": query, "refresh": 2,
            "includeAll": True, "allValue": ".*", "multi": True, "sort": 1,
            "current": {"text": "All", "value": "$__all"},
        }  # fmt: skip


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row, "gridPos": place, "panels": []}
        y += 1
        for index, panel in enumerate(panels):
            number += 1
            place = {"x": index % 2 * _WIDTH, "y": y, "w": _WIDTH, "h": _HEIGHT}
            yield _panel(panel, number, place)
            if index % 2 or index == len(panels) - 1:
                y += _HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 30 if panel.stacked else 0, "lineWidth": 2}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": custom},
            "overrides": [_dashed(legend) for legend in panel.queries if legend in WISHES],
        },
        "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _dashed(legend: str) -> dict[str, Any]:
    style = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}}
    return {"matcher": {"id": "byName", "options": legend}, "properties": [style]}


def main() -> int:
    """Write the file, or compare."""
    return write_or_check(
        "Writes the chart's Grafana dashboard.",
        TARGET,
        lambda: json.dumps(dashboard(), indent=2) + "\n",
    )


if __name__ == "__main__":
    raise SystemExit(main())
