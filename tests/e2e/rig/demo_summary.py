"""What the demo came to: requests, promises kept, money, and how fast Spillway was."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.table import Table

from spillway.api.reasons import Reason
from spillway.sim.report.page import Tile
from tests.e2e.rig.recording import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.e2e.rig.demo_scenario import Scenario
    from tests.e2e.rig.demo_watch import Watch
    from tests.e2e.rig.recording import Recording, Step


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of the recorded time.

    Attributes:
        arrived: Sent by clients.
        answered: Of these, answered whole.
        own_gpus: Answered by the pool's GPUs, by their own count.
        paid_api: Answered by the API, by its own count.
        paid_share: The API's share of both; None where nobody answered.
        lost: Ended without an answer.
        peak_per_second: Most arrivals per second, mean of five seconds.
        peak_queue: Most requests that waited on the replicas at once.
    """

    arrived: int
    answered: int
    own_gpus: int
    paid_api: int
    paid_share: float | None
    lost: int
    peak_per_second: float
    peak_queue: int


@dataclass(frozen=True, slots=True)
class Attainment:
    """Shares of the requests that met the latency targets; None before the first answer."""

    ttft: float | None
    tpot: float | None
    both: float | None


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars for the recorded time.

    Attributes:
        total: ``gpus + api``.
        gpus: For every GPU held, warm and starting replicas included.
        api: What the paid API charged.
        all_gpus: What enough GPUs for the peak would have cost, held all the time.
        all_gpus_replicas: How many those are, at Spillway's last estimate of a replica's capacity.
        all_api: What the API would have charged for every request.
    """

    total: float
    gpus: float
    api: float
    all_gpus: float | None
    all_gpus_replicas: int | None
    all_api: float


@dataclass(frozen=True, slots=True)
class Promotion:
    """A warm replica that was put into service.

    Attributes:
        pod: Its name.
        serving_seconds: From the decision until the Service sent to it.
        first_request_seconds: From the decision until its first request; None if it got none.
    """

    pod: str
    serving_seconds: float
    first_request_seconds: float | None


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """Requests of the recorded time by who answered them, by the servers' own counts.

    Attributes:
        replicas: By pod.
        providers: By name.
    """

    replicas: dict[str, int]
    providers: dict[str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo in figures.

    Attributes:
        minutes: Length of the recording.
        interrupted: It was ended before its time.
        scale_ups: Decisions to ask for more serving replicas.
        scale_downs: Decisions to ask for fewer.
        peak_serving: Most replicas that served at once.
        overflow_seconds: How long anything left.
        overflow_delay_seconds: Mean time from the sample that showed a shortage to the overflow
            value that answered it, by the operator's own clock; None where there was none.
    """

    minutes: float
    interrupted: bool
    requests: Requests
    answered_by: AnsweredBy
    attainment: Attainment
    usd: Money
    scale_ups: int
    scale_downs: int
    peak_serving: int
    promotions: tuple[Promotion, ...]
    overflow_seconds: float
    overflow_delay_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def summarize(watch: Watch, scenario: Scenario, *, interrupted: bool) -> Summary:
    """The summary of what was watched so far."""
    recording = watch.recording
    asked = [step.desired or 0 for step in recording.decisions()]
    changes = [b - a for a, b in pairwise([recording.moments[0].desired, *asked])]
    answered_by = AnsweredBy(watch.answered_by("replica"), watch.answered_by("provider"))
    return Summary(
        minutes=recording.seconds() / 60,
        interrupted=interrupted,
        requests=_requests(watch, answered_by),
        answered_by=answered_by,
        attainment=_attainment(watch.first, watch.last),
        usd=_money(watch, scenario),
        scale_ups=sum(change > 0 for change in changes),
        scale_downs=sum(change < 0 for change in changes),
        peak_serving=int(recording.peak("serving")),
        promotions=tuple(promotions(recording.steps, watch.events, watch.began)),
        overflow_seconds=_overflow_seconds(recording),
        overflow_delay_seconds=watch.overflow_delay_seconds,
    )


