"""What the rivals share: a number of configurations that are stepped side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

C = TypeVar("C")


class Configured(Generic[C]):
    """The configurations of a `spillway.sim.scaler.Scaler`; each prints itself for tables."""

    def __init__(self, configurations: Iterable[C]) -> None:
        self._each = tuple(configurations)

    @property
    def configurations(self) -> int:
        """K."""
        return len(self._each)

    def describe(self, configuration: int) -> str:
        """The parameters of one configuration, for tables."""
        return str(self._each[configuration])
