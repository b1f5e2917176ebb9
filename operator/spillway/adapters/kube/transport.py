"""One request to the API server: credentials, time-outs, and every failure as an `ApiError`.

The only module that touches the official client's connection pool.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient
from pydantic_core import from_json

import spillway
from spillway.adapters.kube import credentials
from spillway.adapters.kube.errors import (
    NAMESPACE_TERMINATING,
    ApiError,
    ConnectError,
    Unavailable,
    api_error,
)
from spillway.adapters.kube.paths import describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

log = structlog.get_logger(__name__)

#: How long to wait for a TCP and TLS handshake.
CONNECT_SECONDS: Final = 5.0
#: Credentials are not read anew more often than this, however many requests get a 401.
_RELOAD_INTERVAL_SECONDS: Final = 10.0

JsonObject = dict[str, Any]


class Transport:
    """Sends requests with the official client's pool and credentials.

    Args:
        configuration: The official client's.
        kubeconfig: Where it was read from, to be read anew after a 401; None for the Pod's account.
        context: Likewise.
        request_timeout_seconds: For a whole request and its answer.
        on_call: Told the method of each call (not of watches) and the seconds that it took, failed
            ones included.

    Attributes:
        host: The API server's address.
    """

    def __init__(
        self,
        configuration: Any,
        *,
        kubeconfig: str | None,
        context: str | None,
        request_timeout_seconds: float,
        on_call: Callable[[str, float], None] | None = None,
    ) -> None:
        self.host: str = configuration.host
        self._configuration = configuration
        self._api = ApiClient(configuration=configuration)
        self._source = (kubeconfig, context)
        self._timeout_seconds = request_timeout_seconds
        self._on_call = on_call
        self._reload_lock = asyncio.Lock()
        self._reloaded_at = float("-inf")

    async def close(self) -> None:
        """Close the pool."""
        await self._api.close()

    async def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        body: Any = None,
        content_type: str = "application/json",
        timeout_seconds: float | None = None,
    ) -> JsonObject:
        """Send a request and read its JSON object."""
        timeout = aiohttp.ClientTimeout(
            total=timeout_seconds or self._timeout_seconds, sock_connect=CONNECT_SECONDS
        )
        sent_at = time.monotonic()
        try:
            async with self.stream(
                method, path, params, body=body, content_type=content_type, timeout=timeout
            ) as response:
                raw = await response.read()
        finally:
            if self._on_call is not None:
                self._on_call(method, time.monotonic() - sent_at)
        try:
            answer = from_json(raw, cache_strings="keys")
        except ValueError as error:
            what = f"{describe(method, path, params)} got an answer that is not JSON"
            msg = f"{what} ({raw[:80]!r}): is {self.host} an API server?"
            raise Unavailable(response.status, "NotJSON", msg) from error
        if not isinstance(answer, dict):
            msg = f"{describe(method, path, params)} got {type(answer).__name__}, not an object"
            raise Unavailable(response.status, "NotAnObject", msg)
        return answer

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp enforces it
        body: Any = None,
        content_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hand out its successful answer; map every failure to the tree.

        A 401 reads the credentials anew and tries once more: tokens of exec plugins and token files
        expire while we run.
        """
        url = f"{self.host}{path}" + (f"?{urlencode(params)}" if params else "")
        request = describe(method, path, params)
        for may_reload in (True, False):
            sent_at = time.monotonic()
            try:
                response = await self._request(method, url, body, content_type, timeout)
                try:
                    if response.status == 401 and may_reload and await self._reload(sent_at):
                        continue
                    if response.status >= 400:
                        raise await _failure(response, request)
                    yield response
                    return
                finally:
                    # A body that was read to its end has given its connection back by now.
                    response.close()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                what = str(error) or type(error).__name__
                msg = f"{request} got no answer from {self.host}: {what}"
                raise Unavailable(0, type(error).__name__, msg) from error

    async def _request(
        self,
        method: str,
        url: str,
        body: Any,
        content_type: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp enforces it
    ) -> aiohttp.ClientResponse:
        headers = {
            "Accept": "application/json",
            "Content-Type": content_type,
            "User-Agent": f"spillway/{spillway.__version__}",
        }
        for auth in (await self._configuration.auth_settings()).values():
            if auth["value"]:
                headers[auth["key"]] = auth["value"]
        answer = await self._api.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _reload(self, sent_at: float) -> bool:
        """Read the credentials anew after a 401; whether trying again makes sense."""
        async with self._reload_lock:
            if self._reloaded_at > sent_at:
                return True
            if time.monotonic() - self._reloaded_at < _RELOAD_INTERVAL_SECONDS:
                return False
            self._reloaded_at = time.monotonic()
            try:
                fresh = await credentials.load(*self._source)
            except ConnectError as error:
                log.warning("credentials could not be read anew", error=str(error))
                return False
            self._configuration.api_key = fresh.api_key
            self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook
            return True


async def _failure(response: aiohttp.ClientResponse, request: str) -> ApiError:
    """Turn an answer that is not a success into an error."""
    raw = await response.read()
    reason, message = response.reason or "", raw[:300].decode("utf-8", "replace").strip()
    try:
        status = from_json(raw)
    except ValueError:
        status = None
    if isinstance(status, dict):
        reason = str(status.get("reason") or reason)
        message = str(status.get("message") or message)
        if _is_terminating(status.get("details")):
            reason = NAMESPACE_TERMINATING
    return api_error(
        response.status,
        reason,
        message,
        request=request,
        retry_after_seconds=_retry_after(response.headers.get("Retry-After")),
    )


def _is_terminating(details: Any) -> bool:
    """Whether a Status says that its cause is a namespace that is being deleted."""
    causes = details.get("causes") if isinstance(details, dict) else None
    return isinstance(causes, list) and any(
        isinstance(cause, dict) and cause.get("reason") == NAMESPACE_TERMINATING for cause in causes
    )


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header; the API server never sends the date form."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
