"""A pool: its pods, its traffic, and what became of every request."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spillway.sim.replica import Replica
from spillway.sim.workload import RateProfile, Workload
from tests.e2e.rig.emulator.pod import EmulatedPod, PodView
from tests.e2e.rig.emulator.router import LocalLoad, Router
from tests.e2e.rig.emulator.settings import Fault, PoolSettings, ProviderSettings
from tests.e2e.rig.emulator.stats import Attainment, RateWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spillway.sim.request import Request, Stream
    from tests.e2e.rig.emulator.events import EventLog

RATE_WINDOW_SECONDS = 10.0


@dataclass
class Traffic:
    """Counters of one destination, as a gateway keeps them; they never fall.

    Attributes:
        requests: Sent there.
        finished: Answered.
        prompt_tokens: Of answered requests.
        completion_tokens: Of answered requests.
        usd: What the answered ones cost.
        in_flight: Sent and neither answered nor failed.
        prompt_tokens_in_flight: Prompt tokens of these.
    """

    requests: int = 0
    finished: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    in_flight: int = 0
    prompt_tokens_in_flight: int = 0

    def send(self, request: Request) -> None:
        """A request leaves for there."""
        self.requests += 1
        self.in_flight += 1
        self.prompt_tokens_in_flight += request.prompt_tokens

    def end(self, request: Request, *, answered: bool, usd: float = 0.0) -> None:
        """A request comes back, answered or failed."""
        self.in_flight -= 1
        self.prompt_tokens_in_flight -= request.prompt_tokens
        if answered:
            self.finished += 1
            self.prompt_tokens += request.prompt_tokens
            self.completion_tokens += request.output_tokens
            self.usd += usd


@dataclass(order=True)
class _CloudCall:
    """A request at a provider."""

    ends_at: float
    request: Request = field(compare=False)
    provider: ProviderSettings = field(compare=False)


class Pool:
    """One pool in simulated time; `tick` moves it.

    Attributes:
        settings: As configured.
        router: Local or cloud.
        pods: Pods whose engines run, by UID.
        views: All pods that exist, the starting ones included, by UID.
        local: Traffic to the pool's own replicas.
        cloud: Traffic to providers.
        refused: Requests that found no pod to serve them (a Service without endpoints: 503).
        lost: Requests that died with their pod.
    """

    def __init__(
        self, settings: PoolSettings, now: float, wall: Callable[[float], float], events: EventLog
    ) -> None:
        self.settings = settings
        self.router = Router(settings)
        self.pods: dict[str, EmulatedPod] = {}
        self.views: dict[str, PodView] = {}
        self.local = Traffic()
        self.cloud = Traffic()
        self.refused = 0
        self.lost = 0
        self._profile = settings.profile.build()
        self._workload = Workload(
            settings.workload.build(),
            RateProfile.constant(settings.requests_per_second),
            settings.workload.seed,
        )
        self._now = now
        self._wall = wall
        self._events = events
        self._attainment = Attainment(settings.latency)
        self._arrivals = RateWindow(RATE_WINDOW_SECONDS, now)
        self._calls: list[_CloudCall] = []
        self._faults: dict[str, Fault] = {}
        self._pool_fault = Fault()

    @property
    def gpu(self) -> str:
        """Product name of its GPUs."""
        return self._profile.gpu

    @property
    def kv_blocks(self) -> int:
        """KV blocks of an engine."""
        return self._profile.kv_blocks

    def set_rate(self, profile: RateProfile) -> None:
        """Change the traffic from now on."""
        self._workload = Workload(self._workload.mix, profile, self._workload.seed)
        self._note("rate", None, requests_per_second=profile.at(self._now))

    def set_fault(self, fault: Fault, pod: str | None) -> None:
        """Replace the fault of one pod, or (``pod`` None) of all pods, present and future."""
        if pod is None:
            self._pool_fault = fault
            self._faults.clear()
        else:
            self._faults[pod] = fault
        for found in self.pods.values():
            found.suffer(self._faults.get(found.view.name, self._pool_fault))
        self._note("fault", pod, fault=fault.model_dump(exclude_defaults=True))

    def observe(
        self, views: Iterable[PodView], pick_gpus: Callable[[PodView, int], list[int]]
    ) -> None:
        """Take the pods that exist now; ``pick_gpus`` says which GPUs of its node a pod gets."""
        self.views = {view.uid: view for view in views}
        for uid, pod in self.pods.items():
            view = self.views.get(uid)
            if view is not None:
                pod.view = view
            if (view is None or view.terminating) and pod.deleted_at is None:
                pod.deleted_at = self._now
                self._note("pod_deleted", pod, in_flight=pod.in_flight)
            self._update_serving(pod)
        for uid, view in self.views.items():
            if view.ready and not view.terminating and uid not in self.pods:
                self._start(view, pick_gpus(view, view.gpus or self._profile.gpus))

    def tick(self, now: float, wall_now: float) -> None:
        """Run to ``now``: arrivals, engines, cloud calls, pods whose grace is over."""
        for request in self._workload.requests_between(self._now, now):
            self._arrive(request, wall_now)
        self._now = now
        for pod in self.pods.values():
            for engine in pod.engines:
                for stream in engine.advance(now):
                    self._finish(pod, stream)
        while self._calls and self._calls[0].ends_at <= now:
            self._return(heapq.heappop(self._calls))
        self._bury()

    def sample_gpus(self, seconds: float) -> None:
        """Take every pod's GPU utilisation over the last simulated ``seconds``."""
        for pod in self.pods.values():
            pod.sample_gpus(seconds)

    def _start(self, view: PodView, gpu_indices: list[int]) -> None:
        engines = [
            Replica(self._profile, self._now) for _ in range(self.settings.data_parallel_size)
        ]
        pod = self.pods[view.uid] = EmulatedPod(view, engines, gpu_indices)
        pod.suffer(self._faults.get(view.name, self._pool_fault))
        self._note("pod_ready", pod)
        self._update_serving(pod)

    def _update_serving(self, pod: EmulatedPod) -> None:
        """Do what the Service's EndpointSlice does: Ready, selected and not on its way out."""
        wanted = {**self.settings.selector, **self.settings.service_selector}
        serving = (
            pod.view.ready
            and pod.deleted_at is None
            and all(pod.view.labels.get(name) == value for name, value in wanted.items())
        )
        if serving == pod.serving:
            return
        pod.serving = serving
        if serving:
            pod.serving_since = self._now
            pod.awaits_first = True
        self._note("pod_serving" if serving else "pod_not_serving", pod, in_flight=pod.in_flight)

    def _arrive(self, request: Request, wall_now: float) -> None:
        self._arrivals.add(request.arrived_at)
        load = LocalLoad(self.local.in_flight, self.local.prompt_tokens_in_flight)
        provider = self.router.route(request.prompt_tokens, request.output_tokens, load, wall_now)
        if provider is not None:
            self.cloud.send(request)
            seconds = provider.ttft_seconds + provider.tpot_seconds * (request.output_tokens - 1)
            heapq.heappush(self._calls, _CloudCall(request.arrived_at + seconds, request, provider))
            return
        pod = min(
            (pod for pod in self.pods.values() if pod.serving),
            key=lambda pod: pod.in_flight,
            default=None,
        )
        if pod is None:
            self.refused += 1
            self._attainment.record(self._now, None, None)
            return
        self._submit(pod, request)

    def accept(self, pod: EmulatedPod, request: Request) -> Stream:
        """Put a request that a client sent over HTTP into a pod's engine."""
        self._arrivals.add(request.arrived_at)
        return self._submit(pod, request)

    def _submit(self, pod: EmulatedPod, request: Request) -> Stream:
        self.local.send(request)
        stream = pod.least_loaded().submit(request, request.arrived_at)
        if pod.awaits_first:
            self._first_request(pod, request.arrived_at)
        return stream

    def _first_request(self, pod: EmulatedPod, at: float) -> None:
        pod.awaits_first = False
        if pod.first_request_at is None:
            pod.first_request_at = at
        since = pod.serving_since if pod.serving_since is not None else at
        self._events.add(
            self._wall(at),
            "pod_first_request",
            self.settings.key,
            pod.view.name,
            seconds_since_serving=at - since,
        )

    def _finish(self, pod: EmulatedPod, stream: Stream) -> None:
        pod.finished += 1
        self.local.end(stream.request, answered=True)
        self._attainment.record(self._now, stream.ttft_seconds, stream.tpot_seconds)

    def _return(self, call: _CloudCall) -> None:
        request, provider = call.request, call.provider
        usd = provider.usd(request.prompt_tokens, request.output_tokens)
        self.cloud.end(request, answered=True, usd=usd)
        tpot = provider.tpot_seconds if request.output_tokens > 1 else None
        self._attainment.record(self._now, provider.ttft_seconds, tpot)

    def _bury(self) -> None:
        """Stop the engines of deleted pods when they are empty or their grace is over."""
        grace = self.settings.shutdown_grace_seconds
        for uid, pod in list(self.pods.items()):
            if pod.deleted_at is None:
                continue
            if pod.in_flight and self._now < pod.deleted_at + grace:
                continue
            lost = [stream for engine in pod.engines for stream in engine.drop()]
            for stream in lost:
                self.local.end(stream.request, answered=False)
                self._attainment.record(self._now, None, None)
            self.lost += len(lost)
            del self.pods[uid]
            self._note("pod_gone", pod, lost=len(lost))

    def _note(self, kind: str, pod: EmulatedPod | str | None, **more: Any) -> None:
        name = pod.view.name if isinstance(pod, EmulatedPod) else pod
        self._events.add(self._wall(self._now), kind, self.settings.key, name, **more)

    def state(self, wall_now: float) -> dict[str, Any]:
        """Everything a test may ask, for /state; times are wall-clock seconds since the epoch."""
        gauges = [engine.gauges() for pod in self.pods.values() for engine in pod.engines]
        return {
            "arrivals_total": self.local.requests + self.cloud.requests + self.refused,
            "arrivals_per_second": self._arrivals.per_second(self._now),
            "local_total": self.local.requests,
            "cloud_total": self.cloud.requests,
            "refused_total": self.refused,
            "lost_total": self.lost,
            "finished_local_total": self.local.finished,
            "finished_cloud_total": self.cloud.finished,
            "in_flight_local": self.local.in_flight,
            "in_flight_cloud": self.cloud.in_flight,
            "running": sum(gauge.running for gauge in gauges),
            "waiting": sum(gauge.waiting for gauge in gauges),
            "cost_usd_total": self.cloud.usd,
            "prompt_tokens_total": self.local.prompt_tokens + self.cloud.prompt_tokens,
            "completion_tokens_total": self.local.completion_tokens + self.cloud.completion_tokens,
            "attainment": self._attainment.summary(self._now),
            "overflow": self.router.describe(wall_now),
            "pods": {pod.view.name: self._pod_state(pod) for pod in self.pods.values()},
        }

    def _pod_state(self, pod: EmulatedPod) -> dict[str, Any]:
        gauges = [engine.gauges() for engine in pod.engines]
        return {
            "serving": pod.serving,
            "labels": dict(pod.view.labels),
            "running": sum(gauge.running for gauge in gauges),
            "waiting": sum(gauge.waiting for gauge in gauges),
            "kv_usage": max(gauge.kv_usage for gauge in gauges),
            "finished": pod.finished,
            "gpu_utilization": pod.gpu_utilization(0),
            "serving_since": self._wall_or_none(pod.serving_since),
            "first_request_at": self._wall_or_none(pod.first_request_at),
            "fault": pod.fault.model_dump(exclude_defaults=True),
        }

    def _wall_or_none(self, simulated: float | None) -> float | None:
        return None if simulated is None else self._wall(simulated)
