"""One size: an operator is started beside the fleet, looked at, put under stress, and stopped."""

from __future__ import annotations

import math
import os
import random
import time
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import requests

from bench.scale.figures import Figures
from tests.e2e.rig.fleet import looking
from tests.e2e.rig.fleet.load import BUSY, BUSY_EVERY, SHORT, usual_rate
from tests.e2e.rig.fleet.pools import name_of
from tests.e2e.rig.kubeapi import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.scale.scalerig import ScaleRig
    from tests.e2e.rig.fleet.pools import Fleet
    from tests.e2e.rig.operator_process import OperatorProcess

CHURN_PODS_A_MINUTE: Final = 100.0
#: A cold operator's first passes are no steady state: rates span a minute, forecasts begin.
_SETTLE_SECONDS: Final = 45.0
_TICK_SECONDS: Final = 15.0
_FIRST_TICK_WITHIN: Final = 300.0
_OVERFLOW_WITHIN: Final = 90.0
_POLL_SECONDS: Final = 0.02
_LOOK_SECONDS_A_POOL: Final = 0.005
#: Pools that are put into a shortage one after the other.
_SHORT_POOLS: Final = 5
#: The operator's niceness; everything else has 0.
_BEFORE_OTHERS: Final = -10
#: Cores below which a program is not named.
_WORTH_A_WORD: Final = 0.01
#: Of `Figures`: what a change of every spec tells, and what shortages tell.
_CHANGE: Final = ("change_writes_per_second", "change_peak_per_second", "change_seconds")
_OVERFLOW: Final = (
    "overflow_p50_seconds", "overflow_max_seconds", "overflow_cold_seconds",
    "sample_to_value_seconds",
)  # fmt: skip
_TICK_COUNT: Final = 'spillway_tick_seconds_count{loop="slow"}'


