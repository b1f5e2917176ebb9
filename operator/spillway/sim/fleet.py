"""Replicas of K worlds at once: created, started, serving, drained, interrupted, and billed for.

A replica is billed from its creation (once it has a GPU) to the end of its drain. What is asked for
less goes as a ReplicaSet removes it: Pending ones first, then those that start, the latest first,
then ready ones, which drain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spillway.sim.setting import STARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.setting import Setting

    Counts = NDArray[np.int64]


class Fleet:
    """Counts of replicas; every array has the shape (K,).

    Attributes:
        requested: spec.replicas.
        ready: Serving.
        pending: Created, without a GPU; not billed.
        starting: Created, with a GPU, not Ready yet.
        draining: Removed, finishing what they have.
        billed: Replicas that are paid for: ready, starting and draining.
        actions: Changes of ``requested`` so far.
    """

    def __init__(self, setting: Setting, worlds: int) -> None:
        """Begin with the setting's initial replicas, Ready."""
        self._setting = setting
        first = np.full(worlds, setting.initial_replicas, dtype=np.int64)
        none = np.zeros(worlds, dtype=np.int64)
        self.requested = first.copy()
        self.ready = first.copy()
        self.pending = none.copy()
        self.starting = none.copy()
        self.draining = none.copy()
        self.billed = first.copy()
        self.actions = none.copy()
        # Rings over steps: how many become ready, and how many are gone, at the begin of a step.
        self._ready_at = np.zeros((int(setting.start_steps.max()) + 1, worlds), dtype=np.int64)
        self._gone_at = np.zeros((setting.drain_steps + 1, worlds), dtype=np.int64)
        self._bounds = setting.conditions.floor, setting.conditions.max
        self._moving = False

    def begin_step(self, step: int, *, schedulable: bool) -> None:
        """Let starts and drains that are over take effect, and Pending replicas find their GPU."""
        if not self._moving:
            return
        up = self._ready_at[step % len(self._ready_at)]
        gone = self._gone_at[step % len(self._gone_at)]
        self.ready += up
        self.starting -= up
        up[:] = 0
        self.draining -= gone
        gone[:] = 0
        if schedulable and self.pending.any():
            found = self.pending.copy()
            self.pending[:] = 0
            self._start(found, step)
        self._count()

    def interrupt(self, step: int, replicas: int, *, schedulable: bool) -> Counts:
        """Take ready replicas away at once; the ReplicaSet creates others. How many went."""
        lost = np.minimum(self.ready, replicas)
        self.ready -= lost
        self._create(lost, step, schedulable=schedulable)
        self._count()
        return lost

    def ask(self, replicas: Counts, step: int, *, schedulable: bool) -> Counts:
        """Set spec.replicas, within floor and max; how many ready replicas begin to drain."""
        wanted = np.minimum(np.maximum(replicas, self._bounds[0]), self._bounds[1])
        change = wanted - self.requested
        if not change.any():
            return np.zeros_like(change)
        self.actions += change != 0
        self.requested = wanted
        more = np.maximum(change, 0)
        if more.any():
            self._create(more, step, schedulable=schedulable)
        less = np.maximum(-change, 0)
        drained = self._remove(less, step) if less.any() else less
        self._count()
        return drained

    def _create(self, replicas: Counts, step: int, *, schedulable: bool) -> None:
        if schedulable:
            self._start(replicas, step)
        else:
            self.pending += replicas

    def _start(self, replicas: Counts, step: int) -> None:
        """Replica j of a step starts with the j-th draw of that step, by turns."""
        ring, draws = self._ready_at, self._setting.start_steps[step]
        most = int(replicas.max())
        for turn in range(min(STARTS, most)):
            ring[(step + draws[turn]) % len(ring)] += (replicas + (STARTS - 1 - turn)) // STARTS
        self.starting += replicas

    def _remove(self, replicas: Counts, step: int) -> Counts:
        taken = np.minimum(self.pending, replicas)
        self.pending -= taken
        rest = replicas - taken
        if self.starting.any():
            # From the latest to become ready; the slot of this step was emptied when it began.
            ring = self._ready_at
            order = (step + np.arange(len(ring) - 1, 0, -1)) % len(ring)
            slots = ring[order]
            before = np.cumsum(slots, axis=0) - slots
            cancelled = np.minimum(slots, np.maximum(0, rest - before))
            ring[order] = slots - cancelled
            gone = cancelled.sum(axis=0)
            self.starting -= gone
            rest -= gone
        drained = np.minimum(self.ready, rest)
        self.ready -= drained
        if len(self._gone_at) > 1:
            self.draining += drained
            self._gone_at[(step + len(self._gone_at) - 1) % len(self._gone_at)] += drained
        return drained

    def _count(self) -> None:
        self.billed = self.ready + self.starting + self.draining
        self._moving = bool(self.starting.any() or self.draining.any() or self.pending.any())
