"""Quantities as users write them: money and ratios as decimal strings, durations Go-style.

Each type carries the same pattern and the same words for pydantic and for the CRD, so that both
refuse the same input and say the same about it. Inside, money is `decimal.Decimal`, a ratio is a
float from 0 to 1, a duration is float seconds. Python code may give those; JSON must give text.
"""

from __future__ import annotations

import re
import reprlib
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import ValidationInfo

T = TypeVar("T", float, Decimal)

MONEY_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
RATIO_PATTERN: Final = r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$"
RATE_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
DURATION_PATTERN: Final = r"^([0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)){1,4}$"
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_MONEY: Final = 'a decimal string such as "3.50"'
_RATIO: Final = 'a decimal string from "0" to "1"'
_POSITIVE_RATIO: Final = 'a decimal string above "0", up to "1"'
_POSITIVE_RATE: Final = 'a decimal string above "0", such as "2.5"'
_DURATION: Final = 'a duration such as "2s", "60ms" or "1h30m"'
_POSITIVE_DURATION: Final = 'a duration longer than "0s", such as "2s", "60ms" or "1h30m"'

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
#: Six entries of each of six levels of lists are nearly fifty thousand: two levels say enough.
_SHORT.maxlevel = 2
_LONGEST: Final = 400


def shorten(value: object) -> str:
    """``repr`` of a user's value, cut to what fits in a message."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class NotAcceptedError(ValueError):
    """A value is not what its field accepts.

    Attributes:
        accepted: What would be, in words that follow "must be".
    """

    def __init__(self, accepted: str, value: object) -> None:
        super().__init__(f"must be {accepted}, got {shorten(value)}")
        self.accepted = accepted


def matching(value: object, pattern: str, accepted: str) -> str:
    """The value, if it is a text that the pattern matches as a whole.

    Raises:
        NotAcceptedError: It is not.
    """
    # RE2 and Rust take `$` for the end of the text; Python's also matches before a last newline.
    if not isinstance(value, str) or re.fullmatch(pattern.strip("^$"), value) is None:
        raise NotAcceptedError(accepted, value)
    return value


def parse_duration(value: object) -> float:
    """Seconds of a Go-style duration such as ``90s``, ``1h30m`` or ``60ms``.

    Raises:
        ValueError: The text is not a duration; the message says what is accepted.
    """
    if isinstance(value, float):
        return value
    text = matching(value, DURATION_PATTERN, _DURATION)
    return sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest Go-style text for a duration (``90.0`` becomes ``1m30s``), to a microsecond."""
    microseconds = round(seconds * 1e6)
    parts = []
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)):
        count, microseconds = divmod(microseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    if microseconds:
        parts.append(f"{_plain(microseconds / 1000)}ms")
    return "".join(parts) or "0s"


def _parse_money(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    return Decimal(matching(value, MONEY_PATTERN, _MONEY))


def _parse_ratio(value: object) -> float:
    if isinstance(value, float):
        return value
    return float(matching(value, RATIO_PATTERN, _RATIO))


def _parse_rate(value: object) -> float:
    if isinstance(value, float):
        return value
    return float(matching(value, RATE_PATTERN, _POSITIVE_RATE))


def _plain(value: float | Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _reader(
    parse: Callable[[object], T], accepted: str, *, positive: bool = False
) -> BeforeValidator:
    """`parse` for a field that accepts what ``accepted`` says.

    A bare number is refused in JSON, as the API server refuses it; Python code may give one.
    """

    def read(value: object, info: ValidationInfo) -> T:
        try:
            parsed = None if info.mode == "json" and not isinstance(value, str) else parse(value)
        except NotAcceptedError:
            parsed = None
        if parsed is None or (positive and parsed <= 0):
            raise NotAcceptedError(accepted, value)
        return parsed

    return BeforeValidator(read)


def text_schema(pattern: str, max_length: int, accepted: str, *conditions: str) -> WithJsonSchema:
    """Schema of a text: its pattern, and a CEL rule that says in words what the pattern wants.

    Args:
        pattern: Anchored RE2 expression without single quotes.
        max_length: Most characters; CEL's cost estimate needs it.
        accepted: What is accepted, in words that follow "must be".
        conditions: More CEL conditions on ``self``; they are looked at only if the pattern matches.
    """
    schema: dict[str, Any] = {
        "type": "string",
        "pattern": pattern,
        "maxLength": max_length,
        "x-kubernetes-validations": [
            {
                "rule": " && ".join((f"self.matches(r'{pattern}')", *conditions)),
                "message": f"must be {accepted}",
            }
        ],
    }
    return WithJsonSchema(schema)


#: A number written in digits is above zero exactly when one of them is not 0: no conversion is
#: needed, which could overflow (CEL's durations end at 292 years).
_SOME_DIGIT: Final = "self.matches('[1-9]')"

#: US dollars.
Money = Annotated[
    Decimal,
    _reader(_parse_money, _MONEY),
    PlainSerializer(_plain, return_type=str),
    text_schema(MONEY_PATTERN, 19, _MONEY),
]
#: A share from 0 to 1.
Ratio = Annotated[
    float,
    _reader(_parse_ratio, _RATIO),
    PlainSerializer(_plain, return_type=str),
    text_schema(RATIO_PATTERN, 8, _RATIO),
]
#: A share above 0, up to 1.
PositiveRatio = Annotated[
    float,
    _reader(_parse_ratio, _POSITIVE_RATIO, positive=True),
    PlainSerializer(_plain, return_type=str),
    text_schema(RATIO_PATTERN, 8, _POSITIVE_RATIO, _SOME_DIGIT),
]
#: A count per second, above zero.
PositiveRate = Annotated[
    float,
    _reader(_parse_rate, _POSITIVE_RATE, positive=True),
    PlainSerializer(_plain, return_type=str),
    text_schema(RATE_PATTERN, 16, _POSITIVE_RATE, _SOME_DIGIT),
]
#: Seconds inside, Go-style text outside.
Duration = Annotated[
    float,
    _reader(parse_duration, _DURATION),
    PlainSerializer(format_duration, return_type=str),
    text_schema(DURATION_PATTERN, 40, _DURATION),
]
#: A duration longer than zero.
PositiveDuration = Annotated[
    float,
    _reader(parse_duration, _POSITIVE_DURATION, positive=True),
    PlainSerializer(format_duration, return_type=str),
    text_schema(DURATION_PATTERN, 40, _POSITIVE_DURATION, _SOME_DIGIT),
]


#: More digits of a figure in a status would be rewritten at each tick for noise alone.
_DIGITS: Final = 3


def figure(value: float) -> float:
    """Round to three significant digits, as figures in a status are."""
    return float(f"{value:.{_DIGITS}g}")
