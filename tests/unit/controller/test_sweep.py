"""What belongs to no pool any more is given back, and nothing else is touched."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from spillway.adapters.kube.errors import Conflict
from spillway.api.names import Role
from spillway.controller.sweep import Sweep
from spillway.controller.watches import STALE_AFTER_SECONDS, InvalidPool
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams


def sweep(seams: Seams, *, read_only: bool = False) -> Sweep:
    return Sweep(
        watches=seams.watches,
        world=seams.world,
        pods=cast("Any", seams.pods),
        may_write=seams.lease.is_leader,
        read_only=read_only,
    )


def with_orphans(*names: str) -> Seams:
    seams = Seams()
    fakes.put(seams.watches, *(fakes.pod(name, app="gone", role=Role.WARM) for name in names))
    return seams


INVALID = InvalidPool(fakes.NAMESPACE, "bad", "u", 1, "spec is wrong", {}, "1")


async def test_pods_of_a_deleted_pool_serve_again_without_marks() -> None:
    seams = with_orphans("warm")
    fakes.put(seams.watches, fakes.pod("plain", app="gone"))
    fakes.put(seams.watches, fakes.pod("drains", app="gone", role=Role.DRAINING))
    await sweep(seams).run([], [])
    changes = {entry[1]: entry[2] for entry in seams.journal.of("pod")}
    assert changes.keys() == {"warm", "drains"}
    assert {change.role for change in changes.values()} == {Role.SERVING}
    assert {change.drain_deadline for change in changes.values()} == {None}


async def test_pods_of_a_living_pool_are_its_own() -> None:
    seams = Seams()
    fakes.put(seams.watches, fakes.deployment(), fakes.pod("a", role=Role.WARM))
    await sweep(seams).run([fakes.pool()], [])
    assert seams.journal == []


async def test_a_namespace_with_an_invalid_pool_is_left_alone() -> None:
    seams = with_orphans("warm")
    fakes.put(seams.watches, fakes.pod("far", app="gone", role=Role.WARM, namespace="far"))
    await sweep(seams).run([], [INVALID])
    assert [entry[1] for entry in seams.journal.of("pod")] == ["far"]


@pytest.mark.parametrize("kind", ["pools", "pods", "stateful_sets"])
async def test_nothing_is_swept_while_a_watch_is_stale(kind: str) -> None:
    seams = with_orphans("warm")
    informer = getattr(seams.watches, kind).informers[0]
    informer.last_contact = time.monotonic() - STALE_AFTER_SECONDS - 1
    await sweep(seams).run([], [])
    assert seams.journal == []


async def test_nothing_is_swept_before_the_pools_are_listed() -> None:
    seams = with_orphans("warm")
    seams.watches.pools.informers[0].synced.clear()
    await sweep(seams).run([], [])
    assert seams.journal == []
    seams.watches.pools.informers[0].missing = True
    await sweep(seams).run([], [])
    assert len(seams.journal) == 1, "without the CRD there are no pools, and that is known"


async def test_nothing_is_swept_read_only_or_without_the_lease() -> None:
    seams = with_orphans("warm")
    await sweep(seams, read_only=True).run([], [])
    seams.lease.leads = False
    await sweep(seams).run([], [])
    assert seams.journal == []


async def test_an_orphan_that_can_not_be_written_holds_up_no_other() -> None:
    seams = with_orphans("a", "b")
    seams.pods.failures["a"] = Conflict(409, "Conflict", "changed")
    await sweep(seams).run([], [])
    assert [entry[1] for entry in seams.journal.of("pod")] == ["b"]


async def test_a_server_that_does_not_answer_is_asked_once_a_pass() -> None:
    seams = with_orphans("a", "b")
    seams.pods.failures = {"a": fakes.unavailable(), "b": fakes.unavailable()}
    await sweep(seams).run([], [])
    del seams.pods.failures["b"]
    await sweep(seams).run([], [])
    assert seams.journal == [], "the first one fails again"


async def test_many_orphans_go_in_several_passes() -> None:
    seams = with_orphans(*(f"p{number}" for number in range(120)))
    for _ in range(3):
        before = len(seams.journal)
        await sweep(seams).run([], [])
        assert len(seams.journal) - before <= 50
        for entry in seams.journal[before:]:
            fakes.drop(seams.watches, fakes.pod(entry[1], app="gone"))
    assert len(seams.journal) == 120
