"""How many replicas outlive the loss of a zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def survivors(by_zone: Mapping[str, int]) -> int:
    """Replicas that are left when the zone with the most of them is lost."""
    return sum(by_zone.values()) - max(by_zone.values(), default=0)


def replicas_to_survive(by_zone: Mapping[str, int], replicas: int, needed: int) -> int:
    """Fewest replicas, ``replicas`` at least, of which ``needed`` outlive the loss of any zone.

    Args:
        by_zone: Replicas by zone now; two zones or more.
        replicas: Replicas wanted anyway; those beyond what is there come to the emptiest zones, as
            a topology spread constraint would place them, and those to go leave the fullest.
        needed: Replicas that must be left.

    Raises:
        ValueError: There is one zone only, or none.
    """
    if len(by_zone) < 2:
        msg = f"by_zone must have at least 2 zones, got {len(by_zone)}"
        raise ValueError(msg)
    counts = dict(by_zone)
    while (total := sum(counts.values())) != replicas:
        zone = min(counts, key=lambda z: (counts[z], z))
        if total > replicas:
            zone = max(counts, key=lambda z: (counts[z], z))
        counts[zone] += 1 if total < replicas else -1
    while survivors(counts) < needed:
        counts[min(counts, key=lambda z: (counts[z], z))] += 1
    return sum(counts.values())
