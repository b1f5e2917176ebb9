"""Gives back what belongs to no pool any more: one that was deleted, also while nobody looked.

There is no finalizer on users' objects, so a deleted pool can't be asked. Every pod whose workload
no pool names and that still carries a mark goes back to serving without it, at each pass. Marks are
a warm or draining role, a drain deadline, and the deletion cost of a drained replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from spillway.adapters.kube.errors import ApiError, Unavailable
from spillway.adapters.kube.pods import RELEASED, PodChange, PodWriter
from spillway.api.names import Role
from spillway.controller.pace import Pace
from spillway.core.actions import DRAINED_COST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spillway.adapters.kube.records import PodRecord
    from spillway.api.validation import InferencePool
    from spillway.controller.watches import InvalidPool, Watches
    from spillway.controller.world import World

log = structlog.get_logger(__name__)

#: Orphans of one pass: what decisions wait for ends within a few seconds. The rest comes next time.
_AT_ONCE: Final = 50
#: A pod that serves already keeps what else its owner tells node autoscalers of it.
UNMARKED: Final = PodChange(drain_deadline=None, deletion_cost=0)


class Sweep:
    """Releases orphans."""

    def __init__(
        self,
        *,
        watches: Watches,
        world: World,
        pods: PodWriter,
        may_write: Callable[[], bool],
        read_only: bool,
    ) -> None:
        self._watches = watches
        self._world = world
        self._pods = pods
        self._may_write = may_write
        self._read_only = read_only

    async def run(self, pools: Iterable[InferencePool], invalid: Iterable[InvalidPool]) -> None:
        """Relabel orphans.

        Namespaces with an invalid pool are left alone: nobody can tell which pods are its own.
        Nothing is swept while the watches may be old: a pool that is not listed yet is not gone.
        """
        if self._read_only or self._watches.stale() or not self._watches.listed:
            return
        owned: set[str] = set()
        pace = Pace()
        for pool in pools:
            await pace.pause()
            owned.update(pod.uid for pod in self._world.pods(pool))
        unclear = {pool.namespace for pool in invalid}
        for pod in self._orphans(owned, unclear)[:_AT_ONCE]:
            if not self._may_write():
                return
            try:
                await self._pods.write(pod, UNMARKED if pod.role is Role.SERVING else RELEASED)
            except Unavailable as error:
                # The others would wait as long; the next pass tries again.
                log.warning("orphans not released", pod=pod.name, error=str(error))
                return
            except ApiError as error:
                log.warning("orphan not released", pod=pod.name, error=str(error))
            else:
                log.info("orphan released", namespace=pod.namespace, pod=pod.name)

    def _orphans(self, owned: set[str], unclear: set[str]) -> list[PodRecord]:
        return [
            pod
            for pod in self._watches.pods.values()
            if is_marked(pod) and pod.uid not in owned and pod.namespace not in unclear
        ]


def is_marked(pod: PodRecord) -> bool:
    """Whether the pod carries a mark of Spillway's; costs of pods without a role are not ours."""
    drained = pod.role_labelled and pod.deletion_cost == DRAINED_COST
    return pod.role is not Role.SERVING or pod.drain_deadline is not None or drained
