from __future__ import annotations

from typing import Any

import pytest

from spillway.adapters.kube import projections
from spillway.adapters.kube.records import Owner, carry_pod
from spillway.adapters.kube.selectors import Requirement, Selector
from spillway.api.names import (
    DELETION_COST_ANNOTATION,
    DO_NOT_DISRUPT_ANNOTATION,
    DRAIN_DEADLINE_ANNOTATION,
    ROLE_LABEL,
    Role,
)
from spillway.api.timestamps import format_time
from spillway.core.facts import PodPhase

T0 = 1_800_000_000.0


def at(seconds: float) -> str:
    return format_time(T0 + seconds)


def condition(kind: str, value: str, seconds: float, reason: str = "") -> dict[str, str]:
    return {"type": kind, "status": value, "lastTransitionTime": at(seconds), "reason": reason}


def pod(*conditions: dict[str, str], status: Any = None, spec: Any = None, **meta: Any) -> Any:
    return {
        "metadata": {
            "namespace": "serving",
            "name": "llama-0",
            "uid": "u1",
            "resourceVersion": "5",
            "creationTimestamp": at(0),
            **meta,
        },
        "spec": {"containers": [{"name": "vllm"}], **(spec or {})},
        "status": {"phase": "Pending", "conditions": list(conditions), **(status or {})},
    }


SCHEDULED = condition("PodScheduled", "True", 1)


@pytest.mark.parametrize(
    ("raw", "phase", "since"),
    [
        pytest.param(pod(), PodPhase.STARTING, 0, id="just made"),
        pytest.param(
            pod(condition("PodScheduled", "False", 3, "Unschedulable")),
            PodPhase.UNSCHEDULABLE,
            3,
            id="no node fits",
        ),
        pytest.param(
            pod(condition("PodScheduled", "False", 0, "SchedulingGated")),
            PodPhase.UNSCHEDULABLE,
            0,
            id="waits for quota",
        ),
        pytest.param(
            pod(SCHEDULED, condition("Ready", "False", 2), status={"startTime": at(2)}),
            PodPhase.STARTING,
            1,
            id="loads weights",
        ),
        pytest.param(
            pod(SCHEDULED, condition("Ready", "True", 90), status={"startTime": at(2)}),
            PodPhase.READY,
            90,
            id="serves",
        ),
        pytest.param(
            pod(SCHEDULED, condition("Ready", "False", 500), status={"startTime": at(2)}),
            PodPhase.UNREADY,
            500,
            id="served once",
        ),
        pytest.param(
            pod(
                SCHEDULED,
                condition("Ready", "True", 90),
                deletionTimestamp=at(630),
                deletionGracePeriodSeconds=30,
            ),
            PodPhase.TERMINATING,
            600,
            id="told to go",
        ),
    ],
)
def test_the_phase_of_a_pod(raw: Any, phase: PodPhase, since: float) -> None:
    record = projections.project_pod(raw)
    assert record is not None
    assert (record.phase, record.phase_since) == (phase, T0 + since)


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_finished_pod_is_no_replica(phase: str) -> None:
    assert projections.project_pod(pod(status={"phase": phase})) is None


def test_what_else_is_kept_of_a_pod() -> None:
    record = projections.project_pod(
        pod(
            condition("Ready", "True", 90),
            status={"podIP": "10.0.0.7"},
            spec={
                "nodeName": "n1",
                "containers": [{"name": "sidecar"}, {"name": "vllm", "readinessProbe": {}}],
            },
            labels={
                ROLE_LABEL: "warm",
                "controller-revision-hash": "r2",
                "apps.kubernetes.io/pod-index": "4",
            },
            annotations={
                DRAIN_DEADLINE_ANNOTATION: at(120),
                DELETION_COST_ANNOTATION: "-100",
                DO_NOT_DISRUPT_ANNOTATION: "true",
            },
            ownerReferences=[
                {"kind": "Other", "name": "o", "uid": "o"},
                {"kind": "StatefulSet", "name": "llama", "uid": "s", "controller": True},
            ],
        )
    )
    assert record is not None
    facts = record.facts(in_endpoints=True, load=None)
    assert facts.role is Role.WARM
    assert facts.revision == "r2"
    assert facts.ordinal == 4
    assert facts.drain_deadline == T0 + 120
    assert facts.deletion_cost == -100
    assert facts.ready_at == T0 + 90
    assert facts.has_readiness_probe
    assert (facts.ip, facts.node, facts.in_endpoints) == ("10.0.0.7", "n1", True)
    assert record.do_not_disrupt
    assert record.owner == Owner("StatefulSet", "llama", "s")


def test_a_pod_without_our_marks_serves() -> None:
    for labels in ({}, {ROLE_LABEL: "boss"}):
        record = projections.project_pod(pod(labels=labels))
        assert record is not None
        assert record.role is Role.SERVING
        assert not record.role_labelled


def test_marks_that_users_spoilt_count_as_absent() -> None:
    spoilt = {DRAIN_DEADLINE_ANNOTATION: "tomorrow", DELETION_COST_ANNOTATION: "cheap"}
    record = projections.project_pod(pod(annotations=spoilt))
    assert record is not None
    assert record.drain_deadline is None
    assert record.deletion_cost == 0


def test_an_ordinal_is_a_stateful_sets_alone() -> None:
    def owner(kind: str) -> list[dict[str, Any]]:
        return [{"kind": kind, "name": "x", "uid": "y", "controller": True}]

    by_name = projections.project_pod(pod(ownerReferences=owner("StatefulSet")))
    of_deployment = projections.project_pod(pod(ownerReferences=owner("ReplicaSet")))
    assert by_name is not None
    assert of_deployment is not None
    assert (by_name.ordinal, of_deployment.ordinal) == (0, None)


