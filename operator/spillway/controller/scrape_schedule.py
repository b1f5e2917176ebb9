"""Whose pages the fast loop reads, and in which order, within a budget of pages a second."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.controller.pace import Pace
from spillway.core.burst import is_hot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spillway.adapters.kube.records import PodRecord
    from spillway.api.inferencepool import EngineMetrics
    from spillway.api.validation import InferencePool
    from spillway.controller.runtime import Key, PoolRuntime
    from spillway.controller.settings import Settings
    from spillway.controller.watches import Watches

    Known = tuple[InferencePool, PoolRuntime]

#: Share of the budget of pages that is left to the slow loop, for pods that Prometheus lacks: it
#: adds up over the seconds between two passes.
_SLOW_SHARE: Final = 0.1
#: Share of the rest that is for quiet pools, and no more of it: two hundred pages a second are a
#: fifth of a core, and what quiet pools do is seen by Prometheus too, seconds later. No less of it
#: either, or with enough bursting pools no other would be seen to burst where Prometheus is gone.
_QUIET_SHARE: Final = 0.25
#: Share of what is left for busy pools that bursting ones leave to hot ones, where there are any: a
#: pool of which nothing is known is hot.
_HOT_SHARE: Final = 0.25
#: A pool whose page shows load counts as busy for so many slow ticks: by then Prometheus has told
#: the slow loop, or the load is gone.
_RISEN_SLOW_TICKS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is due.

    Attributes:
        pod: Whose it is.
        metrics: Where it is.
        pool: Namespace and name of the pod's pool.
    """

    pod: PodRecord
    metrics: EngineMetrics
    pool: Key


class ScrapeSchedule:
    """Chooses pages: of pools that burst, of hot ones, of draining pods, and of the rest.

    Where the budget does not reach, the pools of a kind come by turns. Of a quiet pool one page
    tells enough: its router spreads a spike over all of them.

    Args:
        settings: The budget, and the periods of both loops.
        watches: Where the pods' records are.
        clock: Monotonic seconds.

    Attributes:
        busy: Pools that are looked at halfway through a tick too.
    """

    def __init__(
        self,
        settings: Settings,
        watches: Watches,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.busy: dict[Key, None] = {}
        self._settings = settings
        self._watches = watches
        self._clock = clock
        self._risen: dict[Key, float] = {}
        self._busy_pages = 0.0
        self._turns: Counter[str] = Counter()

    def rises(self, key: Key) -> None:
        """Count a pool as busy from now on, because a page of it shows load."""
        self.busy[key] = None
        self._risen[key] = self._clock() + _RISEN_SLOW_TICKS * self._settings.slow_tick_seconds

    async def due(self, pools: Sequence[Known], *, busy_only: bool) -> list[Page]:
        """The pages to read at a look, most urgent first.

        Args:
            pools: Those that are looked at; those that the slow loop has not decided yet are left
                out.
            busy_only: They are the busy ones of the last tick, and are looked at in between.
        """
        now = self._clock()
        self._risen = {key: until for key, until in self._risen.items() if until > now}
        bursting: list[Known] = []
        hot: list[Known] = []
        quiet: list[Known] = []
        draining: list[Page] = []
        pace = Pace()
        for pool, runtime in pools:
            await pace.pause()
            if runtime.facts is None or runtime.outcome is None:
                continue
            if runtime.outcome.plan.counts.draining:
                draining += self._pages(pool, runtime, Role.DRAINING)
            if pool.spec.burst is None:
                continue
            if runtime.bursts:
                bursting.append((pool, runtime))
            elif runtime.key in self._risen or is_hot(runtime.facts, runtime.outcome):
                hot.append((pool, runtime))
            else:
                quiet.append((pool, runtime))
        for_quiet = 0.0
        if not busy_only:
            second = (1 - _SLOW_SHARE) * self._settings.scrape_pages_per_second
            budget = second * self._settings.fast_tick_seconds
            for_quiet = min(float(len(quiet)), _QUIET_SHARE * budget)
            # What a tick may read is spread over its two looks, so that each has pages to read.
            self._busy_pages = (budget - for_quiet) / 2
        pages: list[Page] = []
        for_bursting = (1 - _HOT_SHARE) * self._busy_pages if hot else self._busy_pages
        self._collect(pages, "bursting", bursting, for_bursting)
        self._collect(pages, "hot", hot, self._busy_pages)
        if not busy_only:
            self.busy = dict.fromkeys(runtime.key for _, runtime in bursting + hot)
            pages += draining
            self._sample(pages, quiet, len(pages) + for_quiet)
        return pages

    def _collect(self, pages: list[Page], kind: str, pools: list[Known], most: float) -> None:
        """Add pages of the pools' serving pods until there are ``most``, another pool first."""
        begin = self._turns[kind] % max(1, len(pools))
        for pool, runtime in pools[begin:] + pools[:begin]:
            if len(pages) >= most:
                return
            pages += self._pages(pool, runtime, Role.SERVING)
            self._turns[kind] += 1

    def _sample(self, pages: list[Page], pools: list[Known], most: float) -> None:
        """Add one page of each pool until there are ``most``, of another pod each round."""
        turn, begin = divmod(self._turns["quiet"], max(1, len(pools)))
        for pool, runtime in pools[begin:] + pools[:begin]:
            if len(pages) >= most:
                return
            if found := self._pages(pool, runtime, Role.SERVING):
                pages.append(found[turn % len(found)])
            self._turns["quiet"] += 1

    def _pages(self, pool: InferencePool, runtime: PoolRuntime, role: Role) -> list[Page]:
        """Ready serving pods, or draining ones, as the watch knows them now."""
        if runtime.facts is None:
            return []
        serving = runtime.serving if role is Role.SERVING else frozenset()
        pages = []
        for target in runtime.facts.targets.values():
            for pod in target.pods:
                if pod.uid in serving if role is Role.SERVING else pod.role is role:
                    record = self._watches.pods.get((pool.namespace, pod.name))
                    if record is not None and record.uid == pod.uid:
                        pages.append(Page(record, pool.spec.metrics, runtime.key))
        return pages
