from __future__ import annotations

import pytest

from tests.e2e.rig.recording import Phase, Recording, Step, StepKind

from .test_page import moment


def test_an_integral_is_the_area_under_the_curve_whatever_the_gaps() -> None:
    # 10 to 20 over two seconds is 30, then 20 for one second.
    recording = Recording(
        "t",
        moments=[
            moment(0.0, gpu_per_hour=10.0),
            moment(2.0, gpu_per_hour=20.0),
            moment(3.0, gpu_per_hour=20.0),
        ],
    )
    assert recording.integral("gpu_per_hour") == pytest.approx(50.0)
    assert recording.peak("gpu_per_hour") == 20.0
    assert recording.seconds() == 3.0


def test_nothing_recorded_is_zero_and_no_error() -> None:
    empty = Recording("t")
    assert (empty.seconds(), empty.integral("queue"), empty.peak("queue")) == (0.0, 0.0, 0.0)
    assert empty.phase(3.0) == ""


def test_the_phase_at_a_moment() -> None:
    recording = Recording("t", (Phase(0, "steady"), Phase(60, "ramp")))
    assert [recording.phase(at) for at in (0, 59.9, 60, 1e6)] == ["steady"] * 2 + ["ramp"] * 2


def test_decisions_are_the_steps_that_ask_for_another_number() -> None:
    steps = [Step(0, kind, ("R",), "m") for kind in StepKind]
    assert [s.kind for s in Recording("t", steps=steps).decisions()] == [StepKind.DECISION]
