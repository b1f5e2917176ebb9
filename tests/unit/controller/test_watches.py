"""The views on the watches are what a brute-force look at all records would give."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.kube.records import PodRecord, ServiceRecord, WorkloadRecord
from spillway.adapters.kube.selectors import Requirement, Selector, selector_matches
from spillway.api.inferencepool import TargetRef
from spillway.controller.watches import STALE_AFTER_SECONDS, InvalidPool, project_pool
from tests.unit.controller import fakes

NAMES = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.sampled_from(["n1", "n2"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier", "zone"]), NAMES, max_size=3)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(["In", "In", "NotIn", "Exists", "DoesNotExist"]))
    values = tuple(draw(st.lists(NAMES, min_size=1, max_size=2, unique=True)))
    key = draw(st.sampled_from(["app", "tier", "zone"]))
    return Requirement(key, operator, values if operator.endswith("In") else ())


SELECTORS = st.lists(requirements(), max_size=3).map(lambda terms: Selector(tuple(terms)))


@st.composite
def records(draw: st.DrawFn) -> PodRecord | WorkloadRecord | ServiceRecord:
    namespace, name = draw(NAMESPACES), draw(NAMES)
    kind = draw(st.sampled_from(["pod", "pod", "workload", "service"]))
    if kind == "pod":
        return fakes.pod(name, namespace=namespace, labels=draw(LABELS), phase_since=0.0)
    if kind == "workload":
        return fakes.deployment(name, namespace=namespace, selector=draw(SELECTORS))
    wanted = draw(LABELS.filter(bool))
    return ServiceRecord(namespace, name, wanted)


@given(
    changes=st.lists(st.tuples(st.booleans(), records()), max_size=12),
    asked=st.tuples(NAMESPACES, SELECTORS, LABELS),
)
def test_indexes_answer_as_a_look_at_every_record_would_after_every_change(
    changes: list[tuple[bool, Any]], asked: tuple[str, Selector, dict[str, str]]
) -> None:
    watches = fakes.watches()
    pools = [fakes.pool(name, namespace=n) for n in ("n1", "n2") for name in "abc"]
    fakes.put(watches, *pools)
    namespace, selector, labels = asked
    for added, record in changes:
        (fakes.put if added else fakes.drop)(watches, record)
        found = {(p.namespace, p.name) for p in watches.pods_of(namespace, selector)}
        assert found == {
            (p.namespace, p.name)
            for p in watches.pods.values()
            if p.namespace == namespace
            and selector.requirements
            and selector_matches(selector, p.labels)
        }
        services = {s.name for s in watches.services_of(namespace, labels)}
        assert services == {
            s.name
            for s in watches.services.values()
            if s.namespace == namespace and s.selector.items() <= labels.items()
        }
        pod = fakes.pod("x", namespace=namespace, labels=labels)
        assert {p.key for p in watches.pools_of_pod(pod)} == {
            f"{w.namespace}/{w.name}"
            for w in watches.deployments.values()
            if w.namespace == namespace and selector_matches(w.selector, labels)
        }


def test_a_selector_without_terms_selects_no_pod() -> None:
    watches = fakes.watches()
    fakes.put(watches, fakes.pod("p"))
    assert watches.pods_of(fakes.NAMESPACE, Selector()) == []


def test_pools_of_a_target_are_found_by_kind_and_name() -> None:
    watches = fakes.watches()
    fakes.put(
        watches,
        fakes.pool("one", target={"name": "web"}),
        fakes.pool("two", target={"name": "web"}),
        fakes.pool("set", target={"kind": "StatefulSet", "name": "web"}),
        fakes.pool("far", target={"name": "web"}, namespace="elsewhere"),
    )
    found = watches.pools_of(fakes.NAMESPACE, TargetRef(name="web"))
    assert {pool.name for pool in found} == {"one", "two"}


def test_a_bad_object_becomes_an_invalid_pool_that_says_which_field() -> None:
    projected = project_pool(fakes.pool_object(replicas={"floor": 5, "max": 2}, generation=3))
    assert isinstance(projected, InvalidPool)
    assert "spec.replicas.floor must be at most replicas.max, got 5" in projected.message
    assert (projected.key, projected.generation) == ("serving/pool", 3)
    watches = fakes.watches()
    fakes.put(watches, projected)
    assert watches.pools_of(fakes.NAMESPACE, TargetRef(name="pool")) == []


def test_what_managers_own_is_not_read_however_large_or_strange() -> None:
    plain = fakes.pool_object()
    with_fields = fakes.pool_object()
    with_fields["metadata"]["managedFields"] = [{"manager": "m", "fieldsV1": float("nan")}]
    assert project_pool(with_fields) == project_pool(plain)
    assert "managedFields" in with_fields["metadata"], "the object is the watch's own"


@pytest.mark.parametrize("changes", [{}, {"replicas": {"floor": 5, "max": 2}}])
def test_the_status_is_taken_along_and_no_part_of_what_is_checked(changes: Any) -> None:
    plain, raw = fakes.pool_object(**changes), fakes.pool_object(**changes)
    raw["status"] = {"desired": float("nan")}
    projected = project_pool(raw)
    assert projected.status_raw is raw["status"]
    assert replace(projected, status_raw={}) == project_pool(plain)
    assert project_pool({**plain, "status": ["?"]}).status_raw == {}


@pytest.mark.parametrize(
    "kind", ["pools", "pods", "deployments", "stateful_sets", "services", "autoscalers"]
)
def test_any_silent_watch_is_stale_and_named(kind: str) -> None:
    watches = fakes.watches()
    assert watches.stale() == ()
    informer = getattr(watches, kind).informers[0]
    informer.last_contact = time.monotonic() - STALE_AFTER_SECONDS - 1
    (stale,) = watches.stale()
    assert stale.query == f"watch {informer.path}"
    assert "180 s" in stale.seen


def test_what_is_not_listed_yet_is_named_with_the_servers_own_words() -> None:
    watches = fakes.watches()
    assert watches.unlisted() == []
    watches.pods.informers[0].synced.clear()
    watches.pods.informers[0].last_error = "403 Forbidden: may not list pods"
    assert watches.unlisted() == ["/api/v1/pods (403 Forbidden: may not list pods)"]


def test_watched_namespaces_have_an_informer_each() -> None:
    watches = fakes.watches("one", "two")
    assert [i.path for i in watches.pods.informers] == [
        "/api/v1/namespaces/one/pods",
        "/api/v1/namespaces/two/pods",
    ]
