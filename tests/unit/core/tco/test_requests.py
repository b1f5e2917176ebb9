"""Agent chains, RAG and levers, by hand and by walking through every call."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.core.tco.agents import Chain, Rag, prefill_work
from spillway.core.tco.costs import ApiTerms
from spillway.core.tco.levers import NO_LEVERS, Levers, request_usd, savings
from spillway.core.tco.load import NotPlannableError
from spillway.core.tokenmix import TokenMix

API = ApiTerms(3.0, 15.0, 0.30)


@given(st.integers(1, 40), st.floats(1, 1e4), st.floats(1, 2e3), st.floats(0, 5e3))
def test_a_chain_is_the_sum_of_its_calls(
    calls: int, base: float, output: float, tool: float
) -> None:
    task = Chain(calls, base, output, tool)
    prompts = [base + i * (output + tool) for i in range(calls)]
    read_before = [0.0] + [p + output for p in prompts[:-1]]
    assert task.prompt_tokens == pytest.approx(sum(prompts))
    assert task.cached_tokens == pytest.approx(sum(read_before))
    plain = sum(p * 3.0 + output * 15.0 for p in prompts) / 1e6
    cached = plain - sum(read_before) * (3.0 - 0.30) / 1e6
    assert task.usd(API, cached=False) == pytest.approx(plain)
    assert task.usd(API, cached=True) == pytest.approx(cached)


def test_thirty_calls_cost_far_more_than_thirty_times_the_first() -> None:
    one, thirty = (Chain(n, 3000, 300, 700).usd(API, cached=False) for n in (1, 30))
    # 525,000 prompt and 9,000 output tokens against 3,000 and 300.
    assert thirty == pytest.approx((525_000 * 3 + 9_000 * 15) / 1e6)
    assert thirty / one == pytest.approx(126.7, rel=0.001)


def test_a_cache_that_forgets_saves_its_share() -> None:
    task = Chain(10, 3000, 300, 700)
    half = replace(task, hit_share=0.5)
    saved = task.usd(API, cached=False) - task.usd(API, cached=True)
    assert task.usd(API, cached=False) - half.usd(API, cached=True) == pytest.approx(saved / 2)


def test_attention_is_sixteenfold_at_four_times_the_prompt_and_the_rest_fourfold() -> None:
    short, long = (prefill_work(n, 3.26e-5) for n in (1024, 4096))
    assert long.attention / short.attention == 16
    assert long.linear / short.linear == 4
    # Most of the work is not attention: as a whole it is little more than fourfold.
    whole = (long.linear + long.attention) / (short.linear + short.attention)
    assert 4 < whole < 4.3
    assert prefill_work(131_072, 3.26e-5).attention_share > 0.6


def test_a_rag_answer_is_almost_all_prompt() -> None:
    bare = Rag(5000, 100)
    assert bare.usd(ApiTerms(0.3, 0.6)) == pytest.approx(0.00156)
    assert bare.prompt_share(ApiTerms(0.3, 0.6)) == pytest.approx(0.0015 / 0.00156)


def test_rag_with_caches() -> None:
    hits = Rag(5000, 100, shared_tokens=1000, semantic_hit_share=0.25, lookup_usd=1e-5)
    computed = (4000 * 3.0 + 1000 * 0.30 + 100 * 15.0) / 1e6
    assert hits.usd(API) == pytest.approx(1e-5 + 0.75 * computed)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Chain(0, 1, 1, 1), "calls a task must be at least 1"),
        (lambda: Chain(2, 1, 1, 1, 1.5), "prefix hits must be at least 0 and at most 1, got 1.5"),
        (lambda: Rag(100, 10, shared_tokens=200), "shared tokens must be at least 0 and at most"),
        (lambda: Levers(routed_share=-1), "the routed share must be"),
    ],
)
def test_what_can_not_be_is_named(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(NotPlannableError, match=said):
        make()


# The sources' example: 3,500 tokens in at $0.03 a thousand, 800 out at $0.06, $80,000 a month.

GPT = ApiTerms(30.0, 60.0)
MIX = TokenMix(3500, 800)


def test_the_sources_request_costs_fifteen_cents() -> None:
    assert request_usd(GPT, MIX, NO_LEVERS) == pytest.approx(0.105 + 0.048)


def test_levers_are_not_additive() -> None:
    found = savings(GPT, MIX, 80_000 / 0.153, Levers(0.2, 0.0, 0.5, 0.1, 500, 0.3, 0.4, 0.1))
    by_name = {saving.lever: saving for saving in found}
    assert by_name["semantic cache"].alone == pytest.approx(16_000)
    assert by_name["routing"].alone == pytest.approx(36_000)
    # Of what the cache has left, a half at a tenth of the price.
    assert by_name["routing"].after == pytest.approx(64_000 * 0.45)
    assert sum(s.alone for s in found) > sum(s.after for s in found)
    assert found[-1].left == pytest.approx(80_000 - sum(s.after for s in found))
    # By formula: 0.8 * 0.55 * (3000 * 0.7 * (0.6 + 0.4 * 0.1) * 30 + 800 * 60) / 153,000 of it.
    left = 0.8 * 0.55 * (3000 * 0.7 * 0.64 * 30 + 800 * 60) / 1e6 / 0.153
    assert found[-1].left == pytest.approx(80_000 * left)


shares = st.floats(0, 1)


@given(shares, shares, shares, st.floats(0, 5000), shares, shares, shares)
def test_levers_never_make_the_bill_larger_but_for_the_look_ups(
    hits: float, routed: float, cheap: float, system: float, packed: float, prefix: float, at: float
) -> None:
    found = savings(GPT, MIX, 1000, Levers(hits, 0.0, routed, cheap, system, packed, prefix, at))
    assert all(saving.after >= -1e-9 for saving in found)
    assert all(saving.alone >= saving.after - 1e-9 for saving in found)
    assert found[-1].left >= -1e-9


def test_look_ups_that_cost_more_than_they_save_show_as_a_loss() -> None:
    (cache, *_) = savings(GPT, MIX, 1000, Levers(0.01, 0.1))
    assert cache.after < 0
