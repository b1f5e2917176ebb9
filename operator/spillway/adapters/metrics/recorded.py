"""What Prometheus recorded about one pool over days, for a backtest.

The expressions are those that the operator reads at every tick (`queries.build_queries`), added up
over the pool's replicas, and asked as range queries in pieces: Prometheus answers at most 11,000
points a series.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from spillway.adapters.metrics.auth import FileAuth, PrometheusAuth
from spillway.adapters.metrics.queries import Signal, build_queries
from spillway.adapters.metrics.transport import AnswerError, BoundedSession

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Points of one range query; Prometheus refuses more than 11,000.
_POINTS: Final = 10_000
_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
_LEAST_WINDOW_SECONDS: Final = 60.0


class RecordError(Exception):
    """Prometheus could not be asked, or its answer can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Which series are the pool's.

    Attributes:
        model: ``model_name`` of the engines; None: any.
        namespace: Of engines and gateway; None: any.
        pool: ``pool`` of the gateway's counters; None: any.
        matchers: Labels that every series must have (a cluster label).
    """

    model: str | None = None
    namespace: str | None = None
    pool: str | None = None
    matchers: Mapping[str, str] = field(default_factory=dict)


def expressions(whose: Whose, step_seconds: float) -> dict[str, str]:
    """PromQL by what it says, all but ``replicas`` in units per second.

    Raises:
        ValueError: A matcher's name is no label, or the step is not above 0.
    """
    common = dict(whose.matchers)
    if whose.namespace is not None:
        common["namespace"] = whose.namespace
    engine = common | ({} if whose.model is None else {"model_name": whose.model})
    gateway = common | ({} if whose.pool is None else {"pool": whose.pool})
    window = max(_LEAST_WINDOW_SECONDS, step_seconds)

    engines, gateways = _promql(engine, window), _promql(gateway, window)
    pods = "namespace,pod,exported_namespace,exported_pod"
    return {
        "requests": f"sum({gateways[Signal.GATEWAY_RATE]})",
        "completions": f"sum({engines[Signal.FINISHED]})",
        "in_flight_change": f"sum({engines[Signal.IN_FLIGHT_CHANGE]})",
        "prompt_tokens": f"sum({engines[Signal.PROMPT_TOKENS]})",
        "output_tokens": f"sum({engines[Signal.GENERATION_TOKENS]})",
        "cached_tokens": f"sum({engines[Signal.PREFIX_HIT_TOKENS]})",
        "replicas": f"count(count by ({pods}) ({engines[Signal.RUNNING]}))",
    }


def _promql(matchers: Mapping[str, str], window_seconds: float) -> dict[Signal, str]:
    queries = build_queries(rate_window_seconds=window_seconds, matchers=matchers)
    return {query.signal: query.promql for query in queries}


class PrometheusRecord:
    """Asks for ranges; a context manager.

    Args:
        url: Base address of a Prometheus-compatible API.
        auth: Credentials, TLS and tenant headers.
        timeout_seconds: Longest time for one query.

    Raises:
        ValueError: The address is none.
    """

    def __init__(
        self, url: str, *, auth: PrometheusAuth | None = None, timeout_seconds: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            msg = f"prometheus url: {url!r} is not accepted; give http(s)://host[:port][/path]"
            raise ValueError(msg)
        auth = auth or PrometheusAuth()
        session = BoundedSession(seconds=timeout_seconds, max_bytes=_MAX_ANSWER_BYTES)
        session.verify = auth.verify
        session.cert = auth.certificate
        self._host = parts.hostname
        self._timeout_seconds = timeout_seconds
        self._connect = PrometheusConnect(
            url=url.rstrip("/"),
            headers=dict(auth.headers),
            auth=FileAuth(auth),
            session=session,
            retry=Retry(total=0, read=False, redirect=0),
        )

    def close(self) -> None:
        """Let go of connections."""
        self._connect.close()

    def ask(self, promql: str, start: float, end: float, step_seconds: float) -> dict[str, Any]:
        """One expression over a range, in the form of the HTTP API's answer.

        Args:
            promql: The expression.
            start: First moment, seconds since the epoch.
            end: Last moment.
            step_seconds: From one to the next.

        Raises:
            RecordError: No answer that can be used.
        """
        pieces: list[Any] = []
        begun = start
        while begun <= end:
            until = min(end, begun + (_POINTS - 1) * step_seconds)
            pieces += self._piece(promql, begun, until, step_seconds)
            begun = until + step_seconds
        return {"status": "success", "data": {"resultType": "matrix", "result": _joined(pieces)}}

    def _piece(self, promql: str, start: float, end: float, step_seconds: float) -> list[Any]:
        began = time.monotonic()
        try:
            rows = self._connect.custom_query_range(
                promql,
                start_time=datetime.fromtimestamp(start, UTC),
                end_time=datetime.fromtimestamp(end, UTC),
                step=f"{step_seconds:g}",
                timeout=self._timeout_seconds,
            )
        except requests.Timeout as error:
            seconds = time.monotonic() - began
            msg = f"Prometheus at {self._host} did not answer within {seconds:.0f} s"
            raise RecordError(msg) from error
        except requests.RequestException as error:
            msg = f"cannot reach Prometheus at {self._host}: {type(error).__name__}"
            raise RecordError(msg) from error
        except (AnswerError, PrometheusApiClientException, OSError, ValueError) as error:
            raise RecordError(" ".join(str(error).split())[:300]) from error
        if not isinstance(rows, list):
            msg = "the answer holds no list of series"
            raise RecordError(msg)
        return rows


def _joined(rows: list[Any]) -> list[Any]:
    """One row a series, its pieces one after the other; what is no series stays as it is."""
    series: dict[str, Any] = {}
    rest: list[Any] = []
    for row in rows:
        if not (isinstance(row, dict) and isinstance(row.get("values"), list)):
            rest.append(row)
            continue
        key = repr(sorted(row["metric"].items())) if isinstance(row.get("metric"), dict) else ""
        if key in series:
            series[key]["values"] += row["values"]
        else:
            series[key] = row
    return [*series.values(), *rest]
