"""How the core's values are declared: frozen to the type checker, cheap to make at run time.

A step of a pool makes some sixty values, and a frozen dataclass takes four times as long to make as
one that is not, because each field goes through ``object.__setattr__``. mypy (strict, over the
tests as well) refuses every assignment to a field, so nothing checks that once more at each tick.
Equality, hash and repr are those of a frozen dataclass.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, replace
else:
    T = TypeVar("T")

    def dataclass(*, frozen: bool = False, slots: bool = False) -> Callable[[type[T]], type[T]]:
        """`dataclasses.dataclass`, but that nothing stops an assignment at run time."""
        return dataclasses.dataclass(slots=slots, unsafe_hash=frozen)

    def replace(old: T, /, **changes: object) -> T:
        """`dataclasses.replace` for classes whose fields are all arguments, in a third of its time.

        Raises:
            KeyError: There is no field of that name.
        """
        values_of, places = _fields(old.__class__)
        values = list(values_of(old))
        for name, new in changes.items():
            values[places[name]] = new
        return old.__class__(*values)

    @cache
    def _fields(cls: type) -> tuple[Callable[[T], tuple[object, ...]], dict[str, int]]:
        """What reads all fields of a value, and the place of each of them by its name."""
        names = [field.name for field in dataclasses.fields(cls)]
        # Of a single name attrgetter makes no tuple.
        values_of = attrgetter(*names) if len(names) > 1 else lambda one: (getattr(one, names[0]),)
        return values_of, {name: place for place, name in enumerate(names)}


__all__ = ["dataclass", "replace"]
