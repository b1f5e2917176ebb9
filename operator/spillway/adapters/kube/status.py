"""Writes an InferencePool's status and its overflow annotation, by server-side apply on change.

A no-op apply costs the API server nearly as much as a real one, so callers send what has changed.
Every write carries the resourceVersion that it was decided on: a leader that has lost its lease
without noticing, or that has not seen yet what a person has just edited, gets a `Conflict` and not
the last word. It carries the pool's uid too: an apply then never recreates a pool that was deleted,
nor gives the old one's overflow to a new pool of the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.adapters.kube.errors import Conflict, Invalid
from spillway.adapters.kube.paths import resource_path
from spillway.api.names import (
    API_VERSION,
    KIND,
    MANAGER_OVERFLOW,
    MANAGER_STATUS,
    OVERFLOW_ANNOTATION,
    PLURAL,
)

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject


class PoolWriter:
    """Writes what Spillway says on InferencePools."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def write_status(
        self, namespace: str, name: str, uid: str, resource_version: str, status: JsonObject
    ) -> str:
        """Apply a status.

        Args:
            namespace: The pool's namespace.
            name: The pool's name.
            uid: The pool's UID.
            resource_version: Of the pool that this was decided on.
            status: The whole status: fields that it lacks are removed.

        Returns:
            The pool's resourceVersion with it.

        Raises:
            NotFound: The pool is gone.
            Conflict: The pool has changed since: decide again. Or it is gone and another of its
                name is there.
        """
        body = {**_identity(namespace, name, uid, resource_version), "status": status}
        return await self._apply(body, MANAGER_STATUS, subresource="status")

    async def write_overflow(
        self, namespace: str, name: str, uid: str, resource_version: str, value: str | None
    ) -> str:
        """Set the overflow annotation; None removes it. When to write is the caller's decision.

        Args:
            namespace: The pool's namespace.
            name: The pool's name.
            uid: The pool's UID.
            resource_version: Of the pool that this was decided on.
            value: The annotation's text; an apply that does not name it gives it up.

        Returns:
            The pool's resourceVersion with it.

        Raises:
            Conflict: The pool has changed since: decide again. Or it is gone.
        """
        body = _identity(namespace, name, uid, resource_version)
        if value is not None:
            body["metadata"]["annotations"] = {OVERFLOW_ANNOTATION: value}
        return await self._apply(body, MANAGER_OVERFLOW)

    async def _apply(self, body: JsonObject, manager: str, *, subresource: str = "") -> str:
        meta = body["metadata"]
        path = resource_path(API_VERSION, PLURAL, meta["namespace"], meta["name"])
        try:
            found = await self._cluster.apply(path, body, manager, subresource=subresource)
        except Invalid as error:
            if "metadata.uid" not in error.message:
                raise
            # Where another pool has the name, the API server calls the uid an invalid change.
            raise _replaced(body, error.message) from error
        # On a custom resource's status the API server does not look at the uid. The new pool's own
        # status follows at its first tick; the old one's writer learns here that it is done.
        if found["metadata"]["uid"] != meta["uid"]:
            raise _replaced(body, f"its uid is {found['metadata']['uid']}")
        version: str = found["metadata"]["resourceVersion"]
        return version


def _replaced(body: JsonObject, why: str) -> Conflict:
    meta = body["metadata"]
    msg = f"{KIND} {meta['namespace']}/{meta['name']} {meta['uid']} was replaced: {why}"
    return Conflict(409, "Replaced", msg)


def _identity(namespace: str, name: str, uid: str, resource_version: str) -> JsonObject:
    if not resource_version:
        # The API server would take "" as no precondition at all.
        msg = (
            f"a write to {KIND} {namespace}/{name} needs the resourceVersion that it was decided "
            "on, got ''"
        )
        raise ValueError(msg)
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": resource_version,
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
