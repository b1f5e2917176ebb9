"""Waiting for something to come true, and saying what was seen when it does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tests.e2e.rig.kubeapi import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(
    description: str,
    look: Callable[[], T],
    until: Callable[[T], object] = bool,
    *,
    timeout: float = 30.0,
    interval: float = 0.1,
) -> T:
    """Look again and again until what is seen will do, and return it.

    Args:
        description: What is waited for, as a sentence's end: "the pool is Ready".
        look: Fetches what is looked at. An ApiError or a failed assertion counts as 'not yet'.
        until: Tells whether it will do; without it, whether it is true.
        timeout: Seconds until it is given up.
        interval: Seconds between two looks.

    Raises:
        AssertionError: It did not come true in time; the message has what was seen last.
    """
    started = time.monotonic()
    while True:
        try:
            seen = look()
            if until(seen):
                return seen
            last = repr(seen)
        except (ApiError, AssertionError) as error:
            last = f"{type(error).__name__}: {error}"
        if time.monotonic() - started >= timeout:
            msg = f"not within {timeout:g} s: {description}; seen last: {last[:4000]}"
            raise AssertionError(msg)
        time.sleep(interval)
