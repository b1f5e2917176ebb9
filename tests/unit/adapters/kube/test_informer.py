from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.kube.informer import Informer
from spillway.adapters.kube.store import Key, Store
from tests.unit.adapters.kube.fake_api import FakeApi, Json, fail_times, status, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spillway.adapters.kube.client import Cluster

PODS = "/api/v1/pods"
IN_A = "/api/v1/namespaces/a/pods"

Record = tuple[str, str]


def project(raw: Json) -> Record | None:
    """Name and colour; the colourless are not wanted."""
    if "labels" not in raw["metadata"]:
        return None
    return raw["metadata"]["name"], raw["metadata"]["labels"]["colour"]


def pod(colour: str) -> Json:
    return {"metadata": {"labels": {"colour": colour}}}


@asynccontextmanager
async def running(cluster: Cluster, **options: Any) -> AsyncIterator[Informer[Record]]:
    informer = Informer(cluster, PODS, project, **options)
    task = asyncio.ensure_future(informer.run())
    try:
        yield informer
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def synced_and_watching(informer: Informer[Record], api: FakeApi) -> None:
    await asyncio.wait_for(informer.synced.wait(), 5)
    await until(lambda: bool(api.watches))


async def test_it_lists_and_follows(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{IN_A}/one", pod("red"))
    async with running(cluster, page_size=1) as informer:
        changed: list[Key] = []
        await synced_and_watching(informer, api)
        informer.on_change(changed.append)
        assert dict(informer.store) == {("a", "one"): ("one", "red")}
        api.push("ADDED", api.put(f"{IN_A}/two", pod("blue")))
        api.push("MODIFIED", api.put(f"{IN_A}/one", pod("green")))
        await until(lambda: len(changed) == 2)
        assert dict(informer.store) == {
            ("a", "one"): ("one", "green"),
            ("a", "two"): ("two", "blue"),
        }
        api.push("DELETED", api.objects[f"{IN_A}/two"])
        api.push("MODIFIED", api.put(f"{IN_A}/one", {}))
        await until(lambda: len(changed) == 4)
        assert not informer.store


async def test_an_unchanged_record_wakes_nobody(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{IN_A}/one", pod("red"))
    async with running(cluster) as informer:
        changed: list[Key] = []
        await synced_and_watching(informer, api)
        informer.on_change(changed.append)
        api.push("MODIFIED", api.put(f"{IN_A}/one", pod("red")))
        api.push("ADDED", api.put(f"{IN_A}/two", pod("red")))
        await until(lambda: bool(changed))
        assert changed == [("a", "two")]


async def test_after_410_nothing_remains_that_is_gone(api: FakeApi, cluster: Cluster) -> None:
    for number in range(3):
        api.put(f"{IN_A}/p{number}", pod("red"))
    async with running(cluster) as informer:
        changed: list[Key] = []
        await synced_and_watching(informer, api)
        informer.on_change(changed.append)
        # These changes happen while nobody listens.
        del api.objects[f"{IN_A}/p1"]
        api.put(f"{IN_A}/p3", pod("blue"))
        api.push("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})
        await until(lambda: informer.relists_total == 2)
        assert sorted(name for _, name in informer.store) == ["p0", "p2", "p3"]
        assert sorted(changed) == [("a", "p1"), ("a", "p3")]


async def test_a_broken_watch_goes_on_where_it_was(api: FakeApi, cluster: Cluster) -> None:
    async with running(cluster) as informer:
        await synced_and_watching(informer, api)
        api.push("BOOKMARK", {"metadata": {"resourceVersion": "777"}})
        api.end_watches()
        await until(lambda: len(api.requests("GET", watch=True)) == 2)
        assert api.requests("GET", watch=True)[1].query["resourceVersion"] == "777"
        assert informer.relists_total == 1


async def test_a_silent_watch_is_followed_by_a_list(api: FakeApi, cluster: Cluster) -> None:
    async with running(cluster, idle_seconds=0.1) as informer:
        await until(lambda: len(api.requests("GET", watch=True)) >= 2)
        assert informer.synced.is_set()
        # Not from where the silent one was: what it did not tell is in a list.
        assert informer.relists_total >= 2
        await until(lambda: bool(api.watches))
        api.push("ADDED", api.put(f"{IN_A}/one", pod("red")))
        await until(lambda: ("a", "one") in informer.store)
        assert informer.last_error is None


async def test_a_server_that_refuses_our_version_for_ever_is_listed_anew(
    api: FakeApi, cluster: Cluster
) -> None:
    """After a restore of etcd, our resourceVersion lies in the server's future."""

    def too_large() -> Any:
        return status(504, "Timeout", "Too large resource version")

    async with running(cluster) as informer:
        await synced_and_watching(informer, api)
        api.faults.append(
            lambda seen: (
                too_large()
                if seen.query.get("watch") and int(seen.query["resourceVersion"]) > api.version
                else None
            )
        )
        api.push("BOOKMARK", {"metadata": {"resourceVersion": "9999"}})
        api.end_watches()
        await until(lambda: informer.relists_total == 2)
        await until(lambda: bool(api.watches))


async def test_an_outage_keeps_what_is_known_and_shows_its_age(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(f"{IN_A}/one", pod("red"))
    async with running(cluster) as informer:
        await synced_and_watching(informer, api)
        api.faults.append(lambda _: status(503, "ServiceUnavailable"))
        api.end_watches()
        await until(lambda: informer.last_error is not None)
        before = informer.age_seconds(time.monotonic())
        await asyncio.sleep(0.1)
        after = informer.age_seconds(time.monotonic())
        assert before is not None
        assert after is not None
        assert after >= before + 0.1
        assert ("a", "one") in informer.store
        api.faults.clear()
        await until(lambda: bool(api.watches))


async def test_its_age_is_unknown_before_the_first_answer(cluster: Cluster) -> None:
    assert Informer(cluster, PODS, project).age_seconds(5.0) is None


async def test_a_malformed_object_is_left_out_and_told(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{IN_A}/good", pod("red"))
    api.put(f"{IN_A}/bad", {"metadata": {"labels": {}}})
    api.objects["/api/v1/namespaces/a/pods/nameless"] = {"metadata": {"name": 7}}
    async with running(cluster) as informer:
        await synced_and_watching(informer, api)
        assert list(informer.store) == [("a", "good")]
        assert informer.malformed == {("a", "bad"): "KeyError: 'colour'"}
        assert informer.malformed_total == 2
        # A good object turns bad and leaves, the bad one is mended and comes.
        api.push("MODIFIED", api.put(f"{IN_A}/good", {"metadata": {"labels": {}}}))
        api.push("MODIFIED", api.put(f"{IN_A}/bad", pod("blue")))
        api.push("MODIFIED", "not even an object")
        api.push("DELETED", None)
        await until(lambda: list(informer.store) == [("a", "bad")])
        assert list(informer.malformed) == [("a", "good")]


async def test_an_absent_resource_is_waited_for(api: FakeApi, cluster: Cluster) -> None:
    api.absent.add(PODS)
    async with running(cluster, missing_retry_seconds=0.02) as informer:
        await asyncio.wait_for(informer.synced.wait(), 5)
        assert informer.missing
        api.absent.clear()
        api.put(f"{IN_A}/one", pod("red"))
        await until(lambda: not informer.missing)
        assert ("a", "one") in informer.store


async def test_one_404_alone_is_not_believed(api: FakeApi, cluster: Cluster) -> None:
    """An API server that starts may answer 404 before it has installed its paths."""
    api.put(f"{IN_A}/one", pod("red"))
    async with running(cluster, missing_retry_seconds=0.02) as informer:
        changed: list[Key] = []
        await synced_and_watching(informer, api)
        informer.on_change(changed.append)
        api.faults.append(fail_times(1, lambda: status(404, "NotFound"), PODS))
        api.end_watches()
        await until(lambda: informer.relists_total == 2)
        assert not changed
        assert not informer.missing


async def test_a_callback_that_fails_does_no_harm(api: FakeApi, cluster: Cluster) -> None:
    def broken(_: Key) -> None:
        raise RuntimeError

    async with running(cluster) as informer:
        informer.on_change(broken)
        await synced_and_watching(informer, api)
        api.push("ADDED", api.put(f"{IN_A}/one", pod("red")))
        api.push("ADDED", api.put(f"{IN_A}/two", pod("red")))
        await until(lambda: len(informer.store) == 2)


async def test_a_record_takes_over_from_the_one_before(api: FakeApi, cluster: Cluster) -> None:
    api.put(f"{IN_A}/one", pod("red"))

    def carry(previous: Record, record: Record) -> Record:
        return record[0], f"{record[1]} after {previous[1]}"

    async with running(cluster, carry=carry) as informer:
        await synced_and_watching(informer, api)
        api.push("MODIFIED", api.put(f"{IN_A}/one", pod("blue")))
        await until(lambda: informer.store["a", "one"][1] == "blue after red")
        api.put(f"{IN_A}/one", pod("green"))
        api.push("ERROR", {"code": 410})
        await until(lambda: informer.store["a", "one"][1].startswith("green after blue"))


async def test_selectors_are_the_servers_work(api: FakeApi, cluster: Cluster) -> None:
    async with running(cluster, label_selector="a=b", field_selector="c=d") as informer:
        await synced_and_watching(informer, api)
    for seen in api.requests("GET") + api.requests("GET", watch=True):
        assert (seen.query["labelSelector"], seen.query["fieldSelector"]) == ("a=b", "c=d")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from(["x", "y", "z"]),
            st.one_of(st.none(), st.sampled_from("12")),
        )
    )
)
def test_a_store_holds_what_was_put_and_tells_what_changed(
    steps: list[tuple[str, str, str | None]],
) -> None:
    store: Store[str] = Store()
    truth: dict[Key, str] = {}
    for namespace, name, record in steps:
        key = (namespace, name)
        if record is None:
            assert store.drop(key) is (truth.pop(key, None) is not None)
        else:
            assert store.put(key, record) is (truth.get(key) != record)
            truth[key] = record
        assert dict(store.records) == truth
