"""The core's values behave as frozen dataclasses do, but for the check at run time."""

from __future__ import annotations

import dataclasses

import pytest

from spillway.core.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of two fields."""

    left: int
    right: int = 2


@dataclass(frozen=True, slots=True)
class Single:
    """A value of one field."""

    only: str


def test_a_copy_differs_in_what_was_named_and_nothing_else() -> None:
    old = Pair(1)
    assert replace(old, right=3) == Pair(1, 3)
    assert old == Pair(1, 2)
    assert replace(old) == old
    assert replace(old) is not old


def test_a_value_of_one_field_is_copied_too() -> None:
    assert replace(Single("a"), only="b") == Single("b")
    assert replace(Single("a")) == Single("a")


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match="middle"):
        replace(Pair(1), middle=2)  # type: ignore[call-arg]


def test_equal_values_have_one_hash_and_what_is_no_field_has_no_place() -> None:
    assert {Pair(1): "x"}[Pair(1, 2)] == "x"
    assert repr(Pair(1)) == "Pair(left=1, right=2)"
    assert dataclasses.replace(Pair(1), left=5) == Pair(5)
    with pytest.raises(AttributeError):
        Pair(1).middle = 2  # type: ignore[attr-defined]
