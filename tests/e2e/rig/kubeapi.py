"""A small client for the API server that speaks plain JSON objects.

The tests look at many kinds, some of them not in any typed client, several times a second; a kind
is found by discovery, and an answer is the object as the server sent it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import kubernetes
import urllib3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Kinds that may be named without their apiVersion. Spillway's own InferencePool is meant, not the
#: Gateway API Inference Extension's, which is written in full.
API_VERSIONS = {
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "ConfigMap": "v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "Deployment": "apps/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Event": "events.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "InferencePool": "spillway.dev/v1alpha1",
    "Lease": "coordination.k8s.io/v1",
    "Namespace": "v1",
    "Node": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "ReplicaSet": "apps/v1",
    "ScaleTarget": "rig.spillway.dev/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "StatefulSet": "apps/v1",
}
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"


class ApiError(RuntimeError):
    """The API server refused a call, or did not answer.

    Attributes:
        status: The HTTP status; 0 when there was no answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(ApiError):
    """There is no such object."""


class KubeApi:
    """Calls on one API server, as the user of a kubeconfig.

    Args:
        kubeconfig: The file; its current context is used.
        timeout: Seconds until a call without an answer fails.

    Attributes:
        timeout: Likewise; may be changed.
    """

    def __init__(self, kubeconfig: Path, *, timeout: float = 10.0) -> None:
        self._client = kubernetes.config.new_client_from_config(str(kubeconfig))
        self.timeout = timeout
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def host(self) -> str:
        """The API server's address."""
        address: str = self._client.configuration.host
        return address

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """One call; returns the decoded answer.

        Raises:
            NotFoundError: Status 404.
            ApiError: Any other refusal, or no answer.
        """
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type}
        for setting in self._client.configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        try:
            answer = self._client.rest_client.pool_manager.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body),
                timeout=self.timeout,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        if answer.status >= 400:
            text = answer.data.decode(errors="replace")
            kind = NotFoundError if answer.status == 404 else ApiError
            raise kind(answer.status, f"{method} {path}: {answer.status} {_message(text)}")
        return json.loads(answer.data)

    def path(self, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of an object, or of a kind's list.

        Args:
            kind: A kind of API_VERSIONS, or in full as in ``apps/v1/Deployment``.
            namespace: Ignored for kinds without namespaces; None lists all namespaces.
            name: None for the list.
        """
        api_version, _, kind_only = kind.rpartition("/")
        api_version = api_version or API_VERSIONS.get(kind_only, "")
        if not api_version:
            msg = f"kind {kind!r} needs its apiVersion, as in apps/v1/Deployment"
            raise ValueError(msg)
        plural, namespaced = self._resource(api_version, kind_only)
        parts = [_root(api_version)]
        if namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(plural)
        if name:
            parts.append(name)
        return "/".join(parts)

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Plural name, and whether it lives in namespaces; found by discovery, then remembered."""
        found = self._resources.get((api_version, kind))
        if found is None:
            for item in self.request("GET", _root(api_version))["resources"]:
                if "/" not in item["name"]:
                    key = (api_version, item["kind"])
                    self._resources[key] = (item["name"], item["namespaced"])
            found = self._resources.get((api_version, kind))
        if found is None:
            raise NotFoundError(404, f"the server has no kind {kind} in {api_version}")
        return found

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """One object.

        Raises:
            NotFoundError: There is none of that name.
        """
        answer: dict[str, Any] = self.request("GET", self.path(kind, namespace, name))
        return answer

    def find(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None when there is none."""
        try:
            return self.get(kind, name, namespace)
        except NotFoundError:
            return None

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        selector: str = "",
        cached: bool = False,
    ) -> list[dict[str, Any]]:
        """All objects of a kind whose labels match the selector.

        ``cached`` asks for what the API server has in its memory, which may be a little old: a
        list of thousands then costs etcd nothing.
        """
        query = {"labelSelector": selector} if selector else {}
        if cached:
            query["resourceVersion"] = "0"
        answer = self.request("GET", self.path(kind, namespace), query=query)
        items: list[dict[str, Any]] = answer["items"]
        return items

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create one object and return it as stored.

        Raises:
            ApiError: It is there already (409) or not valid (422); with the server's words.
        """
        path = self.path(_kind(manifest), manifest["metadata"].get("namespace"))
        answer: dict[str, Any] = self.request("POST", path, body=manifest)
        return answer

    def apply(self, *manifests: Mapping[str, Any], manager: str = "rig") -> None:
        """Server-side apply of each object, with force."""
        for manifest in manifests:
            metadata = manifest["metadata"]
            path = self.path(_kind(manifest), metadata.get("namespace"), metadata["name"])
            query = {"fieldManager": manager, "force": "true"}
            self.request("PATCH", path, query=query, body=manifest, content_type=_APPLY)

    def patch(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        subresource: str = "",
    ) -> dict[str, Any]:
        """Change one object: a dict is a merge patch, a list a JSON patch."""
        path = self.path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        content_type = _MERGE if isinstance(body, dict) else _JSON_PATCH
        answer: dict[str, Any] = self.request("PATCH", path, body=body, content_type=content_type)
        return answer

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete one object; none of that name is as good."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            self.request("DELETE", self.path(kind, namespace, name), body=body)
        except NotFoundError:
            return


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _kind(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['apiVersion']}/{manifest['kind']}"


def _message(text: str) -> str:
    """The words of a Status object, or the text itself."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
