"""Leader election on a coordination.k8s.io/v1 Lease.

Why not ``kubernetes.aio.leaderelection`` (read at 37.0.2), which has a LeaseLock: it measures with
the wall clock, so a step of the clock makes two leaders; it gives no moment up to which the lease
is certainly held, so a process that was stopped and goes on would write; it does not count
``leaseTransitions``, so there is no epoch; it does not release on stop; an error of the connection
ends its loop; and it writes local time with a Z.

The lease is *held* for ``renew_deadline_seconds`` after the last renewal was **sent**, by the
monotonic clock. Others may take it ``lease_seconds`` after they **saw** that renewal, which is
later. The difference (5 s by default) is for a write that is under way when the lease ends; for the
rest, writes carry the resourceVersion they were decided on, because a lease is not a fence.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from spillway.adapters.kube.errors import ApiError, Conflict, NotFound
from spillway.adapters.kube.paths import resource_path
from spillway.api.timestamps import format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.transport import JsonObject

log = structlog.get_logger(__name__)

LEASE_API: Final = "coordination.k8s.io/v1"
MANAGER: Final = "spillway-lease"


def unique_identity() -> str:
    """Host name and a random part: two processes on one host must not take themselves for one."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class _Observed:
    """The Lease as it was last seen to change.

    Attributes:
        holder: Its holder; "" when it is free.
        transitions: leaseTransitions.
        resource_version: What an update must carry.
        duration_seconds: What its holder declared.
        seen_at: Monotonic time when this version was seen first.
    """

    holder: str
    transitions: int
    resource_version: str
    duration_seconds: float
    seen_at: float