def _requests(watch: Watch, answered_by: AnsweredBy) -> Requests:
    own, paid = sum(answered_by.replicas.values()), sum(answered_by.providers.values())
    # What was under way at the begin is answered first, and did not arrive in the recorded time.
    answered = watch.more("answered_total") - watch.first["in_flight"]
    return Requests(
        arrived=int(watch.more("arrivals_total")),
        answered=max(0, int(answered)),
        own_gpus=own,
        paid_api=paid,
        paid_share=paid / (own + paid) if own + paid else None,
        lost=int(watch.more("lost_total")),
        peak_per_second=watch.recording.peak("arrivals_per_second"),
        peak_queue=int(watch.recording.peak("queue")),
    )


def _attainment(first: Mapping[str, Any], last: Mapping[str, Any]) -> Attainment:
    """Over the recorded time alone: clients count from when they began."""

    def met(state: Mapping[str, Any], name: str) -> float:
        overall = state["attainment"]["overall"]
        return float(overall[name] or 0.0) * float(overall["requests"])

    ended = last["attainment"]["overall"]["requests"] - first["attainment"]["overall"]["requests"]
    ttft, tpot, both = (
        (met(last, name) - met(first, name)) / ended if ended else None
        for name in ("ttft", "tpot", "both")
    )
    return Attainment(ttft, tpot, both)


def _money(watch: Watch, scenario: Scenario) -> Money:
    recording = watch.recording
    gpus, api = recording.integral("gpu_per_hour") / 3600, watch.more("cost_usd_total")
    prompt, output = scenario.usd_per_million
    all_api = (
        watch.more("prompt_tokens_total") * prompt + watch.more("completion_tokens_total") * output
    ) / 1e6
    replicas = None
    if watch.capacity_per_replica:
        replicas = math.ceil(recording.peak("arrivals_per_second") / watch.capacity_per_replica)
    held = scenario.usd_per_replica_hour * recording.seconds() / 3600
    return Money(
        total=gpus + api,
        gpus=gpus,
        api=api,
        all_gpus=None if replicas is None else replicas * held,
        all_gpus_replicas=replicas,
        all_api=all_api,
    )


def promotions(
    steps: Iterable[Step], events: Sequence[Mapping[str, Any]], began: float
) -> Iterable[Promotion]:
    """Promotions of replicas that were warm, with the times at which the emulator saw them serve.

    Args:
        steps: What the operator did.
        events: What the emulator saw, with wall-clock times.
        began: When the recording began, which is 0 in ``steps``.
    """
    steps = list(steps)
    decided = {step.decision: step.at for step in steps if step.kind is StepKind.DECISION}
    for step in steps:
        if step.kind is not StepKind.ROLE or Reason.PROMOTED not in step.reasons:
            continue
        at = decided.get(step.decision, step.at) + began
        seen = [event for event in events if event["pod"] == step.pod]
        warm = any(e["kind"] == "pod_ready" and e["time"] <= at for e in seen)
        serving = _first_after(seen, "pod_serving", at)
        if warm and serving is not None:
            first = _first_after(seen, "pod_first_request", at)
            yield Promotion(step.pod, serving - at, None if first is None else first - at)


def _first_after(events: Iterable[Mapping[str, Any]], kind: str, at: float) -> float | None:
    times = (float(e["time"]) for e in events if e["kind"] == kind and e["time"] >= at)
    return min(times, default=None)


def _overflow_seconds(recording: Recording) -> float:
    return sum(b.at - a.at for a, b in pairwise(recording.moments) if a.overflow > 0)


def percent(share: float | None, digits: int = 1) -> str:
    """A share for a person."""
    return "no answer yet" if share is None else f"{share:.{digits}%}"


