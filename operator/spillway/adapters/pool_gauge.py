"""A gauge with series for every pool, whose part of a page is quickly written.

A thousand pools have 45,000 series. `generate_latest` sorts and escapes the labels of each anew at
every scrape: a second of CPU, in which other threads hardly get a turn. Here labels are written
once, and a value when it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Namespace and name.
Pool: TypeAlias = tuple[str, str]

POOL_LABELS: Final = ("namespace", "pool")
#: What the text format escapes in a label's value; one pass, so that no escape is escaped again.
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class PoolGauge(Collector):
    """One family of series; the first two labels are the pool's.

    Values may be set while a page is written in another thread.

    Args:
        name: Of the family, with its prefix.
        text: Its HELP, one line.
        labels: Names of the labels beside the pool's.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self._of_pools: dict[Pool, dict[tuple[str, ...], _Series]] = {}

    def set(self, pool: Pool, value: float, *labels: str) -> None:
        """Set a series of a pool; it is there from then on.

        Raises:
            ValueError: Not as many labels as the family has beside the pool's.
        """
        of_pool = self._of_pools.get(pool)
        if of_pool is None:
            of_pool = self._of_pools[pool] = {}
        series = of_pool.get(labels)
        if series is None:
            series = of_pool[labels] = _Series(self._head(pool, labels))
        if value != series.value:
            series.value = float(value)
            series.shown = _shown(value)

    def remove(self, pool: Pool, *labels: str) -> None:
        """Drop one series of a pool, if it is there."""
        self._of_pools.get(pool, {}).pop(labels, None)

    def forget(self, pool: Pool) -> None:
        """Drop every series of a pool."""
        self._of_pools.pop(pool, None)

    def page(self) -> str:
        """The family in Prometheus' text format, as `generate_latest` would write it."""
        parts = [f"# HELP {self.name} {self.text}\n# TYPE {self.name} gauge\n"]
        # Copies: other threads add pools and series meanwhile.
        for of_pool in list(self._of_pools.values()):
            for series in list(of_pool.values()):
                parts += (series.head, series.shown)
        return "".join(parts)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The family as the client library has it."""
        family = GaugeMetricFamily(self.name, self.text, labels=self._names)
        for pool, of_pool in list(self._of_pools.items()):
            for labels, series in list(of_pool.items()):
                family.add_metric((*pool, *labels), series.value)
        return [family]

    @property
    def _names(self) -> tuple[str, ...]:
        return (*POOL_LABELS, *self.labels)

    def _head(self, pool: Pool, labels: tuple[str, ...]) -> str:
        pairs = zip(self._names, (*pool, *labels), strict=True)
        written = [f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(pairs)]
        return f"{self.name}{{{','.join(written)}}} "


class _Series:
    """A value, and the two parts of its line."""

    __slots__ = ("head", "shown", "value")

    def __init__(self, head: str) -> None:
        self.head = head
        self.value = 0.0
        self.shown = _shown(0.0)


def _shown(value: float) -> str:
    written: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return f"{written}\n"
