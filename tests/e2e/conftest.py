"""One rig for the whole session; tests keep apart by their namespaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from tests.e2e.faults import Faults, merge
from tests.e2e.rig import binaries
from tests.e2e.rig.cluster import programs_for
from tests.e2e.rig.rig import Rig
from tests.e2e.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.e2e.rig.cluster import Cluster
    from tests.e2e.rig.operator_process import OperatorProcess

HERE = Path(__file__).parent
#: A folder that gets every process's log when the session ends.
LOGS_VARIABLE = "SPILLWAY_RIG_LOGS"
RIG = pytest.StashKey[Rig]()
MEASURED = pytest.StashKey[dict[str, float]]()
FAULTS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, and run it last: quick tests fail first.

    Of it, long files come first: one that is begun last keeps one worker, and the other has nothing
    to do. Floods of pools come behind all: their namespaces take minutes to go, and the soak waits
    for that.
    """
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        item.add_marker(pytest.mark.e2e)
    ours.sort(
        key=lambda item: (
            item.path.name == "test_faults_flood.py",
            item.get_closest_marker("long") is None,
        )
    )
    items[:] = [item for item in items if item not in ours] + ours


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Build what the rig needs before the first test: it may take minutes, more than a test may."""
    options = session.config.option
    if options.collectonly or not any(item.path.is_relative_to(HERE) for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            binaries.ensure(names=programs_for(options.cluster))
        except binaries.BuildError as error:
            pytest.exit(str(error), returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the operators said last beside a failure."""
    report = yield
    rig = item.config.stash.get(RIG, None)
    if rig is not None and report.failed:
        report.sections += [(p.log.name, p.tail()) for p in rig.operators.values()]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands the times that its tests measured to the process that prints them."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["measured"] = session.config.stash.get(MEASURED, {})
        output["faults"] = session.config.stash.get(FAULTS, [])
    elif path := session.config.getoption("--fault-records"):
        merge(Path(path), session.config.stash.get(FAULTS, []))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the times of a worker that ended; one that crashed has none."""
    measured = node.config.stash.setdefault(MEASURED, {})
    measured.update(getattr(node, "workeroutput", {}).get("measured", {}))
    faults = node.config.stash.setdefault(FAULTS, [])
    faults += getattr(node, "workeroutput", {}).get("faults", [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the times that tests measured (promotion, overflow delay, failover ...)."""
    measured = config.stash.get(MEASURED, {})
    if measured:
        terminalreporter.section("measured times")
        for name, seconds in measured.items():
            terminalreporter.line(f"{seconds:8.2f} s  {name}")
    if faults := config.stash.get(FAULTS, []):
        terminalreporter.section("faults survived, and seconds to recover")
        for record in faults:
            seconds = record["seconds"]
            shown = "" if seconds is None else f"{seconds:.2f} s"
            terminalreporter.line(f"{shown:>10}  {record['fault']}: {record['held']}")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> dict[str, float]:
    """Where a test notes a time that it measured, in seconds, by what it is."""
    return request.config.stash.setdefault(MEASURED, {})


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Iterator[Faults]:
    """Where a test notes the faults that it has tried; they count when it passes."""
    noted = Faults(f"{request.path.name}::{request.function.__name__}")
    before = request.session.testsfailed
    yield noted
    if request.session.testsfailed == before:
        found = request.config.stash.setdefault(FAULTS, [])
        found += [record.to_json() for record in noted.records]


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A cluster with sixteen GPUs on two nodes, Prometheus and the emulator; no operator yet."""
    console = Console(quiet=True)
    with Rig(request.config.getoption("--cluster"), console=console) as started:
        request.config.stash[RIG] = started
        yield started
        if folder := os.environ.get(LOGS_VARIABLE):
            started.keep_logs(Path(folder))


@pytest.fixture
def cluster(rig: Rig) -> Cluster:
    """The rig's cluster."""
    return rig.cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; what is in it goes with it."""
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="module")
def operator(rig: Rig) -> Iterator[OperatorProcess]:
    """One operator for all tests of a module."""
    yield rig.start_operator()
    rig.stop_operators()


@pytest.fixture
def operators(rig: Rig) -> Iterator[Rig]:
    """The rig, for a test that starts operators of its own; they are stopped after it."""
    yield rig
    rig.stop_operators()


@pytest.fixture
def scenario(rig: Rig, namespace: str) -> Iterator[Callable[..., Scenario]]:
    """Makes scenarios in the test's namespace; after the test their traffic ends."""
    made: list[Scenario] = []

    def make(**changes: Any) -> Scenario:
        made.append(Scenario(rig, namespace, **changes))
        return made[-1]

    yield make
    for each in made:
        if each.deployed:
            each.rate(0)
