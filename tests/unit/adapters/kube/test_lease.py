from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.kube.lease import LeaderLease, unique_identity
from tests.unit.adapters.kube.fake_api import FakeApi, status, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spillway.adapters.kube.client import Cluster

PATH = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/spillway"


class Clock:
    """A clock that moves when told; pauses between tries stay real and short."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidate(cluster: Cluster, identity: str, clock: Clock, **options: Any) -> LeaderLease:
    return LeaderLease(
        cluster,
        namespace="ops",
        name="spillway",
        identity=identity,
        retry_seconds=0.01,
        clock=clock,
        wall_clock=lambda: 1_800_000_000.0 + clock.now,
        **options,
    )


@asynccontextmanager
async def running(*leases: LeaderLease) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(lease.run()) for lease in leases]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_of_two_leads(cluster: Cluster) -> None:
    clock = Clock()
    one, two = candidate(cluster, "one", clock), candidate(cluster, "two", clock)
    async with running(one, two):
        await until(lambda: one.is_leader() or two.is_leader())
        await until(lambda: one.leader == two.leader != "")
        await asyncio.sleep(0.1)
        assert one.is_leader() is not two.is_leader()


async def test_held_ends_at_the_deadline_by_the_monotonic_clock(
    api: FakeApi, cluster: Cluster
) -> None:
    """A process that was stopped (SIGSTOP) and goes on does not lead from its first moment on."""
    clock = Clock()
    lease = candidate(cluster, "one", clock)
    assert not lease.is_leader()
    async with running(lease):
        await until(lease.is_leader)
        api.faults.append(lambda _: status(503, "ServiceUnavailable"))
        await asyncio.sleep(0.05)
        assert lease.held(clock.now + 9.9)
        assert not lease.held(clock.now + 10.0)
        clock.now += 10
        assert not lease.is_leader()
        await until(lease.changed.is_set)
        api.faults.clear()
        epoch = lease.epoch
        await until(lease.is_leader)
        # Nobody else led in between.
        assert lease.epoch == epoch


async def test_a_dead_leader_is_followed_once_its_lease_has_run_out(cluster: Cluster) -> None:
    clock = Clock()
    one, two = candidate(cluster, "one", clock), candidate(cluster, "two", clock)
    async with running(one):
        await until(one.is_leader)
    async with running(two):
        await until(lambda: two.leader == "one")
        clock.now += 14.9
        await asyncio.sleep(0.1)
        assert not two.is_leader()
        assert not one.is_leader()
        clock.now += 0.2
        await until(two.is_leader)
        assert two.epoch == one.epoch + 1
        # The first comes back, finds out, and stays back.
        async with running(one):
            await until(lambda: one.leader == "two")
            assert not one.is_leader()


async def test_a_restarted_process_follows_its_forerunner_at_once_in_an_epoch_of_its_own(
    cluster: Cluster,
) -> None:
    clock = Clock()
    before, after = candidate(cluster, "pod", clock), candidate(cluster, "pod", clock)
    async with running(before):
        await until(before.is_leader)
    async with running(after):
        await until(after.is_leader)
        assert after.epoch == before.epoch + 1


async def test_a_released_lease_is_taken_at_once(api: FakeApi, cluster: Cluster) -> None:
    clock = Clock()
    one, two = candidate(cluster, "one", clock), candidate(cluster, "two", clock)
    async with running(one):
        await until(one.is_leader)
    async with running(two):
        await until(lambda: two.leader == "one")
        await one.release()
        assert not one.is_leader()
        # No time has passed on the clock that leases run out by.
        await until(two.is_leader)
    assert two.epoch == one.epoch + 1
    assert api.objects[PATH]["spec"]["leaseDurationSeconds"] == 15


async def test_release_does_not_take_what_another_holds(api: FakeApi, cluster: Cluster) -> None:
    clock = Clock()
    one, two = candidate(cluster, "one", clock), candidate(cluster, "two", clock)
    async with running(one):
        await until(one.is_leader)
    clock.now += 100
    async with running(two):
        await until(lambda: two.leader == "one")
        clock.now += 100
        await until(two.is_leader)
        await one.release()
    assert api.objects[PATH]["spec"]["holderIdentity"] == "two"


async def test_a_renewal_that_was_cut_off_by_the_stop_does_not_keep_the_lease(
    api: FakeApi, cluster: Cluster
) -> None:
    """The API server renewed, the operator stopped before the answer: its version is old."""
    lease = candidate(cluster, "one", Clock())
    async with running(lease):
        await until(lease.is_leader)
    api.put(PATH, api.objects[PATH])
    await lease.release()
    assert api.objects[PATH]["spec"]["holderIdentity"] == ""


async def test_release_never_raises(api: FakeApi, cluster: Cluster) -> None:
    lease = candidate(cluster, "one", Clock())
    await lease.release()
    async with running(lease):
        await until(lease.is_leader)
    api.faults.append(lambda _: status(503, "ServiceUnavailable"))
    await lease.release()
    assert not lease.is_leader()


async def test_a_lost_answer_costs_no_leadership(api: FakeApi, cluster: Cluster) -> None:
    """The API server renewed, but its answer never came: the next renewal is a conflict."""
    clock = Clock()
    lease = candidate(cluster, "one", clock)
    async with running(lease):
        await until(lease.is_leader)
        lease.changed.clear()
        api.put(PATH, api.objects[PATH])
        version = api.version
        await until(lambda: api.version > version + 2)
        assert lease.is_leader()
        assert not lease.changed.is_set()


async def test_epochs_grow_although_somebody_deletes_the_lease(
    api: FakeApi, cluster: Cluster
) -> None:
    clock = Clock()
    one, two = candidate(cluster, "one", clock), candidate(cluster, "two", clock)
    async with running(one):
        await until(one.is_leader)
    clock.now += 120
    del api.objects[PATH]
    async with running(two):
        await until(two.is_leader)
    assert two.epoch > one.epoch


async def test_the_other_s_longer_duration_is_respected(api: FakeApi, cluster: Cluster) -> None:
    clock = Clock()
    api.put(PATH, {"spec": {"holderIdentity": "slow", "leaseDurationSeconds": 60}})
    lease = candidate(cluster, "one", clock)
    async with running(lease):
        await until(lambda: lease.leader == "slow")
        clock.now += 59
        await asyncio.sleep(0.1)
        assert not lease.is_leader()
        clock.now += 2
        await until(lease.is_leader)


@pytest.mark.parametrize(
    "durations", [{"lease_seconds": 5}, {"renew_deadline_seconds": 0.001}, {"lease_seconds": 10}]
)
def test_durations_that_make_two_leaders_are_refused(
    cluster: Cluster, durations: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match="0 < retry < renew deadline < lease duration"):
        candidate(cluster, "one", Clock(), **durations)


def test_an_identity_is_one_processs_own() -> None:
    assert unique_identity() != unique_identity()
