"""What an informer knows: records by key."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

#: Namespace and name; the namespace of cluster-scoped objects is "".
Key = tuple[str, str]


class Store(Generic[T]):
    """Records by (namespace, name)."""

    def __init__(self) -> None:
        self._records: dict[Key, T] = {}
        self._view = MappingProxyType(self._records)

    @property
    def records(self) -> Mapping[Key, T]:
        """All records: a live view that can't be written."""
        return self._view

    def put(self, key: Key, record: T) -> bool:
        """Add or replace; whether anything changed."""
        if self._records.get(key) == record:
            return False
        self._records[key] = record
        return True

    def drop(self, key: Key) -> bool:
        """Remove; whether it was there."""
        return self._records.pop(key, None) is not None
