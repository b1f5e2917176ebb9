"""What is read off the running operator: its /metrics, its process, and the API server's log."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from tests.e2e.rig.audit import READS, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.e2e.rig.cluster import Cluster
    from tests.e2e.rig.prometheus import Prometheus

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Page:
    """A metrics page, read line by line: only what begins with one of some names is kept.

    Args:
        text: In Prometheus' text format, without spaces in labels.
        names: Beginnings of the lines that matter.
    """

    def __init__(self, text: str, names: Iterable[str]) -> None:
        wanted = tuple(names)
        self.values = {
            series: float(value)
            for line in text.splitlines()
            if line.startswith(wanted)
            for series, _, value in [line.rpartition(" ")]
        }

    def value(self, series: str) -> float:
        """A series as it is written on the page; 0 where it is not there."""
        return self.values.get(series, 0.0)

    def total(self, name: str, having: str = "") -> float:
        """Sum of a family's series that have a text in their labels."""
        return sum(
            value
            for series, value in self.values.items()
            if series.partition("{")[0] == name and having in series
        )

    def buckets(self, name: str) -> dict[float, float]:
        """Cumulative counts by upper bound."""
        found: dict[float, float] = {}
        for series, value in self.values.items():
            if series.startswith(f"{name}_bucket{{"):
                bound = float(series.partition('le="')[2].partition('"')[0])
                found[bound] = found.get(bound, 0.0) + value
        return found


#: Everything that is read from the operator.
OPERATOR_NAMES = (
    "spillway_tick_seconds",
    "spillway_slow_part_seconds",
    "spillway_api_request_seconds",
    "spillway_event_loop_lag_seconds",
    "spillway_decision_seconds",
    "spillway_api_writes_total",
    "spillway_overflow_delay_seconds",
    "spillway_scrapes_skipped_total",
    "spillway_prometheus_query_failures_total",
    "spillway_pool_errors_total",
)


def operator_page(url: str) -> Page:
    """The operator's page as it is now."""
    return Page(requests.get(f"{url}/metrics", timeout=60).text, OPERATOR_NAMES)


def queries_answered(prometheus_url: str) -> float:
    """Instant queries that Prometheus has answered, by its own count."""
    name = "prometheus_http_requests_total"
    page = Page(requests.get(f"{prometheus_url}/metrics", timeout=60).text, [name])
    return page.total(name, 'handler="/api/v1/query"')


def quantile(before: Mapping[float, float], after: Mapping[float, float], q: float) -> float:
    """A quantile of what a histogram took in between two looks, as Prometheus interpolates it.

    Beyond the last finite bound that bound is all that is known; NaN where nothing came.
    """
    bounds = sorted(after)
    counts = [after[bound] - before.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return math.nan
    rank = q * counts[-1]
    below, low = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / max(count - below, 1e-12)
        below, low = count, bound
    return low


def at_rank(values: Sequence[float], q: float) -> float:
    """The value at a quantile of a few values: the next one above; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan


def tick_seconds(prometheus: Prometheus, instance: str, since: float, until: float) -> list[float]:
    """How long each pass of the slow loop took, from what Prometheus has scraped.

    Where two passes lie between two scrapes, their mean counts twice.
    """
    window = f"[{max(1, round(until - since))}s]"

    def samples(part: str) -> list[tuple[float, float]]:
        labels = f'{{loop="slow",instance="{instance}"}}'
        found = prometheus.query(f"spillway_tick_seconds_{part}{labels}{window}", at=until)
        return [(float(at), float(value)) for at, value in found[0]["values"]] if found else []

    found: list[float] = []
    pairs = list(zip(samples("count"), samples("sum"), strict=False))
    for ((_, n0), (_, s0)), ((_, n1), (_, s1)) in itertools.pairwise(pairs):
        if n1 > n0:
            found += [(s1 - s0) / (n1 - n0)] * round(n1 - n0)
    return found


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """A process at one moment.

    Attributes:
        cpu_seconds: User and system time so far.
        rss_mb: Resident memory.
        peak_mb: The most it ever was.
    """

    cpu_seconds: float
    rss_mb: float
    peak_mb: float


def process(pid: int | str) -> ProcessLook:
    """What the kernel says of a process; ``self`` is this one."""
    folder = Path(f"/proc/{pid}")
    times = (folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    status = dict(
        line.split(":", 1)
        for line in (folder / "status").read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    return ProcessLook(
        cpu_seconds=(int(times[11]) + int(times[12])) / _TICKS_A_SECOND,
        rss_mb=int(status["VmRSS"].split()[0]) / 1000,
        peak_mb=int(status["VmHWM"].split()[0]) / 1000,
    )


def cpu_by_program(named: Mapping[int, str]) -> dict[str, float]:
    """CPU seconds that all programs of this machine have taken so far; the kernel's are left out.

    Args:
        named: What processes are called here that share a program (Python's), by their number.
    """
    taken: dict[str, float] = defaultdict(float)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # It may end meanwhile. Threads of the kernel have no command line.
            if not (folder / "cmdline").read_bytes():
                continue
            # The program's name stands in brackets and may hold any.
            head, _, rest = (folder / "stat").read_text("utf-8", "replace").rpartition(")")
            program = named.get(int(folder.name), head.partition("(")[2])
            user, system = rest.split()[11:13]
            taken[program] += (int(user) + int(system)) / _TICKS_A_SECOND
    return dict(taken)


@dataclass(frozen=True, slots=True)
class WriteRate:
    """Writes of the operator in a time: all that the API server has logged, leases and events too.

    Attributes:
        mean: A second, over all of it.
        peak: A second, over the ten seconds with the most.
        by_resource: How many, most first.
    """

    mean: float
    peak: float
    by_resource: dict[str, int]


def write_rate(cluster: Cluster, account: str, since: float, until: float) -> WriteRate:
    """How much an account has written."""
    every = (Write.of(e) for e in cluster.audit_events(account) if e["verb"] not in READS)
    found = [w for w in every if w.account == account and since < w.at <= until]
    slots = Counter(int((w.at - since) // 10.0) for w in found)
    return WriteRate(
        mean=len(found) / (until - since),
        peak=max(slots.values(), default=0) / 10.0,
        by_resource=dict(Counter(w.resource for w in found).most_common()),
    )
