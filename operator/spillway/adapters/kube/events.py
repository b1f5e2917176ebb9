"""Events (events.k8s.io/v1) of our own: deduplicated, bounded, and never in the way.

`EventRecorder.emit` only queues; `EventRecorder.run` writes. The same thing said again within ten
minutes raises the count of the event that is there. Whatever fails here is logged and counted.
"""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from spillway.adapters.kube.errors import ApiError, NotFound, Terminating
from spillway.adapters.kube.paths import resource_path
from spillway.adapters.kube.throttle import TokenBucket
from spillway.api.timestamps import format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject

log = structlog.get_logger(__name__)

CONTROLLER: Final = "spillway.dev/operator"
EVENTS_API: Final = "events.k8s.io/v1"
#: The same note within this long belongs to the same event.
SERIES_SECONDS: Final = 600.0
#: A series' count is written at its second occurrence and then at most this often.
SERIES_WRITE_SECONDS: Final = 60.0
#: Per object, so that a noisy pool can't hide the others (client-go's spam filter has 25 as well).
OBJECT_BURST: Final = 25
OBJECT_PER_SECOND: Final = 1 / 30
#: Events that wait to be written, and series that are remembered.
QUEUE_SIZE: Final = 1000
REMEMBERED: Final = 5000
#: The API server refuses more than 1 kB of note and 128 of reason and action.
NOTE_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """What an event is about.

    Attributes:
        api_version: Such as ``spillway.dev/v1alpha1``.
        kind: Such as ``InferencePool``.
        namespace: Namespace.
        name: Name.
        uid: UID.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """One thing that happened."""

    subject: ObjectReference
    reason: str
    note: str
    action: str
    warning: bool
    at: float

    @property
    def key(self) -> tuple[str, str, str]:
        return self.subject.uid, self.reason, self.note


@dataclass(slots=True)
class _Series:
    """An event that was written, and how often it has happened since."""

    name: str
    count: int
    last_at: float
    written_at: float


class EventRecorder:
    """Tells what happened to an object.

    Args:
        cluster: The connection.
        instance: Who reports, such as the pod's name; the host name where None.
        clock: Monotonic seconds, for the bounds.

    Attributes:
        dropped_total: Events that the bounds kept back, or whose namespace is being deleted.
        failed_total: Events that the API server did not take.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped_total = 0
        self.failed_total = 0
        self._cluster = cluster
        self._instance = (instance or socket.gethostname())[:128]
        self._clock = clock
        self._queue: asyncio.Queue[_Occurrence] = asyncio.Queue(QUEUE_SIZE)
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def emit(
        self,
        subject: ObjectReference,
        reason: str,
        note: str,
        *,
        now: float,
        action: str = "Reconcile",
        warning: bool = False,
    ) -> None:
        """Queue an event; never blocks, never raises.

        Args:
            subject: What it is about.
            reason: A `Reason`.
            note: One sentence for a person. Equal notes are counted together, so leave out what
                differs each time.
            now: When it happened.
            action: What was being done.
            warning: Whether it is a Warning (else Normal).
        """
        occurrence = _Occurrence(subject, reason, _shortened(note), action, warning, now)
        try:
            self._queue.put_nowait(occurrence)
        except asyncio.QueueFull:
            self.dropped_total += 1

    async def run(self) -> None:
        """Write queued events until cancelled."""
        while True:
            occurrence = await self._queue.get()
            try:
                await self._record(occurrence)
            except Terminating:
                # Nobody will look for it there any more.
                self.dropped_total += 1
            except ApiError as error:
                self.failed_total += 1
                log.warning("event not written", reason=occurrence.reason, error=error.message)
            except Exception:
                self.failed_total += 1
                log.exception("event not written", reason=occurrence.reason)
            finally:
                self._queue.task_done()

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until `run` has written what is queued, but no longer than this."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._queue.join()
        except TimeoutError:
            self.dropped_total += self._queue.qsize()

    async def _record(self, occurrence: _Occurrence) -> None:
        self._forget(occurrence.at)
        series = self._series.get(occurrence.key)
        if series is not None and occurrence.at - series.last_at < SERIES_SECONDS:
            await self._count(occurrence, series)
            return
        if not self._bucket(occurrence.subject.uid).try_take():
            self.dropped_total += 1
            return
        await self._create(occurrence)

    def _forget(self, now: float) -> None:
        """Drop series that have ended, and buckets that are full: the longest silent come first."""
        while self._series:
            key, series = next(iter(self._series.items()))
            if now - series.last_at < SERIES_SECONDS:
                break
            del self._series[key]
        while self._buckets:
            uid, bucket = next(iter(self._buckets.items()))
            if not bucket.full:
                break
            del self._buckets[uid]

    async def _count(self, occurrence: _Occurrence, series: _Series) -> None:
        series.count += 1
        series.last_at = occurrence.at
        self._series.move_to_end(occurrence.key)
        if series.count > 2 and occurrence.at - series.written_at < SERIES_WRITE_SECONDS:
            return
        series.written_at = occurrence.at
        path = resource_path(EVENTS_API, "events", occurrence.subject.namespace, series.name)
        at = format_time(occurrence.at, digits=6)
        seen = {"count": series.count, "lastObservedTime": at}
        try:
            await self._cluster.merge_patch(path, {"series": seen}, CONTROLLER)
        except NotFound:
            # The API server forgets events after an hour.
            await self._create(occurrence)

    async def _create(self, occurrence: _Occurrence) -> None:
        subject = occurrence.subject
        # Unique among events of this object; a uuid keeps two operators apart.
        name = f"{subject.name[:200]}.{uuid.uuid4().hex[:16]}"
        path = resource_path(EVENTS_API, "events", subject.namespace)
        await self._cluster.create(path, self._body(occurrence, name), CONTROLLER)
        self._series[occurrence.key] = _Series(name, 1, occurrence.at, occurrence.at)
        self._series.move_to_end(occurrence.key)
        while len(self._series) > REMEMBERED:
            self._series.popitem(last=False)

    def _body(self, occurrence: _Occurrence, name: str) -> JsonObject:
        subject = occurrence.subject
        return {
            "apiVersion": EVENTS_API,
            "kind": "Event",
            "metadata": {"name": name, "namespace": subject.namespace},
            "eventTime": format_time(occurrence.at, digits=6),
            "type": "Warning" if occurrence.warning else "Normal",
            "reason": occurrence.reason[:128],
            "action": occurrence.action[:128],
            "note": occurrence.note,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
        }

    def _bucket(self, uid: str) -> TokenBucket:
        bucket = self._buckets.get(uid)
        if bucket is None:
            bucket = TokenBucket(OBJECT_PER_SECOND, OBJECT_BURST, clock=self._clock)
            self._buckets[uid] = bucket
        self._buckets.move_to_end(uid)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket


def _shortened(note: str) -> str:
    """At most NOTE_BYTES of UTF-8, never cut inside a character."""
    raw = note.encode()
    if len(raw) <= NOTE_BYTES:
        return note
    return raw[: NOTE_BYTES - 3].decode(errors="ignore") + "…"
