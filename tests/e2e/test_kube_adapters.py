"""The Kubernetes adapters against a real API server: what only one can prove."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.kube import backoff, projections
from spillway.adapters.kube.client import Cluster as Client
from spillway.adapters.kube.endpoints import service_endpoints
from spillway.adapters.kube.errors import ApiError, Conflict, Forbidden, NotFound, TargetUnsupported
from spillway.adapters.kube.events import EventRecorder, ObjectReference
from spillway.adapters.kube.informer import Informer
from spillway.adapters.kube.lease import LeaderLease, unique_identity
from spillway.adapters.kube.ledger_store import LedgerStore
from spillway.adapters.kube.paths import resource_path
from spillway.adapters.kube.pods import RELEASED, PodChange, PodWriter
from spillway.adapters.kube.records import PodRecord, carry_pod
from spillway.adapters.kube.revisions import update_revision
from spillway.adapters.kube.scale import ScaleTarget, ScaleWriter
from spillway.adapters.kube.selectors import parse_selector, selector_matches
from spillway.adapters.kube.status import PoolWriter
from spillway.api.names import KIND, OVERFLOW_ANNOTATION, Role
from spillway.core.facts import PodPhase
from tests.e2e.rig.cluster_base import UnsupportedError
from tests.e2e.rig.kubeapi import ApiError as ApiErrorOfRig
from tests.e2e.rig.workloads import (
    scale_target,
    service,
    vllm_deployment,
    vllm_statefulset,
)
from tests.pool_table import MINIMAL, Case

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.e2e.rig.cluster import Cluster

GIT = "git"


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with await Client.connect(str(cluster.kubeconfig)) as connected:
        yield connected


async def eventually(
    what: str, look: Callable[[], Any | Awaitable[Any]], seconds: float = 20.0
) -> Any:
    """Look until it is true; informers go on meanwhile, which rig.waiting would not let them."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return seen
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def informed_pods(client: Client, namespace: str) -> AsyncIterator[Informer[PodRecord]]:
    informer = Informer(
        client,
        resource_path("v1", "pods", namespace),
        projections.project_pod,
        carry=carry_pod,
    )
    task = asyncio.ensure_future(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 20)
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def phases(informer: Informer[PodRecord]) -> list[PodPhase]:
    return sorted(record.phase for record in informer.store.values())


