"""Several runs at once come to the same as one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import pytest
import typer

from spillway.cli import studying
from spillway.cli.exit_codes import ExitCode
from spillway.sim.conditions import Conditions
from spillway.sim.study import Entry, Job, Role, plan
from tests.unit.sim import builders

if TYPE_CHECKING:
    from spillway.sim.trace import Trace


class Threads(ThreadPoolExecutor):
    """Stands for processes: what is tested is who waits for whom."""

    def __init__(self, workers: int, **_spawning: Any) -> None:
        super().__init__(workers)


def entries(job: Job, _trace: Trace, _past: Trace) -> tuple[Entry, ...]:
    """A run that takes no time."""
    return tuple(
        Entry(name, job.bursts, builders.result(name, 8.0, 1.0, 0.97, "Demand."))
        for name in job.names
    )


JOBS = plan(Conditions(), ("keda-rate",), leads=(60.0,), with_optimum=False)


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studying, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(studying, "work", entries)


@pytest.mark.parametrize("processes", [1, 3])
def test_every_run_has_its_place(processes: int) -> None:
    found = studying.study(builders.steady(), Conditions(), JOBS, processes=processes, quiet=True)
    assert sorted(entry.label for entry in found.entries) == [
        "keda-rate", "keda-rate + burst", "spillway",
    ]  # fmt: skip
    assert {at: len(entries) for at, entries in found.by_lead.items()} == {60.0: 3, 180.0: 3}
    assert {job.role for job in JOBS} == {Role.COMPARE, Role.LEAD}


def test_a_run_that_was_killed_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_args: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(studying, "work", killed)
    with pytest.raises(typer.Exit) as left:
        studying.study(builders.steady(), Conditions(), JOBS, processes=2, quiet=True)
    assert left.value.exit_code == ExitCode.FAILED
    assert "try --jobs 1" in capsys.readouterr().err


def test_the_verdict_says_who_kept_the_promise() -> None:
    verdict = studying._verdict(builders.study())
    assert verdict[0] == (
        "Spillway costs 16.7% less than keda-rate, the cheapest of these that keeps 95% on its own "
        "GPUs."
    )
    assert verdict[1].endswith("a schedule for $9.20 was found.")
