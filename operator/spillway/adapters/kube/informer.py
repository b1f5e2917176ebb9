"""List and watch: a copy of one resource that is kept current and never holds ghosts.

Kopf's event-fed caches keep objects that vanished while the watch was down, and the official
``SharedInformer`` keeps whole model objects (docs/design has both measurements). This one keeps
what a projection returns, and after every list its store holds what the list held and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import structlog

from spillway.adapters.kube.backoff import Backoff
from spillway.adapters.kube.client import WATCH_IDLE_SECONDS, WATCH_SERVER_SECONDS
from spillway.adapters.kube.errors import ApiError, Gone, NotFound, WatchSilent
from spillway.adapters.kube.store import Key, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: How often to look whether a CRD that is absent has been installed.
MISSING_RETRY_SECONDS: Final = 5.0
#: So many 404s in a row say that the resource is gone. One alone may be an API server that has not
#: yet installed its paths, and must not look as if every object had been deleted.
MISSING_CONFIRMATIONS: Final = 2
#: So many watches in a row that fail before their first event lead to a new list. A server whose
#: etcd was restored from a backup refuses our resourceVersion (it is in its future) for ever.
RELIST_AFTER_FAILURES: Final = 3


class Informer(Generic[T]):
    """A current copy of one resource.

    `run` keeps it so until it is cancelled, whatever the API server does: outages, 410, silent
    watches, malformed objects and an absent CRD are waited out.

    Args:
        cluster: The connection.
        path: The collection (``paths.resource_path``), of all namespaces or of one.
        project: What to keep of a raw object; None leaves it out. A projection that raises leaves
            the object out too, and `malformed` says why.
        carry: What a record takes over from the one before it: ``carry(previous, record)``. For
            what an object itself forgets, such as when a pod was ready first.
        label_selector: Server-side label selector.
        field_selector: Server-side field selector.
        server_seconds: When the server is to end a watch.
        idle_seconds: How long a watch may bring nothing, bookmarks included.
        page_size: Objects a page of a list.
        missing_retry_seconds: How often to look whether an absent resource has come.
        clock: Monotonic seconds.

    Attributes:
        synced: Set once the first list is complete (or the resource is known to be absent), and
            then for ever.
        missing: Whether the resource itself is absent (its CRD is not installed).
        last_contact: Monotonic time of the last sign of life; None before the first.
        last_error: The last failure, for a person; None while all is well.
        malformed: Why objects that exist are not in the store.
        malformed_total: How often a projection raised.
        relists_total: How many complete lists there were.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        project: Callable[[JsonObject], T | None],
        *,
        carry: Callable[[T, T], T] | None = None,
        label_selector: str = "",
        field_selector: str = "",
        server_seconds: float = WATCH_SERVER_SECONDS,
        idle_seconds: float = WATCH_IDLE_SECONDS,
        page_size: int = 500,
        missing_retry_seconds: float = MISSING_RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.synced = asyncio.Event()
        self.missing = False
        self.last_contact: float | None = None
        self.last_error: str | None = None
        self.malformed: dict[Key, str] = {}
        self.malformed_total = 0
        self.relists_total = 0
        self._cluster = cluster
        self._project = project
        self._carry = carry
        self._params = {
            name: value
            for name, value in (
                ("labelSelector", label_selector),
                ("fieldSelector", field_selector),
            )
            if value
        }
        self._server_seconds = server_seconds
        self._idle_seconds = idle_seconds
        self._page_size = page_size
        self._clock = clock
        self._store: Store[T] = Store()
        self._callbacks: list[Callable[[Key], None]] = []
        self._resource_version = ""
        self._heard = False
        self._not_found_streak = 0
        self._missing_retry_seconds = missing_retry_seconds

    @property
    def store(self) -> Mapping[Key, T]:
        """Records by (namespace, name); a live view, whole before and after each change of it."""
        return self._store.records

    def on_change(self, callback: Callable[[Key], None]) -> None:
        """Call ``callback(key)`` whenever a record appears, changes or goes.

        It runs inside the informer's task: it should set an event, and no more.
        """
        self._callbacks.append(callback)

    def age_seconds(self, now_monotonic: float) -> float | None:
        """Seconds since the last sign of life; None before the first.

        A healthy watch over quiet objects shows signs about once a minute (bookmarks).
        """
        return None if self.last_contact is None else max(0.0, now_monotonic - self.last_contact)

    async def run(self) -> None:
        """Keep the store current until cancelled."""
        backoff = Backoff()
        while True:
            try:
                await self._step(backoff)
            except ApiError as error:
                await asyncio.sleep(self._after_failure(error, backoff))
            except Exception as error:
                # Not foreseen, and still no reason to stop looking: begin anew from a list.
                log.exception("informer failed; it lists anew", path=self.path)
                self.last_error = repr(error)
                self._resource_version = ""
                await asyncio.sleep(backoff.next_seconds())

    async def _step(self, backoff: Backoff) -> None:
        """One list (where needed) and one watch to its end."""
        if not self._resource_version:
            await self._list()
        self._heard = False
        try:
            await self._watch()
        finally:
            if self._heard:
                backoff.success()
        if not self._heard:
            # Ended without a word: a server that does so each time must not be asked in a loop.
            await asyncio.sleep(backoff.next_seconds())

    def _after_failure(self, error: ApiError, backoff: Backoff) -> float:
        """Note the failure; how long to wait."""
        if isinstance(error, NotFound):
            return self._absent(error)
        self._not_found_streak = 0
        if self.last_error is None:
            log.warning("informer lost its source", path=self.path, error=error.message)
        self.last_error = error.message
        # What swallows one watch may swallow the next one too, and lists tell what both did not.
        if isinstance(error, Gone | WatchSilent) or backoff.failures >= RELIST_AFTER_FAILURES:
            self._resource_version = ""
        return backoff.next_seconds(error.retry_after_seconds)

    def _absent(self, error: NotFound) -> float:
        """The resource is not there: its objects are gone with it, once that is confirmed."""
        self._resource_version = ""
        self._not_found_streak += 1
        self.last_error = error.message
        self._contact()
        if self._not_found_streak >= MISSING_CONFIRMATIONS:
            if not self.missing:
                log.warning("resource is absent; waiting for it", path=self.path)
            self.missing = True
            self._replace({})
            # Nothing is there, and that is known: who waits for a first list may go on.
            self.synced.set()
        return self._missing_retry_seconds

    async def _list(self) -> None:
        fresh: dict[Key, T] = {}
        malformed: dict[Key, str] = {}
        resource_version = ""
        pages = self._cluster.list_pages(self.path, self._params, self._page_size)
        async with aclosing(pages):
            async for page in pages:
                resource_version = page.resource_version
                for raw in page.items:
                    self._admit(raw, fresh, malformed)
                self._contact()
                # A page of 500 takes some 20 ms to read: let others in between.
                await asyncio.sleep(0)
        self.malformed = malformed
        self._replace(fresh)
        self._resource_version = resource_version
        self.relists_total += 1
        self.missing = False
        self._not_found_streak = 0
        self._recovered()
        self.synced.set()

    def _replace(self, fresh: dict[Key, T]) -> None:
        """Make the store hold ``fresh`` and nothing else."""
        for key in [key for key in self._store.records if key not in fresh]:
            self._store.drop(key)
            self._notify(key)
        for key, record in fresh.items():
            if self._store.put(key, record):
                self._notify(key)

    async def _watch(self) -> None:
        events = self._cluster.watch(
            self.path,
            self._resource_version,
            self._params,
            server_seconds=self._server_seconds,
            idle_seconds=self._idle_seconds,
        )
        async with aclosing(events):
            async for kind, raw in events:
                self._heard = True
                self._contact()
                self._recovered()
                if kind != "BOOKMARK":
                    self._event(kind, raw)
                # Only now: an event whose handling failed is not skipped.
                self._resource_version = _resource_version(raw) or self._resource_version

    def _event(self, kind: str, raw: JsonObject) -> None:
        fresh: dict[Key, T] = {}
        key = self._admit(raw, fresh, self.malformed) if kind != "DELETED" else _key(raw)
        if key is None:
            return
        if key in fresh:
            self.malformed.pop(key, None)
            changed = self._store.put(key, fresh[key])
        else:
            if kind == "DELETED":
                self.malformed.pop(key, None)
            changed = self._store.drop(key)
        if changed:
            self._notify(key)

    def _admit(self, raw: JsonObject, fresh: dict[Key, T], malformed: dict[Key, str]) -> Key | None:
        """Project an object into ``fresh``, or note in ``malformed`` why it can't be.

        Nothing that an object holds may stop the informer, so every exception ends here.
        """
        key = _key(raw)
        if key is None:
            self.malformed_total += 1
            log.warning("object without a name left out", path=self.path)
            return None
        try:
            record = self._project(raw)
        except Exception as error:  # noqa: BLE001 - see above; it is counted and told
            self.malformed_total += 1
            why = f"{type(error).__name__}: {error}"
            if self.malformed.get(key) != why:
                log.warning("malformed object left out", path=self.path, key=key, error=why)
            malformed[key] = why
            return key
        if record is not None:
            previous = self._store.records.get(key)
            if previous is not None and self._carry is not None:
                record = self._carry(previous, record)
            fresh[key] = record
        else:
            malformed.pop(key, None)
        return key

    def _contact(self) -> None:
        self.last_contact = self._clock()

    def _recovered(self) -> None:
        if self.last_error is not None:
            log.info("informer is current again", path=self.path)
            self.last_error = None

    def _notify(self, key: Key) -> None:
        for callback in self._callbacks:
            try:
                callback(key)
            except Exception:
                log.exception("an informer's callback failed", path=self.path, key=key)


def _metadata(raw: Any) -> Mapping[str, Any]:
    meta = raw.get("metadata") if isinstance(raw, dict) else None
    return meta if isinstance(meta, dict) else {}


def _key(raw: Any) -> Key | None:
    """Namespace and name; None where the object has no usable ones."""
    meta = _metadata(raw)
    name, namespace = meta.get("name"), meta.get("namespace", "")
    if isinstance(name, str) and name and isinstance(namespace, str):
        return namespace, name
    return None


def _resource_version(raw: Any) -> str:
    version = _metadata(raw).get("resourceVersion", "")
    return version if isinstance(version, str) else ""
