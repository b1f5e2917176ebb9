"""Gives back without an operator: route weights whose value has expired, or all that is marked.

Both run as a command of their own, once, from what the API server says now: ``spillway
reset-routes`` beside an operator or after its end, ``spillway release`` before it is uninstalled.
What can't be written does not stop the rest; it is counted, and told.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from spillway.adapters.kube.errors import ApiError, Conflict, NotFound
from spillway.adapters.kube.lease import LEASE_API
from spillway.adapters.kube.lease import MANAGER as LEASE_MANAGER
from spillway.adapters.kube.paths import resource_path
from spillway.adapters.kube.pods import RELEASED, PodWriter
from spillway.adapters.kube.projections import project_pod
from spillway.adapters.kube.routes import ROUTE_API, ROUTE_PLURAL, RouteWriter, project_route
from spillway.adapters.kube.status import PoolWriter
from spillway.api.names import (
    API_VERSION,
    OVERFLOW_ANNOTATION,
    PLURAL,
    Role,
)
from spillway.api.timestamps import format_time
from spillway.controller.sweep import UNMARKED, is_marked
from spillway.core.overflow_value import from_json
from spillway.core.route import kept_weights, local_patch, restore_patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject
    from spillway.core.route import Operation, Route

#: An operator renews a value at half of its life; clocks of two machines differ by less than this.
GRACE_SECONDS: Final = 5.0
#: Tries of a write that somebody else was faster than.
_TRIES: Final = 4
_RETRY_SECONDS: Final = 0.5
#: Holder of the Lease while everything is given back, and afterwards until the operator is gone.
RELEASING: Final = "spillway-release"
_HELD_WHILE_SECONDS: Final = 600
_HELD_AFTER_SECONDS: Final = 60


@dataclass(slots=True)
class GivenBack:
    """What was done.

    Attributes:
        routes: ``namespace/name`` of routes that were changed.
        pods: Likewise pods.
        pools: Likewise pools whose overflow was ended.
        kept: Routes whose pool's value still holds.
        failures: What could not be written and why.
    """

    routes: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    pools: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class GiveBack:
    """Gives back what Spillway has marked in some namespaces.

    Args:
        cluster: The connection.
        namespaces: Where; none for all.
    """

    def __init__(self, cluster: Cluster, namespaces: Sequence[str]) -> None:
        self._cluster = cluster
        self._scopes: Sequence[str | None] = list(namespaces) or [None]
        self.done = GivenBack()

    async def reset_routes(self, now: float) -> GivenBack:
        """Bring back the weights of every route whose pool's value has expired.

        Where the pool is gone, or burst of it, the weights become what they were before Spillway;
        else everything is local, and the note of what they were stays.
        """
        pools = {
            (raw["metadata"]["namespace"], raw["metadata"]["name"]): raw
            async for raw in self._all(API_VERSION, PLURAL)
        }
        async for raw in self._all(ROUTE_API, ROUTE_PLURAL):
            route = project_route(raw)
            for name in kept_weights(route):
                pool = pools.get((route.namespace, name))
                if pool is not None and _holds(pool, now):
                    self.done.kept.append(route.key)
                    continue
                local = None if pool is None else _local(pool)
                await self._route(raw, partial(local_patch, pool=name, local=local))
        return self.done

    async def release(self) -> GivenBack:
        """End overflow, give routes back, bring every pod back to role serving without marks."""
        pools = PoolWriter(self._cluster)

        async def end_overflow(pool: JsonObject) -> bool:
            """Take the annotation away."""
            meta = pool["metadata"]
            identity = meta["namespace"], meta["name"], meta["uid"], meta["resourceVersion"]
            await pools.write_overflow(*identity, None)
            return True

        async for raw in self._all(API_VERSION, PLURAL):
            if OVERFLOW_ANNOTATION in (raw["metadata"].get("annotations") or {}):
                await self._write((API_VERSION, PLURAL), raw, end_overflow, self.done.pools)
        async for raw in self._all(ROUTE_API, ROUTE_PLURAL):
            for name in kept_weights(project_route(raw)):
                await self._route(raw, partial(restore_patch, pool=name))
        async for raw in self._all("v1", "pods"):
            await self._write(("v1", "pods"), raw, self._unmark, self.done.pods)
        return self.done

    async def _unmark(self, raw: JsonObject) -> bool:
        pod = project_pod(raw)
        if pod is None or not is_marked(pod):
            return False
        change = UNMARKED if pod.role is Role.SERVING else RELEASED
        await PodWriter(self._cluster).write(pod, change)
        return True

    async def _route(self, raw: JsonObject, patch_of: Callable[[Route], list[Operation]]) -> None:
        async def write(present: JsonObject) -> bool:
            route = project_route(present)
            patch = patch_of(route)
            if patch:
                await RouteWriter(self._cluster).write(route, patch)
            return bool(patch)

        await self._write((ROUTE_API, ROUTE_PLURAL), raw, write, self.done.routes)

    async def _all(self, api: str, plural: str) -> AsyncIterator[JsonObject]:
        """Every object; none where the resource is not installed."""
        for scope in self._scopes:
            try:
                pages = self._cluster.list_pages(resource_path(api, plural, scope))
                found = [item async for page in pages for item in page.items]
            except NotFound:
                continue
            for raw in found:
                yield raw

    async def _write(
        self,
        resource: tuple[str, str],
        raw: JsonObject,
        write: Callable[[JsonObject], Awaitable[bool]],
        done: list[str],
    ) -> None:
        """Write one object, on what it has become where somebody was faster."""
        meta, present = raw["metadata"], raw
        key = f"{meta['namespace']}/{meta['name']}"
        for attempt in range(_TRIES):
            try:
                if attempt:
                    await asyncio.sleep(_RETRY_SECONDS)
                    present = await self._again(resource, meta)
                if await write(present) and key not in done:
                    done.append(key)
            except NotFound:
                return
            except Conflict as error:
                failure: ApiError = error
            except ApiError as error:
                failure = error
                break
            else:
                return
        self.done.failures.append(f"{resource[1]} {key}: {failure}")

    async def _again(self, resource: tuple[str, str], meta: JsonObject) -> JsonObject:
        # By a list: "get" is a right that the operator does without.
        path = resource_path(*resource, meta["namespace"])
        params = {"fieldSelector": f"metadata.name={meta['name']}"}
        pages = self._cluster.list_pages(path, params)
        found = [item async for page in pages for item in page.items]
        if not found:
            raise NotFound(404, "NotFound", f"{resource[1]} {meta['name']} is gone")
        return found[0]


async def take_lease(cluster: Cluster, namespace: str, name: str) -> bool:
    """Take the operators' Lease from whoever holds it; False where there is none.

    Its holder learns it at its next renewal and writes nothing any more; standbys wait for it to
    run out.
    """
    path = resource_path(LEASE_API, "leases", namespace, name)
    try:
        raw = await cluster.get(path)
    except NotFound:
        return False
    transitions = int((raw.get("spec") or {}).get("leaseTransitions") or 0) + 1
    await _write_lease(cluster, path, RELEASING, _HELD_WHILE_SECONDS, transitions)
    return True


async def leave_lease(cluster: Cluster, namespace: str, name: str, *, complete: bool) -> None:
    """Let the Lease run out soon; at once where not everything was given back."""
    path = resource_path(LEASE_API, "leases", namespace, name)
    holder, seconds = (RELEASING, _HELD_AFTER_SECONDS) if complete else ("", 1)
    await _write_lease(cluster, path, holder, seconds, None)


async def _write_lease(
    cluster: Cluster, path: str, holder: str, seconds: int, transitions: int | None
) -> None:
    spec: JsonObject = {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "renewTime": format_time(time.time(), digits=6),
    }
    if transitions is not None:
        spec |= {"leaseTransitions": transitions, "acquireTime": spec["renewTime"]}
    await cluster.merge_patch(path, {"spec": spec}, LEASE_MANAGER, throttle=False)


def _holds(pool: JsonObject, now: float) -> bool:
    """Whether the pool's overflow value still holds; one that can't be read does not."""
    text = (pool["metadata"].get("annotations") or {}).get(OVERFLOW_ANNOTATION)
    try:
        return text is not None and from_json(text).until + GRACE_SECONDS > now
    except ValueError:
        return False


def _local(pool: JsonObject) -> str | None:
    """Backend of the pool's own Service, where the spec names one."""
    burst = (pool.get("spec") or {}).get("burst") or {}
    local = (burst.get("routeRef") or {}).get("local")
    return str(local) if local else None
