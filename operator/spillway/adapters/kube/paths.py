"""Paths of the Kubernetes REST API, built and told in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERBS: Final = {
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


def resource_path(
    api_version: str, plural: str, namespace: str | None = None, name: str | None = None
) -> str:
    """Path of a collection, or of one object in it.

    Args:
        api_version: ``group/version``, or ``v1`` for the core group.
        plural: Resource name, such as ``deployments``.
        namespace: None addresses all namespaces (or a cluster-scoped resource).
        name: None addresses the collection.
    """
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    tail = f"/{quote(name, safe='')}" if name else ""
    return f"{root}{scope}/{plural}{tail}"


def describe(method: str, path: str, params: Mapping[str, str]) -> str:
    """Say a request the way RBAC does: ``list pods in all namespaces``.

    Anything that is not a resource (``/version``, ``/apis/apps/v1``) is told by its path.
    """
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"]:
        rest = parts[2:]
    elif parts[:1] == ["apis"]:
        rest = parts[3:]
    else:
        rest = []
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    if not rest:
        return f"{method} {path}"
    resource, name, subresource = (*rest[:3], "", "")[:3]
    if method == "GET":
        verb = "watch" if params.get("watch") else "get" if name else "list"
    else:
        verb = _VERBS.get(method, method)
    what = f"{resource}/{subresource}" if subresource else resource
    if name:
        where = f"{namespace}/{name}" if namespace else name
        return f"{verb} {what} {where}"
    return f"{verb} {what} in {namespace or 'all namespaces'}"
