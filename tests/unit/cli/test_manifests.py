"""What ``spillway validate`` says of a pool beside the objects around it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from spillway.cli.manifests.files import Manifest
from spillway.cli.manifests.finding import Findings
from spillway.cli.manifests.sense import check
from spillway.core.pricebook import ModelPrice, PriceBook, PriceList
from tests.pool_table import changed
from tests.unit.controller.fakes import MODEL, NAMESPACE, pool_object

META: dict[str, Any] = {"namespace": NAMESPACE, "name": "chat"}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": META,
    "spec": {
        "selector": {"matchLabels": {"app": "chat"}},
        "template": {
            "metadata": {"labels": {"app": "chat", "spillway.dev/role": "serving"}},
            "spec": {
                "terminationGracePeriodSeconds": 600,
                "containers": [
                    {
                        "name": "vllm",
                        "args": ["--model", "/models/x", "--served-model-name", MODEL],
                        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
                        "resources": {"limits": {"nvidia.com/gpu": 1}},
                    }
                ],
            },
        },
    },
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": META,
    "spec": {"selector": {"app": "chat", "spillway.dev/role": "serving"}},
}
TEMPLATE = "spec.template.spec"
CONTAINER = f"{TEMPLATE}.containers.0"
BURST: dict[str, Any] = {"providers": [{"name": "together", "model": "llama-8b"}]}


def quota(gpus: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"namespace": NAMESPACE, "name": "gpus"},
        "spec": {"hard": {"requests.nvidia.com/gpu": str(gpus)}, **spec},
    }


def found(*objects: dict[str, Any], prices: PriceBook | None = None) -> Findings:
    """What is found about the first pool."""
    results = check([Manifest("f.yaml", deepcopy(raw)) for raw in objects], prices)
    return results[0].findings


def test_a_whole_namespace_that_fits_has_nothing_to_say() -> None:
    assert found(pool_object("chat"), DEPLOYMENT, SERVICE, quota(8)) == Findings()


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        ("spec.template.metadata.labels", {"app": "chat"}, "lacks the label spillway.dev/role"),
        (
            "spec.selector.matchLabels",
            {"app": "chat", "spillway.dev/role": "serving"},
            "selector names spillway.dev/role",
        ),
        (f"{CONTAINER}.readinessProbe", None, "no container has a readinessProbe"),
        (
            f"{CONTAINER}.args",
            ["--served-model-name=other"],
            f"other, and spec.modelName is {MODEL}",
        ),
    ],
)
def test_a_workload_that_can_never_work_is_a_problem(at: str, value: Any, says: str) -> None:
    (problem,) = found(pool_object("chat"), changed(DEPLOYMENT, {at: value}), SERVICE).problems
    assert says in problem
    assert f"Deployment {NAMESPACE}/chat" in problem


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (f"{CONTAINER}.resources.limits", {"nvidia.com/gpu": 2}, "asks for 2 nvidia.com/gpu"),
        ("spec.replicas", 3, "names replicas"),
        (f"{TEMPLATE}.terminationGracePeriodSeconds", None, "terminationGracePeriodSeconds is 30"),
    ],
)
def test_a_workload_that_works_otherwise_than_thought_is_a_warning(
    at: str, value: Any, says: str
) -> None:
    findings = found(pool_object("chat"), changed(DEPLOYMENT, {at: value}), SERVICE)
    (warning,) = findings.warnings
    assert says in warning
    assert findings.problems == []


def test_a_service_without_the_role_label_rules_out_a_warm_pool_and_a_drain() -> None:
    service = changed(SERVICE, {"spec.selector": {"app": "chat"}})
    plain = found(pool_object("chat"), DEPLOYMENT, service)
    assert plain.problems == []
    assert "lacks spillway.dev/role: serving" in plain.warnings[0]
    assert "no drain" in plain.warnings[0]
    warm = found(pool_object("chat", warmPool={"size": 1}), DEPLOYMENT, service)
    assert "no warm pool" in warm.problems[0]


def test_a_service_of_other_pods_is_none_of_the_pools() -> None:
    other = changed(SERVICE, {"spec.selector": {"app": "other"}})
    findings = found(pool_object("chat"), DEPLOYMENT, other)
    assert findings.problems == findings.warnings == []
    assert "no Service" in findings.unchecked[0]


def test_what_is_in_another_namespace_is_not_compared() -> None:
    elsewhere = changed(DEPLOYMENT, {"metadata.namespace": "elsewhere", "spec.replicas": 3})
    findings = found(pool_object("chat"), elsewhere)
    assert findings.warnings == []
    assert findings.unchecked == [
        "Deployment chat (variant gpu) and its Service: not in these files"
    ]


@pytest.mark.parametrize(
    ("kind", "version", "reference"),
    [
        ("HorizontalPodAutoscaler", "autoscaling/v2", {"kind": "Deployment", "name": "chat"}),
        ("ScaledObject", "keda.sh/v1alpha1", {"name": "chat"}),
    ],
)
def test_another_autoscaler_on_the_target_is_a_problem(
    kind: str, version: str, reference: dict[str, str]
) -> None:
    rival = {
        "apiVersion": version,
        "kind": kind,
        "metadata": META,
        "spec": {"scaleTargetRef": reference},
    }
    (problem,) = found(pool_object("chat"), DEPLOYMENT, SERVICE, rival).problems
    assert f"{kind} {NAMESPACE}/chat also scales Deployment chat" in problem


def test_a_floor_above_the_quota_is_a_problem_and_a_max_above_it_a_warning() -> None:
    pool = pool_object("chat", replicas={"floor": 3, "max": 8})
    (problem,) = found(pool, quota(2)).problems
    assert problem == (
        f"spec.replicas.floor 3 needs 3 GPUs, and ResourceQuota {NAMESPACE}/gpus allows 2"
    )
    (warning,) = found(pool, quota(4)).warnings
    assert "spec.replicas.max 8 needs 8 GPUs" in warning
    assert found(pool, quota(8)).warnings == []


def test_floors_that_only_together_exceed_the_quota_are_a_problem() -> None:
    pools = [pool_object(name, replicas={"floor": 3, "max": 3}) for name in ("a", "b")]
    (problem,) = found(*pools, quota(5)).problems
    assert "floors of a, b together need 6 GPUs" in problem


def test_a_quota_of_some_pods_alone_says_nothing() -> None:
    pool = pool_object("chat", replicas={"floor": 3, "max": 8})
    assert found(pool, quota(2, scopes=["BestEffort"])).problems == []


def test_two_active_pools_on_one_workload_are_a_problem_and_an_advising_one_is_none() -> None:
    first, second = pool_object("a", target={"name": "x"}), pool_object("b", target={"name": "x"})
    assert "InferencePool b scales the same workload" in found(first, second).problems[0]
    assert found(first, changed(second, {"spec.mode": "Advise"})).problems == []


def test_a_pool_that_is_there_twice_is_a_problem() -> None:
    assert found(pool_object("a"), pool_object("a")).problems == [
        "the pool is there twice; the one applied last would win"
    ]


def test_prices_are_looked_up_as_the_operator_does() -> None:
    pool = changed(
        pool_object("chat", burst=BURST),
        {
            "spec.variants.0.price": None,
            "spec.variants.0.accelerator": {"type": "NVIDIA-H100"},
        },
    )
    assert found(pool).unchecked[-1].startswith("price of variant gpu, provider together")
    models = {"together_ai/llama-8b": ModelPrice(0.2, 0.2)}
    problems = found(pool, prices=PriceBook(price_map=PriceList(models=models))).problems
    gpu, provider = problems
    assert "accelerator.type NVIDIA-H100 (OnDemand) is not in the price catalog" in gpu
    assert "no price list has together/llama-8b" in provider
    assert "did you mean priceKey: together_ai/llama-8b?" in provider
    ended = {"llama-8b": ModelPrice(0.2, 0.2, deprecated_at=0.0)}
    (warning,) = found(pool, prices=PriceBook(price_map=PriceList(models=ended))).warnings
    assert "ended 1970-01-01" in warning


def test_declared_prices_need_no_list() -> None:
    assert found(pool_object("chat"), DEPLOYMENT, SERVICE, prices=PriceBook()) == Findings()


def test_the_route_is_searched_as_the_operator_does() -> None:
    burst = {
        "driver": "HTTPRoute",
        "routeRef": {"name": "chat", "local": "chat"},
        "providers": [{**BURST["providers"][0], "backendRef": {"name": "together"}}],
    }
    pool = pool_object("chat", burst=burst)
    assert "HTTPRoute chat: not in these files" in found(pool).unchecked
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": META,
        "spec": {"rules": [{"backendRefs": [{"name": "chat", "port": 8000}]}]},
    }
    (problem,) = found(pool, route).problems
    assert problem.endswith("has no backendRef together; it has chat")


def test_misspelt_fields_are_named_with_the_nearest_one() -> None:
    pool = pool_object("chat", warmpool={"size": 1})
    pool["spec"]["variants"][0]["price"]["perGpuHour"] = "3"
    pool["sepc"] = {}
    assert found(pool).problems == [
        "spec.variants[0].price.perGpuHour is no field of it; there are perAcceleratorHour",
        "spec.warmpool is no field of it; did you mean warmPool?",
        "sepc is no field of it; did you mean spec?",
    ]


@pytest.mark.parametrize(
    "strange",
    [
        changed(DEPLOYMENT, {f"{TEMPLATE}.containers": 3}),
        changed(DEPLOYMENT, {f"{TEMPLATE}.terminationGracePeriodSeconds": "long"}),
        {"apiVersion": "v1", "kind": "Service", "metadata": [], "spec": "text"},
        {"apiVersion": ["v1"], "kind": 7},
    ],
)
def test_strange_objects_of_other_kinds_end_nothing(strange: dict[str, Any]) -> None:
    findings = found(pool_object("chat"), strange)
    assert findings.problems == []
    assert findings.unchecked
