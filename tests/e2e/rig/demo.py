"""The demo: a real control plane, Prometheus and Envoy, emulated GPUs, the operator, a spike.

    python -m tests.e2e.rig.demo [--cluster local|kind|current] [--minutes 7] [--json]

It applies manifests/samples/inferencepool.yaml with the edge as its driver, runs the operator with
its defaults, and sends real requests through the edge. What it saw becomes a page in ``demo-out/``.
Progress goes to standard error, the summary to standard output. Exit codes: 0 done; 1 something
could not be started, and the message says what; 2 a flag; 130 interrupted (what was recorded is
written all the same). However it ends, nothing of it is left running.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
from rich.console import Console
from rich.live import Live

from tests.e2e.rig import binaries, demo_summary, demo_table, page
from tests.e2e.rig.cluster import programs_for
from tests.e2e.rig.demo_scenario import MINUTES, RATES, STARTUP_SECONDS, Scenario
from tests.e2e.rig.demo_watch import Watch
from tests.e2e.rig.edge_traffic import EdgeTraffic
from tests.e2e.rig.kubeapi import ApiError
from tests.e2e.rig.operator_process import FAST
from tests.e2e.rig.processes import RigError
from tests.e2e.rig.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.e2e.rig.demo_summary import Summary
    from tests.e2e.rig.operator_process import OperatorProcess

INTERRUPTED: Final = 130
_NOTHING_LEFT: Final = "interrupted; nothing is left running"
#: A usual interval; the operator's rate window of a minute asks for at least four in it.
_SCRAPE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
_LINE_SECONDS: Final = 5.0
_READY_SECONDS: Final = 120.0
#: The longest answers of the mix take half a minute.
_LAST_ANSWERS_SECONDS: Final = 45.0
_PAGE: Final = "index.html"
_CLUSTERS: Final = {
    "local": "a Kubernetes control plane of its own",
    "kind": "a cluster made by kind",
    "current": "a cluster that was there",
}
_SUBTITLE: Final = (
    "Recorded on {cluster}, with a real Prometheus, the operator at its defaults, and every "
    "request sent over HTTP through a real Envoy. What answers is emulated: GPUs and model servers "
    "by a request-level model of vLLM's scheduler in real time, and the cloud's API. Point at a "
    "triangle to read why Spillway decided as it did."
)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0.5 <= minutes <= 120:
        msg = "must be from 0.5 to 120"
        raise argparse.ArgumentTypeError(msg)
    return minutes


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--cluster", choices=("local", "kind", "current"), default="local",
        help="local: a control plane on this machine; kind: one that kind makes;\n"
        "current: the cluster of your KUBECONFIG",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=_minutes, default=MINUTES,
        help=f"how long the workload runs (default {MINUTES:g}); the operator's windows do not\n"
        "stretch with it, so a short demo shows less",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("demo-out"), help="folder of the page (demo-out)"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = arguments(argv)
    console = Console(stderr=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _run(options, console)
    except KeyboardInterrupt:
        console.print(_NOTHING_LEFT, style="yellow")
        return INTERRUPTED
    except (
        binaries.BuildError,
        RigError,
        ApiError,
        requests.RequestException,
        AssertionError,
        OSError,
        subprocess.SubprocessError,
    ) as error:
        console.print(f"demo: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 1


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C: what is under way ends by itself within seconds."""
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace, console: Console) -> int:
    scenario = Scenario.load(options.minutes)
    if options.cluster == "current":
        _refuse_a_cluster_in_use(scenario, console)
    rig = Rig(options.cluster, scrape_interval_seconds=_SCRAPE_SECONDS, console=console)
    rig.start()
    demo = Demo(rig, scenario, console)
    try:
        demo.run()
    except KeyboardInterrupt:
        demo.interrupted = True
    finally:
        with _uninterrupted(), console.status("stopping everything"):
            try:
                summary = demo.summary()
                demo.stop()
            finally:
                rig.stop()
    if summary is None or demo.watch is None:
        raise KeyboardInterrupt
    path = _write_page(options.output, demo.watch, scenario, summary, options.cluster)
    _tell(summary, scenario, as_json=options.json)
    console.print(f"the page with the plots: {path}", highlight=False, soft_wrap=True)
    if not demo.interrupted:
        return 0
    console.print(_NOTHING_LEFT, style="yellow")
    return INTERRUPTED


