from __future__ import annotations

import pytest

from spillway.core.facts import LengthQuantiles
from spillway.core.tokenmix import TokenMix, TokenMixMemory, observe

from .pools import START, TICK, load


def after(seconds: float, rps: float, *, shifted_at: float, prompt: float) -> float:
    """Mean prompt believed when prompts of 1,000 tokens became others at ``shifted_at``."""
    memory, now = TokenMixMemory(), START
    while now < START + seconds:
        tokens = 1000.0 if now - START < shifted_at else prompt
        memory = observe(memory, [load(now, rps, prompt_tokens_per_second=tokens * rps)], now)
        now += TICK
    return memory.mix().prompt_tokens


def test_a_shift_of_a_busy_pools_traffic_is_followed_within_a_quarter_of_an_hour() -> None:
    assert after(2700, 10.0, shifted_at=1800, prompt=2000) == pytest.approx(2000, rel=0.03)


def test_a_shift_is_followed_although_the_old_requests_were_more() -> None:
    """Prompts twice as long at the same share of a capacity that more than halves (RAG's does)."""
    memory, now = TokenMixMemory(), START
    while now <= START + 2700:
        rate, prompt = (10.0, 5000.0) if now < START + 1800 else (4.4, 10_000.0)
        memory = observe(memory, [load(now, rate, prompt_tokens_per_second=prompt * rate)], now)
        now += TICK
    assert memory.mix().prompt_tokens == pytest.approx(10_000, rel=0.015)


def test_a_quiet_pool_is_averaged_for_longer() -> None:
    assert after(2700, 0.1, shifted_at=1800, prompt=2000) == pytest.approx(1650, rel=0.05)


def test_a_quiet_night_does_not_change_the_mix() -> None:
    memory = observe(TokenMixMemory(), [load(START, 10.0)], START)
    assert observe(memory, [load(START + 1e5, 0.0)], START + 1e5).mix() == memory.mix()


def test_the_context_of_what_runs_is_a_whole_prompt_and_the_answer_so_far() -> None:
    alike = TokenMix(1000, 200, prompt_sigma=0.0, output_sigma=0.0)
    assert alike.context_tokens == 1100
    # A running answer is a long one: with lengths that scatter by their mean it is twice as far.
    assert TokenMix(1000, 200).context_tokens == 1200
    assert TokenMix(1000, 200, cached_tokens=500).context_tokens == 1200


def test_a_prompts_queries_see_what_is_cached_and_half_of_what_is_not() -> None:
    alike = TokenMix(1000, 200, prompt_sigma=0.0)
    assert alike.pairs_per_computed_token() == 500
    # 500 queries, each of 500 cached keys and of 250 on average of its own.
    assert alike.with_cached_share(0.5).pairs_per_computed_token() == 750
    # Long prompts weigh more: E[I^2] / E[I] is twice the mean where lengths scatter by it.
    assert TokenMix(1000, 200).pairs_per_computed_token() == 1000


def test_the_scatter_of_lengths_is_that_of_their_quantiles() -> None:
    memory = observe(
        TokenMixMemory(), [load(START, 10.0)], START, LengthQuantiles(1000, 1000, 100, 518)
    )
    # ln 5.18 / 1.645 = 1: a lognormal whose standard deviation is 1.31 times its mean.
    assert memory.mix().prompt_cv == 0
    assert memory.mix().output_cv == pytest.approx(1.31, rel=0.01)


@pytest.mark.parametrize(
    "odd",
    [
        LengthQuantiles(),
        LengthQuantiles(0, 100, 100, 50),
        LengthQuantiles(float("nan"), 5, 5, float("nan")),
        LengthQuantiles(5, float("inf"), -1, 5),
    ],
)
def test_quantiles_that_are_none_leave_the_assumption(odd: LengthQuantiles) -> None:
    mix = observe(TokenMixMemory(), [load(START, 10.0)], START, odd).mix()
    assert (mix.prompt_cv, mix.output_cv) == (1.0, 1.0)


def test_a_long_request_is_assumed_to_be_three_times_the_mean_where_lengths_are_unknown() -> None:
    long = TokenMix(1000, 200, cached_tokens=100).at_p95()
    assert (long.prompt_tokens, long.output_tokens, long.cached_tokens) == (3140, 628, 314)
