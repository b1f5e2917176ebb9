"""What is given back when no operator does it: all of it, on what is there, failures told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from spillway.adapters.kube.client import ListPage
from spillway.adapters.kube.errors import Conflict, Forbidden, NotFound
from spillway.api.names import (
    OVERFLOW_ANNOTATION,
    ROLE_LABEL,
    ROUTE_WEIGHTS_ANNOTATION,
)
from spillway.api.reasons import Reason
from spillway.controller import giveback
from spillway.controller.giveback import GiveBack
from spillway.core.overflow_value import NO_ALLOWANCE, OverflowValue, ProviderShare, to_json
from tests.unit.patching import patched

from . import fakes
from .fakes import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

NOW = 1_800_000_000.0
NOTE = '{"pool":{"rule":"","weights":{"cloud":0,"local":null}}}'


class Server:
    """Lists by plural name, and what is written to them; a failure by name is raised."""

    def __init__(self, **objects: list[dict[str, Any]]) -> None:
        self.objects = objects
        self.failures: dict[str, list[Exception]] = {}
        self.written: list[str] = []

    async def list_pages(
        self, path: str, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[ListPage]:
        plural = path.rpartition("/")[2]
        if plural not in self.objects:
            raise NotFound(404, "NotFound", path)
        name = (params or {}).get("fieldSelector", "").rpartition("=")[2]
        yield ListPage([o for o in self.objects[plural] if name in {"", _name(o)}], "1")

    def _find(self, path: str) -> dict[str, Any]:
        *_, plural, name = path.split("/")
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        self.written.append(f"{plural}/{name}")
        return next(o for o in self.objects[plural] if _name(o) == name)

    async def json_patch(
        self, path: str, operations: Sequence[dict[str, Any]], _manager: str
    ) -> dict[str, Any]:
        found = self._find(path)
        changed: dict[str, Any] = patched(found, operations)
        found.clear()
        found.update(changed)
        return found

    async def merge_patch(self, path: str, body: dict[str, Any], *_: Any) -> dict[str, Any]:
        found = self._find(path)
        for field in ("labels", "annotations"):
            change = body["metadata"].get(field, {})
            merged = {**found["metadata"].get(field, {}), **change}
            found["metadata"][field] = {k: v for k, v in merged.items() if v is not None}
        return found

    async def apply(self, path: str, _body: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        found = self._find(path)
        found["metadata"]["annotations"].pop(OVERFLOW_ANNOTATION, None)
        return found


def _name(raw: dict[str, Any]) -> str:
    name: str = raw["metadata"]["name"]
    return name


def back(server: Server) -> GiveBack:
    return GiveBack(cast("Any", server), [])


def route(local: int | None = 400, cloud: int = 600, **annotations: str) -> dict[str, Any]:
    notes = annotations or {ROUTE_WEIGHTS_ANNOTATION: NOTE}
    refs = [{"name": "local", "weight": local}, {"name": "cloud", "weight": cloud}]
    return {
        "metadata": {
            "namespace": NAMESPACE,
            "name": "route",
            "uid": "u",
            "resourceVersion": "1",
            "annotations": notes,
        },
        "spec": {"rules": [{"backendRefs": refs}]},
    }


def weights(raw: dict[str, Any]) -> dict[str, int | None]:
    return {r["name"]: r.get("weight") for r in raw["spec"]["rules"][0]["backendRefs"]}


def pool(until: float | None = None, **changes: Any) -> dict[str, Any]:
    notes = {}
    if until is not None:
        told = OverflowValue(
            version=1,
            epoch=1,
            until=until,
            fraction=0.6,
            admit=None,
            allowance=NO_ALLOWANCE,
            providers=(ProviderShare("api", 0.6),),
            reason=Reason.SHORTAGE,
        )
        notes = {OVERFLOW_ANNOTATION: to_json(told)}
    burst = {"driver": "HTTPRoute", "routeRef": {"name": "route", "local": "local"}}
    return fakes.pool_object(annotations=notes, **{"burst": burst, **changes})


def pod(name: str, role: str, **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": NAMESPACE,
            "name": name,
            "uid": name,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {ROLE_LABEL: role},
            "annotations": annotations,
        },
        "spec": {"containers": []},
        "status": {"phase": "Running"},
    }


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giveback, "_RETRY_SECONDS", 0.0)


@pytest.mark.parametrize("until", [NOW + 1, NOW - 4])
async def test_weights_of_a_value_that_holds_are_left_alone(until: float) -> None:
    server = Server(inferencepools=[pool(until)], httproutes=[route()])
    done = await back(server).reset_routes(NOW)
    assert (done.kept, server.written) == ([f"{NAMESPACE}/route"], [])


@pytest.mark.parametrize("text", [None, "{", "expired"])
async def test_weights_of_an_expired_or_unreadable_value_become_local(text: str | None) -> None:
    there = pool(NOW - 10)
    if text is None:
        there["metadata"]["annotations"] = {}
    elif text != "expired":
        there["metadata"]["annotations"][OVERFLOW_ANNOTATION] = text
    server = Server(inferencepools=[there], httproutes=[route()])
    done = await back(server).reset_routes(NOW)
    [after] = server.objects["httproutes"]
    assert weights(after) == {"local": 1000, "cloud": 0}
    assert after["metadata"]["annotations"] == {ROUTE_WEIGHTS_ANNOTATION: NOTE}
    assert done.routes == [f"{NAMESPACE}/route"]
    assert (await back(server).reset_routes(NOW)).routes == [], "once is enough"


async def test_a_route_whose_pool_is_gone_becomes_what_it_was() -> None:
    server = Server(inferencepools=[], httproutes=[route()])
    await back(server).reset_routes(NOW)
    assert weights(server.objects["httproutes"][0]) == {"local": None, "cloud": 0}


async def test_routes_that_spillway_never_wrote_are_not_touched() -> None:
    server = Server(inferencepools=[], httproutes=[route(other="note")])
    await back(server).reset_routes(NOW)
    assert server.written == []


async def test_without_the_gateway_api_there_is_nothing_to_do() -> None:
    assert (await back(Server(inferencepools=[pool()])).reset_routes(NOW)).failures == []


async def test_release_ends_overflow_gives_routes_back_and_unmarks_pods() -> None:
    warm, plain = pod("warm", "warm"), pod("plain", "serving")
    server = Server(
        inferencepools=[pool(time.time() + 40)], httproutes=[route()], pods=[warm, plain]
    )
    done = await back(server).release()
    assert weights(server.objects["httproutes"][0]) == {"local": None, "cloud": 0}
    assert (
        ROUTE_WEIGHTS_ANNOTATION not in server.objects["httproutes"][0]["metadata"]["annotations"]
    )
    assert warm["metadata"]["labels"] == {ROLE_LABEL: "serving"}
    assert server.objects["inferencepools"][0]["metadata"]["annotations"] == {}
    assert (done.pods, done.pools) == ([f"{NAMESPACE}/warm"], [f"{NAMESPACE}/pool"])
    assert server.written[0] == "inferencepools/pool", "nothing may leave before pods move"


async def test_a_conflict_is_tried_again_and_other_failures_are_told_without_stopping() -> None:
    server = Server(inferencepools=[], httproutes=[route()], pods=[pod("warm", "warm")])
    server.failures["route"] = [Conflict(409, "Conflict", "newer")] * 3
    server.failures["warm"] = [Forbidden(403, "Forbidden", "may not patch pods")]
    done = await back(server).release()
    assert done.routes == [f"{NAMESPACE}/route"]
    assert done.failures == [f"pods {NAMESPACE}/warm: may not patch pods"]
    server.objects["httproutes"] = [route()]
    server.failures["route"] = [Conflict(409, "Conflict", "newer")] * 4
    assert (await back(server).release()).failures[0] == f"httproutes {NAMESPACE}/route: newer"


async def test_what_went_meanwhile_needs_nothing() -> None:
    server = Server(inferencepools=[], httproutes=[route()], pods=[])
    server.failures["route"] = [NotFound(404, "NotFound", "gone")]
    done = await back(server).release()
    assert (done.routes, done.failures) == ([], [])
