"""Replicas of any scale target, through its scale subresource.

Why server-side apply, tried on Kubernetes 1.36:

- A patch of ``/scale`` with the value that it already has takes no ownership. When Git then drops
  ``replicas`` from the manifest, nobody owns the field and it falls to 1. An apply co-owns it at
  the same value, and the value stays.
- An apply with a ``metadata.resourceVersion`` that is not the current one is a 409.
- On a *custom* resource an apply that changes the value (or carries an old resourceVersion) fails
  with 500 "request to convert CR to an invalid group/version: autoscaling/v1". There a merge patch
  of ``/scale`` changes it, which owns the field as an update does, and an apply takes ownership
  where the value is there already.
- An apply of a Scale without ``spec.replicas`` does *not* give the field up, and a same-value
  update by another manager does not take it over: the field stays ours, value and all, until
  somebody applies another one by force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spillway.adapters.kube.errors import NotFound, TargetUnsupported
from spillway.adapters.kube.paths import resource_path
from spillway.api.names import MANAGER_SCALE

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject


@dataclass(frozen=True, slots=True)
class ScaleTarget:
    """A reference to something with a scale subresource.

    Attributes:
        namespace: Namespace.
        api_version: Such as ``apps/v1``.
        kind: Such as ``Deployment``.
        name: Name.
    """

    namespace: str
    api_version: str
    kind: str
    name: str

    def __str__(self) -> str:
        """For a person."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ScaleState:
    """What a scale subresource says.

    Attributes:
        replicas: What is asked for.
        selector: Label selector of its pods, in the string form; "" where the target has none.
        resource_version: What a write must carry. It is the whole target's, so its status changes
            it as well.
        uid: The target's UID.
    """

    replicas: int
    selector: str
    resource_version: str
    uid: str


class ScaleWriter:
    """Reads and writes replicas of any kind that has a scale subresource."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._plurals: dict[tuple[str, str], str] = {}
        self._written: dict[ScaleTarget, str] = {}

    async def resolve(self, api_version: str, kind: str) -> str:
        """The resource name (plural) of a kind; asked once, until a target of it is not found.

        Raises:
            TargetUnsupported: The cluster does not know the kind, or it has no scale subresource.
            ApiError: The server could not be asked.
        """
        known = self._plurals.get((api_version, kind))
        if known is not None:
            return known
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            found = await self._cluster.get(root)
        except NotFound as error:
            msg = (
                f"the cluster does not know {api_version}; check targetRef.apiVersion, and that "
                "the CRD is installed"
            )
            raise TargetUnsupported(msg) from error
        resources = found.get("resources") or []
        names = {resource["name"] for resource in resources}
        plural: str | None = next(
            (r["name"] for r in resources if r["kind"] == kind and "/" not in r["name"]), None
        )
        if plural is None:
            msg = f"{api_version} has no kind {kind}; check targetRef.kind"
            raise TargetUnsupported(msg)
        if f"{plural}/scale" not in names:
            msg = (
                f"{kind} of {api_version} has no scale subresource; a targetRef must name a "
                "Deployment, a StatefulSet, or a custom resource that declares one"
            )
            raise TargetUnsupported(msg)
        self._plurals[api_version, kind] = plural
        return plural

    async def path(self, target: ScaleTarget) -> str:
        """The target's path (without ``/scale``)."""
        plural = await self.resolve(target.api_version, target.kind)
        return resource_path(target.api_version, plural, target.namespace, target.name)

    async def read(self, target: ScaleTarget) -> ScaleState:
        """What is asked for now.

        Raises:
            NotFound: There is no such target.
            TargetUnsupported: There can be no such target.
        """
        path = await self.path(target)
        try:
            return _state(await self._cluster.get(f"{path}/scale"))
        except NotFound:
            # Perhaps the CRD was installed anew under another plural: ask again next time.
            self._plurals.pop((target.api_version, target.kind), None)
            self._written.pop(target, None)
            raise

    async def write(self, target: ScaleTarget, replicas: int, resource_version: str) -> ScaleState:
        """Set replicas and own the field, also when the value is already there.

        Args:
            target: What to scale.
            replicas: The value, 0 or more.
            resource_version: Of the state that this was decided on.

        Raises:
            Conflict: The target has changed since; decide again.
            NotFound: The target is gone (a write on a subresource creates nothing).
        """
        if replicas < 0:
            msg = f"replicas of {target} must be 0 or more, got {replicas}"
            raise ValueError(msg)
        if not resource_version:
            # The API server would take "" as no precondition at all.
            msg = f"a write to {target} needs the resourceVersion that it was decided on, got ''"
            raise ValueError(msg)
        state = await self._write(target, replicas, resource_version)
        self._written[target] = state.uid
        return state

    def has_written(self, target: ScaleTarget, uid: str) -> bool:
        """Whether this process has set the replicas of the target, when it had this UID.

        A scale subresource shows no field managers, so for kinds that no informer watches this is
        all that is known of ownership.
        """
        return self._written.get(target) == uid

    async def _write(self, target: ScaleTarget, replicas: int, resource_version: str) -> ScaleState:
        path = await self.path(target)
        if not _is_built_in(target.api_version):
            precondition = {"metadata": {"resourceVersion": resource_version}}
            patch = {**precondition, "spec": {"replicas": replicas}}
            state = _state(await self._cluster.merge_patch(f"{path}/scale", patch, MANAGER_SCALE))
            if state.resource_version != resource_version:
                return state
            # Nothing changed, so the patch owns nothing.
        body: JsonObject = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {
                "name": target.name,
                "namespace": target.namespace,
                "resourceVersion": resource_version,
            },
            "spec": {"replicas": replicas},
        }
        return _state(await self._cluster.apply(path, body, MANAGER_SCALE, subresource="scale"))


def _is_built_in(api_version: str) -> bool:
    """Whether the kind is compiled into the API server: only a CRD's group must have a dot."""
    return "." not in api_version.split("/", maxsplit=1)[0]


def _state(scale: JsonObject) -> ScaleState:
    meta = scale["metadata"]
    replicas = (scale.get("spec") or {}).get("replicas")
    return ScaleState(
        # An absent number in a Scale is how its JSON says 0 (the field has omitempty).
        replicas=int(replicas) if replicas is not None else 0,
        selector=(scale.get("status") or {}).get("selector") or "",
        resource_version=meta["resourceVersion"],
        uid=meta.get("uid", ""),
    )
