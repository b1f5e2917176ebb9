"""Valid and invalid InferencePools: one table for pydantic and for the real API server.

Both must agree on every object, and both must say the field and what it accepts (`Case.says`,
compared without regard to case). Not in the table: that a targetRef must not change. That compares
two objects, only the API server sees both, and tests/e2e/test_crd.py tries it there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from spillway.api.names import API_VERSION, KIND

Spec = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One object.

    Attributes:
        name: Name of the case and of the object.
        spec: The object's spec.
        says: What a refusal must say; empty for a valid object.
    """

    name: str
    spec: Spec
    says: tuple[str, ...] = field(default=())

    @property
    def valid(self) -> bool:
        return not self.says

    @property
    def object(self) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": self.spec,
        }


MINIMAL: Spec = {
    "modelName": "meta-llama/Llama-3.1-8B-Instruct",
    "variants": [{"name": "h100", "targetRef": {"name": "llama-8b"}}],
    "replicas": {"max": 12},
}
FULL: Spec = {
    "modelName": "meta-llama/Llama-3.1-8B-Instruct",
    "mode": "Active",
    "policy": "Cost",
    "variants": [
        {
            "name": "h100",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama-8b"},
            "accelerator": {"type": "NVIDIA-H100-80GB-HBM3", "perReplica": 1},
            "price": {"perAcceleratorHour": "3.50"},
            "capacityType": "OnDemand",
            "capacity": {"requestsPerSecond": "12.5", "concurrency": 128},
        },
        {
            "name": "l40s-fp8",
            "targetRef": {"kind": "StatefulSet", "name": "llama-8b"},
            "capacityType": "Spot",
            "replicas": {"min": 1, "max": 4},
            "quality": "0.98",
        },
    ],
    "minQuality": "0.95",
    "priority": 10,
    "replicas": {"floor": 2, "max": 12, "surviveZoneLoss": True},
    "latency": {"ttft": "2s", "tpot": "60ms", "attainment": "0.95"},
    "warmPool": {"size": 1},
    "utilization": {"scaleUpPercent": 60, "scaleDownPercent": 30, "scaleUpAfter": "0s"},
    "scaling": {
        "persistence": "2m",
        "releaseWindow": "1h30m",
        "drainTimeout": "10m",
        "cooldown": "5m",
    },
    "demand": {"source": "Gateway"},
    "metrics": {"port": 8000, "path": "/metrics"},
    "burst": {
        "driver": "HTTPRoute",
        "routeRef": {"name": "llama-8b", "rule": "chat", "local": "llama-8b"},
        "providers": [
            {
                "name": "together",
                "backendRef": {"name": "together"},
                "model": "meta-llama/Llama-3.1-8B-Instruct-Turbo",
                "price": {"inputPerMillion": "0.18", "outputPerMillion": "0.18"},
                "limits": {"requestsPerMinute": 3000, "tokensPerMinute": 2_000_000},
                "maxContextTokens": 131_072,
            },
            {"name": "fireworks", "backendRef": {"name": "fireworks"}},
        ],
        "budget": {"perDay": "250", "perMonth": "4000", "timeZone": "Europe/Berlin"},
        "maxFraction": "0.8",
    },
    "schedules": [
        {
            "name": "workdays",
            "cron": "45 7 * * 1-5",
            "timeZone": "Europe/Berlin",
            "duration": "10h",
            "requestsPerSecond": "25",
        },
        {"name": "launch", "cron": "0 12 24 NOV *", "duration": "90m", "replicas": 8},
    ],
}
_GONE = object()


def changed(base: Spec, changes: dict[str, Any]) -> Spec:
    """A copy of ``base`` with dotted paths (numbers index lists) set or, for `_GONE`, removed."""
    spec = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = spec
        for part in parents:
            place = place.setdefault(part, {}) if isinstance(part, str) else place[part]
        if value is _GONE:
            del place[last]
        else:
            place[last] = value
    return spec


def paths(value: Any, prefix: str = "") -> list[str]:
    """Every dotted path in an object, as `changed` takes them."""
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return []
    return [
        path for key, inner in items for path in (prefix + key, *paths(inner, f"{prefix}{key}."))
    ]