def lines(summary: Summary, scenario: Scenario) -> list[tuple[str, str]]:
    """The summary as pairs of what and how much, for a person."""
    requests, usd, met = summary.requests, summary.usd, summary.attainment
    whole = requests.own_gpus + requests.paid_api
    targets = scenario.targets
    found = [
        ("requests answered", f"{requests.answered:,} of {requests.arrived:,}"),
        ("requests lost", f"{requests.lost:,}"),
        ("answered by the replicas", f"{requests.own_gpus:,}"),
        *(
            (
                f"answered by {name}, paid",
                f"{count:,} ({percent(count / whole if whole else None)})",
            )
            for name, count in summary.answered_by.providers.items()
        ),
        (f"first token within {targets['ttft_seconds']:g} s", percent(met.ttft)),
        (f"time per token within {targets['tpot_seconds'] * 1000:g} ms", percent(met.tpot)),
        ("highest load", f"{requests.peak_per_second:.0f} req/s"),
        ("longest queue", f"{requests.peak_queue:,} requests"),
        ("most replicas serving", f"{summary.peak_serving}"),
        ("scale-ups, scale-downs", f"{summary.scale_ups}, {summary.scale_downs}"),
        ("warm promotions", _promotions_text(summary.promotions)),
    ]
    if summary.overflow_delay_seconds is not None:
        delay = f"{summary.overflow_delay_seconds * 1000:.0f} ms after the sample that showed it"
        found.append(("shortage answered", delay))
    found.append(("spent", f"${usd.total:.2f} (GPUs ${usd.gpus:.2f}, API ${usd.api:.2f})"))
    if usd.all_gpus is not None:
        replicas = f"{usd.all_gpus_replicas} replicas for the peak"
        found.append((f"instead of {replicas}, held throughout", f"${usd.all_gpus:.2f}"))
    found.append(("instead of everything at the API", f"${usd.all_api:.2f}"))
    return found


def who_answered(summary: Summary) -> list[tuple[str, str]]:
    """Pairs of server and requests that it answered, for the page."""
    servers = [
        *((f"replica {name}", count) for name, count in summary.answered_by.replicas.items()),
        *((f"provider {name}", count) for name, count in summary.answered_by.providers.items()),
    ]
    return [(name, f"{count:,}") for name, count in servers]


def peak_fleet(summary: Summary, scenario: Scenario) -> tuple[str, float] | None:
    """Label and US dollars an hour of the fleet that would have served the peak."""
    replicas = summary.usd.all_gpus_replicas
    if replicas is None:
        return None
    return f"{replicas} replicas for the peak", replicas * scenario.usd_per_replica_hour


def tiles(summary: Summary, scenario: Scenario) -> list[Tile]:
    """The figures that are shown large on the page."""
    requests, usd, targets = summary.requests, summary.usd, scenario.targets
    ttft, tpot = targets["ttft_seconds"], targets["tpot_seconds"] * 1000
    slowest = max((p.serving_seconds for p in summary.promotions), default=None)
    delay = summary.overflow_delay_seconds
    spent = f"spent: GPUs ${usd.gpus:.2f}, API ${usd.api:.2f}"
    fleet = (
        f"for {usd.all_gpus_replicas} replicas held for the peak; ${usd.all_api:.2f} all at the API"
    )
    return [
        Tile(f"{requests.answered:,}", f"requests answered, {requests.lost:,} lost", "good"),
        Tile(
            percent(summary.attainment.both),
            f"had their first token in {ttft:g} s and each further one in {tpot:g} ms",
            "good",
        ),
        Tile(f"${usd.total:.2f}", spent, "own"),
        Tile("?" if usd.all_gpus is None else f"${usd.all_gpus:.2f}", fleet),
        Tile(percent(requests.paid_share), "of the requests went to the paid API", "api"),
        Tile(
            "none" if delay is None else f"{delay * 1000:.0f} ms",
            "from the sample that showed a shortage to the overflow that answered it",
            "api",
        ),
        Tile(
            "none" if slowest is None else f"{slowest:.1f} s",
            f"from decision to service, slowest of {len(summary.promotions)} warm promotions",
            "own",
        ),
        Tile(f"{requests.peak_queue:,}", "requests waited on the replicas at most"),
    ]


def _promotions_text(found: Sequence[Promotion]) -> str:
    if not found:
        return "none"
    times = ", ".join(f"{promotion.serving_seconds:.1f} s" for promotion in found)
    return f"{len(found)}, serving {times} after the decision"


def table(summary: Summary, scenario: Scenario) -> Table:
    """The summary for a terminal."""
    title = f"{summary.minutes:.1f} minutes"
    if summary.interrupted:
        title += ", interrupted"
    found = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    found.add_column(style="dim")
    found.add_column(justify="right")
    for what, how_much in lines(summary, scenario):
        found.add_row(what, how_much)
    return found
