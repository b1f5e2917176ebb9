"""Follows a pool's pods: list, then watch, and list again whenever the watch ends."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from kubernetes import client, config

from tests.e2e.rig.emulator.pod import PodView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

WATCH_SECONDS = 300
RETRY_SECONDS = 0.5
MAX_POD_BYTES = 4 * 1024 * 1024
"""One watch event is one line, and aiohttp bounds lines by its read buffer."""


@dataclass(frozen=True)
class ApiServer:
    """How to reach the API server."""

    url: str
    tls: ssl.SSLContext | bool
    headers: Mapping[str, str]

    @classmethod
    def from_kubeconfig(cls, path: str | None) -> ApiServer:
        """Read a kubeconfig as kubectl does (None: ``KUBECONFIG`` or the default place).

        Raises:
            kubernetes.config.ConfigException: It is missing or names no usable context.
        """
        found = client.Configuration()
        config.load_kube_config(config_file=path, client_configuration=found)
        token = found.auth_settings().get("BearerToken", {}).get("value")
        tls: ssl.SSLContext | bool = True
        if found.host.startswith("https"):
            tls = ssl.create_default_context(cafile=found.ssl_ca_cert)
            if not found.verify_ssl:
                tls.check_hostname = False
                tls.verify_mode = ssl.CERT_NONE
            if found.cert_file:
                tls.load_cert_chain(found.cert_file, found.key_file)
        return cls(found.host, tls, {"Authorization": token} if token else {})

    def session(self) -> aiohttp.ClientSession:
        """A session that speaks to it."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.tls, limit=0),
            headers=self.headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SECONDS + 10),
            read_bufsize=MAX_POD_BYTES,
        )


class PodWatch:
    """The pods of one selector, reported as a whole on every change.

    While the API server can't be reached the pods stay as they were last seen, as kubelets keep
    theirs.
    """

    def __init__(
        self,
        api: ApiServer,
        namespace: str,
        selector: Mapping[str, str],
        report: Callable[[list[PodView]], None],
    ) -> None:
        self._url = f"{api.url}/api/v1/namespaces/{namespace}/pods"
        self._selector = ",".join(f"{name}={value}" for name, value in selector.items())
        self._report = report
        self._pods: dict[str, PodView] = {}

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Follow for ever."""
        while True:
            try:
                await self._watch(session, await self._list(session))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("pods at %s: %s; trying again", self._url, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _list(self, session: aiohttp.ClientSession) -> str:
        """Replace what is known; returns the version to watch from."""
        async with session.get(self._url, params={"labelSelector": self._selector}) as response:
            response.raise_for_status()
            found: dict[str, Any] = await response.json()
        self._pods = {pod["metadata"]["uid"]: PodView.of(pod) for pod in found["items"]}
        self._report(list(self._pods.values()))
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, session: aiohttp.ClientSession, version: str) -> None:
        params = {
            "labelSelector": self._selector,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with session.get(self._url, params=params) as response:
            response.raise_for_status()
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":  # Usually 410 Gone: the version is too old.
                    return
                view = PodView.of(event["object"])
                if event["type"] == "DELETED":
                    self._pods.pop(view.uid, None)
                else:
                    self._pods[view.uid] = view
                self._report(list(self._pods.values()))
