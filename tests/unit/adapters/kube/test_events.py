from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from spillway.adapters.kube.events import SERIES_SECONDS, EventRecorder, ObjectReference
from tests.unit.adapters.kube.fake_api import FakeApi, fail_times, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from spillway.adapters.kube.client import Cluster

POOL = ObjectReference("spillway.dev/v1alpha1", "InferencePool", "a", "llama", "u1")
NOW = 1_800_000_000.0


@asynccontextmanager
async def recording(
    cluster: Cluster, clock: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(cluster, instance="test", clock=clock)
    task = asyncio.ensure_future(recorder.run())
    try:
        yield recorder
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_event_says_what_happened_to_whom(api: FakeApi, cluster: Cluster) -> None:
    async with recording(cluster) as recorder:
        recorder.emit(POOL, "Scaled", "2 to 3 replicas", now=NOW, action="Scale", warning=True)
        await recorder.flush(5)
    (seen,) = api.requests("POST")
    assert seen.path == "/apis/events.k8s.io/v1/namespaces/a/events"
    assert seen.body["regarding"]["uid"] == "u1"
    assert seen.body["eventTime"] == "2027-01-15T08:00:00.000000Z"
    said = {name: seen.body[name] for name in ("type", "reason", "note", "action")}
    assert said == {
        "type": "Warning",
        "reason": "Scaled",
        "note": "2 to 3 replicas",
        "action": "Scale",
    }


async def test_into_a_namespace_that_goes_nothing_is_told_and_nothing_is_wrong(
    api: FakeApi, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Kubernetes 1.36 answers it."""
    body = {
        "kind": "Status",
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": "unable to create new content in namespace a because it is being terminated",
        "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
    }
    api.faults.append(lambda _: web.json_response(body, status=403))
    async with recording(cluster) as recorder:
        recorder.emit(POOL, "Scaled", "2 to 3 replicas", now=NOW)
        await recorder.flush(5)
        assert (recorder.dropped_total, recorder.failed_total) == (1, 0)
    assert "not written" not in capsys.readouterr().out


async def test_the_same_again_is_counted(api: FakeApi, cluster: Cluster) -> None:
    async with recording(cluster) as recorder:
        for seconds in (0, 15, 30, 80, 700):
            recorder.emit(POOL, "NoData", "no samples", now=NOW + seconds)
        recorder.emit(POOL, "NoData", "no samples from llama-2", now=NOW)
        await recorder.flush(5)
    # Once, again after ten quiet minutes, and the other note.
    assert len(api.requests("POST")) == 3
    counts = [seen.body["series"]["count"] for seen in api.requests("PATCH")]
    # At the second, then at most once a minute.
    assert counts == [2, 4]


async def test_series_that_have_ended_are_not_kept(api: FakeApi, cluster: Cluster) -> None:
    async with recording(cluster) as recorder:
        for number in range(20):
            recorder.emit(POOL, "Scaled", f"to {number} replicas", now=NOW + number)
        recorder.emit(POOL, "Scaled", "to 0 replicas", now=NOW + 500)
        recorder.emit(POOL, "NoData", "no samples", now=NOW + 900)
        await recorder.flush(5)
        kept = {note for _, _, note in recorder._series}
    assert len(api.requests("POST")) == 21
    assert kept == {"to 0 replicas", "no samples"}, "the first was told of again meanwhile"


async def test_a_series_whose_event_is_gone_begins_anew(api: FakeApi, cluster: Cluster) -> None:
    async with recording(cluster) as recorder:
        recorder.emit(POOL, "NoData", "no samples", now=NOW)
        await recorder.flush(5)
        api.objects.clear()
        recorder.emit(POOL, "NoData", "no samples", now=NOW + 15)
        await recorder.flush(5)
    assert len(api.requests("POST")) == 2


async def test_a_noisy_pool_is_bounded_and_hides_no_other(api: FakeApi, cluster: Cluster) -> None:
    other = ObjectReference("spillway.dev/v1alpha1", "InferencePool", "a", "qwen", "u2")
    async with recording(cluster) as recorder:
        for number in range(40):
            recorder.emit(POOL, "Scaled", f"note {number}", now=NOW)
        recorder.emit(other, "Scaled", "me too", now=NOW)
        await recorder.flush(20)
        assert recorder.dropped_total == 15
    names = [seen.body["regarding"]["name"] for seen in api.requests("POST")]
    assert (names.count("llama"), names.count("qwen")) == (25, 1)


@pytest.mark.usefixtures("api")
async def test_of_pools_that_came_and_went_nothing_stays(cluster: Cluster) -> None:
    seconds = 0.0
    async with recording(cluster, lambda: seconds) as recorder:
        for number in range(50):
            seconds = number * 60.0
            gone = ObjectReference(POOL.api_version, POOL.kind, "a", "llama", f"u{number}")
            recorder.emit(gone, "Scaled", "to 2 replicas", now=NOW + seconds)
            await recorder.flush(5)
        assert len(recorder._series) <= SERIES_SECONDS / 60
        # One event is a token, which is back after half a minute.
        assert len(recorder._buckets) == 1


async def test_a_refused_event_is_counted_and_forgotten(api: FakeApi, cluster: Cluster) -> None:
    api.faults.append(fail_times(1, lambda: status(403, "Forbidden")))
    async with recording(cluster) as recorder:
        recorder.emit(POOL, "Scaled", "one", now=NOW)
        recorder.emit(POOL, "Scaled", "two", now=NOW)
        await recorder.flush(5)
        assert recorder.failed_total == 1
    assert [seen.body["note"] for seen in api.requests("POST")] == ["one", "two"]


async def test_nobody_waits_for_a_recorder_that_does_not_run(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster)
    for number in range(1001):
        recorder.emit(POOL, "Scaled", f"note {number}", now=NOW)
    assert recorder.dropped_total == 1
    await recorder.flush(0.01)
    assert recorder.dropped_total == 1001


async def test_a_long_note_is_cut_between_characters(api: FakeApi, cluster: Cluster) -> None:
    async with recording(cluster) as recorder:
        recorder.emit(POOL, "Scaled", "ü" * 600, now=NOW)
        await recorder.flush(5)
    note = api.requests("POST")[0].body["note"]
    assert len(note.encode()) <= 1024
    assert note == "ü" * 510 + "…"
