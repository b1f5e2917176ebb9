"""Keeps the way of one configuration through a run, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spillway.sim.outcome import Note, Timeline
from spillway.sim.trace import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.fleet import Fleet
    from spillway.sim.setting import Phase, Setting

    Floats = NDArray[np.float64]

_ROWS = (
    "cloud_per_second", "capacity_per_second", "ready", "unready", "waiting", "attainment",
    "gpu_usd_per_hour", "api_usd_per_hour",
)  # fmt: skip


class Recorder:
    """A timeline in the making.

    Attributes:
        configuration: Whose.
    """

    def __init__(self, setting: Setting, configuration: int) -> None:
        self.configuration = configuration
        self._setting = setting
        self._notes: list[Note] = []
        self._rows = {name: np.zeros(setting.steps) for name in _ROWS}

    def note(
        self,
        step: int,
        before: NDArray[np.int64],
        after: NDArray[np.int64],
        reason: str,
    ) -> None:
        """Keep a decision if it changed something."""
        old, new = int(before[self.configuration]), int(after[self.configuration])
        if old != new:
            said = reason if self.configuration == 0 else ""
            self._notes.append(Note(step * self._setting.step_seconds, old, new, said))

    def step(
        self,
        step: int,
        phase: Phase,
        fleet: Fleet,
        *,
        arriving: float,
        sent: Floats,
        waiting: Floats,
        attained: Floats,
        usd: Floats,
    ) -> None:
        """Keep a step; counts and dollars are of the whole step."""
        k, rows, seconds = self.configuration, self._rows, self._setting.step_seconds
        price = self._setting.conditions.gpu_usd_per_replica_hour
        rows["cloud_per_second"][step] = sent[k] / seconds
        rows["capacity_per_second"][step] = fleet.ready[k] * phase.truth.requests_per_second
        rows["ready"][step] = fleet.ready[k]
        rows["unready"][step] = fleet.starting[k] + fleet.pending[k]
        rows["waiting"][step] = waiting[k]
        rows["attainment"][step] = attained[k] / arriving if arriving > 0 else np.nan
        rows["gpu_usd_per_hour"][step] = fleet.billed[k] * price
        rows["api_usd_per_hour"][step] = usd[k] / seconds * SECONDS_PER_HOUR

    def attained(self, counted: Floats, attained: Floats) -> None:
        """Set each step's attainment, where it is known only later; shape (steps,) each."""
        with np.errstate(invalid="ignore", divide="ignore"):
            self._rows["attainment"] = attained / counted

    def timeline(self) -> Timeline:
        """The way so far."""
        setting = self._setting
        return Timeline(
            at=np.arange(setting.steps, dtype=np.float64) * setting.step_seconds,
            arrivals_per_second=setting.rates,
            notes=tuple(self._notes),
            **self._rows,
        )
