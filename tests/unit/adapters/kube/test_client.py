from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from spillway.adapters.kube.client import Cluster
from spillway.adapters.kube.errors import (
    ApiError,
    Conflict,
    ConnectError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
    WatchSilent,
)
from spillway.adapters.kube.throttle import TokenBucket
from tests.unit.adapters.kube.fake_api import FakeApi, fail_times, status, until, write_kubeconfig

if TYPE_CHECKING:
    from pathlib import Path

PODS = "/api/v1/namespaces/a/pods"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_each_status_has_its_error(
    api: FakeApi, cluster: Cluster, code: int, kind: type[ApiError]
) -> None:
    api.faults.append(lambda _: status(code, "Reason", "the server's words"))
    with pytest.raises(kind) as caught:
        await cluster.merge_patch(f"{PODS}/p", {}, "me")
    assert (caught.value.status, caught.value.reason) == (code, "Reason")
    assert "the server's words" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("/api/v1/pods", {}, "list pods in all namespaces"),
        (f"{PODS}/p", {}, "get pods a/p"),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", {}, "get deployments/scale a/d"),
        ("/apis/spillway.dev/v1alpha1/inferencepools", {"watch": "true"}, "watch inferencepools"),
    ],
)
async def test_forbidden_names_what_was_asked_and_the_cluster_role(
    api: FakeApi, cluster: Cluster, path: str, params: dict[str, str], words: str
) -> None:
    api.faults.append(lambda _: status(403, "Forbidden"))
    with pytest.raises(Forbidden, match="check the ClusterRole") as caught:
        await cluster.get(path, params)
    assert words in str(caught.value)


async def test_a_get_outlasts_two_failures(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{PODS}/p", {"kind": "Pod"})
    api.faults.append(fail_times(2, lambda: status(503, "ServiceUnavailable")))
    assert (await cluster.get(f"{PODS}/p"))["kind"] == "Pod"


async def test_a_get_gives_up_after_the_third_failure(api: FakeApi, cluster: Cluster) -> None:
    api.faults.append(lambda _: status(503, "ServiceUnavailable"))
    with pytest.raises(Unavailable):
        await cluster.get(f"{PODS}/p")
    assert len(api.requests("GET")) == 3


async def test_a_get_waits_as_long_as_it_is_told(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{PODS}/p", {"kind": "Pod"})
    told = {"Retry-After": "1"}
    api.faults.append(fail_times(1, lambda: status(429, "TooManyRequests", headers=told)))
    started = time.monotonic()
    await cluster.get(f"{PODS}/p")
    assert time.monotonic() - started >= 1.0


async def test_a_write_is_tried_once_and_hands_on_retry_after(
    api: FakeApi, cluster: Cluster
) -> None:
    told = {"Retry-After": "7"}
    api.faults.append(lambda _: status(429, "TooManyRequests", headers=told))
    with pytest.raises(Unavailable) as caught:
        await cluster.merge_patch(f"{PODS}/p", {}, "me")
    assert caught.value.retry_after_seconds == 7
    assert len(api.requests("PATCH")) == 1


async def test_no_answer_in_time_is_unavailable(api: FakeApi, cluster: Cluster) -> None:
    with pytest.raises(Unavailable, match="got no answer"):
        # A watch that never says anything stands for a request that is never answered.
        await cluster.merge_patch(f"{PODS}?watch=true&x=", {}, "me", timeout_seconds=0.1)
    assert api.requests("PATCH", watch=True)


async def test_an_answer_that_is_no_json_says_so(api: FakeApi, cluster: Cluster) -> None:
    api.faults.append(lambda _: web.Response(text="<html>welcome to my proxy</html>"))
    with pytest.raises(Unavailable, match=r"not JSON.*welcome to my proxy"):
        await cluster.get(f"{PODS}/p")


async def test_a_list_comes_in_pages_of_one_moment(api: FakeApi, cluster: Cluster) -> None:
    for number in range(5):
        api.put(f"{PODS}/p{number}", {})
    pages = [page async for page in cluster.list_pages(PODS, {"labelSelector": "x=y"}, limit=2)]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert {page.resource_version for page in pages} == {"105"}
    assert {seen.query["labelSelector"] for seen in api.requests("GET")} == {"x=y"}


async def test_a_silent_watch_is_noticed(cluster: Cluster) -> None:
    started = time.monotonic()
    with pytest.raises(WatchSilent):
        async for _ in cluster.watch(PODS, "1", idle_seconds=0.2):
            pass
    assert time.monotonic() - started < 2


async def test_a_watch_asks_for_bookmarks_and_an_end(api: FakeApi, cluster: Cluster) -> None:
    events = cluster.watch(PODS, "17", {"fieldSelector": "f"}, server_seconds=100)
    async with aclosing(events):
        first = asyncio.ensure_future(anext(events))
        await until(lambda: bool(api.watches))
        api.push("BOOKMARK", {"metadata": {"resourceVersion": "18"}})
        assert (await first)[0] == "BOOKMARK"
    query = api.requests("GET", watch=True)[0].query
    assert query["allowWatchBookmarks"] == "true"
    assert query["resourceVersion"] == "17"
    assert query["fieldSelector"] == "f"
    assert 80 <= int(query["timeoutSeconds"]) <= 120


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}, Gone),
        ({"type": "ERROR", "object": {"code": 504, "reason": "Timeout"}}, Unavailable),
        (b"not json", Unavailable),
        ({"no": "type"}, Unavailable),
    ],
)
async def test_what_a_watch_may_end_with(
    api: FakeApi, cluster: Cluster, line: object, kind: type[ApiError]
) -> None:
    async def read() -> None:
        async for _ in cluster.watch(PODS, "1"):
            pass

    task = asyncio.ensure_future(read())
    await until(lambda: bool(api.watches))
    api.watches[0].put_nowait(line)
    with pytest.raises(kind):
        await task


