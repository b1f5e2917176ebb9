"""HTTPRoutes of the Gateway API: what of one is kept, and patches of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from spillway.adapters.kube.paths import resource_path
from spillway.api.names import MANAGER_ROUTE, ROUTE_WEIGHTS_ANNOTATION
from spillway.core.route import Operation, Route, RouteBackend, RouteRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.adapters.kube.client import Cluster

ROUTE_API: Final = "gateway.networking.k8s.io/v1"
ROUTE_PLURAL: Final = "httproutes"
#: Conditions by which a gateway says whether it does what the route asks for.
_ANSWERS: Final = frozenset({"Accepted", "ResolvedRefs"})


def project_route(raw: dict[str, Any]) -> Route:
    """A route from its object.

    Raises:
        KeyError: It lacks what the Gateway API's schema demands.
        TypeError: Likewise.
    """
    meta = raw["metadata"]
    annotations = meta.get("annotations") or {}
    return Route(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=str(meta.get("resourceVersion", "")),
        rules=tuple(_rule(rule) for rule in (raw.get("spec") or {}).get("rules") or []),
        kept=annotations.get(ROUTE_WEIGHTS_ANNOTATION),
        annotated=bool(annotations),
        **_answers(raw, int(meta.get("generation", 0))),
    )


def _rule(raw: dict[str, Any]) -> RouteRule:
    return RouteRule(
        name=raw.get("name"),
        backends=tuple(
            RouteBackend(
                name=ref["name"],
                kind=ref.get("kind") or "Service",
                group=ref.get("group") or "",
                namespace=ref.get("namespace") or "",
                weight=None if ref.get("weight") is None else int(ref["weight"]),
            )
            for ref in raw.get("backendRefs") or []
        ),
    )


def _answers(raw: dict[str, Any], generation: int) -> dict[str, Any]:
    """What gateways say of the route: ``accepted``, ``answered`` and ``refusal`` of `Route`."""
    said = [
        condition
        for parent in (raw.get("status") or {}).get("parents") or []
        for condition in parent.get("conditions") or []
        if condition.get("type") in _ANSWERS
    ]
    current = [c for c in said if int(c.get("observedGeneration") or 0) >= generation]
    against = [c for c in current if c.get("status") == "False"]
    return {
        "accepted": False if against else (any(_takes(c) for c in current) or None),
        "answered": any(_takes(c) for c in said),
        "refusal": "; ".join(
            f"{c['type']}: {c.get('message') or c.get('reason')}" for c in against
        ),
    }


def _takes(condition: dict[str, Any]) -> bool:
    return bool(condition["type"] == "Accepted" and condition.get("status") == "True")


class RouteWriter:
    """Writes weights."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def write(self, route: Route, patch: Sequence[Operation]) -> Route:
        """Patch a route; the patch itself tests what it was decided on.

        Returns:
            The route with it.

        Raises:
            Conflict: The route has changed since: decide again.
            NotFound: The route is gone.
        """
        path = resource_path(ROUTE_API, ROUTE_PLURAL, route.namespace, route.name)
        return project_route(await self._cluster.json_patch(path, patch, MANAGER_ROUTE))