def test_a_pod_that_was_seen_ready_does_not_start_again() -> None:
    """Readiness lost within the second of the first status looks like starting in the object."""
    ready = projections.project_pod(pod(condition("Ready", "True", 3), status={"startTime": at(2)}))
    lost = projections.project_pod(pod(condition("Ready", "False", 4), status={"startTime": at(2)}))
    again = projections.project_pod(pod(condition("Ready", "True", 60)))
    other = projections.project_pod(pod(uid="u2"))
    assert ready is not None
    assert lost is not None
    assert again is not None
    assert other is not None
    assert lost.phase is PodPhase.STARTING
    carried = carry_pod(ready, lost)
    assert (carried.phase, carried.ready_at) == (PodPhase.UNREADY, T0 + 3)
    assert carry_pod(carried, again).ready_at == T0 + 3
    assert carry_pod(ready, other) is other


@pytest.mark.parametrize("broken", [{}, {"metadata": {}}, {"metadata": {"creationTimestamp": "?"}}])
def test_a_malformed_pod_raises_for_the_informer_to_tell(broken: Any) -> None:
    with pytest.raises((KeyError, ValueError)):
        projections.project_pod(broken)


def test_a_pod_without_a_birthday_says_so() -> None:
    with pytest.raises(ValueError, match="creationTimestamp is absent"):
        projections.project_pod(pod(creationTimestamp=None))


def deployment(status: Any = None, spec: Any = None, **meta: Any) -> Any:
    return {
        "metadata": {"namespace": "a", "name": "d", "uid": "u", "resourceVersion": "1", **meta},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": {}, **(spec or {})},
        "status": status or {},
    }


def test_what_is_kept_of_a_deployment() -> None:
    record = projections.project_deployment(
        deployment(
            {"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 2},
            {
                "replicas": 3,
                "selector": {
                    "matchLabels": {"app": "d"},
                    "matchExpressions": [{"key": "tier", "operator": "Exists"}],
                },
                "template": {
                    "metadata": {"labels": {"app": "d"}},
                    "spec": {"containers": [{"readinessProbe": {}}]},
                },
            },
            generation=4,
            annotations={"deployment.kubernetes.io/revision": "7"},
            managedFields=[
                {
                    "manager": "spillway-scale",
                    "subresource": "scale",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}},
                },
                {"manager": "git", "fieldsV1": {"f:spec": {"f:template": {}}}},
                {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            ],
        )
    )
    assert record.spec_replicas == 3
    assert not record.rolling_out
    assert record.has_readiness_probe
    assert record.revision_number == "7"
    assert record.replicas_managers == ("spillway-scale", "kubectl")
    assert record.scale_owned
    assert record.selector == Selector(
        (Requirement("app", "In", ("d",)), Requirement("tier", "Exists"))
    )


def test_a_deployment_that_does_not_say_wants_one() -> None:
    record = projections.project_deployment(deployment())
    assert record.spec_replicas == 1
    assert not record.scale_owned


@pytest.mark.parametrize(
    ("kind", "generation", "status", "spec", "rolling"),
    [
        ("Deployment", 2, {"observedGeneration": 1}, {}, True),
        ("Deployment", 1, {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 1}, {}, True),
        (
            "Deployment",
            1,
            {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 4},
            {},
            False,
        ),
        (
            "StatefulSet",
            1,
            {"observedGeneration": 1, "replicas": 3, "currentRevision": "a", "updateRevision": "b"},
            {},
            True,
        ),
        (
            "StatefulSet",
            1,
            {"observedGeneration": 1, "replicas": 3, "currentRevision": "a", "updateRevision": "a"},
            {},
            False,
        ),
        # On purpose at two revisions, for as long as somebody likes.
        (
            "StatefulSet",
            1,
            {
                "observedGeneration": 1,
                "replicas": 3,
                "updatedReplicas": 1,
                "currentRevision": "a",
                "updateRevision": "b",
            },
            {"updateStrategy": {"rollingUpdate": {"partition": 2}}},
            False,
        ),
        (
            "StatefulSet",
            1,
            {"observedGeneration": 1, "replicas": 3, "currentRevision": "a", "updateRevision": "b"},
            {"updateStrategy": {"type": "OnDelete"}},
            False,
        ),
    ],
)
def test_when_a_rollout_is_under_way(
    kind: str, generation: int, status: Any, spec: Any, *, rolling: bool
) -> None:
    raw = deployment(status, spec, generation=generation)
    assert projections.project_workload(raw, kind=kind).rolling_out is rolling


def test_autoscalers_and_services() -> None:
    hpa = projections.project_autoscaler(
        {
            "metadata": {"namespace": "a", "name": "h"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}},
        }
    )
    assert (hpa.target_api_version, hpa.target_kind, hpa.target_name) == (
        "apps/v1",
        "Deployment",
        "d",
    )
    service = projections.project_service(
        {"metadata": {"namespace": "a", "name": "s"}, "spec": {"selector": {"app": "d"}}}
    )
    assert service is not None
    assert service.selects({"app": "d", "more": "x"})
    assert not service.selects({"app": "e"})
    headless = {"metadata": {"namespace": "a", "name": "s"}, "spec": {"clusterIP": "None"}}
    assert projections.project_service(headless) is None
