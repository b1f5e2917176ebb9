from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.timestamps import format_time, parse_time


def test_a_micro_time_has_six_digits_always() -> None:
    assert format_time(60.0, digits=6) == "1970-01-01T00:01:00.000000Z"
    assert format_time(60.1234567, digits=6) == "1970-01-01T00:01:00.123457Z"
    assert format_time(60.567, digits=3) == "1970-01-01T00:01:00.567Z"


def test_times_are_written_as_kubernetes_does() -> None:
    assert format_time(0.0) == "1970-01-01T00:00:00Z"
    assert format_time(1_795_248_000.9) == "2026-11-21T08:00:00Z"
    assert format_time(-62_000_000_000.0).startswith("0005-")


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01T00:01:00Z",
        "1970-01-01t00:01:00z",
        "1970-01-01T00:01:00.000Z",
        "1970-01-01T02:01:00+02:00",
        "1969-12-31T19:01:00.000000000-05:00",
    ],
)
def test_every_form_of_rfc3339_is_read(text: str) -> None:
    assert parse_time(text) == 60.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1970-01-01",
        "1970-01-01T00:01:00",
        "1970-01-01T00:01:00Z ",
        "1970-W01-1T00:00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-01-01T25:00:00Z",
        "1970-01-01T00:01:00Z\n",
    ],
)
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='must be an RFC 3339 time such as "2026-'):
        parse_time(text)


@given(st.floats(min_value=-6e10, max_value=2e11))
def test_time_survives_being_written_to_the_second(seconds: float) -> None:
    assert parse_time(format_time(seconds)) == math.floor(seconds)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e18, -1e18])
def test_what_no_calendar_has_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        format_time(seconds)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse_time(text)
    except ValueError:
        parsed = 0.0
    assert math.isfinite(parsed)
