from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.guard import Guard, GuardMode
from spillway.core.guard import Ceiling, GuardMemory, Sign, Suspicion, Traffic, observe

HOUR = 3600.0
TICK = 15.0
#: 10 requests a second of 1,200 tokens; the ceiling is half of that.
USUAL = Traffic(720_000, 10.0, replicas=4, usd_per_hour=2.0)
CEILING = Ceiling(360_000, usd_per_hour=10.0)
LOOP = replace(USUAL, tokens_per_minute=5 * USUAL.tokens_per_minute, requests_per_second=50.0)


def watch(
    memory: GuardMemory,
    traffic: Traffic,
    begin: float,
    seconds: float,
    *,
    guard: Guard | None = None,
    ceiling: Ceiling = CEILING,
    released_at: float | None = None,
) -> tuple[GuardMemory, float]:
    now = begin
    while now < begin + seconds:
        memory = observe(memory, guard or Guard(), traffic, ceiling, now, released_at=released_at)
        now += TICK
    return memory, now


def settled() -> tuple[GuardMemory, float]:
    return watch(GuardMemory(), USUAL, 0.0, 2 * HOUR)


def suspected(traffic: Traffic, ceiling: Ceiling = CEILING) -> Suspicion | None:
    memory, now = settled()
    memory, _ = watch(memory, traffic, now, 300.0, ceiling=ceiling)
    return memory.suspicion


def test_a_surge_is_suspected_within_minutes_and_not_at_its_first_sample() -> None:
    memory, now = settled()
    memory, now = watch(memory, LOOP, now, 105.0)
    assert memory.suspicion is None
    memory, now = watch(memory, LOOP, now, 45.0)
    assert memory.suspicion is not None
    assert memory.suspicion.sign is Sign.SURGE
    assert memory.suspicion.replicas == 4
    assert "5.0 times the usual, with 5.0 times the usual requests" in memory.suspicion.evidence


def test_a_loop_that_feeds_on_its_own_context_shows_in_tokens_without_requests() -> None:
    context = replace(USUAL, tokens_per_minute=2.2 * USUAL.tokens_per_minute)
    found = suspected(context)
    assert found is not None
    assert found.sign is Sign.CONTEXT_LOOP
    crowd = replace(context, requests_per_second=22.0)
    assert suspected(crowd) is None, "as many more requests explain the tokens"


def test_spend_above_its_ceiling_needs_less_of_a_surge() -> None:
    dear = replace(USUAL, tokens_per_minute=1_200_000, requests_per_second=16.0, usd_per_hour=11.0)
    found = suspected(dear)
    assert found is not None
    assert found.sign is Sign.SPEND
    assert suspected(replace(dear, usd_per_hour=9.0)) is None


@pytest.mark.parametrize(
    "traffic",
    [
        USUAL,
        replace(USUAL, tokens_per_minute=1.9 * USUAL.tokens_per_minute),
        replace(LOOP, talker_share=0.1),
        replace(LOOP, tokens_per_minute=3.2 * USUAL.tokens_per_minute, stray=2.5),
    ],
    ids=["usual", "less", "crowd", "stray"],
)
def test_no_alarm(traffic: Traffic) -> None:
    assert suspected(traffic) is None


def test_nothing_is_suspected_below_the_ceiling_or_without_a_past() -> None:
    assert suspected(LOOP, Ceiling(LOOP.tokens_per_minute)) is None
    memory, now = watch(GuardMemory(), USUAL, 0.0, HOUR / 2)
    memory, _ = watch(memory, LOOP, now, 600.0)
    assert memory.suspicion is None, "a service that begins grows without bound"


def test_load_that_comes_back_after_an_outage_is_the_usual_one() -> None:
    memory, now = settled()
    memory, now = watch(
        memory, replace(USUAL, tokens_per_minute=0, requests_per_second=0), now, 2 * HOUR
    )
    memory, _ = watch(memory, USUAL, now, 600.0)
    assert memory.suspicion is None


def test_the_top_talker_is_named() -> None:
    found = suspected(replace(LOOP, talker="team-a", talker_share=0.8))
    assert found is not None
    assert found.evidence.endswith("most of it from team-a")


def test_it_is_released_after_usual_load_for_a_while_and_a_weekend_is_no_habit() -> None:
    memory, now = settled()
    memory, now = watch(memory, LOOP, now, 60 * HOUR)
    assert memory.suspicion is not None
    memory, now = watch(memory, USUAL, now, 1500.0)
    memory, now = watch(memory, LOOP, now, 60.0)
    memory, now = watch(memory, USUAL, now, 1500.0)
    assert memory.suspicion is not None, "the while begins anew with each relapse"
    memory, now = watch(memory, USUAL, now, 600.0)
    assert memory.suspicion is None
    memory, now = watch(memory, LOOP, now, 300.0)
    assert memory.suspicion is not None, "the next one is suspected as well"


def test_somebody_may_release_it_and_the_load_is_then_the_usual_one() -> None:
    memory, now = settled()
    memory, now = watch(memory, LOOP, now, 600.0)
    stale, _ = watch(memory, LOOP, now, 60.0, released_at=now - 3600)
    assert stale.suspicion is not None, "a release from before says nothing of this one"
    early, _ = watch(memory, LOOP, now, 60.0, released_at=now + 3600)
    assert early.suspicion is not None, "nor does one that is to come"
    memory, now = watch(memory, LOOP, now, 600.0, released_at=now)
    assert memory.suspicion is None
    assert memory.tokens_per_minute == pytest.approx(LOOP.tokens_per_minute)


def test_off_suspects_nothing() -> None:
    memory, now = settled()
    memory, _ = watch(memory, LOOP, now, 600.0, guard=Guard(mode=GuardMode.OFF))
    assert memory == GuardMemory()


def test_what_may_leave_is_frozen_in_dollars() -> None:
    found = suspected(LOOP)
    assert found is not None
    assert found.usd_per_hour == 2.0
    assert found.most_leaving_per_second(GuardMode.FREEZE, 0.0, 2.0 / 3600) == pytest.approx(1.0)
    # A request of the loop costs a hundred times as much, so a hundredth of them may leave.
    assert found.most_leaving_per_second(GuardMode.FREEZE, 0.0, 200 / 3600) == pytest.approx(0.01)
    assert found.most_leaving_per_second(GuardMode.FREEZE, 6.0, 2.0 / 3600) == pytest.approx(3.0)
    assert found.most_leaving_per_second(GuardMode.STOP, 6.0, 2.0 / 3600) == 0
    assert found.most_leaving_per_second(GuardMode.FREEZE, 6.0, None) == 0
    assert found.most_replicas == 7


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e5), st.floats(-60, 7200)), max_size=40),
    st.none() | st.floats(0, 1e6),
)
def test_whatever_comes_a_suspicion_allows_no_more_than_there_was(
    seen: list[tuple[float, float, float]], released_at: float | None
) -> None:
    memory, now, most = GuardMemory(), 0.0, 0
    for tokens, requests, pause in seen:
        now += pause
        most = max(most, int(requests))
        traffic = Traffic(tokens, requests, 1.0, replicas=int(requests))
        memory = observe(memory, Guard(), traffic, CEILING, now, released_at=released_at)
        if memory.suspicion is not None:
            assert memory.suspicion.replicas <= most
            assert memory.suspicion.since <= now or pause < 0
