"""Turns successive pages of a pod into its load with rates, as Prometheus would have.

Used where Prometheus cannot: while it is down, and for warm and draining pods, which are out of the
Service and so out of a ServiceMonitor.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spillway.core.facts import ReplicaLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from spillway.adapters.metrics.page import EnginePage

#: Pages that a window keeps for each pod, however often the pod is read: bounds the memory.
_PAGES: Final = 12
#: Share of the window that pages must span before a rate is given; less is noise, because token
#: counters jump when a prefill ends.
_MIN_SPAN: Final = 0.25

_COUNTERS: Final[tuple[Callable[[EnginePage], float | None], ...]] = (
    lambda page: page.finished,
    lambda page: page.prompt_tokens,
    lambda page: page.generation_tokens,
    lambda page: page.prefix_hit_tokens,
    lambda page: page.steps,
)


@dataclass(slots=True)
class _History:
    latest: EnginePage
    kept: deque[EnginePage] = field(default_factory=deque)


class CounterWindow:
    """Pages of many pods over a sliding window.

    Args:
        window_seconds: Length of the window.
        max_age_seconds: A latest page older than this gives no load.
    """

    def __init__(self, *, window_seconds: float = 60.0, max_age_seconds: float = 60.0) -> None:
        self._window_seconds = window_seconds
        self._max_age_seconds = max_age_seconds
        self._pods: dict[str, _History] = {}

    def observe(self, uid: str, page: EnginePage) -> None:
        """Takes in a page; one that is a little older than the last (two loops read) is ignored."""
        history = self._pods.get(uid)
        set_back = history is not None and history.latest.at - page.at > self._max_age_seconds
        if history is None or set_back or _restarted(history.latest, page):
            # After a restart the engine's counters begin anew, and what it did before says little;
            # after the clock was set back nothing would be newer for as long.
            self._pods[uid] = _History(page, deque((page,)))
            return
        if page.at <= history.latest.at:
            return
        history.latest = page
        spacing = self._window_seconds / _PAGES
        if page.at - history.kept[-1].at >= spacing:
            history.kept.append(page)
        while page.at - history.kept[0].at > self._window_seconds + spacing:
            history.kept.popleft()
            if not history.kept:
                history.kept.append(page)

    def load(self, uid: str, now: float) -> ReplicaLoad | None:
        """The pod's load; None without a fresh page that tells what runs and waits.

        Rates are None until the pages span a quarter of the window.

        Args:
            uid: The pod's UID.
            now: Seconds since the epoch.
        """
        history = self._pods.get(uid)
        if history is None or abs(now - history.latest.at) > self._max_age_seconds:
            return None
        last, first = history.latest, history.kept[0]
        if last.running is None or last.waiting is None:
            return None
        span = last.at - first.at
        if span < self._window_seconds * _MIN_SPAN:
            return ReplicaLoad(
                last.at,
                last.running,
                last.waiting,
                last.waiting_all,
                last.kv_usage,
                engines=max(1, last.engines),
            )

        def per_second(before: float | None, after: float | None) -> float | None:
            return None if before is None or after is None else (after - before) / span

        return ReplicaLoad(
            sampled_at=last.at,
            running=last.running,
            waiting=last.waiting,
            waiting_all=last.waiting_all,
            kv_usage=last.kv_usage,
            running_mean=_mean_running(history),
            in_flight_change_per_second=per_second(_in_flight(first), _in_flight(last)),
            finished_per_second=per_second(first.finished, last.finished),
            prompt_tokens_per_second=per_second(first.prompt_tokens, last.prompt_tokens),
            generation_tokens_per_second=per_second(
                first.generation_tokens, last.generation_tokens
            ),
            prefix_hit_tokens_per_second=per_second(
                first.prefix_hit_tokens, last.prefix_hit_tokens
            ),
            steps_per_second=per_second(first.steps, last.steps),
            engines=max(1, last.engines),
        )

    def models(self, uid: str) -> frozenset[str]:
        """Models on the pod's latest page; empty without one, or where it names none."""
        history = self._pods.get(uid)
        return frozenset() if history is None else history.latest.model_names

    def retain(self, uids: Collection[str]) -> None:
        """Forgets all pods but these."""
        for uid in self._pods.keys() - set(uids):
            del self._pods[uid]

    def __len__(self) -> int:
        return len(self._pods)


def _restarted(before: EnginePage, after: EnginePage) -> bool:
    """Whether a counter fell, or the ranks that are summed are others."""
    return before.engines != after.engines or any(
        (old := counter(before)) is not None and (new := counter(after)) is not None and new < old
        for counter in _COUNTERS
    )


def _in_flight(page: EnginePage) -> float | None:
    """All requests in the engine: deferred ones have arrived as well."""
    if page.running is None or page.waiting_all is None:
        return None
    return page.running + page.waiting_all


def _mean_running(history: _History) -> float | None:
    pages = list(history.kept)
    if pages[-1] is not history.latest:
        pages.append(history.latest)
    known = [page.running for page in pages if page.running is not None]
    return sum(known) / len(known) if known else None
