from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from spillway.api import quantities
from spillway.api.quantities import (
    Duration,
    Money,
    PositiveDuration,
    PositiveRate,
    PositiveRatio,
    Ratio,
    format_duration,
    parse_duration,
)

TYPES = {
    "money": (Money, quantities.MONEY_PATTERN),
    "ratio": (Ratio, quantities.RATIO_PATTERN),
    "positive ratio": (PositiveRatio, quantities.RATIO_PATTERN),
    "positive rate": (PositiveRate, quantities.RATE_PATTERN),
    "duration": (Duration, quantities.DURATION_PATTERN),
    "positive duration": (PositiveDuration, quantities.DURATION_PATTERN),
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("60ms", 0.06), ("1.5h", 5400), ("0s", 0), ("2m1ms", 120.001)],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.06, "60ms"), (0.0005, "0.5ms"), (90.0, "1m30s"), (7200.0, "2h")],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "1 s", "-1s", "1d", "1s\n", "1e3s", "\u0661s", "1234567s", "1us", None, 5],
)
def test_other_durations_are_refused_with_an_example(text: Any) -> None:
    with pytest.raises(ValueError, match=re.escape('must be a duration such as "2s"')):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_duration_survives_being_written(microseconds: int) -> None:
    seconds = microseconds / 1e6
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@given(st.decimals(min_value=0, max_value=999_999_999, places=6))
@example(Decimal("0.000001"))
@example(Decimal(100))
def test_money_survives_being_written(amount: Decimal) -> None:
    money = TypeAdapter(Money)
    assert money.validate_json(money.dump_json(amount)) == amount


@given(st.integers(min_value=0, max_value=10**6))
def test_ratio_survives_being_written(millionths: int) -> None:
    ratio = TypeAdapter(Ratio)
    assert ratio.validate_json(ratio.dump_json(millionths / 1e6)) == millionths / 1e6


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_what_the_crds_pattern_takes_pydantic_takes(name: str, data: st.DataObject) -> None:
    kind, pattern = TYPES[name]
    text = data.draw(
        st.from_regex(pattern.replace("$", r"\Z"), alphabet=st.characters(codec="ascii"))
    )
    above_zero = any(digit in text for digit in "123456789")
    if "positive" in name and not above_zero:
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(text)
    else:
        assert TypeAdapter(kind).validate_python(text) >= 0


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("wire", ["2", "0.5", "true", "null", '"\\n1s"', '"1.0\\n"', "[]"])
def test_json_must_be_text_without_anything_around_it(name: str, wire: str) -> None:
    with pytest.raises(ValidationError, match="must be a"):
        TypeAdapter(TYPES[name][0]).validate_json(wire)


@pytest.mark.parametrize("name", TYPES)
def test_python_code_may_give_the_number_itself(name: str) -> None:
    number: float | Decimal = Decimal("0.5") if name == "money" else 0.5
    assert TypeAdapter(TYPES[name][0]).validate_python(number) == number
