"""A headless Service's name, kept as cluster DNS keeps it: the ready endpoints of its slices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tests.e2e.rig.emulator.front import loopback
from tests.e2e.rig.kubeapi import ApiError, KubeApi

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.e2e.rig.names import NameServer

_LOOK_SECONDS: Final = 0.2


def ready_addresses(slices: Iterable[Mapping[str, Any]]) -> list[str]:
    """IPs that a headless Service's name resolves to; an endpoint that does not say is ready."""
    return sorted(
        address
        for each in slices
        for endpoint in each.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint["addresses"]
    )


class ServiceName:
    """Follows one Service's EndpointSlices.

    Args:
        kubeconfig: The cluster.
        namespace: Of the Service.
        service: Its name.
        names: Who answers for it, as ``SERVICE.NAMESPACE.svc``.
    """

    def __init__(self, kubeconfig: Path, namespace: str, service: str, names: NameServer) -> None:
        self.name = f"{service}.{namespace}.svc"
        self._api = KubeApi(kubeconfig)
        self._namespace = namespace
        self._selector = f"kubernetes.io/service-name={service}"
        self._names = names

    async def run(self) -> None:
        """Follow until cancelled; while the API server is away the name stays as it was."""
        try:
            while True:
                await asyncio.gather(self.look(), asyncio.sleep(_LOOK_SECONDS))
        finally:
            self._api.close()

    async def look(self) -> None:
        """Follow once."""
        try:
            slices = await asyncio.to_thread(
                self._api.list, "EndpointSlice", self._namespace, selector=self._selector
            )
        except ApiError:
            return
        self._names.names[self.name] = [loopback(ip) for ip in ready_addresses(slices)]
