"""The CRD on a real API server: it accepts and refuses what pydantic does, and fills in the same.

Objects are sent with dryRun=All: the server validates, runs CEL, fills in defaults and answers what
it would have stored, so that sixty objects leave nothing behind.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillway.api.conditions import WantedCondition, merge_conditions
from spillway.api.names import GROUP
from spillway.api.reasons import ConditionType, Reason
from spillway.api.status import (
    CostStatus,
    DemandStatus,
    InferencePoolStatus,
    OverflowStatus,
    ReplicaStatus,
)
from spillway.api.validation import InvalidPoolError, parse
from tests.e2e.rig.kubeapi import ApiError
from tests.e2e.rig.workloads import gaie_crd
from tests.pool_table import FULL, INVALID, MINIMAL, VALID, Case, changed, paths

if TYPE_CHECKING:
    from tests.e2e.rig.cluster import Cluster

Object = dict[str, Any]


def _in(namespace: str, case: Case) -> Object:
    manifest = case.object
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}


def _dry_create(cluster: Cluster, pool: Object) -> Object:
    """What the server would store; raises ApiError with its words where it refuses."""
    path = cluster.api.path("InferencePool", pool["metadata"]["namespace"])
    query = {"dryRun": "All", "fieldValidation": "Ignore"}
    answer: Object = cluster.api.request("POST", path, query=query, body=pool)
    return answer


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_server_accepts_what_pydantic_accepts(cluster: Cluster, case: Case) -> None:
    stored = _dry_create(cluster, _in("default", case))
    assert parse(stored).spec == parse(case.object).spec


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name)
def test_server_refuses_by_field_and_what_it_accepts(cluster: Cluster, case: Case) -> None:
    with pytest.raises(ApiError) as caught:
        _dry_create(cluster, _in("default", case))
    assert caught.value.status == 422
    message = str(caught.value).casefold()
    assert [words for words in case.says if words.casefold() not in message] == []


#: What tends to be written where something else belongs.
NUMBERS = (None, True, 0, 1, -1, 1.5, 10**12)
TEXTS = (
    "",
    "0",
    "1",
    "-1",
    "1e3",
    "0.50",
    "auto",
    "AUTO",
    "2s",
    "0s",
    "1d",
    " 2s",
    "a",
    "A",
    "a b",
)
MORE_TEXTS = (
    "a/b",
    "a\n",
    "..",
    "v1",
    "apps/v1",
    "/x",
    "UTC",
    "Europe",
    "Local",
    "\u0663",
    "x" * 300,
)
GROUPS: tuple[Any, ...] = ([], {}, [{}], [None], ["a"], {"name": "a"})
STRANGE = st.sampled_from((*NUMBERS, *TEXTS, *MORE_TEXTS, *GROUPS)) | st.text(max_size=5)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(path=st.sampled_from(paths(FULL)), value=STRANGE)
def test_server_and_pydantic_agree_on_anything_in_any_place(
    cluster: Cluster, path: str, value: Any
) -> None:
    pool = _in("default", Case("strange", changed(FULL, {path: value})))
    try:
        _dry_create(cluster, pool)
        refusal = None
    except ApiError as error:
        refusal = str(error)
    try:
        parse(pool)
        problem = None
    except InvalidPoolError as error:
        problem = str(error)
    assert (refusal is None) == (problem is None), (refusal, problem)


@pytest.mark.parametrize(
    "changes",
    [{}, {"burst": {"providers": [{"name": "together"}]}}, {"latency": {"ttft": "500ms"}}],
    ids=["minimal", "burst", "part-of-a-group"],
)
def test_server_fills_in_pydantics_defaults(cluster: Cluster, changes: dict[str, Any]) -> None:
    case = Case("defaults", changed(MINIMAL, changes))
    stored = _dry_create(cluster, _in("default", case))
    assert stored["spec"] == parse(case.object).spec.model_dump(mode="json", exclude_none=True)


def test_unknown_fields_are_pruned(cluster: Cluster) -> None:
    case = Case("from-a-newer-release", changed(MINIMAL, {"zones": 3, "replicas.perZone": 1}))
    stored = _dry_create(cluster, _in("default", case))
    assert "zones" not in stored["spec"]
    assert stored["spec"]["replicas"] == {"floor": 2, "max": 12, "surviveZoneLoss": False}


def test_target_of_a_variant_must_not_change(cluster: Cluster, namespace: str) -> None:
    pool = cluster.api.create(_in(namespace, Case("moving", FULL)))
    variants = copy.deepcopy(pool["spec"]["variants"])
    variants[1]["targetRef"]["name"] = "elsewhere"
    with pytest.raises(ApiError, match="can't be changed; add a variant with another name") as e:
        cluster.api.patch("InferencePool", "moving", namespace, {"spec": {"variants": variants}})
    assert "spec.variants[1].targetRef" in str(e.value)


def test_variants_may_be_reordered_added_and_removed(cluster: Cluster, namespace: str) -> None:
    pool = cluster.api.create(_in(namespace, Case("growing", FULL)))
    first, second = pool["spec"]["variants"]
    third = {"name": "third", "targetRef": {"name": "third"}}
    for variants in ([second, first], [second, third], [first]):
        patched = cluster.api.patch(
            "InferencePool", "growing", namespace, {"spec": {"variants": variants}}
        )
        assert [v["name"] for v in patched["spec"]["variants"]] == [v["name"] for v in variants]


def _status(now: float) -> InferencePoolStatus:
    return InferencePoolStatus(
        observed_generation=1,
        replicas=ReplicaStatus(serving=3, warm=1, desired=4),
        demand=DemandStatus(requests_per_second=12.5, queue=4.0, source="Gateway"),
        cost=CostStatus(gpu_per_hour=14.0, api_per_hour=0.75, total_per_hour="14.75"),
        overflow=OverflowStatus(fraction=0.07, percent="7%", in_flight=384, reason="Shortage"),
        conditions=merge_conditions(
            (),
            [WantedCondition(ConditionType.READY, status=True, reason=Reason.RECONCILED)],
            1,
            now,
        ),
    )


def test_status_is_kept_whole_and_kubectl_prints_it(cluster: Cluster, namespace: str) -> None:
    cluster.api.create(_in(namespace, Case("shown", MINIMAL)))
    status = _status(1_800_000_000.0).model_dump(mode="json", exclude_none=True)
    stored = cluster.api.patch(
        "InferencePool", "shown", namespace, {"status": status}, subresource="status"
    )
    assert stored["status"] == status
    header, row = cluster.kubectl("get", "spool", "--namespace", namespace).splitlines()
    assert header.split() == [
        "NAME", "MODEL", "FLOOR", "SERVING", "WARM", "DESIRED", "OVERFLOW", "$/H", "READY", "AGE",
    ]  # fmt: skip
    assert row.split()[:-1] == [
        "shown", "meta-llama/Llama-3.1-8B-Instruct", "2", "3", "1", "4", "7%", "14.75", "True",
    ]  # fmt: skip


def test_spec_and_status_are_written_apart(cluster: Cluster, namespace: str) -> None:
    cluster.api.create(_in(namespace, Case("apart", MINIMAL)))
    patch = {"spec": {"mode": "Paused"}, "status": {"replicas": {"serving": 9}}}
    patched = cluster.api.patch("InferencePool", "apart", namespace, patch)
    assert patched["spec"]["mode"] == "Paused"
    assert "status" not in patched


def test_every_field_is_explained(cluster: Cluster) -> None:
    text = cluster.kubectl("explain", f"inferencepools.{GROUP}.spec.burst.budget.timeZone")
    assert "IANA time zone in which days and months begin." in text


def test_the_other_inferencepool_lives_beside_ours(cluster: Cluster, namespace: str) -> None:
    other = gaie_crd()
    if cluster.api.find("CustomResourceDefinition", other["metadata"]["name"]) is None:
        cluster.install_crd(other)
    group, version = other["spec"]["group"], other["spec"]["versions"][0]["name"]
    cluster.api.create(_in(namespace, Case("ours", MINIMAL)))
    cluster.api.create(
        {
            "apiVersion": f"{group}/{version}",
            "kind": "InferencePool",
            "metadata": {"name": "theirs", "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}]},
        }
    )
    names = ("get", "--output=name", "--namespace", namespace)
    for resource in (f"inferencepools.{GROUP}", "spool", "spillway"):
        assert cluster.kubectl(*names, resource).split() == [f"inferencepool.{GROUP}/ours"]
    assert cluster.kubectl(*names, f"inferencepools.{group}").split() == [
        f"inferencepool.{group}/theirs"
    ]