class LeaderLease:
    """One candidate for one Lease.

    Args:
        cluster: The connection.
        namespace: The Lease's namespace, the operator's own.
        name: The Lease's name.
        identity: Who we are; no other process that runs may have it. A pod's name will do, as its
            restarted container follows the old one; else `unique_identity`.
        lease_seconds: After this long without a renewal others may take it.
        renew_deadline_seconds: How long a renewal counts for ourselves; below ``lease_seconds``.
        retry_seconds: Pause between tries, to renew or to acquire.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch, for the times that people read in the Lease.

    Attributes:
        identity: Who we are.
        epoch: leaseTransitions of our (last) leadership: it grows with each change of leader. 0
            before the first.
        leader: Who holds the Lease as far as is known; "" if nobody.
        changed: Set whenever leadership came or went; whoever waits for it clears it.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: float = 15.0,
        renew_deadline_seconds: float = 10.0,
        retry_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < retry_seconds < renew_deadline_seconds < lease_seconds:
            msg = (
                "a lease needs 0 < retry < renew deadline < lease duration, got "
                f"{retry_seconds}, {renew_deadline_seconds}, {lease_seconds} seconds"
            )
            raise ValueError(msg)
        self.identity = identity
        self.epoch = 0
        self.leader = ""
        self.changed = asyncio.Event()
        self._cluster = cluster
        self._collection = resource_path(LEASE_API, "leases", namespace)
        self._path = resource_path(LEASE_API, "leases", namespace, name)
        self._name = name
        self._lease_seconds = lease_seconds
        self._renew_deadline_seconds = renew_deadline_seconds
        self._retry_seconds = retry_seconds
        self._try_seconds = renew_deadline_seconds / 3
        self._clock = clock
        self._wall_clock = wall_clock
        self._observed: _Observed | None = None
        self._renewed_at: float | None = None
        self._was_leader = False
        self._failing = False

    def held(self, now_monotonic: float) -> bool:
        """Whether the lease is certainly ours at this moment; ask before each write."""
        return (
            self._renewed_at is not None
            and now_monotonic - self._renewed_at < self._renew_deadline_seconds
        )

    def is_leader(self) -> bool:
        """`held` now, by the lease's own clock."""
        return self.held(self._clock())

    async def run(self) -> None:
        """Acquire and renew until cancelled; never ends by itself."""
        while True:
            try:
                # A try that hangs must leave time for a pause and another before the deadline.
                async with asyncio.timeout(self._try_seconds):
                    await self._try()
                self._note_success()
            except (ApiError, TimeoutError) as error:
                self._note_failure(str(error) or "timed out")
            except Exception as error:
                log.exception("lease: unforeseen failure; trying on")
                self._note_failure(repr(error))
            self._note_leadership()
            await asyncio.sleep(self._retry_seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter

    async def release(self) -> None:
        """Give the lease up, so that another takes it at once. Stop `run` first.

        From the first line on `held` is False. Never raises: a lease that can't be released runs
        out.
        """
        was_ours, self._renewed_at = self._renewed_at is not None, None
        self._note_leadership()
        observed = self._observed
        if not was_ours or observed is None or observed.holder != self.identity:
            return
        try:
            try:
                await self._give_up(observed)
            except Conflict:
                # `run` was stopped between a renewal and its answer: the version that we know is
                # the one before. If the lease is ours still, the newer version is our own.
                now = await self._observe()
                if now is not None and now.holder == self.identity:
                    await self._give_up(now)
        except (ApiError, TimeoutError) as error:
            log.warning("lease not released; it runs out by itself", error=str(error))

    async def _give_up(self, observed: _Observed) -> None:
        # One second is what client-go writes, for candidates that look at the duration alone.
        await self._patch(observed, holder="", transitions=observed.transitions, duration=1)

    async def _try(self) -> None:
        """One try to acquire or to renew."""
        observed = self._observed
        if observed is None or observed.holder != self.identity:
            observed = await self._observe()
        if observed is None:
            await self._create()
        elif observed.holder == self.identity:
            # Before our first leadership it is a forerunner of our name who held it: a container
            # that was restarted. It is gone, so there is nothing to wait for, but its epoch ends.
            await self._renew(observed, observed.transitions + (self.epoch == 0))
        elif not observed.holder or self._expired(observed):
            await self._renew(observed, observed.transitions + 1)

    def _expired(self, observed: _Observed) -> bool:
        """Whether its holder has let it run out, by our clock and the longer of both durations."""
        patience = max(self._lease_seconds, observed.duration_seconds)
        return self._clock() - observed.seen_at >= patience

    async def _observe(self) -> _Observed | None:
        """Read the Lease; a version that we know keeps the time when it was seen first."""
        try:
            raw = await self._cluster.get(self._path)
        except NotFound:
            self._observed = None
            self.leader = ""
            return None
        return self._remember(raw, self._clock())

    def _remember(self, raw: JsonObject, seen_at: float) -> _Observed:
        spec, version = raw.get("spec") or {}, raw["metadata"]["resourceVersion"]
        if self._observed is not None and self._observed.resource_version == version:
            return self._observed
        self._observed = _Observed(
            holder=spec.get("holderIdentity") or "",
            transitions=int(spec.get("leaseTransitions") or 0),
            resource_version=version,
            duration_seconds=float(spec.get("leaseDurationSeconds") or 0),
            seen_at=seen_at,
        )
        self.leader = self._observed.holder
        return self._observed

    async def _create(self) -> None:
        sent_at = self._clock()
        # Epochs must grow although somebody may delete the Lease, so a new one begins at the
        # minutes since 1970: above whatever the old one had counted to.
        transitions = int(self._wall_clock() // 60)
        body = {
            "apiVersion": LEASE_API,
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": self._spec(self.identity, transitions, self._lease_seconds, acquired=True),
        }
        try:
            raw = await self._cluster.create(self._collection, body, MANAGER, throttle=False)
        except Conflict:
            # Another was faster: look again at the next try.
            return
        self._acquired(raw, sent_at)

    async def _renew(self, observed: _Observed, transitions: int) -> None:
        sent_at = self._clock()
        try:
            raw = await self._patch(
                observed,
                holder=self.identity,
                transitions=transitions,
                duration=self._lease_seconds,
            )
        except (Conflict, NotFound):
            # Another took it; or somebody deleted it; or it is ours still, and the answer to the
            # last renewal was lost on its way.
            now = await self._observe()
            if now is None or now.holder != self.identity:
                self._renewed_at = None
            return
        self._acquired(raw, sent_at)

    def _acquired(self, raw: JsonObject, sent_at: float) -> None:
        self._remember(raw, sent_at)
        self.epoch = int((raw.get("spec") or {}).get("leaseTransitions") or 0)
        self._renewed_at = sent_at

    async def _patch(
        self, observed: _Observed, *, holder: str, transitions: int, duration: float
    ) -> JsonObject:
        spec = self._spec(
            holder, transitions, duration, acquired=transitions != observed.transitions
        )
        body = {"metadata": {"resourceVersion": observed.resource_version}, "spec": spec}
        return await self._cluster.merge_patch(
            self._path,
            body,
            MANAGER,
            throttle=False,
            timeout_seconds=self._try_seconds,
        )

    def _spec(
        self, holder: str, transitions: int, duration: float, *, acquired: bool
    ) -> JsonObject:
        now = format_time(self._wall_clock(), digits=6)
        spec: JsonObject = {
            "holderIdentity": holder,
            # The API takes whole seconds, 1 or more.
            "leaseDurationSeconds": max(1, round(duration)),
            "leaseTransitions": transitions,
            "renewTime": now,
        }
        if acquired:
            spec["acquireTime"] = now
        return spec

    def _note_leadership(self) -> None:
        leads = self.is_leader()
        if leads != self._was_leader:
            self._was_leader = leads
            log.info("leadership changed", leads=leads, epoch=self.epoch, identity=self.identity)
            self.changed.set()

    def _note_success(self) -> None:
        if self._failing:
            log.info("lease can be reached again")
        self._failing = False

    def _note_failure(self, error: str) -> None:
        if not self._failing:
            log.warning("lease can't be acquired or renewed now; trying on", error=error)
        self._failing = True