def _refuse_a_cluster_in_use(scenario: Scenario, console: Console) -> None:
    """On somebody's cluster the demo neither shares a namespace nor meets another Spillway."""
    kubectl = binaries.ensure(console, names=programs_for("current"))["kubectl"]
    for kind, name, why in (
        ("namespace", scenario.namespace, "the demo makes that namespace, and deletes it"),
        (
            "crd",
            "inferencepools.spillway.dev",
            "an operator of yours may run there, and two would argue about the pool",
        ),
    ):
        done = subprocess.run(
            [str(kubectl), "get", kind, name, "--ignore-not-found", "-o=name"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            msg = f"the cluster of your KUBECONFIG does not answer: {done.stderr.strip()}"
            raise RigError(msg)
        if done.stdout.strip():
            msg = (
                f"the cluster of your KUBECONFIG has {kind} {name} already; {why}. Use another "
                "cluster, or a control plane of the demo's own: make demo"
            )
            raise RigError(msg)


@dataclass(slots=True)
class Demo:
    """One run of the scenario on a rig that is started.

    Attributes:
        rig: Where it runs.
        scenario: What runs.
        console: Where progress is shown.
        watch: Set when the workload has begun.
        traffic: Set when there is an operator that the edge can ask.
        interrupted: Somebody ended it before its time.
    """

    rig: Rig
    scenario: Scenario
    console: Console
    watch: Watch | None = None
    traffic: EdgeTraffic | None = None
    interrupted: bool = False
    _told: int = field(default=0, init=False)
    _told_phases: int = field(default=0, init=False)

    def run(self) -> None:
        """From the empty cluster to the end of the workload."""
        scenario, rig = self.scenario, self.rig
        rig.cluster.create_namespace(scenario.namespace, unique=False)
        scenario.deploy(rig)
        # None leaves a setting at the operator's own default.
        settings: dict[str, Any] = dict.fromkeys(FAST)
        settings["watch_namespaces"] = json.dumps([scenario.namespace])
        with self.console.status("starting the operator"):
            operator = rig.start_operator(**settings)
        self.console.print("the operator is ready; applying the sample InferencePool")
        rig.cluster.api.apply(scenario.pool)
        self.traffic = EdgeTraffic(rig, scenario.behind_edge(), [scenario.cloud()], operator)
        with self.console.status("starting the edge"):
            self.traffic.start()
        self._wait_ready(operator, self.traffic)
        self.watch = Watch(rig, operator, scenario, self.traffic, time.time())
        self.traffic.rate(*scenario.rates)
        self._follow(self.watch)
        self.traffic.rate((0.0, 0.0))
        with self.console.status("waiting for the last answers"):
            self.watch.settle(_LAST_ANSWERS_SECONDS)

    def stop(self) -> None:
        """Stop the clients, the edge and what it pays."""
        if self.traffic is not None:
            self.traffic.stop()

    def _wait_ready(self, operator: OperatorProcess, traffic: EdgeTraffic) -> None:
        """Wait until floor and warm pool stand; traffic begins when the floor does."""
        spec = self.scenario.pool["spec"]
        floor, size = spec["replicas"]["floor"], spec["warmPool"]["size"]
        deadline, asked = time.monotonic() + _READY_SECONDS, False
        with self.console.status("") as status:
            while time.monotonic() < deadline:
                found = self.rig.cluster.api.get(
                    "InferencePool", self.scenario.name, self.scenario.namespace
                )
                seen = found.get("status") or {}
                replicas = seen.get("replicas", {})
                serving, warm = replicas.get("serving", 0), replicas.get("warm", 0)
                if serving >= floor and not asked and traffic.reaches_replicas():
                    traffic.rate((0.0, RATES[0][1]))
                    asked = True
                if asked and serving >= floor and warm >= size:
                    self.console.print(f"{serving} replicas serve, {warm} is warm")
                    return
                status.update(
                    f"replicas load their model ({STARTUP_SECONDS:g} s): {serving} of {floor} "
                    f"serve, {warm} of {size} warm"
                )
                time.sleep(0.5)
        msg = (
            f"the pool was not ready within {_READY_SECONDS:g} s; its status: "
            f"{json.dumps(seen)[:2000]}\nthe operator's log ends:\n{operator.tail()}"
        )
        raise RigError(msg)

    def _follow(self, watch: Watch) -> None:
        seconds = self.scenario.seconds
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=4, transient=True) as live:
                self._looking(watch, lambda: live.update(demo_table.view(watch.recording, seconds)))
        else:
            self._looking(watch, lambda: self._tell_lines(watch))

    def _looking(self, watch: Watch, show: Callable[[], None]) -> None:
        due = time.monotonic()
        while time.time() - watch.began < self.scenario.seconds:
            watch.look()
            show()
            due = max(due + _LOOK_SECONDS, time.monotonic())
            time.sleep(due - time.monotonic())
        watch.look()

    def _tell_lines(self, watch: Watch) -> None:
        recording = watch.recording
        lines = [demo_table.step_line(step) for step in recording.steps[self._told :]]
        self._told = len(recording.steps)
        begun = recording.begun()
        lines += [demo_table.phase_line(phase) for phase in begun[self._told_phases :]]
        self._told_phases = len(begun)
        if recording.moments and len(recording.moments) % round(_LINE_SECONDS) == 1:
            lines.append(demo_table.line(recording))
        for text in lines:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def summary(self) -> Summary | None:
        """What it came to so far; None when the workload had not begun."""
        if self.watch is None or not self.watch.recording.moments:
            return None
        return demo_summary.summarize(self.watch, self.scenario, interrupted=self.interrupted)


def _write_page(
    folder: Path, watch: Watch, scenario: Scenario, summary: Summary, cluster: str
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _PAGE
    text = page.render(
        watch.recording,
        _SUBTITLE.format(cluster=_CLUSTERS[cluster]),
        demo_summary.tiles(summary, scenario),
        demo_summary.lines(summary, scenario),
        answered=demo_summary.who_answered(summary),
        peak_fleet=demo_summary.peak_fleet(summary, scenario),
    )
    partial = folder / f".{_PAGE}.part"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _tell(summary: Summary, scenario: Scenario, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))  # noqa: T201 - this is the command's output
    else:
        Console().print(demo_summary.table(summary, scenario))


if __name__ == "__main__":
    sys.exit(main())
