"""Scale, pods, status, endpoints, revisions and the ledger, where a fault or a decision shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.kube import pods as pod_writes
from spillway.adapters.kube.endpoints import service_endpoints
from spillway.adapters.kube.errors import Conflict, LedgerFullError, NotFound, TargetUnsupported
from spillway.adapters.kube.ledger_store import LedgerStore
from spillway.adapters.kube.pods import PodChange, PodWriter, difference
from spillway.adapters.kube.projections import project_deployment, project_pod
from spillway.adapters.kube.revisions import update_revision
from spillway.adapters.kube.scale import ScaleTarget, ScaleWriter
from spillway.adapters.kube.status import PoolWriter
from spillway.api.names import (
    DELETION_COST_ANNOTATION,
    DO_NOT_DISRUPT_ANNOTATION,
    DRAIN_DEADLINE_ANNOTATION,
    ROLE_LABEL,
    Role,
)
from tests.unit.adapters.kube.fake_api import fail_times, status

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.records import PodRecord
    from tests.unit.adapters.kube.fake_api import FakeApi, Json

DEPLOYMENT = ScaleTarget("a", "apps/v1", "Deployment", "d")


def discovery(*resources: tuple[str, str]) -> Json:
    return {"resources": [{"name": name, "kind": kind} for name, kind in resources]}


async def test_a_plural_is_discovered_once(api: FakeApi, cluster: Cluster) -> None:
    api.objects["/apis/apps/v1"] = discovery(
        ("deployments", "Deployment"), ("deployments/scale", "Scale")
    )
    writer = ScaleWriter(cluster)
    for _ in range(3):
        assert await writer.resolve("apps/v1", "Deployment") == "deployments"
    assert len(api.requests("GET")) == 1


@pytest.mark.parametrize(
    ("api_version", "kind", "words"),
    [
        ("nobody.dev/v1", "Deployment", "does not know nobody.dev/v1; check targetRef.apiVersion"),
        ("apps/v1", "Deploymint", "apps/v1 has no kind Deploymint; check targetRef.kind"),
        ("apps/v1", "DaemonSet", "DaemonSet of apps/v1 has no scale subresource; a targetRef must"),
    ],
)
async def test_a_target_that_cannot_be_scaled_is_explained(
    api: FakeApi, cluster: Cluster, api_version: str, kind: str, words: str
) -> None:
    api.objects["/apis/apps/v1"] = discovery(("daemonsets", "DaemonSet"))
    api.absent.add("/apis/nobody.dev/v1")
    with pytest.raises(TargetUnsupported, match=words):
        await ScaleWriter(cluster).read(ScaleTarget("a", api_version, kind, "x"))


async def test_a_plural_is_asked_anew_after_a_404(api: FakeApi, cluster: Cluster) -> None:
    root, scale = "/apis/x.dev/v1", "/apis/x.dev/v1/namespaces/a/news/n/scale"
    api.objects[root] = discovery(("olds", "Thing"), ("olds/scale", "Scale"))
    writer, target = ScaleWriter(cluster), ScaleTarget("a", "x.dev/v1", "Thing", "n")
    with pytest.raises(NotFound):
        await writer.read(target)
    api.objects[root] = discovery(("news", "Thing"), ("news/scale", "Scale"))
    api.put(scale, {"spec": {}, "status": {"selector": "app=n"}})
    state = await writer.read(target)
    # The JSON of a Scale leaves a zero out.
    assert (state.replicas, state.selector) == (0, "app=n")


async def test_a_target_that_is_gone_was_not_written(api: FakeApi, cluster: Cluster) -> None:
    scale = "/apis/x.dev/v1/namespaces/a/things/n/scale"
    api.objects["/apis/x.dev/v1"] = discovery(("things", "Thing"), ("things/scale", "Scale"))
    api.put(scale, {"spec": {"replicas": 1}, "status": {"selector": "app=n"}})
    writer, target = ScaleWriter(cluster), ScaleTarget("a", "x.dev/v1", "Thing", "n")
    before = await writer.read(target)
    assert not writer.has_written(target, before.uid)
    state = await writer.write(target, 2, before.resource_version)
    assert writer.has_written(target, state.uid)
    assert not writer.has_written(target, "of another by that name")
    del api.objects[scale]
    with pytest.raises(NotFound):
        await writer.read(target)
    assert not writer.has_written(target, state.uid)


@pytest.mark.parametrize(
    ("replicas", "version", "words"),
    [(-1, "5", "must be 0 or more, got -1"), (1, "", "needs the resourceVersion")],
)
async def test_a_write_that_makes_no_sense_is_not_sent(
    api: FakeApi, cluster: Cluster, replicas: int, version: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        await ScaleWriter(cluster).write(DEPLOYMENT, replicas, version)
    assert not api.requests("PATCH")


def pod(labels: Any = None, annotations: Any = None) -> Json:
    return {
        "metadata": {
            "namespace": "a",
            "name": "p",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {},
    }


def record(raw: Json) -> PodRecord:
    found = project_pod(raw)
    assert found is not None
    return found


MARKED = pod(
    {ROLE_LABEL: "draining"},
    {
        DRAIN_DEADLINE_ANNOTATION: "2026-01-01T00:10:00Z",
        DELETION_COST_ANNOTATION: "-100",
        DO_NOT_DISRUPT_ANNOTATION: "true",
    },
)


@pytest.mark.parametrize(
    ("raw", "change", "expected"),
    [
        (pod(), PodChange(role=Role.WARM), {"labels": {ROLE_LABEL: "warm"}}),
        # A pod without the label serves already, but a Service that selects it needs the label.
        (pod(), PodChange(role=Role.SERVING), {"labels": {ROLE_LABEL: "serving"}}),
        (MARKED, PodChange(role=Role.DRAINING, deletion_cost=-100, do_not_disrupt=True), {}),
        (MARKED, PodChange(drain_deadline=1_767_226_200.4), {}),
        (
            MARKED,
            pod_writes.RELEASED,
            {
                "labels": {ROLE_LABEL: "serving"},
                "annotations": {
                    DRAIN_DEADLINE_ANNOTATION: None,
                    DELETION_COST_ANNOTATION: None,
                    DO_NOT_DISRUPT_ANNOTATION: None,
                },
            },
        ),
        (
            pod(),
            PodChange(drain_deadline=1_767_226_200, deletion_cost=-5, do_not_disrupt=True),
            {
                "annotations": {
                    DRAIN_DEADLINE_ANNOTATION: "2026-01-01T00:10:00Z",
                    DELETION_COST_ANNOTATION: "-5",
                    DO_NOT_DISRUPT_ANNOTATION: "true",
                }
            },
        ),
        (MARKED, PodChange(), {}),
    ],
)
def test_only_what_differs_is_written(raw: Json, change: PodChange, expected: Json) -> None:
    assert difference(record(raw), change) == expected


async def test_the_same_marks_twice_are_one_patch(api: FakeApi, cluster: Cluster) -> None:
    path = "/api/v1/namespaces/a/pods/p"
    raw = api.put(path, pod())
    writer, change = PodWriter(cluster), PodChange(role=Role.WARM, deletion_cost=3)
    now = await writer.write(record(raw), change)
    assert now is not None
    assert (now.role, now.deletion_cost) == (Role.WARM, 3)
    assert await writer.write(now, change) is now
    assert len(api.requests("PATCH")) == 1


async def test_a_pod_that_changed_since_is_a_conflict(api: FakeApi, cluster: Cluster) -> None:
    path = "/api/v1/namespaces/a/pods/p"
    old = record(api.put(path, pod()))
    api.put(path, pod())
    with pytest.raises(Conflict):
        await PodWriter(cluster).write(old, PodChange(role=Role.WARM))


POOL = "/apis/spillway.dev/v1alpha1/namespaces/a/inferencepools/p"


async def test_what_is_said_of_a_pool_carries_its_version(api: FakeApi, cluster: Cluster) -> None:
    seen = api.put(POOL, {"metadata": {"uid": "u"}})["metadata"]["resourceVersion"]
    writer = PoolWriter(cluster)
    version = await writer.write_overflow("a", "p", "u", seen, "{}")
    assert version == api.objects[POOL]["metadata"]["resourceVersion"]
    # Somebody edits the pool in between.
    api.put(POOL, {"metadata": {"uid": "u"}})
    with pytest.raises(Conflict):
        await writer.write_overflow("a", "p", "u", version, None)


async def test_no_write_to_a_pool_goes_without_a_version(api: FakeApi, cluster: Cluster) -> None:
    writer = PoolWriter(cluster)
    with pytest.raises(ValueError, match="a/p needs the resourceVersion"):
        await writer.write_status("a", "p", "u", "", {})
    with pytest.raises(ValueError, match="a/p needs the resourceVersion"):
        await writer.write_overflow("a", "p", "u", "", None)
    assert api.requests("PATCH") == []


async def test_every_listed_endpoint_counts(api: FakeApi, cluster: Cluster) -> None:
    root = "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"
    api.put(
        f"{root}/s-1",
        {
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "p1"}},
                {
                    "addresses": ["10.0.0.2"],
                    "targetRef": {"kind": "Pod", "name": "p2"},
                    "conditions": {"ready": False},
                },
            ]
        },
    )
    api.put(f"{root}/s-2", {"endpoints": [{"addresses": ["10.0.0.3"]}]})
    api.put(f"{root}/s-3", {"endpoints": None})
    listed = await service_endpoints(cluster, "a", "s")
    assert listed.pods == {"p1", "p2"}
    assert listed.lists("p2", None)
    assert listed.lists("p3", "10.0.0.3")
    assert not listed.lists("p4", "10.0.0.4")
    assert api.requests("GET")[0].query["labelSelector"] == "kubernetes.io/service-name=s"


async def test_the_newest_replica_set_names_the_revision(api: FakeApi, cluster: Cluster) -> None:
    def replica_set(revision: str, name: str, owner: str) -> Json:
        return {
            "metadata": {
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "labels": {"pod-template-hash": name},
                "ownerReferences": [{"uid": owner}],
            }
        }

    workload = project_deployment(
        {
            "metadata": {
                "namespace": "a",
                "name": "d",
                "uid": "u",
                "resourceVersion": "1",
                "annotations": {"deployment.kubernetes.io/revision": "2"},
            },
            "spec": {"selector": {"matchLabels": {"app": "d"}}},
        }
    )
    root = "/apis/apps/v1/namespaces/a/replicasets"
    api.put(f"{root}/r1", replica_set("1", "old", "u"))
    api.put(f"{root}/r2", replica_set("2", "foreign", "other"))
    assert not await update_revision(cluster, workload)
    api.put(f"{root}/r3", replica_set("2", "new", "u"))
    assert await update_revision(cluster, workload) == "new"
    stateful = replace(workload, kind="StatefulSet", update_revision="s")
    assert await update_revision(cluster, stateful) == "s"


def ledger(cluster: Cluster, shards: int = 4) -> LedgerStore:
    return LedgerStore(cluster, namespace="ops", name="ledger", shards=shards)


async def test_what_was_saved_is_loaded_by_another(api: FakeApi, cluster: Cluster) -> None:
    payloads = {f"ns{n}/pool-{n}": f'{{"usd": "{n}"}}\nsecond line' for n in range(30)}
    first = ledger(cluster)
    assert await first.load() == {}
    await first.save(payloads)
    assert await ledger(cluster).load() == payloads
    assert len(api.objects) == 4


async def test_a_change_writes_its_shard_alone(api: FakeApi, cluster: Cluster) -> None:
    store = ledger(cluster)
    await store.load()
    await store.save({f"a/{n}": "x" for n in range(30)})
    api.seen.clear()
    await store.save({"a/7": "y", "a/8": "x"})
    (patch,) = api.requests("PATCH")
    assert list(patch.body["data"].values()) == ["a/7\ny"]
    await store.save({"a/7": None})
    assert "a/7" not in await ledger(cluster).load()


async def test_another_number_of_shards_loses_and_doubles_nothing(cluster: Cluster) -> None:
    few = ledger(cluster, 1)
    await few.load()
    await few.save({f"a/{n}": "old" for n in range(20)})
    many = ledger(cluster, 16)
    await many.load()
    await many.save({f"a/{n}": "new" for n in range(10, 30)})
    expected = {f"a/{n}": "old" if n < 10 else "new" for n in range(30)}
    assert await ledger(cluster, 5).load() == expected


async def test_two_leaders_do_not_both_write(cluster: Cluster) -> None:
    store = ledger(cluster)
    await store.load()
    await store.save({"a/p": "1"})
    late, other = ledger(cluster), ledger(cluster)
    await late.load()
    await other.load()
    await other.save({"a/p": "2"})
    failed = await late.save({"a/p": "3"})
    assert isinstance(failed["a/p"], Conflict)
    assert await late.load() == {"a/p": "2"}


async def test_a_full_shard_is_refused_and_says_what_helps(cluster: Cluster) -> None:
    store = ledger(cluster, 1)
    await store.load()
    assert await store.save({"a/p": "1"}) == {}
    failed = await store.save({"a/q": "x" * 1_000_000})
    assert isinstance(failed["a/q"], LedgerFullError)
    assert "remove the entries of pools that are gone" in str(failed["a/q"])
    assert await store.load() == {"a/p": "1"}


async def test_a_full_shard_keeps_no_other_back_and_new_keys_go_elsewhere(
    cluster: Cluster,
) -> None:
    store = ledger(cluster, 2)
    await store.load()
    assert await store.save({"a/1": "x" * 600_000}) == {}
    # By their hash, about half of these belong on the full shard.
    small = {f"a/{n}": str(n) for n in range(2, 14)}
    assert await store.save(small) == {}
    full = await store.save({"a/1": "x" * 1_000_000, "a/2": "new"})
    assert list(full) == ["a/1"]
    again = await ledger(cluster, 2).load()
    assert (again["a/2"], again["a/13"], len(again)) == ("new", "13", 13)


async def test_a_shard_that_can_not_be_written_keeps_no_other_back(
    api: FakeApi, cluster: Cluster
) -> None:
    store = ledger(cluster)
    await store.load()
    payloads = {f"a/{n}": "1" for n in range(30)}
    assert await store.save(payloads) == {}
    broken = "/api/v1/namespaces/ops/configmaps/ledger-0"
    api.faults.append(fail_times(1, lambda: status(503, "ServiceUnavailable"), broken))
    failed = await store.save(dict.fromkeys(payloads, "2"))
    assert 0 < len(failed) < 30
    kept = {key for key, text in (await ledger(cluster).load()).items() if text == "1"}
    assert kept == set(failed)
    assert await store.save(dict.fromkeys(payloads, "2")) == {}


async def test_a_key_with_a_line_break_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="no line break"):
        await ledger(cluster).save({"a\nb": "x"})


def test_a_ledger_without_shards_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="1 shard or more, got 0"):
        ledger(cluster, 0)
