"""Rivals: other scalers, each from its published algorithm, with and without Spillway's burst.

`RIVALS` has them by the names that tables and ``--compare`` use. None of them knows the load in
advance; the two that don't scale at all are sized for a past load, which all may be tuned on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from spillway.sim.rivals import classic, dcgm_hpa, hpa, keda, static, wva
from spillway.sim.scaler import Scaler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spillway.sim.trace import Trace

__all__ = ["RIVALS", "Rival", "Tunable"]


class Tunable(Scaler, Protocol):
    """A scaler of many configurations to choose from."""

    def only(self, configurations: Sequence[int]) -> Tunable:
        """Some of its configurations, by number."""
        ...


@dataclass(frozen=True, slots=True)
class Rival:
    """A scaler to compare with.

    Attributes:
        summary: What it is, for a person.
        default: Makes it with the configuration it is published with, from the past load.
        grid: Makes it with all configurations that are worth tuning over, likewise.
    """

    summary: str
    default: Callable[[Trace], Tunable]
    grid: Callable[[Trace], Tunable]


def _blind(make: Callable[[], Tunable]) -> Callable[[Trace], Tunable]:
    """A factory that has no use for the past load."""
    return lambda _past: make()


RIVALS: Final[Mapping[str, Rival]] = {
    "hpa-util": Rival(
        "HPA v2 on GPU utilisation", _blind(hpa.on_utilization), _blind(hpa.on_utilization_grid)
    ),
    "hpa-queue": Rival(
        "HPA v2 on waiting requests", _blind(hpa.on_queue), _blind(hpa.on_queue_grid)
    ),
    "keda-waiting": Rival(
        "KEDA on waiting requests", _blind(keda.on_waiting), _blind(keda.on_waiting_grid)
    ),
    "keda-inflight": Rival(
        "KEDA on running and waiting requests",
        _blind(keda.on_in_flight),
        _blind(keda.on_in_flight_grid),
    ),
    "keda-rate": Rival("KEDA on request rate", _blind(keda.on_rate), _blind(keda.on_rate_grid)),
    "dcgm-hpa": Rival(
        "HPA on DCGM_FI_DEV_GPU_UTIL, careful policies",
        _blind(dcgm_hpa.dcgm_hpa),
        _blind(dcgm_hpa.dcgm_hpa_grid),
    ),
    "classic": Rival(
        "Double when busy, remove one when idle",
        _blind(classic.classic),
        _blind(classic.classic_grid),
    ),
    "wva": Rival("llm-d WVA, saturation V2", _blind(wva.wva), _blind(wva.wva_grid)),
    "static-median": Rival("Fixed at the median load", static.median, static.median_grid),
    "static-peak": Rival("Fixed at the highest load", static.peak, static.peak_grid),
}
"""Rivals by name."""
