"""What the operator holds of each pool between ticks, beside what the cluster itself knows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from spillway.api.names import OVERFLOW_ANNOTATION
from spillway.controller.reporter import parse_status
from spillway.controller.versions import PoolVersions
from spillway.core.burst import serving_uids
from spillway.core.ledger import PoolLedger, left
from spillway.core.overflow import LEASE_SECONDS, from_json
from spillway.core.pool import PoolState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spillway.adapters.kube.throttle import TokenBucket
    from spillway.api.inferencepool import InferencePoolSpec, InferencePoolStatus
    from spillway.api.validation import InferencePool
    from spillway.controller.watches import InvalidPool
    from spillway.core.facts import PoolFacts
    from spillway.core.overflow import OverflowValue
    from spillway.core.pool import Outcome

log = structlog.get_logger(__name__)

Key = tuple[str, str]


@dataclass(slots=True)
class PoolRuntime:
    """One pool's memory. Only the loops write it; losing it costs patience, never correctness.

    Attributes:
        key: Namespace and name.
        uid: Of the pool; another pool of the same name gets a memory of its own.
        state: The core's memory.
        ledger: Spend and reservations; stored before any allowance is published.
        facts: Facts of the last step.
        outcome: Outcome of the last step.
        overflow: The value that gateways get now.
        computed_on: Facts that it was computed on.
        annotation: Text of the overflow annotation as last written or read; None without one.
        annotated: The value in it; None also for one that can't be read.
        annotated_as: resourceVersion of the pool with it; None while it was only read.
        annotate_from: Until then (monotonic) it is not tried again.
        annotate_past: Unless the watch shows another resourceVersion than this one, at which the
            last try was a conflict; None where it failed for another reason.
        status: Status as last written or read.
        status_at: When it was last written (monotonic); None while it was only read.
        refused_at: resourceVersion of the pool that the last status was decided on, where it was a
            conflict; None where it was not.
        turns: Turns of the status that may still be written at once.
        versions: What our own writes to the pool have led to.
        settled_at: Time of the Prometheus snapshot that the ledger was last settled with.
        stored: The ledger as last stored; None before that.
        ledger_readable: False while the stored ledger can't be read: then nothing may be spent.
        ungranted_at: When a grant could last not be made, because ledgers can't be read or stored;
            None after one that could.
        gone: The pool is gone, or another of its name is there: nothing is to be said of it.
    """

    key: Key
    uid: str
    state: PoolState
    ledger: PoolLedger
    facts: PoolFacts | None = None
    outcome: Outcome | None = None
    overflow: OverflowValue | None = None
    computed_on: PoolFacts | None = None
    annotation: str | None = None
    annotated: OverflowValue | None = None
    annotated_as: str | None = None
    annotate_from: float = 0.0
    annotate_past: str | None = None
    status: InferencePoolStatus | None = None
    status_at: float | None = None
    refused_at: str | None = None
    turns: TokenBucket | None = None
    versions: PoolVersions = field(default_factory=PoolVersions)
    settled_at: float | None = None
    stored: PoolLedger | None = None
    ledger_readable: bool = True
    ungranted_at: float | None = None
    gone: bool = False
    _serving: tuple[PoolFacts, frozenset[str]] | None = None

    @property
    def serving(self) -> frozenset[str]:
        """UIDs of the pods that were ready and serving at the last step."""
        if self.facts is None:
            return frozenset()
        if self._serving is None or self._serving[0] is not self.facts:
            # Asked for at each fast tick, and new once a slow one.
            self._serving = self.facts, frozenset(serving_uids(self.facts))
        return self._serving[1]

    @property
    def bursts(self) -> bool:
        """Whether gateways are told to send a share away."""
        return self.overflow is not None and self.overflow.fraction > 0

    def budget_left(self, spec: InferencePoolSpec, now: float) -> bool:
        """Whether burst may still spend; what it can't carry, replicas must."""
        if spec.burst is None or not self.ledger_readable or self.ungranted(now):
            return False
        rest = left(self.ledger, spec.burst.budget, now)
        return rest is None or rest > 0

    def ungranted(self, now: float) -> bool:
        """Whether burst has nothing in hand, and has just been refused more.

        While more is needed it is tried at each fast tick; a lease without a try says nothing.
        """
        tried_at = self.ungranted_at
        lately = tried_at is not None and abs(now - tried_at) < LEASE_SECONDS
        return lately and self.ledger.live_grant(now) is None

    def read_annotation(self, pool: InferencePool) -> None:
        """Take over what the pool's annotation says; an unreadable one is told once."""
        text = pool.annotations.get(OVERFLOW_ANNOTATION)
        if text != self.annotation:
            self.annotation, self.annotated = text, _value(pool.key, text)


class Runtimes:
    """Memory of all pools.

    Args:
        forget: Called with the key of a pool that is gone.
    """

    def __init__(self, forget: Callable[[Key], None]) -> None:
        self._pools: dict[Key, PoolRuntime] = {}
        self._forget = forget

    def __len__(self) -> int:
        return len(self._pools)

    def get(self, key: Key) -> PoolRuntime | None:
        """Memory of a pool that was seen."""
        return self._pools.get(key)

    def all(self) -> list[PoolRuntime]:
        """Memory of all pools."""
        return list(self._pools.values())

    def of(
        self,
        pool: InferencePool,
        now: float,
        past: Callable[[], Sequence[tuple[float, float]]] = tuple,
    ) -> PoolRuntime:
        """Memory of a pool; at first sight restored from what its object and ``past`` still say.

        Args:
            pool: The pool.
            now: Seconds since the epoch.
            past: Its arrivals before the start, as `spillway.core.forecast.restore` takes them.
        """
        key = (pool.namespace, pool.name)
        runtime = self._pools.get(key)
        if runtime is None or runtime.uid != pool.uid:
            status = parse_status(pool.status_raw)
            zone = pool.spec.burst.budget.time_zone if pool.spec.burst is not None else "UTC"
            if runtime is not None:
                runtime.gone = True
            runtime = PoolRuntime(
                key=key,
                uid=pool.uid,
                state=PoolState.restored(status, now, past()),
                ledger=PoolLedger.empty(zone, now),
                status=status if pool.status_raw else None,
            )
            runtime.read_annotation(pool)
            runtime.overflow = runtime.annotated
            self._pools[key] = runtime
        return runtime

    def resume(self, pools: Iterable[InferencePool | InvalidPool], now: float) -> None:
        """Go on from what the last leader wrote; this process leads from now on.

        What a standby decided itself was carried out by nobody.
        """
        for pool in pools:
            runtime = self._pools.get((pool.namespace, pool.name))
            if runtime is None or runtime.uid != pool.uid:
                continue
            status = parse_status(pool.status_raw)
            runtime.status = status if pool.status_raw else None
            deciding = runtime.state.deciding.resumed(status, now)
            runtime.state = replace(runtime.state, deciding=deciding)

    def retain(self, pools: Iterable[InferencePool | InvalidPool]) -> None:
        """Forget pools that are gone."""
        alive = {(pool.namespace, pool.name) for pool in pools}
        for key in [key for key in self._pools if key not in alive]:
            self._pools.pop(key).gone = True
            self._forget(key)


def _value(pool: str, text: str | None) -> OverflowValue | None:
    """The overflow value of an annotation; None without one, or with an unreadable one."""
    if text is None:
        return None
    try:
        return from_json(text)
    except ValueError as error:
        log.warning("overflow annotation is not readable", pool=pool, error=str(error))
        return None
