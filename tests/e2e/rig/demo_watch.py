"""Looks at the demo's pool from outside: pods, clients, servers, and what the operator says."""

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
    from tests.e2e.rig.edge_traffic import EdgeTraffic
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig

#: Rates are means over this: requests a second would jump about.
RATE_SECONDS: Final = 5.0
_RATES: Final = ("arrivals_total", "local_total", "cloud_total", "cost_usd_total")
_STEP_EVENTS: Final = {kind.value: kind for kind in StepKind}


class Watch:
    """Records a pool.

    Args:
        rig: Where it runs.
        operator: Whose log and metrics are read.
        scenario: Which pool.
        traffic: Its clients, and who is paid.
        began: When the workload began, seconds since the epoch.

    Attributes:
        began: As given.
        recording: What was seen so far.
        first: What clients and servers had counted when the workload began.
        last: The same at the last look.
        events: The emulator's events at the last look.
    """

    def __init__(
        self,
        rig: Rig,
        operator: OperatorProcess,
        scenario: Scenario,
        traffic: EdgeTraffic,
        began: float,
    ) -> None:
        title = f"Spillway: {scenario.key}, {scenario.minutes:g} minutes of traffic"
        self.recording = Recording(title, scenario.phases)
        self._rig = rig
        self._operator = operator
        self._scenario = scenario
        self._traffic = traffic
        self.began = began
        self._by_replica: dict[str, int] = {}
        self._gauges: dict[str, float] = {}
        self._read_lines = 0
        self._totals: deque[tuple[float, list[float]]] = deque()
        self.first = self._counted()
        self.last = self.first
        self.events: list[dict[str, Any]] = []

    def look(self) -> None:
        """Add what is seen now. A part that does not answer leaves its last figures."""
        now = time.time()
        with suppress(requests.RequestException, ApiError):
            self.last = self._counted()
            pods = self._rig.cluster.api.list("Pod", self._scenario.namespace)
            with suppress(requests.RequestException):
                self._gauges = gauges(self._operator.url, self._scenario)
            self.recording.moments.append(self._moment(now, pods))
        self._read_log()

    def settle(self, seconds: float) -> None:
        """Wait until everybody has an answer, so long at most, and count what came of it."""
        ends = time.monotonic() + seconds
        while self._traffic.clients.in_flight and time.monotonic() < ends:
            time.sleep(0.1)
        with suppress(requests.RequestException):
            self.last = self._counted()

    def more(self, counter: str) -> float:
        """How much a counter has grown since the workload began."""
        return float(self.last[counter] - self.first[counter])

    def answered_by(self, side: str) -> dict[str, int]:
        """Requests that each ``replica`` or ``provider`` answered since then, by its own count."""
        before: dict[str, int] = self.first[f"answered_by_{side}"]
        found: dict[str, int] = self.last[f"answered_by_{side}"]
        return {name: count - before.get(name, 0) for name, count in found.items()}

    @property
    def capacity_per_replica(self) -> float | None:
        """Requests per second that one replica serves, by Spillway's estimate."""
        return self._gauges.get("replica_capacity_requests_per_second")

    @property
    def overflow_delay_seconds(self) -> float | None:
        """Mean time from a sample that showed a shortage to the value that answered it."""
        times = self._gauges.get("overflow_delay_seconds_count")
        return self._gauges["overflow_delay_seconds_sum"] / times if times else None

    def _counted(self) -> dict[str, Any]:
        """What the engines, the providers and the clients have counted so far, each for itself."""
        state = self._rig.emulator.state()
        self.events = state["events"]
        engines = state["pools"][self._scenario.key]
        # A replica that is gone has said its last count.
        self._by_replica |= {name: pod["finished"] for name, pod in engines["pods"].items()}
        return {
            **self._traffic.counts(),
            "local_total": engines["local_total"],
            "waiting": engines["waiting"],
            "answered_by_replica": dict(self._by_replica),
        }

    def _moment(self, now: float, pods: list[dict[str, Any]]) -> Moment:
        state, replicas = self.last, count(pods)
        arrivals, local, cloud, usd = self._rates(now)
        held = sum("nodeName" in pod["spec"] for pod in pods)
        return Moment(
            at=now - self.began,
            arrivals_per_second=arrivals,
            local_per_second=local,
            cloud_per_second=cloud,
            capacity_per_second=(self.capacity_per_replica or 0.0) * replicas["serving"],
            **replicas,
            desired=int(self._gauges.get("desired_replicas", replicas["serving"])),
            queue=state["waiting"],
            overflow=cloud / (local + cloud) if cloud else 0.0,
            gpu_per_hour=held * self._scenario.usd_per_replica_hour,
            api_per_hour=usd * 3600,
            in_time=state["attainment"]["last_minute"]["both"],
            by_replicas=sum(self.answered_by("replica").values()),
            by_providers=self.answered_by("provider"),
        )

    def _rates(self, now: float) -> list[float]:
        """A second: requests, those at the GPUs, those at the API, and US dollars there."""
        totals = self._totals
        totals.append((now, [float(self.last[name]) for name in _RATES]))
        while len(totals) > 2 and totals[1][0] <= now - RATE_SECONDS:
            totals.popleft()
        (since, before), (at, latest) = totals[0], totals[-1]
        if at <= since:
            return [0.0] * len(_RATES)
        return [(b - a) / (at - since) for a, b in zip(before, latest, strict=True)]

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
    # The edge decides request by request; this is what the operator reckons with.
    share = f"{line['fraction']:.0%}" if line["fraction"] else "none"
    message = f"{share} of the requests expected to leave"
    return Step(at, kind, reasons, message)
