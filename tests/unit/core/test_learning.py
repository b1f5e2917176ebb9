"""What a window counts as, by hand: 1,000 in and 200 out, 10 a second, a batch of 50."""

from __future__ import annotations

import math
from typing import Any

import pytest

from spillway.core.learning import VariantMemory, learn
from spillway.core.profiles import EngineProfile
from spillway.core.tokenmix import TokenMix

from .pools import START, load, pod

#: Lengths that do not scatter, so 1,100 tokens of context; an attention pair costs 1e-4 of a token,
#: and a prompt's tokens see 500 each: 0.05 more.
MIX = TokenMix(1000.0, 200.0, measured=True, prompt_sigma=0.0, output_sigma=0.0)
PROFILE = EngineProfile(0.01, 1e-5, 1e-8, 1e-5, per_attention_pair=1e-9)
#: Of what a minute reads, requests of 5 s (50 in the batch at 10 a second) began within it.
OWN = 1 - (1 - math.exp(-12)) / 12


def seen(**changes: Any) -> tuple[float, float]:
    """Context of a sequence, and prompt tokens a second in tokens of a short prompt."""
    window = {"running": 50.0, "running_mean": 50.0, "steps_per_second": 40.0}
    sample = load(START, 10.0, **(window | changes))
    memory = learn(VariantMemory(profile=PROFILE), [pod("p", sample)], MIX, 1.0, START)
    (steps, _, read, computed), *_ = memory.steps.products
    decoded = sample.generation_tokens_per_second
    assert decoded is not None
    return read / steps * 40 / decoded, computed / steps * 40


def test_requests_like_the_mix_have_its_context() -> None:
    context, computed = seen()
    assert context == pytest.approx(1100)
    assert computed == pytest.approx(10_000 * 1.05)


def test_a_window_of_long_prompts_reads_and_pairs_more() -> None:
    context, computed = seen(prompt_tokens_per_second=15_000.0)
    assert context == pytest.approx(1100 + OWN * 500)
    assert computed == pytest.approx(15_000 * 1.075)


def test_prompts_of_requests_that_have_not_finished_are_of_the_window_too() -> None:
    """Seven finished and three joined the batch: ten prompts of 1,500."""
    context, _ = seen(
        prompt_tokens_per_second=15_000.0, finished_per_second=7.0, in_flight_change_per_second=3.0
    )
    assert context == pytest.approx(1100 + OWN * 500)


def test_answers_that_last_for_longer_than_the_window_have_read_what_came_before() -> None:
    """500 in the batch at ten a second: 50 s each, and so a fifth of it is of old requests."""
    context, _ = seen(prompt_tokens_per_second=15_000.0, running=500.0, running_mean=500.0)
    own = 1 - (1 - math.exp(-1.2)) / 1.2
    assert own < 0.5
    assert context == pytest.approx(1100 + own * 500)


@pytest.mark.parametrize(
    "changes",
    [
        {"finished_per_second": None},
        {"in_flight_change_per_second": None},
        # Two requests in a minute: their mean says more of how they straddle its ends.
        {"finished_per_second": 0.03},
        {"finished_per_second": 10.0, "in_flight_change_per_second": -10.0},
        {"finished_per_second": math.nan},
    ],
)
def test_a_window_that_does_not_tell_its_lengths_has_the_mixs(changes: dict[str, Any]) -> None:
    context, computed = seen(prompt_tokens_per_second=15_000.0, **changes)
    assert context == pytest.approx(1100)
    assert computed == pytest.approx(15_000 * 1.05)


def test_prompts_beyond_belief_count_as_four_times_the_mixs() -> None:
    context, _ = seen(prompt_tokens_per_second=1e6)
    assert context == pytest.approx(1100 + OWN * 3000)


def test_windows_of_long_prompts_do_not_charge_computing_with_what_reading_costs() -> None:
    """An engine that costs what the table says goes on to, however long a window's prompts are."""
    base, sequence, context, prefill = costs = 0.01, 1e-5, 2e-7, 1e-5
    known = VariantMemory(profile=EngineProfile(*costs))
    for i in range(80):
        now = START + 15.0 * i
        rate, prompt = 10.0 + i % 3, 1000.0 + 100 * (i % 7 - 3)
        steps = 100.0
        for _ in range(20):
            # What is read is of the window's own prompts, but for those that were there before it.
            turns = 60 * steps / 200
            read = 1100 + (1 - (1 - math.exp(-turns)) / turns) * (prompt - 1000)
            steps = (1 - rate * (prefill * prompt + 200 * (sequence + context * read))) / base
        sample = load(
            now,
            rate,
            prompt_tokens_per_second=rate * prompt,
            steps_per_second=steps,
            running=rate * 200 / steps,
            running_mean=rate * 200 / steps,
        )
        known = learn(known, [pod("p", sample)], MIX, 1.0, now)
    assert known.steps.cost is not None
    assert known.steps.cost.costs == pytest.approx(costs, rel=0.03)


def test_the_more_a_window_was_idle_the_less_it_teaches() -> None:
    """Three in the batch, and now and then none: for how long nobody has measured."""
    few = load(START, 2.0, steps_per_second=400 / 3, running=3.0, running_mean=3.0)
    busy = load(START, 10.0, steps_per_second=40.0, running=50.0, running_mean=50.0)
    sure, unsure = (
        learn(VariantMemory(profile=PROFILE), [pod("p", sample)], MIX, 3.0, START).steps
        for sample in (busy, few)
    )
    assert sure.weight == unsure.weight == 1
    assert sure.products[0][0] == pytest.approx(40.0**2)
    # Idle for 0.5 % with 120 arrivals: 2 * 0.0052 / 120 = 0.93 % squared, beside the 1 % of any.
    assert unsure.products[0][0] == pytest.approx((400 / 3) ** 2 / (1 + 0.93**2), rel=0.01)
