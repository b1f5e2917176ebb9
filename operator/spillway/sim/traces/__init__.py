"""Loads to simulate: loaders of public traces and of Prometheus exports, and a generator."""

from __future__ import annotations

from spillway.sim.traces.building import Gaps
from spillway.sim.traces.detect import DEFAULT_MIX, load
from spillway.sim.traces.errors import TraceError
from spillway.sim.traces.generator import (
    DEFAULT_SCENARIO,
    SCENARIOS,
    Scenario,
    generate,
    scenario_named,
)
from spillway.sim.traces.lengths import MIX_NAMES, named

__all__ = [
    "DEFAULT_MIX",
    "DEFAULT_SCENARIO",
    "MIX_NAMES",
    "SCENARIOS",
    "Gaps",
    "Scenario",
    "TraceError",
    "generate",
    "load",
    "named",
    "scenario_named",
]
