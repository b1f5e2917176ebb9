"""Reads engines' pages directly: for the fast loop, for warm and draining pods, without Prometheus.

Bounded on every side: time for a page and for all, pages at once, pages a second, bytes a page.
What is not read is reported as not read, never as idle.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import aiohttp

from spillway.adapters.metrics.page import EnginePage, parse_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

DEFAULT_URL_TEMPLATE = "http://{ip}:{port}{path}"
_CHUNK_BYTES = 64 * 1024
#: An idle connection is kept for the next tick of either loop (15 s) with room to spare; uvicorn,
#: which serves vLLM, closes after 5 s, then the next read simply opens another.
_KEEPALIVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A pod to read.

    Attributes:
        uid: Pod UID; keys the result.
        namespace: Its namespace.
        pod: Its name.
        ip: Pod IP, v4 or v6.
        port: Port of its metrics.
        path: Path of its metrics, beginning with ``/``.
    """

    uid: str
    namespace: str
    pod: str
    ip: str
    port: int = 8000
    path: str = "/metrics"


class ScrapeFailure(StrEnum):
    """Why a pod has no page."""

    SKIPPED = "skipped"
    """The budget of pages a second is spent."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    STATUS = "status"
    """An HTTP status other than 200, redirects included."""
    TOO_LARGE = "tooLarge"
    NOT_AN_ENGINE = "notAnEngine"
    """The page lacks the running or the waiting gauge."""
    INVALID_TARGET = "invalidTarget"


@dataclass(frozen=True, slots=True)
class ScrapeError:
    """A pod that was not read.

    Attributes:
        failure: The kind.
        message: For a person.
    """

    failure: ScrapeFailure
    message: str


class _ReadError(Exception):
    """Carries a `ScrapeError` out of a read."""

    def __init__(self, failure: ScrapeFailure, message: str) -> None:
        super().__init__(message)
        self.error = ScrapeError(failure, message)


class EngineScraper:
    """Reads many pods at once; use as an asynchronous context manager, or `close` it.

    Args:
        url_template: Address of a pod's page; may use ip, port, path, namespace, pod and uid.
        request_seconds: Longest time for one page.
        total_seconds: Longest time for one `scrape`.
        concurrency: Pages on their way at once.
        pages_per_second: Budget; a second's worth may be spent at once.
        max_bytes: Longest page.
        clock: Wall clock that stamps pages, seconds since the epoch.

    Raises:
        ValueError: The template gives no http address.
    """

    def __init__(
        self,
        *,
        url_template: str = DEFAULT_URL_TEMPLATE,
        request_seconds: float = 0.8,
        total_seconds: float = 2.0,
        concurrency: int = 64,
        pages_per_second: float = 200.0,
        max_bytes: int = 4 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._template = url_template
        self._request_seconds = request_seconds
        self._total_seconds = total_seconds
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        self._clock = clock
        self._budget = _Budget(pages_per_second)
        self._parsing = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        example = ScrapeTarget("uid", "namespace", "pod", "10.0.0.1")
        try:
            self._url(example)
        except (_ReadError, LookupError, ValueError) as error:
            msg = (
                f"scrape url template: {url_template!r} is not accepted ({error}); it must give "
                "http(s)://host[:port]/path and may use {ip}, {port}, {path}, {namespace}, {pod} "
                "and {uid}"
            )
            raise ValueError(msg) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def scrape(
        self,
        targets: Sequence[ScrapeTarget],
        on_page: Callable[[str, EnginePage], None] | None = None,
    ) -> dict[str, EnginePage | ScrapeError]:
        """Reads all targets that the budget allows; never raises for what a pod does.

        Args:
            targets: Most urgent first: beyond the budget the last ones are skipped.
            on_page: Called with UID and page as soon as a page is there, before the others are.

        Returns:
            A page or an error for each target, by UID.
        """
        targets = list({target.uid: target for target in targets}.values())
        affordable = self._budget.take(len(targets))
        skipped = ScrapeError(
            ScrapeFailure.SKIPPED,
            f"not read: the budget of {self._budget.per_second:g} pages/s is spent",
        )
        results: dict[str, EnginePage | ScrapeError] = {
            target.uid: skipped for target in targets[affordable:]
        }
        gate = asyncio.Semaphore(self._concurrency)
        tasks = {
            target.uid: asyncio.create_task(self._read(target, gate, on_page))
            for target in targets[:affordable]
        }
        if tasks:
            try:
                await asyncio.wait(tasks.values(), timeout=self._total_seconds)
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)
        late = ScrapeError(
            ScrapeFailure.TIMEOUT, f"not read within the {self._total_seconds:g} s for all pods"
        )
        results.update(
            {uid: late if task.cancelled() else task.result() for uid, task in tasks.items()}
        )
        return results

    async def _read(
        self,
        target: ScrapeTarget,
        gate: asyncio.Semaphore,
        on_page: Callable[[str, EnginePage], None] | None,
    ) -> EnginePage | ScrapeError:
        async with gate:
            try:
                async with asyncio.timeout(self._request_seconds):
                    text = await self._get(self._url(target))
            except _ReadError as error:
                return error.error
            except TimeoutError:
                return ScrapeError(
                    ScrapeFailure.TIMEOUT, f"no page within {self._request_seconds:g} s"
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                return ScrapeError(ScrapeFailure.UNREACHABLE, reason)
        # One in a turn of the event loop: of pages that come together each waits for those before
        # it, and everybody else for one alone.
        read_at = self._clock()
        async with self._parsing:
            page = parse_page(text, read_at)
            await asyncio.sleep(0)
        if page.running is None or page.waiting is None:
            return ScrapeError(
                ScrapeFailure.NOT_AN_ENGINE,
                "the page has no usable vllm:num_requests_running and num_requests_waiting",
            )
        if on_page is not None:
            on_page(target.uid, page)
        return page

    async def _get(self, url: str) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._concurrency, keepalive_timeout=_KEEPALIVE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Inside a cluster, unpacking costs more than the bytes.
                headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"},
            )
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise _ReadError(ScrapeFailure.STATUS, f"HTTP {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > self._max_bytes:
                    raise _ReadError(
                        ScrapeFailure.TOO_LARGE, f"the page is longer than {self._max_bytes} bytes"
                    )
        return body.decode("utf-8", errors="replace")

    def _url(self, target: ScrapeTarget) -> str:
        """The target's address.

        The checks keep a pod's annotations from sending the operator elsewhere: a path of
        ``@other-host/`` would turn the pod's address into a user name.
        """
        if not target.path.startswith("/"):
            raise _ReadError(
                ScrapeFailure.INVALID_TARGET, f"path {target.path!r} must begin with /"
            )
        if not 0 < target.port < 65536:
            raise _ReadError(ScrapeFailure.INVALID_TARGET, f"port {target.port} is no port")
        try:
            ip = ipaddress.ip_address(target.ip)
        except ValueError:
            raise _ReadError(
                ScrapeFailure.INVALID_TARGET, f"{target.ip!r} is no IP address"
            ) from None
        url = self._template.format(
            ip=f"[{ip}]" if ip.version == 6 else str(ip),
            port=target.port,
            path=target.path,
            namespace=target.namespace,
            pod=target.pod,
            uid=target.uid,
        )
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise _ReadError(ScrapeFailure.INVALID_TARGET, "not an http address")
        return url


class _Budget:
    """A token bucket of pages that holds at most one second's worth."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._left = per_second
        self._filled_at = time.monotonic()

    def take(self, wanted: int) -> int:
        """How many of ``wanted`` pages may be read now; they count as read."""
        now = time.monotonic()
        self._left = min(self.per_second, self._left + (now - self._filled_at) * self.per_second)
        self._filled_at = now
        granted = min(wanted, int(self._left))
        self._left -= granted
        return granted
