"""The API server as Spillway uses it: raw JSON over the official client's connection pool.

The official client (``kubernetes.aio``) brings the configuration, the credentials, TLS, proxies and
the pool. Its generated models are left out: at 10,000 pods they cost five times the memory of plain
dictionaries of which only the needed fields are kept (docs/design has the measurements).
"""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from pydantic_core import from_json

from spillway.adapters.kube import credentials
from spillway.adapters.kube.errors import (
    ApiError,
    Conflict,
    ConnectError,
    Forbidden,
    Invalid,
    Unauthorized,
    Unavailable,
    WatchSilent,
    api_error,
)
from spillway.adapters.kube.paths import describe
from spillway.adapters.kube.throttle import TokenBucket
from spillway.adapters.kube.transport import CONNECT_SECONDS, JsonObject, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

#: Tries of one idempotent GET. Everything else is tried once: only the caller knows if it may be
#: done twice.
GET_ATTEMPTS: Final = 3
#: First pause between tries of a GET, doubled each time, and the longest Retry-After it follows.
GET_BACKOFF_SECONDS: Final = 0.2
GET_BACKOFF_CAP_SECONDS: Final = 5.0
#: A watch ends after this long (the server is asked to), give or take a fifth, so that watches
#: spread over the API servers again after one of them restarted.
WATCH_SERVER_SECONDS: Final = 300
#: How the API server tells of a JSON patch that could not be applied as a whole.
_FAILED_TEST: Final = re.compile(r"testing (value|path)|rejected our request due to an error")
#: The API server sends a bookmark about every 60 s (bookmarkFrequency in its watch cache), so a
#: watch that is silent for longer is dead.
WATCH_IDLE_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list.

    Attributes:
        items: Raw objects (the API server leaves out their kind and apiVersion).
        resource_version: Of the whole list; a watch goes on from the last page's.
    """

    items: list[JsonObject]
    resource_version: str


class Cluster:
    """A connection to one API server. Make it with `connect`, close it with `close`.

    Every method raises a member of the `ApiError` tree. Writes share one token bucket.

    Attributes:
        host: The API server's address.
    """

    def __init__(
        self,
        transport: Transport,
        writes: TokenBucket,
        may_write: Callable[[], bool] | None = None,
        queue: asyncio.Lock | None = None,
    ) -> None:
        self.host: str = transport.host
        self._transport = transport
        self._writes = writes
        self._may_write = may_write
        self._queue = queue

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        *,
        request_timeout_seconds: float = 30.0,
        writes_per_second: float = 17.0,
        write_burst: float = 40.0,
        on_call: Callable[[str, float], None] | None = None,
    ) -> Self:
        """Connect, and prove it by asking for the server's version.

        Args:
            kubeconfig: Path (or paths, as in ``KUBECONFIG``); None takes the pod's ServiceAccount,
                else kubectl's defaults.
            context: A context of the kubeconfig; None takes its current one.
            request_timeout_seconds: For a whole request and its answer; watches have their own.
            writes_per_second: What all writers together may send.
            write_burst: How many writes may go at once before that bound holds.
            on_call: Told the method of each call and the seconds until its answer.

        Raises:
            ConnectError: Nothing is configured, nobody answers, or the credentials are refused.
        """
        path = credentials.find_kubeconfig(kubeconfig)
        transport = Transport(
            await credentials.load(path, context),
            kubeconfig=path,
            context=context,
            request_timeout_seconds=request_timeout_seconds,
            on_call=on_call,
        )
        cluster = cls(transport, TokenBucket(writes_per_second, write_burst))
        try:
            await cluster.get("/version")
        except Forbidden:
            # It knows us, and that is what was asked.
            return cluster
        except Unauthorized as error:
            await cluster.close()
            msg = f"{cluster.host} refuses the credentials: {error.message}; log in again"
            raise ConnectError(msg) from error
        except ApiError as error:
            await cluster.close()
            msg = (
                f"{cluster.host} can't be reached: {error.message}; is the API server up, and is "
                "it this kubeconfig's? try: kubectl version"
            )
            raise ConnectError(msg) from error
        except BaseException:
            await cluster.close()
            raise
        return cluster

    def fenced(self, may_write: Callable[[], bool]) -> Self:
        """The same connection for writes that only a leader may make.

        ``may_write`` is asked after the wait for a token, which may outlast a leadership; where it
        says no, a write is a `Conflict` and not sent.
        """
        return type(self)(self._transport, self._writes, may_write, self._queue)

    def patient(self) -> Self:
        """The same connection for writes that may wait.

        Tokens are booked in the order of arrival. Of these writes one at a time books one, however
        many there are, so that no other write waits for more than a single token of theirs.
        """
        return type(self)(self._transport, self._writes, self._may_write, asyncio.Lock())

    async def close(self) -> None:
        """Close the pool; running requests and watches fail."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Reading

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> JsonObject:
        """Read one object, trying a few times while the server is unavailable.

        Raises:
            ApiError: `NotFound`, `Forbidden`, `Gone`; `Unavailable` after the last try.
        """
        pause = GET_BACKOFF_SECONDS
        for attempt in range(1, GET_ATTEMPTS + 1):
            try:
                return await self._transport.call("GET", path, params or {})
            except Unavailable as error:
                if attempt == GET_ATTEMPTS:
                    raise
                asked = error.retry_after_seconds or 0.0
                if asked > GET_BACKOFF_CAP_SECONDS:
                    raise
                await asyncio.sleep(max(asked, pause * random.uniform(0.8, 1.2)))  # noqa: S311 - jitter
                pause = min(pause * 2, GET_BACKOFF_CAP_SECONDS)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def list_pages(
        self, path: str, params: Mapping[str, str] | None = None, limit: int = 500
    ) -> AsyncGenerator[ListPage, None]:
        """List a collection page by page; all pages are of one moment.

        Args:
            path: The collection.
            params: Such as labelSelector and fieldSelector.
            limit: Objects a page.

        Raises:
            Gone: The list took longer than the server keeps a moment; begin again.
        """
        query = {**(params or {}), "limit": str(limit)}
        while True:
            body = await self.get(path, query)
            meta = body.get("metadata") or {}
            yield ListPage(body.get("items") or [], meta.get("resourceVersion", ""))
            token = meta.get("continue")
            if not token:
                return
            query["continue"] = token

    async def watch(
        self,
        path: str,
        resource_version: str,
        params: Mapping[str, str] | None = None,
        *,
        server_seconds: float = WATCH_SERVER_SECONDS,
        idle_seconds: float = WATCH_IDLE_SECONDS,
    ) -> AsyncGenerator[tuple[str, JsonObject], None]:
        """Watch a collection from a resourceVersion on; ends when the server ends it.

        Bookmarks are asked for and passed on as ``("BOOKMARK", object)``.

        Args:
            path: The collection.
            resource_version: Where to go on; from a list, an event or a bookmark.
            params: Such as labelSelector and fieldSelector.
            server_seconds: When the server is to end the watch (give or take a fifth).
            idle_seconds: How long it may be silent.

        Yields:
            ``(type, object)`` with type ADDED, MODIFIED, DELETED or BOOKMARK.

        Raises:
            Gone: The resourceVersion is too old: list again.
            WatchSilent: Neither events nor bookmarks came for ``idle_seconds``.
        """
        lifetime = int(server_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
        query = {
            **(params or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, lifetime)),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds
        )
        request = describe("GET", path, query)
        async with self._transport.stream("GET", path, query, timeout=timeout) as response:
            while True:
                try:
                    line = await response.content.readline()
                except aiohttp.SocketTimeoutError as error:
                    msg = f"{request} was silent for {idle_seconds:.0f} s"
                    raise WatchSilent(0, "WatchSilent", msg) from error
                if not line:
                    return
                yield _watch_event(line, request)

    # Writing

    async def apply(
        self,
        path: str,
        body: JsonObject,
        manager: str,
        *,
        force: bool = True,
        subresource: str = "",
    ) -> JsonObject:
        """Server-side apply.

        Args:
            path: The object.
            body: What the manager wants to own, with apiVersion and kind. A
                ``metadata.resourceVersion`` in it makes a changed object a `Conflict`; a
                ``metadata.uid`` keeps the apply from creating what has been deleted.
            manager: Field manager.
            force: Take fields from other managers.
            subresource: Such as ``status`` or ``scale``.
        """
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        target = f"{path}/{subresource}" if subresource else path
        return await self._write(
            "PATCH", target, params, body, content_type="application/apply-patch+yaml"
        )

    async def merge_patch(
        self,
        path: str,
        body: JsonObject,
        manager: str,
        *,
        throttle: bool = True,
        timeout_seconds: float | None = None,
    ) -> JsonObject:
        """JSON merge patch (RFC 7386); ``metadata.resourceVersion`` in it is a precondition.

        Args:
            path: The object.
            body: The patch; None removes a field.
            manager: Field manager.
            throttle: False passes by the write bucket; for the leader lease alone.
            timeout_seconds: Shorter than the connection's own, where it matters.
        """
        return await self._write(
            "PATCH",
            path,
            {"fieldManager": manager},
            body,
            content_type="application/merge-patch+json",
            throttle=throttle,
            timeout_seconds=timeout_seconds,
        )

    async def json_patch(
        self, path: str, operations: Sequence[JsonObject], manager: str
    ) -> JsonObject:
        """JSON patch (RFC 6902) whose ``test`` operations are its preconditions.

        Raises:
            Conflict: A test failed: the object is not what this was decided on.
            Invalid: The server refuses the result.
        """
        try:
            return await self._write(
                "PATCH",
                path,
                {"fieldManager": manager},
                list(operations),
                content_type="application/json-patch+json",
            )
        except Invalid as error:
            # The server tells a failed test by no reason of its own, only in words, or not at all;
            # a result that its schema refuses is told with the field.
            if _FAILED_TEST.search(error.message) is None:
                raise
            raise Conflict(error.status, "TestFailed", error.message) from error

    async def create(
        self, path: str, body: JsonObject, manager: str, *, throttle: bool = True
    ) -> JsonObject:
        """Create an object in a collection; `Conflict` if its name is taken."""
        return await self._write("POST", path, {"fieldManager": manager}, body, throttle=throttle)

    async def delete(self, path: str, *, uid: str | None = None) -> JsonObject:
        """Delete an object; with a uid only that one, else `Conflict`."""
        body: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            body["preconditions"] = {"uid": uid}
        return await self._write("DELETE", path, {}, body)

    async def _write(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Any,
        *,
        content_type: str = "application/json",
        throttle: bool = True,
        timeout_seconds: float | None = None,
    ) -> JsonObject:
        if throttle:
            async with self._queue or nullcontext():
                await self._writes.take()
        if self._may_write is not None and not self._may_write():
            msg = f"{describe(method, path, params)} was not sent: this process does not lead"
            raise Conflict(0, "NotLeading", msg)
        return await self._transport.call(
            method,
            path,
            params,
            body=body,
            content_type=content_type,
            timeout_seconds=timeout_seconds,
        )


def _watch_event(line: bytes, request: str) -> tuple[str, JsonObject]:
    """Parse one line of a watch; an ERROR event becomes an exception."""
    try:
        # Values hardly come twice; a cache of them would fill with names and times.
        event = from_json(line, cache_strings="keys")
        kind, obj = str(event["type"]), event["object"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{request} sent a line that is no event: {line[:80]!r}"
        raise Unavailable(0, "MalformedEvent", msg) from error
    if kind == "ERROR":
        raise api_error(
            int(obj.get("code") or 500),
            str(obj.get("reason") or "Unknown"),
            str(obj.get("message") or ""),
            request=request,
            retry_after_seconds=None,
        )
    return kind, obj
