"""A LeaderWorkerSet's group is one replica: as far as its last pod, lost with its first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.kube.scale import ScaleState
from spillway.controller.groups import GROUP_LABEL, SET_LABEL, WORKER_LABEL, replicas_of
from spillway.core.economics import gpu_usd_per_replica_hour
from spillway.core.facts import PodPhase
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.adapters.kube.records import PodRecord
    from spillway.adapters.kube.selectors import Selector

TARGET = {"apiVersion": "lws.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "pool"}


def member(group: int, worker: int, **changes: Any) -> PodRecord:
    labels = {SET_LABEL: "pool", GROUP_LABEL: str(group), WORKER_LABEL: str(worker), "app": "pool"}
    return fakes.pod(f"pool-{group}-{worker}", labels=labels, **changes)


def replicas(*pods: PodRecord, interrupted: str = "") -> list[tuple[str, PodPhase, bool]]:
    def members(_: str, selector: Selector) -> Iterable[PodRecord]:
        wanted = {r.key: r.values[0] for r in selector.requirements}
        return [p for p in pods if wanted.items() <= p.labels.items()]

    found = replicas_of(pods, members, lambda node: node == interrupted)
    return [(pod.name, pod.phase, lost) for pod, lost in found]


def test_a_group_is_one_replica_and_its_leader_stands_for_it() -> None:
    pods = [member(group, worker) for group in range(2) for worker in range(4)]
    ready = PodPhase.READY
    assert replicas(*pods) == [("pool-0-0", ready, False), ("pool-1-0", ready, False)]


@pytest.mark.parametrize(
    "phase",
    [PodPhase.STARTING, PodPhase.UNREADY, PodPhase.UNSCHEDULABLE, PodPhase.TERMINATING],
)
def test_it_is_as_far_as_its_last_pod(phase: PodPhase) -> None:
    pods = [member(0, 0), member(0, 1), member(0, 2, phase=phase), member(1, 0)]
    assert replicas(*pods) == [("pool-0-0", phase, False), ("pool-1-0", PodPhase.READY, False)]


def test_a_notice_to_one_of_its_nodes_takes_all_of_it() -> None:
    pods = [member(0, 0), member(0, 1, node="spot"), member(1, 0), member(1, 1)]
    assert [lost for _, _, lost in replicas(*pods, interrupted="spot")] == [True, False]


def test_other_pods_are_replicas_of_their_own() -> None:
    assert [name for name, _, _ in replicas(fakes.pod("a"), fakes.pod("b"))] == ["a", "b"]


async def test_the_world_counts_groups_and_prices_one_by_all_of_its_gpus() -> None:
    seams = Seams()
    seams.scale.states["pool"] = ScaleState(2, f"{SET_LABEL}=pool,{WORKER_LABEL}=0", "9", "u")
    for group in range(2):
        for worker in range(2):
            fakes.put(seams.watches, member(group, worker))
    pool = fakes.pool(target=TARGET)
    (variant,) = pool.spec.variants
    await seams.observer.ask_prometheus()
    target = (await seams.world.facts(pool, time.time())).targets[variant.name]
    assert sorted(pod.name for pod in target.pods) == ["pool-0-0", "pool-1-0"]
    assert target.spec_replicas == 2
    eight = variant.model_copy(
        update={"accelerator": variant.accelerator.model_copy(update={"per_replica": 8})}
    )
    one, whole = gpu_usd_per_replica_hour(variant), gpu_usd_per_replica_hour(eight)
    assert one is not None
    assert whole == 8 * one