def _valid(name: str, changes: dict[str, Any], base: Spec = MINIMAL) -> Case:
    return Case(f"valid-{name}", changed(base, changes))


def _invalid(name: str, changes: dict[str, Any], *says: str, base: Spec = MINIMAL) -> Case:
    return Case(f"invalid-{name}", changed(base, changes), says)


def _variants(count: int) -> list[Spec]:
    return [{"name": f"v{n}", "targetRef": {"name": f"t{n}"}} for n in range(count)]


def _annotation_burst(**budget: Any) -> Spec:
    return {"providers": [{"name": "together"}], "budget": budget}


def _schedule(**changes: Any) -> list[Spec]:
    schedule = {"name": "s", "cron": "0 8 * * 1-5", "duration": "1h", "replicas": 4}
    return [{key: value for key, value in (schedule | changes).items() if value is not _GONE}]


VALID = (
    Case("valid-minimal", MINIMAL),
    Case("valid-full", FULL),
    _valid("floor-is-max", {"replicas": {"floor": 3, "max": 3}}),
    _valid("warm-pool-fills-up-to-max", {"replicas": {"floor": 2, "max": 3}, "warmPool.size": 1}),
    _valid("warm-pool-auto", {"warmPool.size": "auto"}),
    _valid("empty-groups-take-defaults", {"latency": {}, "warmPool": {}, "utilization": {}}),
    _valid("null-is-absent", {"burst": None, "mode": None, "warmPool": {"size": None}}),
    _valid("policy-utilization", {"policy": "Utilization", "utilization.scaleUpPercent": 31}),
    _valid("advise", {"mode": "Advise"}),
    _valid(
        "failures-retries-and-a-price-key",
        {
            "burst.providers.0.errorShare": "0.05",
            "burst.providers.0.billedErrorShare": "1",
            "burst.providers.0.retries": [
                {"layer": "gateway", "most": 2},
                {"layer": "client", "most": 0},
            ],
            "burst.providers.0.cachesPrefix": False,
            "burst.providers.0.priceKey": "together_ai/llama",
        },
        base=FULL,
    ),
    _valid("gpus-for-free", {"variants.0.price": {"perAcceleratorHour": "0"}}),
    _valid("durations", {"latency": {"ttft": "1m0.5s", "tpot": "0.5ms"}}),
    _valid("no-persistence", {"scaling": {"persistence": "0s", "releaseWindow": "0s"}}),
    _valid("attainment-of-all", {"latency.attainment": "1.000000"}),
    _valid("never-burst", {"burst": {"providers": [{"name": "a"}], "maxFraction": "0"}}),
    _valid("eight-variants", {"variants": _variants(8)}),
    _valid("same-name-other-kind", {"variants.0.targetRef": {"name": "x", "kind": "StatefulSet"}}),
    _valid(
        "custom-target",
        {
            "variants.0.targetRef": {
                "apiVersion": "leaderworkerset.x-k8s.io/v1",
                "kind": "LeaderWorkerSet",
                "name": "llama-405b",
            }
        },
    ),
    _valid("route-kept-for-another-driver", {"burst.driver": "Annotation"}, base=FULL),
    _valid("cron-lists-and-steps", {"schedules": _schedule(cron="*/15,59 8-17/2 1,15 * MON-FRI")}),
    _valid("cron-sunday-twice", {"schedules": _schedule(cron="0 0 * JAN-MAR 0,7")}),
    _valid("schedule-around-the-clock", {"schedules": _schedule(duration="999h")}),
    _valid("zone-of-three-parts", {"burst": _annotation_burst(timeZone="America/Indiana/Knox")}),
)

_CRON = "five cron fields"
_WORKLOAD = "spec.variants[0].targetRef"
_DURATION = 'a duration such as "2s", "60ms" or "1h30m"'
_POSITIVE_DURATION = 'a duration longer than "0s"'
_MONEY = 'a decimal string such as "3.50"'

