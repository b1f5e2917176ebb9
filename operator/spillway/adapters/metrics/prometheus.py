"""Reads all pools' metrics from Prometheus, off the event loop and in bounded time."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from spillway.adapters.metrics.answers import Answer, read_answer
from spillway.adapters.metrics.auth import FileAuth, PrometheusAuth
from spillway.adapters.metrics.freshness import Freshness
from spillway.adapters.metrics.gateways import GatewayReader
from spillway.adapters.metrics.history import (
    HISTORY_SECONDS,
    STEP_SECONDS,
    ArrivalHistory,
    read_history,
)
from spillway.adapters.metrics.lengths import read_lengths
from spillway.adapters.metrics.opencost import node_gpu_prices
from spillway.adapters.metrics.queries import (
    LENGTH_SIGNALS,
    Query,
    Signal,
    build_history_query,
    build_queries,
)
from spillway.adapters.metrics.snapshot import EngineTables, MetricsSnapshot, QueryFailure
from spillway.adapters.metrics.transport import AnswerError, BoundedSession

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from spillway.adapters.metrics.answers import Key
    from spillway.core.facts import LengthQuantiles

#: Queries on their way at once: enough to hide latency, few enough not to load Prometheus.
_WORKERS = 6
#: Lengths change within minutes and are forty series of each replica: not asked for at each tick.
_LENGTHS_EVERY_SECONDS = 60.0
#: 10,000 pods are about 3 MB an answer.
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
#: Longest time for the history that is asked for once: the first pass waits for it.
HISTORY_TIMEOUT_SECONDS = 10.0


class PrometheusSource:
    """Takes snapshots of all replicas and gateways, with a fixed number of queries.

    Use as an asynchronous context manager, or `close` it.

    Args:
        url: Base address of a Prometheus-compatible API, for example ``http://prometheus:9090`` or
            ``https://mimir/prometheus``.
        auth: Credentials, TLS and tenant headers.
        matchers: Labels that every series must have (a cluster label).
        rate_window_seconds: Window of rates and means; at least two scrape intervals.
        max_age_seconds: Samples older than this are missing.
        query_timeout_seconds: Longest time for one query.
        timeout_seconds: Longest time for a snapshot; queries not done by then have failed.

    Raises:
        ValueError: An argument is not acceptable; the message names it.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: PrometheusAuth | None = None,
        matchers: Mapping[str, str] | None = None,
        rate_window_seconds: float = 60.0,
        max_age_seconds: float = 60.0,
        query_timeout_seconds: float = 5.0,
        timeout_seconds: float = 8.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            msg = f"prometheus url: {url!r} is not accepted; give http(s)://host[:port][/path]"
            raise ValueError(msg)
        for name, value in (
            ("query_timeout_seconds", query_timeout_seconds),
            ("timeout_seconds", timeout_seconds),
        ):
            if not 0 < value < 3600:
                msg = f"prometheus {name}: {value!r} is not accepted; give seconds above 0"
                raise ValueError(msg)
        auth = auth or PrometheusAuth()
        self._queries = build_queries(
            rate_window_seconds=rate_window_seconds,
            max_age_seconds=max_age_seconds,
            matchers=matchers,
        )
        self._max_age_seconds = max_age_seconds
        self._query_timeout_seconds = query_timeout_seconds
        self._timeout_seconds = timeout_seconds
        self._session = self._open_session(auth, query_timeout_seconds)
        self._connect = self._open(url.rstrip("/"), auth, self._session)
        self._history_query = build_history_query(step_seconds=STEP_SECONDS, matchers=matchers)
        patient = self._open_session(auth, HISTORY_TIMEOUT_SECONDS)
        self._history = self._open(url.rstrip("/"), auth, patient)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="prometheus")
        self._gateways = GatewayReader()
        self._lengths: Mapping[Key, LengthQuantiles] = {}
        self._lengths_at = -math.inf

    @staticmethod
    def _open_session(auth: PrometheusAuth, seconds: float) -> BoundedSession:
        session = BoundedSession(seconds=seconds, max_bytes=_MAX_ANSWER_BYTES)
        session.verify = auth.verify
        session.cert = auth.certificate
        return session

    @staticmethod
    def _open(url: str, auth: PrometheusAuth, session: BoundedSession) -> Any:
        return PrometheusConnect(
            url=url,
            headers=dict(auth.headers),
            auth=FileAuth(auth),
            session=session,
            # The next tick is the retry; retrying within a tick would outlast its deadline.
            retry=Retry(total=0, read=False, redirect=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def snapshot(self, now: float) -> MetricsSnapshot:
        """Asks for everything at once; all answers are of the same moment.

        Never raises for what Prometheus does: a query without a usable answer is in ``failures``
        and what it would have told is unknown.

        Args:
            now: The moment that is asked about, seconds since the epoch.
        """
        until = time.monotonic() + self._timeout_seconds
        # After the clock was set back none would be due for as long.
        due = not 0 <= now - self._lengths_at < _LENGTHS_EVERY_SECONDS
        queries = [q for q in self._queries if due or q.signal not in LENGTH_SIGNALS]
        tables = EngineTables()
        results = await asyncio.gather(*(self._answer(q, now, until, tables) for q in queries))
        answers = {
            query.signal: result
            for query, result in zip(queries, results, strict=True)
            if isinstance(result, Answer)
        }
        if due:
            self._keep_lengths(answers, now)
        # It is asked about a moment of this machine's clock. Where its own is ahead, that moment is
        # past, and what it answers is so much older than it looks.
        fresh = Freshness(now, self._max_age_seconds, max(0.0, self._session.ahead_seconds))
        engines = await asyncio.get_running_loop().run_in_executor(
            None, partial(tables.read, answers, fresh)
        )
        gateways, unusable_gateways = self._gateways.read(answers, fresh)
        return MetricsSnapshot(
            at=now,
            loads=engines.loads,
            model_names=engines.model_names,
            models_seen=engines.models_seen,
            gateways=gateways,
            lengths=self._lengths,
            node_gpu_usd=node_gpu_prices(answers.get(Signal.GPU_PRICE)),
            failures=tuple(r for r in results if isinstance(r, QueryFailure)),
            unusable=engines.unusable,
            unusable_gateways=unusable_gateways,
            queries=self.queries,
        )

    def _keep_lengths(self, answers: Mapping[Signal, Answer], now: float) -> None:
        """Take over new lengths. Where a query failed the old ones stand, and it waits its turn."""
        if not answers.keys() >= LENGTH_SIGNALS:
            self._lengths_at = now
            return
        self._lengths = read_lengths(answers[Signal.PROMPT_LENGTHS], answers[Signal.OUTPUT_LENGTHS])
        if self._lengths:
            self._lengths_at = now

    async def history(self, now: float) -> ArrivalHistory:
        """Past arrivals of all pools, by one range query.

        Never raises for what Prometheus does: an answer that can't be used is an empty history
        that says why.

        Args:
            now: End of the history, seconds since the epoch.
        """
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(
                loop.run_in_executor(self._pool, self._ask_history, now), HISTORY_TIMEOUT_SECONDS
            )
        except Exception as error:  # noqa: BLE001 - whatever went wrong, there is no history
            return ArrivalHistory(failure=self._describe(error))

    def _ask_history(self, now: float) -> ArrivalHistory:
        rows = self._history.custom_query_range(
            self._history_query,
            start_time=datetime.fromtimestamp(now - HISTORY_SECONDS, UTC),
            end_time=datetime.fromtimestamp(now, UTC),
            step=f"{STEP_SECONDS:g}",
            params={"timeout": f"{HISTORY_TIMEOUT_SECONDS:g}s"},
            timeout=HISTORY_TIMEOUT_SECONDS,
        )
        return read_history(rows)

    @property
    def queries(self) -> dict[Signal, str]:
        """The PromQL of each signal, for messages and documentation."""
        return {query.signal: query.promql for query in self._queries}

    async def close(self) -> None:
        """Lets go of connections and threads; queries on their way end by their deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._connect.close()
        self._history.close()

    async def _answer(
        self, query: Query, now: float, until: float, tables: EngineTables
    ) -> Answer | QueryFailure:
        """One query's answer, by the deadline of the snapshot."""
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(
                loop.run_in_executor(self._pool, self._ask, query, now, until, tables),
                timeout=max(0.0, until - time.monotonic()),
            )
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the data are missing
            return QueryFailure(query.signal, query.promql, self._describe(error))

    def _ask(self, query: Query, now: float, until: float, tables: EngineTables) -> Answer:
        """Runs in a thread; ends by itself, so that a slow Prometheus does not fill the pool."""
        left = min(self._query_timeout_seconds, until - time.monotonic())
        if left <= 0:
            raise TimeoutError
        rows = self._connect.custom_query(
            query.promql,
            # The server gives up with us.
            params={"time": f"{now:.3f}", "timeout": f"{max(1, round(left * 1000))}ms"},
            timeout=left,
        )
        return tables.take(query.signal, read_answer(rows, query))

    def _describe(self, error: BaseException) -> str:
        """One line for a person, without credentials or whole pages."""
        match error:
            case TimeoutError() | requests.Timeout():
                return "Prometheus did not answer in time"
            case requests.ConnectionError():
                host = urlsplit(self._connect.url).hostname
                return f"cannot reach Prometheus at {host}: {_cause(error)}"
            case AnswerError() | PrometheusApiClientException():
                return " ".join(str(error).split())[:300]
            case _:
                return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _cause(error: BaseException) -> str:
    """The system's own words at the end of a chain of wrapped errors."""
    seen: set[int] = set()
    inner = error
    while (below := inner.__cause__ or inner.__context__) is not None and id(below) not in seen:
        seen.add(id(below))
        inner = below
    return str(inner)[:200] or type(inner).__name__