class Size:
    """Measures one size.

    Args:
        rig: Everything but the operator.
        fleet: As it is.
        steady_seconds: How long steady state is looked at.
        tell: Progress, for a person.
    """

    def __init__(
        self, rig: ScaleRig, fleet: Fleet, steady_seconds: float, tell: Callable[[str], None]
    ) -> None:
        self._rig, self._fleet = rig, fleet
        self._steady_seconds = steady_seconds
        self._tell = tell
        self._name = f"scale{fleet.pools}"

    def measure(self) -> Figures:
        """All figures; takes some minutes.

        Raises:
            TimeoutError: The operator did not do what is measured.
        """
        began = time.monotonic()
        operator = self._rig.start_shipped(self._name)
        went_first = _go_first(operator.pid)
        cold = self._first_tick(operator, began)
        cold_page = looking.operator_page(operator.url)
        self._await_statuses()
        statuses = time.monotonic() - began - cold
        self._tell(f"first pass after {cold:.1f} s, every status {statuses:.0f} s later")
        time.sleep(_SETTLE_SECONDS)
        steady = self._steady(operator)
        change = self._or_unknown("a change of every spec", self._change, _CHANGE)
        overflow = self._or_unknown("shortages", partial(self._overflow, operator), _OVERFLOW)
        page = looking.operator_page(operator.url)
        errors = sum(
            page.total(name)
            for name in ("spillway_pool_errors_total", "spillway_prometheus_query_failures_total")
        )
        leaderships = len(operator.log_lines(event="leadership changed", leads=True))
        self._rig.stop_operators()
        lag = cold_page.buckets("spillway_event_loop_lag_seconds")
        return Figures(
            pools=self._fleet.pools,
            pods=self._fleet.pools * self._fleet.pods,
            cold_start_seconds=cold,
            cold_status_seconds=statuses,
            cold_lag_p99_seconds=looking.quantile({}, lag, 0.99),
            leaderships=leaderships,
            errors=round(errors),
            went_first=went_first,
            **steady,
            **change,
            **overflow,
        )

    def _or_unknown(
        self, what: str, measure: Callable[[], dict[str, Any]], names: tuple[str, ...]
    ) -> dict[str, Any]:
        """What is measured; unknown where a server fails under it, so that the rest is not lost."""
        try:
            return measure()
        except (ApiError, TimeoutError, requests.RequestException) as error:
            self._tell(f"{what} could not be measured: {error}")
            return dict.fromkeys(names, math.nan)

    def _first_tick(self, operator: OperatorProcess, began: float) -> float:
        """Seconds until the first pass over all pools had ended."""
        while time.monotonic() - began < _FIRST_TICK_WITHIN:
            try:
                if looking.operator_page(operator.url).value(_TICK_COUNT) >= 1:
                    return time.monotonic() - began
            except requests.RequestException:
                if not operator.alive:
                    break
            time.sleep(0.1)
        msg = (
            f"no pass within {_FIRST_TICK_WITHIN:g} s; the operator's log ends:\n{operator.tail()}"
        )
        raise TimeoutError(msg)

    def _await_statuses(self) -> None:
        """Wait until every pool's status is of its spec, with room for the write limit."""
        deadline = time.monotonic() + 60 + self._fleet.pools / 5
        while (behind := self._behind()) != 0:
            waits = "an unknown number" if behind is None else str(behind)
            self._tell(f"{waits} of {self._fleet.pools} pools wait for their status")
            if time.monotonic() > deadline:
                msg = f"{waits} pools never got the status of their spec"
                raise TimeoutError(msg)
            # A look lists every pool: often enough, and no load of its own.
            time.sleep(max(1.0, self._fleet.pools * _LOOK_SECONDS_A_POOL))

    def _behind(self) -> int | None:
        """Pools without the status of their spec; None where the API server could not say."""
        try:
            return self._fleet.behind()
        except ApiError:
            return None

    def _steady(self, operator: OperatorProcess) -> dict[str, Any]:
        """Steady state while pods are replaced."""
        before, cpu = looking.operator_page(operator.url), looking.process(operator.pid)
        fleet = self._rig.exporter.pid
        named = {operator.pid: "operator", fleet: "fleet", os.getpid(): "benchmark"}
        taken = looking.cpu_by_program(named)
        queries = looking.queries_answered(self._rig.prometheus.url)
        since, monotonic = time.time(), time.monotonic()
        chance = random.Random(self._fleet.pools)  # noqa: S311 - repeatable
        self._tell(f"steady state for {self._steady_seconds:g} s")
        churned = self._fleet.churn(CHURN_PODS_A_MINUTE, self._steady_seconds, chance)
        seconds, until = time.monotonic() - monotonic, time.time()
        then, spent = looking.process(operator.pid), looking.cpu_by_program(named)
        after = looking.operator_page(operator.url)
        answered = looking.queries_answered(self._rig.prometheus.url) - queries
        ticks = looking.tick_seconds(
            self._rig.prometheus, operator.url.removeprefix("http://"), since, until
        )
        passes = after.value(_TICK_COUNT) - before.value(_TICK_COUNT)
        self._tell(f"a pass in steady state: {_parts(before, after)}")
        self._tell(f"the API server's answers: {_answers(before, after)}")
        writes = looking.write_rate(self._rig.cluster, f"spillway-{self._name}", since, until)
        self._tell(f"writes in steady state: {writes.by_resource}")
        lag = [p.buckets("spillway_event_loop_lag_seconds") for p in (before, after)]
        decided = [p.buckets("spillway_decision_seconds") for p in (before, after)]
        return {
            "ticks": round(passes),
            "tick_p50_seconds": looking.at_rank(ticks, 0.5),
            "tick_p99_seconds": looking.at_rank(ticks, 0.99),
            "decision_mean_seconds": _mean("spillway_decision_seconds", before, after),
            "decision_p99_seconds": looking.quantile(decided[0], decided[1], 0.99),
            "queries_a_tick": answered / max(1.0, passes),
            "lag_p99_seconds": looking.quantile(lag[0], lag[1], 0.99),
            "lag_max_seconds": _bound(*lag),
            "cpu_share": (then.cpu_seconds - cpu.cpu_seconds) / seconds,
            "churned": churned,
            "rss_mb": then.rss_mb,
            "peak_mb": then.peak_mb,
            "writes_per_second": writes.mean,
            "writes_peak_per_second": writes.peak,
            "cores": _cores(taken, spent, seconds),
        }

    def _change(self) -> dict[str, Any]:
        """Every pool's spec edited at once."""
        since, began = time.time(), time.monotonic()
        self._fleet.change_all(f"{random.SystemRandom().randrange(1500, 1999)}ms")
        self._await_statuses()
        seconds, until = time.monotonic() - began, time.time()
        writes = looking.write_rate(self._rig.cluster, f"spillway-{self._name}", since, until)
        self._tell(f"writes after a change of every spec: {writes.by_resource}")
        return {
            "change_writes_per_second": writes.mean,
            "change_peak_per_second": writes.peak,
            "change_seconds": seconds,
        }

    def _overflow(self, operator: OperatorProcess) -> dict[str, Any]:
        """Shortages of single pools: of busy ones, and of usual ones."""
        chance = random.Random(1)  # noqa: S311 - repeatable
        before = looking.operator_page(operator.url)
        pools = range(self._fleet.pools)
        busy = [p for p in pools if p % BUSY_EVERY == BUSY_EVERY - 1][-_SHORT_POOLS:]
        usual = [p for p in pools if p not in busy]
        if not busy:
            # Too few pools for one: one of them is made busy, and is known to be after two passes.
            busy = [usual.pop()]
            self._set(busy[0], BUSY)
            time.sleep(3 * _TICK_SECONDS)
        chosen = chance.sample(usual, min(2, len(usual)))
        delays = [self._shortage(operator, pool) for pool in busy]
        after = looking.operator_page(operator.url)
        cold = [self._shortage(operator, pool) for pool in chosen]
        told = [p.buckets("spillway_overflow_delay_seconds") for p in (before, after)]
        return {
            "overflow_p50_seconds": looking.at_rank(delays, 0.5),
            "overflow_max_seconds": max(delays),
            "overflow_cold_seconds": max(cold, default=math.nan),
            "sample_to_value_seconds": _bound(*told),
        }

    def _shortage(self, operator: OperatorProcess, pool: int) -> float:
        """Seconds from a shortage on the pods' pages to the value that gateways get."""
        url = f"{operator.url}/v1/overflow/{self._fleet.namespace_of(pool)}/{name_of(pool)}"
        deadline = time.monotonic() + _OVERFLOW_WITHIN
        while _fraction(url) > 0 and time.monotonic() < deadline:
            # One that bursts already would answer at once.
            time.sleep(0.5)
        began = self._set(pool, SHORT)
        try:
            while time.time() - began < _OVERFLOW_WITHIN:
                if _fraction(url) > 0:
                    delay = time.time() - began
                    self._tell(f"{name_of(pool)}: its overflow was set after {delay:.2f} s")
                    return delay
                time.sleep(_POLL_SECONDS)
        finally:
            self._set(pool, usual_rate(pool))
        return math.inf

    def _set(self, pool: int, rate: float) -> float:
        return self._rig.exporter.set_rate(self._fleet.namespace_of(pool), name_of(pool), rate)


