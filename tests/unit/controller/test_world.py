"""What the core is told of a pool, from what the API server and the metrics say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from spillway.adapters.kube.errors import Forbidden
from spillway.adapters.kube.records import ServiceRecord
from spillway.adapters.kube.scale import ScaleState
from spillway.adapters.kube.selectors import Requirement, Selector
from spillway.api.names import ROLE_LABEL, Role
from spillway.controller.watches import STALE_AFTER_SECONDS
from spillway.core.facts import (
    LengthQuantiles,
    MissingData,
    PodPhase,
    PoolFacts,
    TargetFacts,
    TargetKind,
)
from tests.unit.controller import fakes
from tests.unit.controller.fakes import NAMESPACE, Seams

SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
REPLICA_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
CUSTOM = {"apiVersion": "lws.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "pool"}


async def observed(seams: Seams, pool: Any = None) -> PoolFacts:
    await seams.observer.ask_prometheus()
    return await seams.world.facts(pool or fakes.pool(), time.time())


async def target_of(seams: Seams, pool: Any = None) -> TargetFacts:
    return (await observed(seams, pool)).targets["gpu"]


def steady() -> Seams:
    """A pool of two serving pods with samples, behind a Service that selects the role."""
    seams = Seams()
    fakes.put(seams.watches, fakes.pool(), fakes.deployment(), fakes.service())
    fakes.put(seams.watches, fakes.pod("a"), fakes.pod("b"))
    seams.prometheus.put("a", "b")
    return seams


async def test_a_steady_pool_has_all_its_facts_and_nothing_missing() -> None:
    facts = await observed(steady())
    target = facts.targets["gpu"]
    assert (target.kind, target.exists, target.owned) == (TargetKind.DEPLOYMENT, True, True)
    assert (target.resource_version, target.spec_replicas) == ("7", 2)
    assert {p.name for p in target.pods} == {"a", "b"}
    assert all(p.load is not None for p in target.pods)
    assert target.service_selects_role is True
    assert facts.missing == ()


async def test_lengths_are_those_of_the_pools_model_in_its_namespace() -> None:
    seams = steady()
    lengths = LengthQuantiles(1000.0, 3000.0, 100.0, 400.0)
    of_others = {(NAMESPACE, "another"): LengthQuantiles(), ("elsewhere", fakes.MODEL): lengths}
    seams.prometheus.more = {"lengths": of_others}
    assert (await observed(seams)).lengths is None
    seams.prometheus.more = {"lengths": {**of_others, (NAMESPACE, fakes.MODEL): lengths}}
    assert (await observed(seams)).lengths == lengths


async def test_another_apps_pods_are_not_the_pools() -> None:
    seams = steady()
    fakes.put(seams.watches, fakes.pod("c", app="other"))
    assert {p.name for p in (await target_of(seams)).pods} == {"a", "b"}


# Who may scale


async def test_the_older_of_two_pools_on_a_target_has_it() -> None:
    seams = steady()
    older = fakes.pool("older", target={"name": "pool"}, created_at=100.0)
    younger = fakes.pool("younger", target={"name": "pool"}, created_at=200.0)
    fakes.put(seams.watches, older, younger)
    fakes.drop(seams.watches, fakes.pool())
    assert (await target_of(seams, older)).contention is None
    other = (await target_of(seams, younger)).contention
    assert other is not None
    assert (other.kind, other.name) == ("InferencePool", "older")


@pytest.mark.parametrize("mode", ["Advise", "Paused"])
@pytest.mark.parametrize("created_at", [50.0, 300.0], ids=["older", "younger"])
async def test_a_pool_that_only_looks_contends_with_no_active_one(
    mode: str, created_at: float
) -> None:
    seams = steady()
    active = fakes.pool("active", target={"name": "pool"}, created_at=200.0)
    looks = fakes.pool("looks", target={"name": "pool"}, created_at=created_at, mode=mode)
    fakes.put(seams.watches, active, looks)
    fakes.drop(seams.watches, fakes.pool())
    assert (await target_of(seams, active)).contention is None
    other = (await target_of(seams, looks)).contention
    assert other is not None, "the pods' roles are the Active pool's: nothing is given back"
    assert other.name == "active"


async def test_pools_that_only_look_are_in_nobodys_way() -> None:
    seams = steady()
    both = [fakes.pool(name, target={"name": "pool"}, mode="Advise") for name in ("x", "y")]
    fakes.put(seams.watches, *both)
    fakes.drop(seams.watches, fakes.pool())
    for pool in both:
        assert (await target_of(seams, pool)).contention is None


async def test_an_autoscaler_on_the_target_contends_with_every_pool() -> None:
    seams = steady()
    fakes.put(seams.watches, fakes.autoscaler("elsewhere", "far"), fakes.autoscaler("pool"))
    other = (await target_of(seams)).contention
    assert other is not None
    assert (other.kind, other.name) == ("HorizontalPodAutoscaler", "hpa")


# Targets


async def test_a_target_that_does_not_exist_or_goes_is_said_so() -> None:
    seams = Seams()
    assert (await target_of(seams)).exists is False
    fakes.put(seams.watches, fakes.deployment(deleting=True))
    assert (await target_of(seams)).exists is False


async def test_a_stateful_set_is_ordinal() -> None:
    seams = Seams()
    fakes.put(seams.watches, fakes.deployment(kind="StatefulSet"))
    pool = fakes.pool(target={"kind": "StatefulSet", "name": "pool"})
    assert (await target_of(seams, pool)).kind is TargetKind.ORDINAL


async def test_an_unknown_kind_is_read_through_its_scale() -> None:
    seams = Seams()
    seams.scale.states["pool"] = ScaleState(3, "app=pool", "9", "u")
    fakes.put(seams.watches, fakes.pod("a"))
    target = await target_of(seams, fakes.pool(target=CUSTOM))
    assert (target.kind, target.spec_replicas) == (TargetKind.OTHER, 3)
    assert target.resource_version == "9"
    assert [p.name for p in target.pods] == ["a"]


async def test_an_unknown_kind_that_is_not_there_does_not_exist() -> None:
    assert (await target_of(Seams(), fakes.pool(target=CUSTOM))).exists is False


async def test_an_unknown_kind_that_can_not_be_read_holds_the_pool() -> None:
    seams = Seams()
    seams.scale.states["pool"] = Forbidden(403, "Forbidden", "may not get leaderworkersets/scale")
    with pytest.raises(Forbidden):
        await target_of(seams, fakes.pool(target=CUSTOM))


# Services and endpoints


async def test_services_that_ignore_the_role_and_no_service_at_all_differ() -> None:
    seams = steady()
    fakes.drop(seams.watches, fakes.service())
    assert (await target_of(seams)).service_selects_role is None
    fakes.put(seams.watches, ServiceRecord(NAMESPACE, "pool", {"app": "pool"}))
    assert (await target_of(seams)).service_selects_role is False


async def test_a_service_is_found_by_the_template_although_no_pod_runs() -> None:
    seams = steady()
    fakes.drop(seams.watches, fakes.pod("a"))
    fakes.drop(seams.watches, fakes.pod("b"))
    assert (await target_of(seams)).service_selects_role is True


async def test_the_role_in_the_targets_own_selector_is_told() -> None:
    seams = Seams()
    terms = Selector((Requirement(ROLE_LABEL, "In", ("serving",)),))
    fakes.put(seams.watches, fakes.deployment(selector=terms))
    assert (await target_of(seams)).role_in_selector is True


async def test_endpoints_are_asked_only_while_a_pod_drains() -> None:
    seams = steady()
    assert [p.in_endpoints for p in (await target_of(seams)).pods] == [None, None]
    assert seams.cluster.asked == []
    fakes.put(seams.watches, fakes.pod("c", role=Role.DRAINING))
    endpoint = {"addresses": ["10.9.9.9"], "targetRef": {"kind": "Pod", "name": "a"}}
    seams.cluster.answers[SLICES] = {"items": [{"endpoints": [endpoint]}]}
    listed = {p.name: p.in_endpoints for p in (await target_of(seams)).pods}
    assert listed == {"a": True, "b": False, "c": False}


async def test_endpoints_that_can_not_be_read_leave_the_drain_waiting() -> None:
    seams = steady()
    fakes.put(seams.watches, fakes.pod("c", role=Role.DRAINING))
    seams.cluster.answers[SLICES] = fakes.unavailable()
    assert {p.in_endpoints for p in (await target_of(seams)).pods} == {None}


# Rollouts


async def test_a_rollouts_revision_is_the_newest_replica_sets() -> None:
    seams = steady()
    fakes.put(seams.watches, fakes.deployment(rolling_out=True, revision_number="2"))
    owner = [{"uid": "uid-deployment-pool"}]
    sets = [
        {
            "metadata": {
                "ownerReferences": owner,
                "annotations": {"deployment.kubernetes.io/revision": number},
                "labels": {"pod-template-hash": f"hash{number}"},
            }
        }
        for number in "12"
    ]
    seams.cluster.answers[REPLICA_SETS] = {"items": sets}
    target = await target_of(seams)
    assert (target.rolling_out, target.update_revision) == (True, "hash2")


async def test_a_revision_that_can_not_be_read_is_unknown() -> None:
    seams = steady()
    fakes.put(seams.watches, fakes.deployment(rolling_out=True))
    seams.cluster.answers[REPLICA_SETS] = fakes.unavailable()
    assert (await target_of(seams)).update_revision == ""


# What is missing


async def test_a_pod_without_a_sample_is_missing_once_it_owes_one() -> None:
    seams = steady()
    fakes.put(seams.watches, fakes.pod("c", phase_since=time.time() - 30))
    assert (await observed(seams)).missing == (), "its first scrape is still to come"
    fakes.put(seams.watches, fakes.pod("c", phase_since=time.time() - 90))
    (missing,) = (await observed(seams)).missing
    assert "(c)" in missing.seen


async def test_pods_of_another_phase_or_role_owe_no_sample() -> None:
    seams = steady()
    fakes.put(
        seams.watches,
        fakes.pod("c", phase=PodPhase.STARTING),
        fakes.pod("d", role=Role.WARM),
    )
    assert (await observed(seams)).missing == ()


async def test_a_pod_that_answers_itself_is_not_missing_when_prometheus_is_down() -> None:
    seams = steady()
    seams.prometheus.failure = RuntimeError("down")
    seams.scraper.pages = {"a": fakes.page(running=3.0), "b": fakes.page(running=1.0)}
    pods = [(fakes.pod(name), fakes.pool().spec.metrics) for name in "ab"]
    await seams.observer.read_pods(pods)
    facts = await observed(seams)
    assert facts.missing == ()
    assert {p.load.running for p in facts.targets["gpu"].pods if p.load} == {3.0, 1.0}


async def test_samples_that_no_newer_answer_replaces_are_told() -> None:
    seams = steady()
    await seams.observer.ask_prometheus()
    facts = await seams.world.facts(fakes.pool(), time.time() + 62)
    assert all(p.load is None for p in facts.targets["gpu"].pods)
    assert "2 of 2 pods (a, b): stale" in facts.missing[-1].seen


async def test_a_page_of_another_model_is_told_when_prometheus_is_down() -> None:
    seams = steady()
    seams.prometheus.failure = RuntimeError("down")
    other = fakes.page(running=3.0, model_names=frozenset({"other"}))
    named = fakes.page(running=1.0, model_names=frozenset({fakes.MODEL, "an-adapter"}))
    seams.scraper.pages = {"a": other, "b": named}
    await seams.observer.read_pods([(fakes.pod(n), fakes.pool().spec.metrics) for n in "ab"])
    facts = await observed(seams)
    assert {p.name: p.load is not None for p in facts.targets["gpu"].pods} == {
        "a": False,
        "b": True,
    }
    assert facts.missing[0] == MissingData(
        "the pods' own pages", "1 of 2 pods (a): model names seen there instead of 'm': other"
    )


async def test_missing_gpu_series_concern_the_utilization_policy_alone() -> None:
    seams = steady()
    seams.prometheus.put("a", "b", gpu_utilization=None)
    assert (await observed(seams)).missing == ()
    (missing,) = (await observed(seams, fakes.pool(policy="Utilization"))).missing
    assert "no fresh GPU series" in missing.seen


async def test_another_models_load_says_nothing_of_the_pool() -> None:
    seams = steady()
    named = {(NAMESPACE, "a"): frozenset({"other"}), (NAMESPACE, "b"): frozenset({"m"})}
    seams.prometheus.more["model_names"] = named
    facts = await observed(seams)
    assert {p.name: p.load is None for p in facts.targets["gpu"].pods} == {"a": True, "b": False}
    (missing,) = facts.missing
    assert "other" in missing.seen


async def test_a_pool_that_needs_its_gateway_misses_it() -> None:
    pool = fakes.pool(demand={"source": "Gateway"})
    (missing,) = (await observed(steady(), pool)).missing
    assert missing.seen == "no gateway reports this pool"


async def test_a_stale_watch_is_missing_data_so_that_nothing_is_reduced() -> None:
    seams = steady()
    seams.watches.pods.informers[0].last_contact = time.monotonic() - STALE_AFTER_SECONDS - 1
    assert (await observed(seams)).missing == (
        MissingData("watch /api/v1/pods", "no sign of life for more than 180 s"),
    )
