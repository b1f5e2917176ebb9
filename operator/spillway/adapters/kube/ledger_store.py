"""Keeps the spend ledger in ConfigMaps of the operator's own namespace.

There tenants can't reset a budget by deleting a pool. The keys are spread by hash over a few
ConfigMaps, each below what etcd stores; one that is full passes new keys on to the next. A key
stays where it was first put, so changing the number of shards loses nothing. Each write carries its
shard's resourceVersion: a leader that has lost its lease without noticing gets a `Conflict` and not
the last word.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spillway.adapters.kube.errors import ApiError, LedgerFullError
from spillway.adapters.kube.paths import resource_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject

MANAGER: Final = "spillway-ledger"
LEDGER_LABEL: Final = "spillway.dev/ledger"
#: The API server takes 1 MiB of data a ConfigMap and etcd 1.5 MiB a request. From half of it on a
#: shard takes no new keys, which leaves room for those that are there to grow.
SHARD_BYTES: Final = 500_000
MOST_BYTES: Final = 1_000_000


@dataclass(slots=True)
class _Shard:
    """One ConfigMap as it was last read or written.

    Attributes:
        resource_version: What a write must carry; None before it exists.
        data: Data key to value.
    """

    resource_version: str | None = None
    data: dict[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(len(key) + len(value.encode()) for key, value in self.data.items())


class LedgerStore:
    """Text payloads by key, kept in ConfigMaps.

    Args:
        cluster: The connection.
        namespace: The operator's namespace.
        name: Prefix of the ConfigMaps' names.
        shards: How many ConfigMaps new keys are spread over; 8 hold 8 MB.
    """

    def __init__(
        self, cluster: Cluster, *, namespace: str, name: str = "spillway-ledger", shards: int = 8
    ) -> None:
        if shards < 1:
            msg = f"the ledger needs 1 shard or more, got {shards}"
            raise ValueError(msg)
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._count = shards
        self._shards: dict[str, _Shard] = {}
        self._place: dict[str, str] = {}

    async def load(self) -> dict[str, str]:
        """Read everything, and forget what was known before.

        Raises:
            ApiError: The server could not be asked; nothing may be spent then.
        """
        shards: dict[str, _Shard] = {}
        path = resource_path("v1", "configmaps", self._namespace)
        params = {"labelSelector": f"{LEDGER_LABEL}={self._name}"}
        async for page in self._cluster.list_pages(path, params):
            for raw in page.items:
                meta = raw["metadata"]
                shards[meta["name"]] = _Shard(meta["resourceVersion"], raw.get("data") or {})
        self._shards = shards
        self._place = {}
        payloads: dict[str, str] = {}
        for name, shard in shards.items():
            for value in shard.data.values():
                key, _, payload = value.partition("\n")
                payloads[key] = payload
                self._place[key] = name
        return payloads

    async def save(
        self, changes: Mapping[str, str | None]
    ) -> dict[str, ApiError | LedgerFullError]:
        """Write changed payloads, one patch a shard; None removes a key.

        Call `load` first. Shards are written at the same time, and one that fails keeps none of the
        others back. Writing the same changes again is harmless.

        Args:
            changes: Key (``namespace/name`` of a pool; no line break) to payload.

        Returns:
            Why a key could not be written, for each such key. A `Conflict`: another leader wrote
            meanwhile, so `load` again. A `LedgerFullError`: its shard would grow too large.
        """
        places = self._places(changes)
        by_shard: dict[str, dict[str, str | None]] = {}
        for key, payload in changes.items():
            value = None if payload is None else f"{key}\n{payload}"
            by_shard.setdefault(places[key], {})[_data_key(key)] = value
        results = await asyncio.gather(
            *(self._save_shard(name, data) for name, data in by_shard.items())
        )
        faults = dict(zip(by_shard, results, strict=True))
        failed = {}
        for key, payload in changes.items():
            fault = faults[places[key]]
            if fault is not None:
                failed[key] = fault
            elif payload is None:
                self._place.pop(key, None)
            else:
                self._place[key] = places[key]
        return failed

    def _places(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """The shard of each key: where it is, or for a new one its own, or the next with room."""
        room = {name: SHARD_BYTES - shard.size_bytes for name, shard in self._shards.items()}
        places = {}
        for key, payload in changes.items():
            if "\n" in key:
                msg = f"a ledger key must have no line break, got {key!r}"
                raise ValueError(msg)
            if key in self._place:
                places[key] = self._place[key]
                continue
            size = len(key.encode()) + len((payload or "").encode())
            own, *others = self._shards_from(key)
            name = next((n for n in (own, *others) if room.get(n, SHARD_BYTES) >= size), own)
            room[name] = room.get(name, SHARD_BYTES) - size
            places[key] = name
        return places

    async def _save_shard(
        self, name: str, changes: Mapping[str, str | None]
    ) -> ApiError | LedgerFullError | None:
        """Write one shard; what went wrong, if anything did."""
        try:
            await self._write_shard(name, changes)
        except (ApiError, LedgerFullError) as error:
            return error
        return None

    async def _write_shard(self, name: str, changes: Mapping[str, str | None]) -> None:
        shard = self._shards.get(name, _Shard())
        changed = {k: v for k, v in changes.items() if shard.data.get(k) != v}
        if not changed:
            return
        data = {k: v for k, v in {**shard.data, **changed}.items() if v is not None}
        size_bytes = _Shard(None, data).size_bytes
        if size_bytes > MOST_BYTES:
            msg = (
                f"ConfigMap {self._namespace}/{name} would hold {size_bytes} bytes of ledger, more "
                f"than {MOST_BYTES}, and none of the {self._count} has room; remove the entries of "
                f"pools that are gone from those with the label {LEDGER_LABEL}"
            )
            raise LedgerFullError(msg)
        if shard.resource_version is None:
            raw = await self._create_shard(name, data)
        else:
            path = resource_path("v1", "configmaps", self._namespace, name)
            body = {"metadata": {"resourceVersion": shard.resource_version}, "data": changed}
            # Not throttled: what bounds money must not queue behind statuses, and there is at most
            # one write a shard and tick.
            raw = await self._cluster.merge_patch(path, body, MANAGER, throttle=False)
        self._shards[name] = _Shard(raw["metadata"]["resourceVersion"], data)

    async def _create_shard(self, name: str, data: dict[str, str]) -> JsonObject:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {LEDGER_LABEL: self._name}},
            "data": data,
        }
        return await self._cluster.create(
            resource_path("v1", "configmaps", self._namespace), body, MANAGER, throttle=False
        )

    def _shards_from(self, key: str) -> list[str]:
        """All shards, a key's own first."""
        own = int(_digest(key)[:8], 16)
        return [f"{self._name}-{(own + step) % self._count}" for step in range(self._count)]


def _digest(key: str) -> str:
    """A hash that is the same in every process (``hash`` is not)."""
    return hashlib.sha256(key.encode()).hexdigest()


def _data_key(key: str) -> str:
    """A ConfigMap's key: ``namespace/name`` may have 317 characters and a slash, which it may not.

    The value's first line tells the key in clear.
    """
    return _digest(key)[:32]
