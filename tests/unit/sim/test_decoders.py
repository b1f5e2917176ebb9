"""Sequences moved together come out as if each had been moved by itself."""

from __future__ import annotations

import random
from copy import copy

import pytest

from spillway.sim.decoders import Decoders
from spillway.sim.profiles import BLOCK_TOKENS
from spillway.sim.request import Request, Stream


def joining(rng: random.Random, number: int, now: float) -> Stream:
    """A request whose prompt has just been computed."""
    request = Request(number, 0.0, rng.randint(1, 100), rng.randint(2, 60))
    stream = Stream(request, 0.0)
    stream.computed_tokens, stream.generated_tokens = request.prompt_tokens, 1
    stream.blocks = -(-stream.computed_tokens // BLOCK_TOKENS)
    stream.first_token_at = stream.last_token_at = now
    return stream


@pytest.mark.parametrize("seed", range(5))
def test_together_is_the_same_as_one_by_one(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    decoders, alone, now = Decoders(), list[Stream](), 0.0
    longest: dict[int, float] = {}
    for number in range(200):
        if rng.random() < 0.4:
            stream = joining(rng, number, now)
            assert decoders.takes(stream)
            decoders.add(stream, number)
            alone.append(copy(stream))
            longest[number] = 0.0
        if not alone:
            continue
        due = sum(each.computed_tokens % BLOCK_TOKENS == 0 for each in alone)
        assert decoders.blocks_due == due
        assert decoders.context_tokens == sum(each.computed_tokens for each in alone)
        gap = rng.uniform(0.01, 0.2)
        now += gap
        for each in alone:
            each.computed_tokens += 1
            each.generated_tokens += 1
            longest[each.request.id] = max(longest[each.request.id], gap)
        seen, ended = decoders.step(now)
        assert seen == pytest.approx(gap)
        done = [e for e in alone if e.generated_tokens == e.request.output_tokens]
        assert [each.request.id for each in ended] == [each.request.id for each in done]
        for each, expected in zip(ended, done, strict=True):
            assert each.computed_tokens == expected.computed_tokens
            assert each.blocks == -(-each.computed_tokens // BLOCK_TOKENS)
            assert each.max_gap_seconds == pytest.approx(longest[each.request.id])
        alone = [each for each in alone if each not in done]
    decoders.release()
    assert (decoders.count, decoders.context_tokens, decoders.blocks_due) == (0, 0, 0)