async def test_pods_are_followed_from_pending_to_gone(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    async with informed_pods(client, namespace) as pods:
        cluster.api.apply(vllm_deployment("d", namespace, replicas=2, startup_seconds=1))
        await eventually("both start", lambda: phases(pods) == [PodPhase.STARTING] * 2)
        await eventually("both are ready", lambda: phases(pods) == [PodPhase.READY] * 2)
        for record in pods.store.values():
            assert record.ready_at is not None
            # Times in the API have whole seconds.
            assert record.ready_at - record.created_at >= 0
            assert record.revision
            assert record.ip
            assert record.owner is not None
            assert record.owner.kind == "ReplicaSet"
            assert record.has_readiness_probe
        cluster.api.delete("Deployment", "d", namespace)
        await eventually("all are gone", lambda: not pods.store)


async def test_a_pod_that_fits_nowhere_is_unschedulable(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    async with informed_pods(client, namespace) as pods:
        cluster.api.apply(vllm_deployment("d", namespace, gpus=1000))
        await eventually("it waits for a node", lambda: phases(pods) == [PodPhase.UNSCHEDULABLE])


async def test_no_ghosts_after_the_api_server_was_killed(
    cluster: Cluster, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        apiserver = cluster.component("kube-apiserver")
    except UnsupportedError as error:
        pytest.skip(str(error))
    # Time to change things between the server's return and the informer's.
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 8.0)
    monkeypatch.setattr(backoff, "NEXT_SECONDS", 1.0)
    cluster.api.apply(vllm_deployment("d", namespace, replicas=2))
    cluster.api.apply(vllm_deployment("e", namespace, replicas=1))
    async with informed_pods(client, namespace) as pods:
        await eventually("three are ready", lambda: phases(pods) == [PodPhase.READY] * 3)
        before = set(pods.store)
        apiserver.kill()
        apiserver.start()
        await eventually("the informer has noticed", lambda: pods.last_error is not None)

        def answers() -> bool:
            try:
                cluster.api.delete("Deployment", "d", namespace)
            except (ApiErrorOfRig, OSError):
                return False
            return True

        await eventually("the API server is back", answers, 60)
        await eventually("only e's pod is there", lambda: len(pods.store) == 1, 60)
        assert set(pods.store) < before
        assert pods.last_error is None


async def test_our_replicas_survive_git_dropping_the_field(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    manifest = vllm_deployment("d", namespace, replicas=3)
    cluster.api.apply(manifest, manager=GIT)
    scale, target = ScaleWriter(client), ScaleTarget(namespace, "apps/v1", "Deployment", "d")
    await settled(scale, target)
    state = await scale.read(target)
    assert state.replicas == 3
    await scale.write(target, 3, state.resource_version)
    del manifest["spec"]["replicas"]
    cluster.api.apply(manifest, manager=GIT)
    assert (await scale.read(target)).replicas == 3
    record = projections.project_deployment(cluster.api.get("Deployment", "d", namespace))
    assert record.scale_owned
    assert record.replicas_managers == ("spillway-scale",)


async def test_without_ownership_the_field_falls_to_one(cluster: Cluster, namespace: str) -> None:
    """The reason for all of it; if this ever fails, Kubernetes has changed."""
    manifest = vllm_deployment("d", namespace, replicas=3)
    cluster.api.apply(manifest, manager=GIT)
    del manifest["spec"]["replicas"]
    cluster.api.apply(manifest, manager=GIT)
    assert cluster.api.get("Deployment", "d", namespace)["spec"]["replicas"] == 1


async def settled(scale: ScaleWriter, target: ScaleTarget) -> None:
    """Wait until the target's status stops changing its resourceVersion."""

    async def quiet() -> bool:
        first = await scale.read(target)
        await asyncio.sleep(0.5)
        return (await scale.read(target)).resource_version == first.resource_version

    await eventually(f"{target} has settled", quiet)


async def test_a_decision_on_an_old_state_is_a_conflict(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(vllm_statefulset("s", namespace, replicas=1), manager=GIT)
    scale, target = ScaleWriter(client), ScaleTarget(namespace, "apps/v1", "StatefulSet", "s")
    await settled(scale, target)
    old = await scale.read(target)
    cluster.kubectl("-n", namespace, "scale", "statefulset", "s", "--replicas=2")
    with pytest.raises(Conflict):
        await scale.write(target, 5, old.resource_version)
    assert (await scale.read(target)).replicas == 2


async def test_a_custom_kind_is_scaled_as_well(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    manifest = scale_target("x", namespace, replicas=2)
    cluster.api.apply(manifest, manager=GIT)
    scale = ScaleWriter(client)
    target = ScaleTarget(namespace, "rig.spillway.dev/v1", "ScaleTarget", "x")
    state = await scale.read(target)
    written = await scale.write(target, 2, state.resource_version)
    del manifest["spec"]["replicas"]
    cluster.api.apply(manifest, manager=GIT)
    assert (await scale.read(target)).replicas == 2
    with pytest.raises(Conflict):
        await scale.write(target, 7, state.resource_version)
    state = await scale.read(target)
    assert written.uid == state.uid
    assert (await scale.write(target, 7, state.resource_version)).replicas == 7


async def test_what_cannot_be_scaled_is_explained(client: Client, namespace: str) -> None:
    scale = ScaleWriter(client)
    with pytest.raises(TargetUnsupported, match="has no scale subresource"):
        await scale.read(ScaleTarget(namespace, "apps/v1", "DaemonSet", "x"))
    with pytest.raises(TargetUnsupported, match=r"does not know nobody\.dev/v1"):
        await scale.read(ScaleTarget(namespace, "nobody.dev/v1", "Thing", "x"))
    with pytest.raises(NotFound):
        await scale.read(ScaleTarget(namespace, "apps/v1", "Deployment", "x"))


async def test_a_rollout_shows_and_names_its_revision(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    manifest = vllm_deployment("d", namespace, replicas=2, startup_seconds=2)
    cluster.api.apply(manifest)

    def look() -> Any:
        return projections.project_deployment(cluster.api.get("Deployment", "d", namespace))

    await eventually("it is rolled out", lambda: look().ready_replicas == 2)
    first = await update_revision(client, look())
    manifest["spec"]["template"]["metadata"]["annotations"]["changed"] = "yes"
    cluster.api.apply(manifest)
    assert look().rolling_out
    await eventually("a rollout with its ReplicaSet", lambda: look().revision_number == "2")
    second = await eventually("its revision", lambda: update_revision(client, look()))
    assert second != first
    async with informed_pods(client, namespace) as pods:
        await eventually(
            "all pods are new", lambda: {p.revision for p in pods.store.values()} == {second}, 40
        )
    await eventually("the rollout is over", lambda: not look().rolling_out)


async def test_a_role_takes_a_pod_out_of_its_service_and_back(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(vllm_deployment("d", namespace), service("d", namespace))
    writer = PodWriter(client)
    async with informed_pods(client, namespace) as pods:
        await eventually("it is ready", lambda: phases(pods) == [PodPhase.READY])
        (pod,) = pods.store.values()

        async def listed() -> bool:
            found = await service_endpoints(client, namespace, "d")
            return found.lists(pod.name, pod.ip)

        await eventually("the Service lists it", listed)
        deadline = float(int(time.time()) + 60)
        drained = await writer.write(
            pod,
            PodChange(
                role=Role.DRAINING,
                drain_deadline=deadline,
                deletion_cost=-100,
                do_not_disrupt=True,
            ),
        )
        assert drained is not None
        assert (drained.role, drained.drain_deadline, drained.deletion_cost) == (
            Role.DRAINING,
            deadline,
            -100,
        )
        started = time.monotonic()

        async def unlisted() -> bool:
            return not await listed()

        await eventually("the Service lists it no more", unlisted)
        assert time.monotonic() - started < 5
        with pytest.raises(Conflict):
            await writer.write(pod, PodChange(role=Role.WARM))
        released = await writer.write(drained, RELEASED)
        assert released is not None
        assert (released.role, released.drain_deadline, released.do_not_disrupt) == (
            Role.SERVING,
            None,
            False,
        )
        await eventually("the Service lists it again", listed)


async def test_a_new_pod_of_the_same_name_is_left_alone(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(vllm_statefulset("s", namespace))
    async with informed_pods(client, namespace) as pods:
        await eventually("it is ready", lambda: phases(pods) == [PodPhase.READY])
        old = pods.store[namespace, "s-0"]
        assert old.ordinal == 0
        cluster.api.delete("Pod", "s-0", namespace)
        await eventually(
            "another has its name",
            lambda: (p := pods.store.get((namespace, "s-0"))) and p.uid != old.uid,
        )
        with pytest.raises(ApiError) as caught:
            await PodWriter(client).write(old, PodChange(role=Role.WARM))
        assert isinstance(caught.value, Conflict)


def pool(namespace: str, name: str) -> dict[str, Any]:
    manifest = Case("minimal", MINIMAL).object
    return {**manifest, "metadata": {"name": name, "namespace": namespace}}


async def test_status_and_overflow_are_applied_and_removed(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(pool(namespace, "p"), manager=GIT)
    meta = cluster.api.get(KIND, "p", namespace)["metadata"]
    writer, it = PoolWriter(client), (namespace, "p", meta["uid"])
    first = {"observedGeneration": 1, "replicas": {"serving": 2}}
    version = await writer.write_status(*it, meta["resourceVersion"], first)
    version = await writer.write_status(*it, version, {"observedGeneration": 1})
    version = await writer.write_overflow(*it, version, '{"fraction": 0.5}')
    found = cluster.api.get(KIND, "p", namespace)
    assert found["metadata"]["resourceVersion"] == version
    assert "serving" not in found["status"].get("replicas", {})
    assert found["metadata"]["annotations"] == {OVERFLOW_ANNOTATION: '{"fraction": 0.5}'}
    assert found["metadata"]["generation"] == 1
    # Git applies its manifest again, which names no annotation: ours stays.
    cluster.api.apply(pool(namespace, "p"), manager=GIT)
    version = cluster.api.get(KIND, "p", namespace)["metadata"]["resourceVersion"]
    await writer.write_overflow(*it, version, None)
    found = cluster.api.get(KIND, "p", namespace)
    assert "annotations" not in found["metadata"]
    assert "finalizers" not in found["metadata"]


async def test_a_pool_that_was_edited_since_is_left_as_it_is(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(pool(namespace, "p"), manager=GIT)
    meta = cluster.api.get(KIND, "p", namespace)["metadata"]
    writer, it = PoolWriter(client), (namespace, "p", meta["uid"])
    edited = pool(namespace, "p")
    edited["spec"]["replicas"] = {**edited["spec"]["replicas"], "max": 7}
    cluster.api.apply(edited, manager=GIT)
    with pytest.raises(Conflict):
        await writer.write_status(*it, meta["resourceVersion"], {"observedGeneration": 1})
    with pytest.raises(Conflict):
        await writer.write_overflow(*it, meta["resourceVersion"], "{}")
    found = cluster.api.get(KIND, "p", namespace)
    assert found.get("status", {}) == {}
    assert "annotations" not in found["metadata"]
    version = await writer.write_overflow(*it, found["metadata"]["resourceVersion"], "{}")
    await writer.write_status(*it, version, {"observedGeneration": 2})


async def test_nothing_is_written_to_a_pool_that_is_gone(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(pool(namespace, "p"), manager=GIT)
    meta = cluster.api.get(KIND, "p", namespace)["metadata"]
    cluster.api.delete(KIND, "p", namespace)
    writer, it = PoolWriter(client), (namespace, "p", meta["uid"])
    with pytest.raises((NotFound, Conflict)):
        await writer.write_status(*it, meta["resourceVersion"], {"observedGeneration": 1})
    for value in ("{}", None):
        with pytest.raises((NotFound, Conflict)):
            await writer.write_overflow(*it, meta["resourceVersion"], value)
    assert cluster.api.find(KIND, "p", namespace) is None
    # Another pool of its name does not inherit its overflow, and its writer learns of it.
    cluster.api.apply(pool(namespace, "p"), manager=GIT)
    version = cluster.api.get(KIND, "p", namespace)["metadata"]["resourceVersion"]
    for known in (meta["resourceVersion"], version):
        with pytest.raises(Conflict):
            await writer.write_overflow(*it, known, "{}")
        with pytest.raises(Conflict):
            await writer.write_status(*it, known, {"observedGeneration": 9})
    assert "annotations" not in cluster.api.get(KIND, "p", namespace)["metadata"]


async def test_events_are_taken_and_counted(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    cluster.api.apply(pool(namespace, "p"))
    meta = cluster.api.get(KIND, "p", namespace)["metadata"]
    subject = ObjectReference("spillway.dev/v1alpha1", KIND, namespace, "p", meta["uid"])
    recorder = EventRecorder(client)
    task = asyncio.ensure_future(recorder.run())
    for _ in range(2):
        recorder.emit(subject, "Scaled", "2 to 3 replicas", now=time.time(), warning=True)
    await recorder.flush(10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert recorder.failed_total == 0
    shown = cluster.kubectl("-n", namespace, "events", "--for", "inferencepools.spillway.dev/p")
    assert "2 to 3 replicas" in shown
    assert "x2" in shown
    assert "Warning" in shown


def lease(client: Client, namespace: str) -> LeaderLease:
    return LeaderLease(
        client,
        namespace=namespace,
        name="spillway",
        identity=unique_identity(),
        lease_seconds=3,
        renew_deadline_seconds=2,
        retry_seconds=0.2,
    )


async def test_leadership_passes_on(client: Client, namespace: str) -> None:
    one, two, three = (lease(client, namespace) for _ in range(3))
    tasks = [asyncio.ensure_future(one.run())]
    await eventually("the first leads", one.is_leader)
    tasks.append(asyncio.ensure_future(two.run()))
    await eventually("the second knows", lambda: two.leader == one.identity)
    # Killed: it neither renews nor releases.
    tasks[0].cancel()
    killed_at = time.monotonic()
    await eventually("the second leads", two.is_leader)
    took = time.monotonic() - killed_at
    assert not one.is_leader()
    assert 2 <= took < 3 + 1.5
    assert two.epoch == one.epoch + 1
    # Released: the third need not wait.
    tasks.append(asyncio.ensure_future(three.run()))
    await eventually("the third knows", lambda: three.leader == two.identity)
    tasks[1].cancel()
    released_at = time.monotonic()
    await two.release()
    await eventually("the third leads", three.is_leader)
    assert time.monotonic() - released_at < 1.5
    assert three.epoch == two.epoch + 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_ledger_survives_us(client: Client, namespace: str) -> None:
    first = LedgerStore(client, namespace=namespace)
    assert await first.load() == {}
    payloads = {f"team-{n}/{'x' * 200}.{n}": f'{{"usd": "{n}.25"}}' for n in range(50)}
    await first.save(payloads)
    second = LedgerStore(client, namespace=namespace)
    assert await second.load() == payloads
    key = next(iter(payloads))
    await second.save({key: "changed"})
    refused = await first.save({key: "too late"})
    assert isinstance(refused[key], Conflict)
    assert (await first.load())[key] == "changed"


async def test_a_missing_right_is_named(cluster: Cluster, namespace: str) -> None:
    kubeconfig = cluster.kubeconfig_as("viewer", namespace, cluster_role="view")
    async with await Client.connect(str(kubeconfig)) as client:
        with pytest.raises(Forbidden, match="check the ClusterRole") as caught:
            await client.merge_patch(
                resource_path("v1", "pods", namespace, "p"), {"metadata": {}}, "me"
            )
        assert f"may not patch pods {namespace}/p" in str(caught.value)


async def test_a_scales_selector_finds_the_pods(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    manifest = vllm_deployment("d", namespace, replicas=1)
    manifest["spec"]["selector"]["matchExpressions"] = [
        {"key": "app", "operator": "In", "values": ["d", "e"]},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    cluster.api.apply(manifest)
    target = ScaleTarget(namespace, "apps/v1", "Deployment", "d")
    state = await ScaleWriter(client).read(target)
    selector = parse_selector(state.selector)
    async with informed_pods(client, namespace) as pods:
        await eventually("its pod is there", lambda: bool(pods.store))
        (pod,) = pods.store.values()
        assert selector_matches(selector, pod.labels)
        record = projections.project_deployment(cluster.api.get("Deployment", "d", namespace))
        assert selector_matches(record.selector, pod.labels)
        assert not selector_matches(selector, {**pod.labels, "old": "x"})
