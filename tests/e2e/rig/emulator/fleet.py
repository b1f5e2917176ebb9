"""All pools, moved together by a clock."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.e2e.rig.emulator.events import EventLog
from tests.e2e.rig.emulator.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.e2e.rig.emulator.clock import Clock
    from tests.e2e.rig.emulator.pod import EmulatedPod, PodView
    from tests.e2e.rig.emulator.settings import FaultSettings, PoolSettings, RateSettings

GPU_SAMPLE_SECONDS = 1.0
"""DCGM's default sampling interval is 1 s (its exporter then reports the latest sample)."""


class Fleet:
    """Every pool and pod that is emulated.

    Attributes:
        clock: Where time comes from.
        events: What happened.
        pools: By ``namespace/name``.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events = EventLog()
        self.pools: dict[str, Pool] = {}
        self._now = clock.now()
        self._gpus_sampled_at = self._now

    def add(self, settings: PoolSettings) -> Pool:
        """Begin to emulate a pool; one that is there already starts anew."""
        pool = Pool(settings, self._now, self.clock.wall, self.events)
        self.pools[settings.key] = pool
        return pool

    def pool(self, key: str) -> Pool:
        """The pool of that key.

        Raises:
            KeyError: There is none; the message lists what there is.
        """
        try:
            return self.pools[key]
        except KeyError:
            msg = f"pool must be one of {sorted(self.pools)}, got {key!r}"
            raise KeyError(msg) from None

    def set_rate(self, settings: RateSettings) -> None:
        """Change a pool's traffic from now on."""
        self.pool(settings.pool).set_rate(settings.build(self._now))

    def set_fault(self, settings: FaultSettings) -> None:
        """Make a pod, or a pool's pods, suffer or heal."""
        self.pool(settings.pool).set_fault(settings.fault(), settings.pod)

    def observe(self, key: str, views: Iterable[PodView]) -> None:
        """Take the pods of a pool as they are now."""
        if key in self.pools:
            # What is noted of them has the time of this moment, not that of the last tick.
            self.tick()
            self.pools[key].observe(views, self._pick_gpus)

    def tick(self) -> None:
        """Run everything up to the clock."""
        now = self.clock.now()
        wall_now = self.clock.wall(now)
        for pool in self.pools.values():
            pool.tick(now, wall_now)
        self._now = now
        seconds = now - self._gpus_sampled_at
        if seconds >= GPU_SAMPLE_SECONDS * self.clock.factor:
            self._gpus_sampled_at = now
            for pool in self.pools.values():
                pool.sample_gpus(seconds)

    def pods(self) -> Iterator[tuple[Pool, EmulatedPod]]:
        """Every pod whose engines run."""
        for pool in self.pools.values():
            for pod in pool.pods.values():
                yield pool, pod

    def find(self, namespace: str, name: str) -> tuple[Pool, EmulatedPod] | None:
        """The running pod of that name; a deleted one only while none has its name."""
        found = [
            (pool, pod)
            for pool, pod in self.pods()
            if (pod.view.namespace, pod.view.name) == (namespace, name)
        ]
        return min(found, key=lambda one: one[1].deleted_at is not None, default=None)

    def state(self) -> dict[str, Any]:
        """Everything, for /state."""
        wall_now = self.clock.wall(self._now)
        return {
            "time": wall_now,
            "pools": {key: pool.state(wall_now) for key, pool in self.pools.items()},
            "events": self.events.all(),
        }

    def _pick_gpus(self, view: PodView, count: int) -> list[int]:
        """The lowest GPUs of the pod's node that no other pod holds."""
        taken: defaultdict[str | None, set[int]] = defaultdict(set)
        for _, pod in self.pods():
            taken[pod.view.node].update(pod.gpu_indices)
        free = (index for index in range(10_000) if index not in taken[view.node])
        return [next(free) for _ in range(count)]