INVALID = (
    # Missing, mistyped, out of range.
    Case("invalid-empty-spec", {}, ("spec.modelName", "required")),
    _invalid("no-model", {"modelName": _GONE}, "spec.modelName", "required"),
    _invalid("null-model", {"modelName": None}, "spec.modelName", "required"),
    _invalid("empty-model", {"modelName": ""}, "spec.modelName", "at least 1"),
    _invalid("long-model", {"modelName": "m" * 254}, "spec.modelName", "253"),
    _invalid("no-variants", {"variants": _GONE}, "spec.variants", "required"),
    _invalid("empty-variants", {"variants": []}, "spec.variants", "at least 1 item"),
    _invalid("nine-variants", {"variants": _variants(9)}, "spec.variants", "at most 8 items"),
    _invalid("no-max", {"replicas": {"floor": 2}}, "spec.replicas.max", "required"),
    _invalid("no-floor-at-all", {"replicas.floor": 0}, "spec.replicas.floor", "than or equal to 1"),
    _invalid("floor-as-text", {"replicas.floor": "2"}, "spec.replicas.floor", "integer"),
    _invalid("floor-as-boolean", {"replicas.floor": True}, "spec.replicas.floor", "integer"),
    _invalid("max-with-fraction", {"replicas.max": 2.5}, "spec.replicas.max", "integer"),
    _invalid("max-too-high", {"replicas.max": 10_001}, "spec.replicas.max", "10000"),
    _invalid("replicas-as-number", {"replicas": 5}, "spec.replicas", "object"),
    _invalid("mode", {"mode": "Sleep"}, "spec.mode", "Active", "Advise", "Paused"),
    _invalid("policy", {"policy": "cost"}, "spec.policy", "Cost", "Latency", "Utilization"),
    _invalid(
        "capacity-type",
        {"variants.0.capacityType": "Reserved"},
        "spec.variants[0].capacityType",
        "OnDemand",
        "Spot",
    ),
    _invalid(
        "variant-min-above-max",
        {"variants.0.replicas": {"min": 3, "max": 2}},
        "spec.variants[0].replicas.min",
        "at most variants.replicas.max",
    ),
    _invalid(
        "quality-above-one",
        {"variants.0.quality": "1.5"},
        "spec.variants[0].quality",
    ),
    _invalid("priority-too-high", {"priority": 1001}, "spec.priority", "1000"),
    _invalid("port", {"metrics.port": 70_000}, "spec.metrics.port", "65535"),
    _invalid("path", {"metrics.path": "metrics"}, "spec.metrics.path", 'such as "/metrics"'),
    _invalid(
        "no-gpus",
        {"variants.0.accelerator": {"perReplica": 0}},
        "spec.variants[0].accelerator.perReplica",
        "than or equal to 1",
    ),
    # References.
    _invalid("no-target-name", {"variants.0.targetRef": {}}, f"{_WORKLOAD}.name", "required"),
    _invalid(
        "target-elsewhere",
        {"variants.0.targetRef.name": "../../other/deployments/x"},
        f"{_WORKLOAD}.name",
        "lower-case letters",
    ),
    _invalid(
        "target-kind", {"variants.0.targetRef.kind": "deployment"}, f"{_WORKLOAD}.kind", 'as "D'
    ),
    _invalid(
        "target-version",
        {"variants.0.targetRef.apiVersion": "apps"},
        f"{_WORKLOAD}.apiVersion",
        '"apps/v1"',
    ),
    _invalid("variant-name", {"variants.0.name": "H100"}, "spec.variants[0].name", "lower-case"),
    _invalid(
        "variants-of-one-name",
        {"variants": [{"name": "a", "targetRef": {"name": n}} for n in ("x", "y")]},
        "spec.variants",
        "unique",
    ),
    _invalid(
        "variants-of-one-target",
        {"variants": [{"name": n, "targetRef": {"name": "x"}} for n in ("a", "b")]},
        "spec.variants",
        "a targetRef of their own",
    ),
    # Quantities.
    _invalid(
        "duration-in-words", {"latency.ttft": "2 seconds"}, "spec.latency.ttft", _POSITIVE_DURATION
    ),
    _invalid(
        "duration-in-days", {"scaling.persistence": "1d"}, "spec.scaling.persistence", _DURATION
    ),
    _invalid("duration-as-number", {"latency.ttft": 2.5}, "spec.latency.ttft"),
    _invalid(
        "negative-duration", {"scaling.drainTimeout": "-1s"}, "spec.scaling.drainTimeout", _DURATION
    ),
    _invalid("no-ttft", {"latency.ttft": "0s"}, "spec.latency.ttft", _POSITIVE_DURATION),
    _invalid("no-tpot", {"latency.tpot": "0.000ms"}, "spec.latency.tpot", _POSITIVE_DURATION),
    _invalid(
        "attainment-in-percent",
        {"latency.attainment": "95"},
        "spec.latency.attainment",
        'up to "1"',
    ),
    _invalid("no-attainment", {"latency.attainment": "0"}, "spec.latency.attainment", 'above "0"'),
    _invalid(
        "price-with-currency",
        {"variants.0.price": {"perAcceleratorHour": "$3.50"}},
        "spec.variants[0].price.perAcceleratorHour",
        _MONEY,
    ),
    _invalid(
        "price-as-number",
        {"variants.0.price": {"perAcceleratorHour": 3.5}},
        "spec.variants[0].price.perAcceleratorHour",
    ),
    _invalid(
        "no-capacity",
        {"variants.0.capacity": {"requestsPerSecond": "0.0", "concurrency": 8}},
        "spec.variants[0].capacity.requestsPerSecond",
        'above "0"',
    ),
    # Between fields.
    _invalid(
        "floor-above-max", {"replicas.floor": 13}, "spec.replicas.floor", "at most replicas.max"
    ),
    _invalid(
        "default-floor-above-max",
        {"replicas.max": 1},
        "spec.replicas.floor",
        "at most replicas.max",
    ),
    _invalid(
        "warm-pool-above-max",
        {"warmPool.size": 11},
        "spec.warmPool.size",
        "at most replicas.max - replicas.floor",
    ),
    _invalid(
        "warm-pool-in-words", {"warmPool.size": "some"}, "spec.warmPool.size", '0 to 1000 or "auto"'
    ),
    _invalid(
        "negative-warm-pool", {"warmPool.size": -1}, "spec.warmPool.size", '0 to 1000 or "auto"'
    ),
    _invalid(
        "huge-warm-pool", {"warmPool.size": 1001}, "spec.warmPool.size", '0 to 1000 or "auto"'
    ),
    _invalid("warm-pool-as-boolean", {"warmPool.size": True}, "spec.warmPool.size", "integer"),
    _invalid(
        "scale-down-above-up",
        {"utilization": {"scaleUpPercent": 30, "scaleDownPercent": 30}},
        "spec.utilization.scaleDownPercent",
        "below utilization.scaleUpPercent",
    ),
    # Burst.
    _invalid(
        "no-providers", {"burst": {"driver": "Annotation"}}, "spec.burst.providers", "required"
    ),
    _invalid(
        "driver", {"burst.driver": "Nginx"}, "spec.burst.driver", "HTTPRoute", "LiteLLM", base=FULL
    ),
    _invalid(
        "route-missing",
        {"burst.routeRef": _GONE},
        "spec.burst.routeRef",
        "required with driver HTTPRoute",
        base=FULL,
    ),
    _invalid(
        "backend-missing",
        {"burst.providers.1.backendRef": _GONE},
        "spec.burst.providers",
        "a backendRef with driver HTTPRoute",
        base=FULL,
    ),
    _invalid(
        "backend-shared",
        {"burst.providers.1.backendRef.name": "together"},
        "spec.burst.providers",
        "a backendRef of their own",
        base=FULL,
    ),
    _invalid(
        "backend-is-local",
        {"burst.providers.1.backendRef.name": "llama-8b"},
        "spec.burst.providers",
        "other than routeRef.local",
        base=FULL,
    ),
    _invalid(
        "providers-of-one-name",
        {"burst": {"providers": [{"name": "a"}, {"name": "a"}]}},
        "spec.burst.providers",
        "unique",
    ),
    _invalid(
        "every-attempt-fails",
        {"burst.providers.0.errorShare": "1.0"},
        "spec.burst.providers[0].errorShare",
        'below "1"',
        base=FULL,
    ),
    _invalid(
        "more-failures-billed-than-there-are",
        {"burst.providers.0.billedErrorShare": "1.5"},
        "spec.burst.providers[0].billedErrorShare",
        'from "0" to "1"',
        base=FULL,
    ),
    _invalid(
        "retries-without-end",
        {"burst.providers.0.retries": [{"layer": "gateway", "most": 21}]},
        "spec.burst.providers[0].retries[0].most",
        "less than or equal to 20",
        base=FULL,
    ),
    _invalid(
        "a-price-key-of-nothing",
        {"burst.providers.0.priceKey": ""},
        "spec.burst.providers[0].priceKey",
        "at least 1 char",
        base=FULL,
    ),
    _invalid(
        "half-a-price",
        {"burst.providers.0.price": {"inputPerMillion": "0.18"}},
        "spec.burst.providers[0].price.outputPerMillion",
        "required",
        base=FULL,
    ),
    _invalid(
        "negative-budget",
        {"burst": _annotation_burst(perDay="-250")},
        "spec.burst.budget.perDay",
        _MONEY,
    ),
    _invalid(
        "unknown-time-zone",
        {"burst": _annotation_burst(timeZone="Mars/Olympus_Mons")},
        "spec.burst.budget.timeZone",
        "an IANA time zone",
    ),
    _invalid(
        "time-zone-as-offset",
        {"burst": _annotation_burst(timeZone="+02:00")},
        "spec.burst.budget.timeZone",
        "an IANA time zone",
    ),
    _invalid(
        "local-time-zone",
        {"burst": _annotation_burst(timeZone="Local")},
        "spec.burst.budget.timeZone",
        "an IANA time zone",
    ),
    # Schedules.
    _invalid(
        "cron-without-weekday",
        {"schedules": _schedule(cron="0 8 * *")},
        "spec.schedules[0].cron",
        _CRON,
    ),
    _invalid(
        "cron-in-words", {"schedules": _schedule(cron="@daily")}, "spec.schedules[0].cron", _CRON
    ),
    _invalid(
        "cron-with-seconds",
        {"schedules": _schedule(cron="0 0 8 * * 1")},
        "spec.schedules[0].cron",
        _CRON,
    ),
    _invalid(
        "cron-hour-24", {"schedules": _schedule(cron="0 24 * * *")}, "spec.schedules[0].cron", _CRON
    ),
    _invalid(
        "cron-day-0", {"schedules": _schedule(cron="0 8 0 * *")}, "spec.schedules[0].cron", _CRON
    ),
    _invalid(
        "cron-open-list", {"schedules": _schedule(cron="0, 8 * * *")}, "schedules[0].cron", _CRON
    ),
    _invalid(
        "schedule-time-zone",
        {"schedules": _schedule(timeZone="Berlin")},
        "spec.schedules[0].timeZone",
        "time zone",
    ),
    _invalid(
        "schedule-without-end",
        {"schedules": _schedule(duration=_GONE)},
        "spec.schedules[0].duration",
        "required",
    ),
    _invalid(
        "schedule-of-nothing",
        {"schedules": _schedule(replicas=_GONE)},
        "spec.schedules[0].replicas",
        "or requestsPerSecond must be set",
    ),
    _invalid(
        "schedule-of-both",
        {"schedules": _schedule(requestsPerSecond="5")},
        "spec.schedules[0].replicas",
        "not both",
    ),
    _invalid(
        "schedule-above-max",
        {"schedules": _schedule(replicas=13)},
        "spec.schedules",
        "at most replicas.max",
    ),
    _invalid("schedules-of-one-name", {"schedules": _schedule() * 2}, "spec.schedules", "unique"),
    _invalid(
        "burst-all-and-more", {"burst.maxFraction": "1.5"}, "maxFraction", '"0" to "1"', base=FULL
    ),
)

CASES = VALID + INVALID
