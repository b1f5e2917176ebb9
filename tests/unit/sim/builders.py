"""Small loads, worlds and results for tests of studies and reports."""

from __future__ import annotations

import numpy as np

from spillway.sim.conditions import Conditions
from spillway.sim.outcome import Note, Result, Timeline
from spillway.sim.study import OPTIMUM, SCHEDULE, SPILLWAY, Entry, Study
from spillway.sim.trace import Lengths, Trace

CHAT = Lengths.of(np.array([400, 900, 1600, 2400]), np.array([120, 200, 60, 300]))

ALONE, BURST = False, True


def steady(per_second: float = 40.0, minutes: int = 20) -> Trace:
    """The same rate all the time."""
    return Trace("steady", "Made up.", 5.0, np.full(minutes * 12, per_second), CHAT)


def result(name: str, gpu: float, api: float, attainment: float, reason: str = "") -> Result:
    """A run of an hour, with its way if a reason is given."""
    steps = 720
    ones = np.ones(steps)
    way = Timeline(
        at=np.linspace(0.0, 3595.0, steps),
        arrivals_per_second=20 * ones,
        cloud_per_second=2 * ones,
        capacity_per_second=18 * ones,
        ready=2 * ones,
        unready=ones,
        waiting=0 * ones,
        attainment=ones,
        gpu_usd_per_hour=gpu * ones,
        api_usd_per_hour=api * ones,
        notes=(Note(1800.0, 2, 3, reason), Note(3000.0, 3, 2, "")),
    )
    return Result(
        scaler=name,
        configuration=f"{name}: <as it comes>",
        seconds=3600.0,
        requests=72_000.0,
        cloud_requests=7_200.0,
        lost_requests=0.0,
        attained_requests=72_000.0 * attainment,
        gpu_usd=gpu,
        api_usd=api,
        replica_hours=gpu / 3.5,
        scale_actions=2,
        ttft_seconds={},
        tpot_seconds={},
        timeline=way if reason else None,
    )


def study(reason: str = "Demand grew.", *, optimum: bool = True, worlds: bool = True) -> Study:
    """Spillway for $10, a rival for $12 without burst and $11 with, the optimum for $9."""
    ours = Entry(SPILLWAY, BURST, result(SPILLWAY, 8.0, 2.0, 0.97, reason))
    alone = Entry("keda-rate", ALONE, result("keda-rate", 12.0, 0.0, 0.96))
    short = Entry("classic", ALONE, result("classic", 6.0, 0.0, 0.80))
    bursting = Entry("keda-rate", BURST, result("keda-rate", 10.0, 1.0, 0.99))
    best = Entry(OPTIMUM, BURST, result(OPTIMUM, 8.0, 1.0, 0.95))
    found = Entry(SCHEDULE, BURST, result(SCHEDULE, 8.2, 1.0, 0.95))
    entries = (ours, short, bursting, alone)
    other = (*entries, best) if optimum else entries
    return Study(
        trace=steady(),
        conditions=Conditions(),
        requests_per_second=9.0,
        entries=entries,
        optimum=best if optimum else None,
        schedule=found if optimum else None,
        frontier=(alone, bursting) if worlds else (),
        by_lead={60.0: other, 180.0: other} if worlds else {},
        by_api_price={1.0: other, 2.0: other} if worlds else {},
    )
