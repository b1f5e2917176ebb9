"""Reads values that come back as text: annotations that anybody may edit, stored ledgers.

Whatever the text is, the only error is `ValueError`, with a message that names the field, the value
and what is accepted.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final, Never

from spillway.api.timestamps import parse_time
from spillway.core.values import dataclass

#: An annotation may hold 256 KiB; ours are far below. A bound keeps hostile text cheap.
MAX_CHARACTERS: Final = 65_536
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_SHOWN_CHARACTERS: Final = 80


def shown(value: object) -> str:
    """A value for an error message, shortened."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object whose fields are read one by one, each with its type and bounds.

    Attributes:
        values: The object.
        path: Where it stands in the document, for messages; ends in ``.`` unless it is the root.
    """

    values: dict[str, Any]
    path: str = ""

    @staticmethod
    def parse(text: str) -> Fields:
        """The root object of a JSON text.

        Raises:
            ValueError: The text is too long, is no JSON, or is no object.
        """
        if len(text) > MAX_CHARACTERS:
            msg = f"must have at most {MAX_CHARACTERS} characters, got {len(text)}"
            raise ValueError(msg)
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except RecursionError as error:
            msg = "must be JSON, got one nested too deeply"
            raise ValueError(msg) from error
        except ValueError as error:
            msg = f"must be JSON: {error}"
            raise ValueError(msg) from error
        return _as_fields(value, "")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def integer(self, name: str, low: int = 0, high: int = 2**53) -> int:
        """An integer from ``low`` to ``high``.

        Raises:
            ValueError: The field is missing or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self._refuse(name, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, low: float = 0.0, high: float = 1e15) -> float:
        """A finite number from ``low`` to ``high``.

        Raises:
            ValueError: The field is missing or something else.
        """
        value = self.values.get(name)
        # A comparison of int and float is exact in Python, so a huge integer can't overflow here.
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or (isinstance(value, float) and not math.isfinite(value))
            or not low <= value <= high
        ):
            self._refuse(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def string(self, name: str, max_length: int = 253) -> str:
        """A text of at most ``max_length`` characters.

        Raises:
            ValueError: The field is missing or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, str) or len(value) > max_length:
            self._refuse(name, f"text of at most {max_length} characters")
        return value

    def decimal(self, name: str) -> Decimal:
        """An amount of money, written as a decimal string.

        Raises:
            ValueError: The field is missing or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, str) or _DECIMAL.fullmatch(value) is None:
            self._refuse(name, 'a decimal string such as "3.50"')
        return Decimal(value)

    def time(self, name: str) -> float:
        """An RFC 3339 time, as seconds since the Unix epoch.

        Raises:
            ValueError: The field is missing or something else.
        """
        text = self.string(name, max_length=40)
        try:
            return parse_time(text)
        except ValueError as error:
            msg = f"{self.path}{name}: {error}"
            raise ValueError(msg) from error

    def object(self, name: str) -> Fields:
        """A nested object.

        Raises:
            ValueError: The field is missing or something else.
        """
        return _as_fields(self.values.get(name), f"{self.path}{name}")

    def objects(self, name: str, max_items: int) -> tuple[Fields, ...]:
        """A list of at most ``max_items`` objects.

        Raises:
            ValueError: The field is missing or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) > max_items:
            self._refuse(name, f"a list of at most {max_items} objects")
        return tuple(
            _as_fields(item, f"{self.path}{name}[{index}]") for index, item in enumerate(value)
        )

    def _refuse(self, name: str, accepted: str) -> Never:
        got = shown(self.values[name]) if name in self.values else "nothing"
        msg = f"{self.path}{name}: must be {accepted}, got {got}"
        raise ValueError(msg)


def _as_fields(value: object, path: str) -> Fields:
    if not isinstance(value, dict):
        msg = f"{path or 'value'}: must be an object, got {shown(value)}"
        raise ValueError(msg)  # noqa: TRY004 - callers handle one error, as for any bad text
    return Fields(value, f"{path}." if path else "")


def _refuse_constant(constant: str) -> Never:
    msg = f"{constant} is not a number"
    raise ValueError(msg)
