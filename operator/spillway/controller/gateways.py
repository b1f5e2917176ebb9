"""Answers gateways that report: the value, their part of it, and on what terms it may be spent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from spillway.core import sharing
from spillway.core.overflow import to_dict
from spillway.core.terms import terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.controller.runtime import Key, Runtimes
    from spillway.core.sharing import Sharing


class Gateways:
    """The leader deals out each pool's value; a standby tells the value alone.

    Args:
        runtimes: What is known of the pools.
        leads: Whether this replica leads.
    """

    def __init__(self, runtimes: Runtimes, leads: Callable[[], bool]) -> None:
        self._runtimes = runtimes
        self._leads = leads
        self._shared: dict[Key, Sharing] = {}

    def leads(self) -> bool:
        """Whether this replica deals out values."""
        return self._leads()

    def forget(self, key: Key) -> None:
        """Drop what was dealt out of a pool that is gone."""
        self._shared.pop(key, None)

    def answer(self, namespace: str, name: str, text: str) -> dict[str, Any] | None:
        """The answer to a report; None where the pool has no value.

        Raises:
            ValueError: The text is no report; the message names the field.
        """
        report = sharing.parse_report(text)
        now, key = time.time(), (namespace, name)
        runtime = self._runtimes.get(key)
        if runtime is None or runtime.overflow is None:
            self._shared.pop(key, None)
            return None
        value = runtime.overflow
        answer = {**to_dict(value), "validForSeconds": max(0.0, value.until - now)}
        if not self._leads():
            self._shared.clear()
            return answer
        begun = self._shared.get(key) or sharing.begin(now)
        self._shared[key], share = sharing.share(begun, report, value, now)
        answer["share"] = {
            "inFlight": share.in_flight,
            "promptTokens": share.prompt_tokens,
            "requests": share.requests,
            "usd": share.usd,
        }
        if runtime.facts is not None and runtime.outcome is not None:
            answer["terms"] = terms(runtime.facts, runtime.outcome, now)
        return answer
