"""Work in slices: what others wait for is bounded by time."""

from __future__ import annotations

import asyncio

from spillway.controller.pace import Pace


async def _others(turns: list[int]) -> None:
    while True:
        turns.append(1)
        await asyncio.sleep(0)


async def test_others_get_a_turn_when_the_slice_is_used_up_and_not_before() -> None:
    at, turns = 0.0, list[int]()
    others = asyncio.create_task(_others(turns))
    pace = Pace(slice_seconds=0.01, clock=lambda: at)
    await pace.pause()
    at = 0.009
    await pace.pause()
    assert turns == []
    at = 0.010
    await pace.pause()
    assert turns == [1]
    at = 0.015
    await pace.pause()
    assert turns == [1], "the new slice began when the loop came back"
    others.cancel()
