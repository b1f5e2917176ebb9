"""Kopf: lifecycle, login, and the wake-up when an InferencePool changes. Nothing else.

No timer, daemon, index or finalizer of Kopf's is used: pods and workloads at the size of a fleet
need informers that replace their store on relist (docs/design/0001-kopf-and-informers.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import kopf

from spillway.adapters.kube import credentials
from spillway.api.names import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spillway.controller.operator import Operator

#: Kopf reports to the cluster's default when told nothing; these are measured for 1,000 pools.
_QUEUE_IDLE_SECONDS: Final = 0.3
_CHUNK: Final = 500


class _Backoffs:
    """Endless pauses between tries: with finite ones Kopf exits when the API server is gone."""

    def __iter__(self) -> Iterator[float]:
        yield 0.5
        while True:
            yield 2.0


class _NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing of an object.

    No handler asks what has changed, but Kopf would copy each object several times to know it.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing."""
        return None

    def store(self, **_: Any) -> None:
        """Do nothing."""


def registry_for(operator: Operator) -> kopf.OperatorRegistry:
    """Handlers of one operator."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        """Hand Kopf the credentials that we use ourselves."""
        return await connection(operator)

    @kopf.on.startup(registry=registry)
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        """Start the loops once Kopf is set up."""
        tune(settings, confined=bool(operator.settings.watch_namespaces))
        await operator.start()

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        """Stop in order, the Lease first."""
        await operator.stop()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(namespace: str | None, name: str | None, **_: Any) -> None:
        """Take the pool out of turn."""
        operator.wake((namespace or "", name or ""))

    return registry


def tune(settings: kopf.OperatorSettings, *, confined: bool = False) -> None:
    """Kopf's own settings.

    Args:
        settings: To change.
        confined: The operator keeps to some namespaces, and has rights there alone.
    """
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.queueing.idle_timeout = _QUEUE_IDLE_SECONDS
    settings.watching.chunk_size = _CHUNK
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    # Else Kopf lists and watches all namespaces and definitions. With endless backoffs it would ask
    # for what it may not do for ever, and never come to its fallback, the names it was given.
    settings.scanning.disabled = confined


async def connection(operator: Operator) -> kopf.ConnectionInfo:
    """The same credentials that our own client uses."""
    source = operator.kubeconfig
    configuration = await credentials.load(source, operator.settings.context)
    bearer = (await configuration.auth_settings()).get("BearerToken", {}).get("value") or ""
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme="Bearer" if bearer else None,
        token=bearer.removeprefix("Bearer ") or None,
    )
