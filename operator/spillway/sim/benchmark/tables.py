"""From the benchmark's records to its tables.

Two ways to compare at equal attainment, both over all requests. In the main table a rival is taken
with the cheapest configuration of its frontier that attains at least as much as Spillway did on the
same half (or, in the second table, the promise alone). Where worlds drift, configurations stay what
they are, and what falls short of the promise is bought where it is cheapest: the least that keeping
it could have cost.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import geometric_mean
from typing import TYPE_CHECKING, Final

from spillway.sim.benchmark.jobs import DRIFTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spillway.sim.benchmark.records import Record

OPTIMUM: Final = "optimum"
SPILLWAY: Final = "spillway"
#: A rival may miss Spillway's attainment by this much: a tenth of a point is below what either
#: engine knows.
_NEAR: Final = 0.001

Key = tuple[str, int, float, str]


@dataclass(frozen=True, slots=True)
class Spread:
    """Ratios over worlds.

    Attributes:
        mean: Geometric mean.
        least: The lowest.
        most: The highest.
        worlds: How many; fewer than there are where somebody could not keep up.
    """

    mean: float
    least: float
    most: float
    worlds: int

    @classmethod
    def of(cls, ratios: Iterable[float]) -> Spread | None:
        """None where there is none."""
        found = list(ratios)
        if not found:
            return None
        return cls(geometric_mean(found), min(found), max(found), len(found))


@dataclass(frozen=True, slots=True)
class Rivalry:
    """One world at one price, with nothing drifting.

    Attributes:
        spillway: What it came to.
        optimum: The lower bound at Spillway's attainment.
        best_without_burst: The cheapest of the tuned rivals; None where none attains as much.
        with_burst: Tuned rivals by name.
    """

    spillway: Record
    optimum: Record | None
    best_without_burst: Record | None
    with_burst: dict[str, Record]


def key_of(record: Record) -> Key:
    """World and price."""
    return record.trace, record.scale, record.lead_seconds, record.price


def rivalries(records: Sequence[Record], promise: float, *, equal: bool) -> list[Rivalry]:
    """Every world that Spillway was in, without drift.

    Args:
        records: All of them.
        promise: Attainment that was promised.
        equal: Rivals must attain what Spillway did; else the promise alone.
    """
    by_world: defaultdict[Key, list[Record]] = defaultdict(list)
    for each in records:
        if not each.drift:
            by_world[key_of(each)].append(each)
    found = []
    for group in by_world.values():
        ours = next((r for r in group if r.who == SPILLWAY), None)
        if ours is None:
            continue
        level = (ours.attainment if equal else promise) - _NEAR
        found.append(
            Rivalry(
                ours,
                _nearest([r for r in group if r.who == OPTIMUM], ours.attainment, promise, equal),
                _cheapest(r for r in group if not r.burst and r.attainment >= level),
                _by_name(r for r in group if r.burst and r.attainment >= level),
            )
        )
    return found


def ratios(
    rivalries_: Sequence[Rivalry],
    other: Callable[[Rivalry], Record | None],
    promise: float,
    *,
    equal: bool,
) -> Spread | None:
    """Spillway's cost over somebody else's."""
    return Spread.of(
        (each.spillway.usd if equal else each.spillway.usd_at(promise)) / found.usd
        for each in rivalries_
        if (found := other(each)) is not None
    )


def drift_ratios(
    records: Sequence[Record], price: str, drift: str, rival: str, promise: float
) -> Spread | None:
    """Spillway's cost over a tuned rival's with the same burst, in a world that drifts."""
    costs: defaultdict[Key, dict[str, float]] = defaultdict(dict)
    for each in records:
        if each.drift == drift and each.price == price and each.who in {SPILLWAY, rival}:
            costs[key_of(each)][each.who] = each.usd_at(promise)
    return Spread.of(c[SPILLWAY] / c[rival] for c in costs.values() if len(c) == 2)


def drift_attainment(records: Sequence[Record], price: str, drift: str, who: str) -> float:
    """The lowest attainment in such worlds; NaN where there is none."""
    found = [
        r.attainment
        for r in records
        if (r.drift, r.price, r.who) == (drift, price, who) and r.burst
    ]
    return min(found, default=math.nan)


def _nearest(
    optima: Sequence[Record],
    attained: float,
    promise: float,
    equal: bool,  # noqa: FBT001
) -> Record | None:
    level = attained if equal else promise
    return min(optima, key=lambda r: abs(r.attainment - level), default=None)


def _cheapest(records: Iterable[Record]) -> Record | None:
    return min(records, key=lambda r: r.usd, default=None)


def _by_name(records: Iterable[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for each in records:
        if each.who in {SPILLWAY, OPTIMUM}:
            continue
        if each.who not in found or each.usd < found[each.who].usd:
            found[each.who] = each
    return found


__all__ = [
    "DRIFTERS",
    "OPTIMUM",
    "SPILLWAY",
    "Rivalry",
    "Spread",
    "drift_attainment",
    "drift_ratios",
    "key_of",
    "ratios",
    "rivalries",
]