def _fraction(url: str) -> float:
    """The share that gateways are told to send away; 0 without a value."""
    answer = requests.get(url, timeout=10)
    return float(answer.json()["fraction"]) if answer.status_code == 200 else 0.0


def _go_first(pid: int) -> bool:
    """Let a process go before others for its turn on a core; False where that is not allowed.

    In a cluster the operator has a core, and control plane and Prometheus have theirs. Here all are
    on one machine, and what is measured would else be how long the operator waits for them.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, _BEFORE_OTHERS)
    except PermissionError:
        return False
    return True


def _cores(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, float]:
    """Mean cores that each program took in a time, those above a hundredth, most first."""
    shares = {name: (cpu - before.get(name, 0.0)) / seconds for name, cpu in after.items()}
    large = {name: round(share, 3) for name, share in shares.items() if share >= _WORTH_A_WORD}
    return dict(sorted(large.items(), key=itemgetter(1), reverse=True))


def _parts(before: looking.Page, after: looking.Page) -> str:
    """Where a pass has spent its time between two looks: the mean of each of its parts."""
    parts = ("supply", "prometheus", "pages", "pass", "shares", "sweep")
    means = {
        part: _mean("spillway_slow_part_seconds", before, after, f'{{part="{part}"}}')
        for part in parts
    }
    return ", ".join(f"{part} {mean:.2f} s" for part, mean in means.items())


def _answers(before: looking.Page, after: looking.Page) -> str:
    """How long the API server took to answer between two looks: the mean of each method."""
    means = {
        method: _mean("spillway_api_request_seconds", before, after, f'{{method="{method}"}}')
        for method in ("GET", "PATCH", "POST")
    }
    return ", ".join(f"{method} {mean:.3f} s" for method, mean in means.items())


def _mean(name: str, before: looking.Page, after: looking.Page, labels: str = "") -> float:
    count, seconds = (
        after.value(f"{name}_{kind}{labels}") - before.value(f"{name}_{kind}{labels}")
        for kind in ("count", "sum")
    )
    return seconds / count if count else math.nan


def _bound(before: dict[float, float], after: dict[float, float]) -> float:
    """The lowest bound of a histogram below which all was that came in between two looks."""
    bounds = sorted(after)
    counts = [after[bound] - before.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return math.nan
    return next(b for b, count in zip(bounds, counts, strict=True) if count >= counts[-1])
