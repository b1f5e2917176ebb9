"""How gateways share a value: parts that never sum to more than there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.reasons import Reason
from spillway.core.overflow import Admit, Allowance, OverflowValue
from spillway.core.sharing import LISTEN_SECONDS, Report, Sharing, begin, parse_report, share

NOW = 1_000.0
VALUE = OverflowValue(
    version=7,
    epoch=1,
    until=NOW + 45,
    fraction=0.5,
    admit=Admit(90, 9_000),
    allowance=Allowance(100, 2.0),
    providers=(),
    reason=Reason.SHORTAGE,
)


def admits(gateway: str, in_flight: float, worker: str = "1") -> Report:
    return Report(gateway, f"{gateway}/{worker}", in_flight)


def spends(worker: str, version: int = 7, cap: int = 0, used: int = 0) -> Report:
    return Report("g", worker, None, version, cap, used)


def test_one_gateway_has_the_whole_bound_whatever_its_workers_have_in_flight() -> None:
    state, told = share(Sharing(), admits("a", 30, "1"), VALUE, NOW)
    state, told = share(state, admits("a", 20, "2"), VALUE, NOW)
    assert (told.in_flight, told.prompt_tokens) == (90, 9_000)


def test_room_goes_to_all_alike_and_what_is_in_flight_stays() -> None:
    state, _ = share(Sharing(), admits("a", 50), VALUE, NOW)
    state, of_b = share(state, admits("b", 10), VALUE, NOW)
    assert of_b.in_flight == 0, "the other one still holds all of it"
    state, of_a = share(state, admits("a", 50), VALUE, NOW)
    _, of_b = share(state, admits("b", 10), VALUE, NOW)
    assert (of_a.in_flight, of_b.in_flight) == (65, 25)
    assert (of_a.prompt_tokens, of_b.prompt_tokens) == (6_500, 2_500)


def test_above_the_bound_parts_follow_what_is_in_flight() -> None:
    state, _ = share(Sharing(), admits("a", 120), VALUE, NOW)
    state, _ = share(state, admits("b", 60), VALUE, NOW)
    state, of_a = share(state, admits("a", 120), VALUE, NOW)
    assert of_a.in_flight == 60
    _, of_b = share(state, admits("b", 60), VALUE, NOW)
    assert of_b.in_flight == 30


def test_a_gateway_that_is_gone_leaves_its_room_to_the_others() -> None:
    state, _ = share(Sharing(), admits("a", 50), VALUE, NOW)
    _, of_b = share(state, admits("b", 10), VALUE, NOW + 6)
    assert of_b.in_flight == 90


def test_a_worker_is_dealt_half_at_first_and_the_rest_as_it_spends() -> None:
    state, told = share(Sharing(), spends("1"), VALUE, NOW)
    assert (told.requests, told.usd) == (50, 1.0)
    state, told = share(state, spends("1", cap=50, used=30), VALUE, NOW + 1)
    assert told.requests == 80
    state, told = share(state, spends("1", cap=80, used=80), VALUE, NOW + 2)
    assert (told.requests, told.usd) == (100, 2.0)


def test_a_new_version_is_dealt_anew_and_old_use_is_of_no_account() -> None:
    state, _ = share(Sharing(), spends("1"), VALUE, NOW)
    _, told = share(state, spends("1", cap=50, used=50), replace(VALUE, version=8), NOW + 1)
    assert told.requests == 50


def test_a_new_leader_listens_before_it_deals_and_believes_what_is_held() -> None:
    state, told = share(begin(NOW), spends("1", cap=50, used=10), VALUE, NOW + 1)
    assert told.requests == 50
    state, told = share(state, spends("2", cap=0), VALUE, NOW + 1)
    assert told.requests == 0
    later = NOW + LISTEN_SECONDS + 1
    state, told = share(state, spends("2", cap=40), VALUE, later)
    assert told.requests == 40
    _, told = share(state, spends("1", cap=50, used=50), VALUE, later)
    assert told.requests == 60, "all that is left"


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 60),
            st.floats(0, 4),
            st.sampled_from([7, 8]),
        ),
        max_size=60,
    )
)
def test_gateways_that_spend_what_they_hold_never_spend_more_than_the_allowance(
    steps: list[tuple[str, int, float, int]],
) -> None:
    state, now, version = Sharing(), NOW, 7
    held: dict[str, tuple[int, int, int]] = {}
    spent = {7: 0, 8: 0}
    for worker, wanted, seconds, next_version in steps:
        now += seconds
        version = max(version, next_version)
        of, cap, used = held.get(worker, (-1, 0, 0))
        report = Report("g", worker, None, of, cap, used)
        state, told = share(state, report, replace(VALUE, version=version), now)
        used = used if of == version else 0
        more = min(wanted, told.requests - used)
        assert more >= 0, "what was dealt is never taken back"
        spent[version] += more
        held[worker] = (version, told.requests, used + more)
        assert spent[version] <= VALUE.allowance.requests


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("12"), st.integers(0, 100))),
)
def test_parts_that_gateways_hold_at_once_sum_to_the_bound_at_most(
    reports: list[tuple[str, str, int]],
) -> None:
    state = Sharing()
    held: dict[tuple[str, str], int] = {}
    for gateway, worker, load in reports:
        state, told = share(state, admits(gateway, load, worker), VALUE, NOW)
        held[gateway, worker] = told.in_flight or 0
        most = {g: max(n for (of, _), n in held.items() if of == g) for g, _ in held}
        assert sum(most.values()) <= 90


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100), min_size=1))
def test_after_two_rounds_nearly_all_of_the_bound_is_dealt(loads: dict[str, int]) -> None:
    state = Sharing()
    for _ in range(3):
        for gateway, load in loads.items():
            state, _ = share(state, admits(gateway, load), VALUE, NOW)
    parts = [share(state, admits(g, n), VALUE, NOW)[1].in_flight or 0 for g, n in loads.items()]
    assert 90 - len(parts) < sum(parts) <= 90, "less than one each is lost to rounding"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[]", "object"),
        ('{"gateway": 1, "worker": "w"}', "gateway"),
        ('{"gateway": "g", "worker": "w", "inFlight": -1}', "inFlight"),
        ('{"gateway": "g", "worker": "w", "version": 1.5}', "version"),
        ('{"gateway": "g", "worker": "w", "version": 1, "cap": "x"}', "cap"),
    ],
)
def test_a_report_that_is_none_names_its_field(text: str, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        parse_report(text)


def test_a_report_of_a_worker_that_holds_nothing() -> None:
    report = parse_report('{"gateway":"g","worker":"w","version":-1,"cap":0,"used":0}')
    assert report == Report("g", "w", None, -1)


def test_a_process_that_admits_and_pays_is_told_both_of_its_parts() -> None:
    """As LiteLLM's callback reports; without the bound it would fall back on the fraction."""
    one = parse_report('{"gateway": "a", "worker": "a", "inFlight": 5, "used": 0, "version": -1}')
    state, told = share(Sharing(), one, VALUE, NOW)
    assert (told.in_flight, told.prompt_tokens, told.requests, told.usd) == (90, 9_000, 50, 1.0)
    held = Report("a", "a", 5, 7, 50, 10)
    state, _ = share(state, Report("b", "b", 0, -1), VALUE, NOW)
    state, told = share(state, held, VALUE, NOW)
    assert (told.in_flight, told.requests) == (47, 50)
