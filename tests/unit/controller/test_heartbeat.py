"""The event loop's lag, over time."""

from __future__ import annotations

import asyncio
import time

import pytest

from spillway.controller import heartbeat


def test_a_beat_in_time_is_one_beat() -> None:
    seen: list[float] = []
    assert heartbeat.note(seen.append, due=10.0, now=10.01, period_seconds=0.1) == 10.1
    assert seen == [pytest.approx(0.01)]


def test_a_loop_that_stood_still_made_all_its_beats_late() -> None:
    seen: list[float] = []
    heartbeat.note(seen.append, due=10.0, now=10.35, period_seconds=0.1)
    assert seen == pytest.approx([0.35, 0.25, 0.15, 0.05])


def test_a_process_that_slept_for_an_hour_does_not_count_it_beat_by_beat() -> None:
    seen: list[float] = []
    assert heartbeat.note(seen.append, due=10.0, now=3610.0, period_seconds=0.1) == 3610.1
    assert len(seen) == 600


async def test_a_blocked_loop_shows() -> None:
    seen: list[float] = []
    task = asyncio.create_task(heartbeat.run(seen.append, period_seconds=0.01))
    await asyncio.sleep(0.05)
    time.sleep(0.2)  # noqa: ASYNC251 - the very thing that is to be noticed
    await asyncio.sleep(0.02)
    task.cancel()
    assert max(seen) > 0.1
