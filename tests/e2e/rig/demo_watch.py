"""Looks at the demo's pool from outside: pods, router, engines, and what the operator says."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import requests

from spillway.api.names import ROLE_LABEL, Role
from tests.e2e.rig.kubeapi import ApiError
from tests.e2e.rig.recording import Moment, Recording, Step, StepKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.rig.demo_scenario import Scenario
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig

#: Rates are means over this: requests a second would jump about.
RATE_SECONDS: Final = 5.0
_STEP_EVENTS: Final = {kind.value: kind for kind in StepKind}


class Watch:
    """Records a pool.

    Args:
        rig: Where it runs.
        operator: Whose log and metrics are read.
        scenario: Which pool.
        began: When the workload began, seconds since the epoch.

    Attributes:
        began: As given.
        recording: What was seen so far.
        first: The emulator's state of the pool when the workload began.
        last: The same at the last look.
        events: The emulator's events at the last look.
    """

    def __init__(
        self, rig: Rig, operator: OperatorProcess, scenario: Scenario, began: float
    ) -> None:
        title = f"Spillway: {scenario.key}, {scenario.minutes:g} minutes of traffic"
        self.recording = Recording(title, scenario.phases)
        self._rig = rig
        self._operator = operator
        self._scenario = scenario
        self.began = began
        self._gauges: dict[str, float] = {}
        self._read_lines = 0
        self._totals: deque[tuple[float, int, int, float]] = deque()
        self.first = self._emulated()
        self.last = self.first
        self.events: list[dict[str, Any]] = []

    def look(self) -> None:
        """Add what is seen now. A part that does not answer leaves its last figures."""
        now = time.time()
        with suppress(requests.RequestException, ApiError):
            self.last = self._emulated()
            pods = self._rig.cluster.api.list("Pod", self._scenario.namespace)
            with suppress(requests.RequestException):
                self._gauges = gauges(self._operator.url, self._scenario)
            self.recording.moments.append(self._moment(now, pods))
        self._read_log()

    def more(self, counter: str) -> float:
        """How much a counter of the emulator has grown since the workload began."""
        return float(self.last[counter] - self.first[counter])

    @property
    def capacity_per_replica(self) -> float | None:
        """Requests per second that one replica serves, by Spillway's estimate."""
        return self._gauges.get("replica_capacity_requests_per_second")

    @property
    def overflow_delay_seconds(self) -> float | None:
        """Mean time from a sample that showed a shortage to the value that answered it."""
        times = self._gauges.get("overflow_delay_seconds_count")
        return self._gauges["overflow_delay_seconds_sum"] / times if times else None

    def _emulated(self) -> dict[str, Any]:
        state = self._rig.emulator.state()
        self.events = state["events"]
        found: dict[str, Any] = state["pools"][self._scenario.key]
        return found

    def _moment(self, now: float, pods: list[dict[str, Any]]) -> Moment:
        state, replicas = self.last, count(pods)
        local, cloud, usd = self._rates(now)
        held = sum("nodeName" in pod["spec"] for pod in pods)
        overflow = state["overflow"] or {}
        return Moment(
            at=now - self.began,
            arrivals_per_second=local + cloud,
            local_per_second=local,
            cloud_per_second=cloud,
            capacity_per_second=(self.capacity_per_replica or 0.0) * replicas["serving"],
            **replicas,
            desired=int(self._gauges.get("desired_replicas", replicas["serving"])),
            queue=state["waiting"],
            overflow=overflow["fraction"] if overflow.get("live") else 0.0,
            gpu_per_hour=held * self._scenario.usd_per_replica_hour,
            api_per_hour=usd * 3600,
            in_time=state["attainment"]["last_minute"]["both"],
        )

    def _rates(self, now: float) -> tuple[float, float, float]:
        """Requests per second to the GPUs and to the API, and US dollars per second there."""
        state, totals = self.last, self._totals
        totals.append((now, state["local_total"], state["cloud_total"], state["cost_usd_total"]))
        while len(totals) > 2 and totals[1][0] <= now - RATE_SECONDS:
            totals.popleft()
        (since, local, cloud, usd), latest = totals[0], totals[-1]
        seconds = latest[0] - since
        if seconds <= 0:
            return 0.0, 0.0, 0.0
        return (
            (latest[1] - local) / seconds,
            (latest[2] - cloud) / seconds,
            (latest[3] - usd) / seconds,
        )

    def _read_log(self) -> None:
        lines = self._operator.log_lines()
        for line in lines[self._read_lines :]:
            step = step_of(line, self._scenario.key, self.began)
            if step is not None and step.at >= 0:
                self.recording.steps.append(step)
        self._read_lines = len(lines)


def count(pods: list[dict[str, Any]]) -> dict[str, int]:
    """Pods that are not being deleted, by what they do."""
    found = dict.fromkeys(("serving", "warm", "starting", "draining"), 0)
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        role = pod["metadata"].get("labels", {}).get(ROLE_LABEL, Role.SERVING.value)
        conditions = (pod.get("status") or {}).get("conditions") or []
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        found[role if ready or role == Role.DRAINING else "starting"] += 1
    return found


def gauges(url: str, scenario: Scenario) -> dict[str, float]:
    """The operator's series of the pool or of itself, without further labels, by name."""
    labels = f'{{namespace="{scenario.namespace}",pool="{scenario.name}"}}'
    found = {}
    for line in requests.get(f"{url}/metrics", timeout=2).text.splitlines():
        name, _, value = line.rpartition(" ")
        name = name.removesuffix(labels)
        if name.startswith("spillway_") and "{" not in name:
            found[name.removeprefix("spillway_")] = float(value)
    return found


def step_of(line: Mapping[str, Any], pool: str, began: float) -> Step | None:
    """What a line of the operator's log says was done to the pool; None where it says nothing."""
    kind = _STEP_EVENTS.get(line.get("event", ""))
    if kind is None or line.get("pool") != pool or line.get("level") != "info":
        return None
    at = datetime.fromisoformat(line["timestamp"]).timestamp() - began
    reasons = (line["reason"], *line.get("limits", ()))
    decision = line.get("decision", "")
    if kind is StepKind.DECISION:
        return Step(at, kind, reasons, line["what"], desired=line["desired"], decision=decision)
    if kind is StepKind.ROLE:
        message = f"{line['pod']}: {line['before']} to {line['role']}"
        return Step(at, kind, reasons, message, pod=line["pod"], decision=decision)
    if kind is StepKind.SCALED:
        message = f"{line['target']}: {line['before']} to {line['replicas']} replicas"
        return Step(at, kind, reasons, message, decision=decision)
    message = f"{line['fraction']:.0%} of the requests leave" if line["fraction"] else "none leaves"
    return Step(at, kind, reasons, message)