async def test_an_apply_is_one(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{PODS}/p", {})
    api.objects[f"{PODS}/p/status"] = api.objects[f"{PODS}/p"]
    await cluster.apply(f"{PODS}/p", {"a": 1}, "me", force=False, subresource="status")
    (seen,) = api.requests("PATCH")
    assert seen.path == f"{PODS}/p/status"
    assert seen.query == {"fieldManager": "me", "force": "false"}
    assert seen.headers["Content-Type"] == "application/apply-patch+yaml"
    assert seen.body == {"a": 1}


async def test_a_token_that_ran_out_is_read_anew(api: FakeApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    path = write_kubeconfig(tmp_path / "kc", api.url, f'{{tokenFile: "{token}"}}')
    async with await Cluster.connect(str(path)) as cluster:
        assert api.seen[-1].headers["Authorization"] == "Bearer old"
        token.write_text("new")
        api.put(f"{PODS}/p", {})
        api.faults.append(
            lambda seen: (
                None
                if seen.headers["Authorization"] == "Bearer new"
                else status(401, "Unauthorized")
            )
        )
        answers = await asyncio.gather(*(cluster.get(f"{PODS}/p") for _ in range(5)))
        assert len(answers) == 5


async def test_an_exec_plugin_is_run_anew_when_its_token_ran_out(
    api: FakeApi, tmp_path: Path
) -> None:
    credential = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"'
    answer = tmp_path / "answer"
    answer.write_text(credential + ', "status": {"token": "old"}}')
    plugin = f'{{command: cat, apiVersion: client.authentication.k8s.io/v1, args: ["{answer}"]}}'
    path = write_kubeconfig(tmp_path / "kc", api.url, f"{{exec: {plugin}}}")
    async with await Cluster.connect(str(path)) as cluster:
        answer.write_text(credential + ', "status": {"token": "new"}}')
        api.put(f"{PODS}/p", {})
        api.faults.append(
            lambda seen: (
                None
                if seen.headers["Authorization"] == "Bearer new"
                else status(401, "Unauthorized")
            )
        )
        assert await cluster.get(f"{PODS}/p"), "with the new token"


async def test_connect_says_what_to_do_when_nothing_is_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConnectError, match="pass --kubeconfig, or set KUBECONFIG"):
        await Cluster.connect()


async def test_connect_says_which_kubeconfig_is_wrong(api: FakeApi, tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"nowhere does not exist"):
        await Cluster.connect(str(tmp_path / "nowhere"))
    good = write_kubeconfig(tmp_path / "kc", api.url)
    with pytest.raises(ConnectError, match=r"context other\) can't be used"):
        await Cluster.connect(str(good), "other")
    broken = tmp_path / "broken"
    broken.write_text("{{{")
    with pytest.raises(ConnectError, match="broken can't be used"):
        await Cluster.connect(str(broken))


async def test_connect_in_a_pod_without_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConnectError, match="ServiceAccount can't be used: Service token file"):
        await Cluster.connect()


async def test_connect_to_nobody(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "kc", "http://127.0.0.1:1")
    with pytest.raises(ConnectError, match=r"can't be reached.*is the API server up"):
        await Cluster.connect(str(path))


async def test_connect_with_refused_credentials(api: FakeApi, tmp_path: Path) -> None:
    api.faults.append(lambda _: status(401, "Unauthorized"))
    path = write_kubeconfig(tmp_path / "kc", api.url)
    with pytest.raises(ConnectError, match="refuses the credentials"):
        await Cluster.connect(str(path))


async def test_connect_where_version_is_forbidden(api: FakeApi, tmp_path: Path) -> None:
    api.faults.append(lambda _: status(403, "Forbidden"))
    path = write_kubeconfig(tmp_path / "kc", api.url)
    cluster = await Cluster.connect(str(path))
    assert cluster.host == api.url, "it knows us, and that is what was asked"
    await cluster.close()


async def test_all_writers_share_the_bound(api: FakeApi, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "kc", api.url)
    api.put(f"{PODS}/p", {})
    started = time.monotonic()
    async with await Cluster.connect(str(path), writes_per_second=20, write_burst=1) as cluster:
        await asyncio.gather(*(cluster.merge_patch(f"{PODS}/p", {}, "me") for _ in range(5)))
        assert time.monotonic() - started >= 0.2


async def test_the_lease_is_not_held_up_by_other_writers(api: FakeApi, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "kc", api.url)
    api.put(f"{PODS}/p", {})
    # Who waited for the bound's next turns here would wait for longer than a test may take.
    async with await Cluster.connect(str(path), writes_per_second=0.001, write_burst=1) as cluster:
        await cluster.merge_patch(f"{PODS}/p", {}, "me")
        for _ in range(5):
            await cluster.merge_patch(f"{PODS}/p", {}, "me", throttle=False)
    assert len(api.requests("PATCH")) == 6


async def test_a_write_is_not_sent_when_leadership_ended_in_the_queue(
    api: FakeApi, tmp_path: Path
) -> None:
    path = write_kubeconfig(tmp_path / "kc", api.url)
    api.put(f"{PODS}/p", {})
    leads = True
    async with await Cluster.connect(str(path)) as cluster:
        # However long the first write takes, the second one must wait for its turn.
        cluster._writes = TokenBucket(20, 1, clock=lambda: 0.0)
        fenced = cluster.fenced(lambda: leads)
        await fenced.merge_patch(f"{PODS}/p", {}, "me")
        waiting = asyncio.ensure_future(fenced.merge_patch(f"{PODS}/p", {}, "me"))
        await asyncio.sleep(0)
        leads = False
        with pytest.raises(Conflict, match="does not lead"):
            await waiting
        # Who needs no leadership, such as the lease itself, writes on.
        await cluster.merge_patch(f"{PODS}/p", {}, "me")
    assert len(api.requests("PATCH")) == 2


async def test_of_patient_writes_one_at_a_time_stands_before_an_urgent_one(
    api: FakeApi, tmp_path: Path
) -> None:
    path = write_kubeconfig(tmp_path / "kc", api.url)
    api.put(f"{PODS}/p", {})
    async with await Cluster.connect(str(path), writes_per_second=10, write_burst=1) as cluster:
        patient = cluster.patient()
        statuses = [
            asyncio.ensure_future(patient.merge_patch(f"{PODS}/p", {"n": n}, "statuses"))
            for n in range(6)
        ]
        await asyncio.sleep(0)
        await cluster.merge_patch(f"{PODS}/p", {}, "urgent")
        # One had the token that was there, one had booked the next.
        assert sum(write.done() for write in statuses) <= 2
        await asyncio.gather(*statuses)
    assert len(api.requests("PATCH")) == 7


async def test_calls_are_timed_whether_they_succeed_or_fail(api: FakeApi, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "kc", api.url)
    told: list[tuple[str, float]] = []
    async with await Cluster.connect(
        str(path), on_call=lambda method, seconds: told.append((method, seconds))
    ) as cluster:
        with pytest.raises(NotFound):
            await cluster.merge_patch(f"{PODS}/nobody", {}, "me")
    assert [method for method, _ in told] == ["GET", "PATCH"]
    assert all(0 < seconds < 30 for _, seconds in told)


def test_a_bucket_refills_up_to_its_burst() -> None:
    now = [0.0]
    bucket = TokenBucket(2, 3, clock=lambda: now[0])
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.5
    assert [bucket.try_take() for _ in range(2)] == [True, False]
    now[0] = 100
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_that_never_gives_is_refused(per_second: float, burst: float) -> None:
    with pytest.raises(ValueError, match="per_second > 0 and burst >= 1"):
        TokenBucket(per_second, burst)
