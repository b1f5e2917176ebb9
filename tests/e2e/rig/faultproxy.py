"""A proxy that breaks what passes through it: the API server's answers, or Prometheus'.

It stands between one operator and a real server and forwards everything, streams included, until a
test says otherwise. It runs in a thread of the test's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

_DROPPED = frozenset(
    {"host", "connection", "transfer-encoding", "content-length", "content-encoding",
     "accept-encoding", "keep-alive"}
)  # fmt: skip
READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Call:
    """One request that came through.

    Attributes:
        at: When it came (seconds since the epoch).
        method: Such as GET.
        path: Without the query.
        query: The query's values.
    """

    at: float
    method: str
    path: str
    query: dict[str, str]

    @property
    def watches(self) -> bool:
        """Whether it is a watch of the API server."""
        return self.query.get("watch") in {"1", "true", "True"}


@dataclass
class Faults:
    """What is wrong now; all defaults is nothing. A test sets the fields while the proxy runs.

    Attributes:
        delay_seconds: Each call waits for so long before it is passed on.
        status: Answers a call with this status instead of passing it on; None passes it on.
        silent_watches: Watches are taken and bring nothing, those under way included.
        answer: Changes the body of an answer that is passed back.
    """

    delay_seconds: float = 0.0
    status: Callable[[Call], int | None] = lambda _: None
    silent_watches: bool = False
    answer: Callable[[Call, bytes], bytes] | None = None


class FaultProxy:
    """Forwards to one server; use it as a context manager.

    Args:
        upstream: Base address of the server; its certificate is not checked, as it is the rig's.

    Attributes:
        url: Where it listens.
        faults: What is wrong now; `mend` makes it nothing.
        calls: What came through, oldest first.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.faults = Faults()
        self.calls: list[Call] = []
        self._upstream = upstream.rstrip("/")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def mend(self) -> None:
        """Pass everything on again."""
        self.faults = Faults()

    def writes(self, since: float, until: float) -> list[Call]:
        """Calls between two moments that are no reads."""
        return [c for c in self.calls if c.method not in READS and since <= c.at < until]

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            msg = "the proxy did not start"
            raise RuntimeError(msg)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._forward)
        app.cleanup_ctx.append(self._session)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _session(self, _: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=["Content-Type", "User-Agent"],
        ) as self._client:
            yield

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        call = Call(time.time(), request.method, request.path, dict(request.query))
        self.calls.append(call)
        body = await request.read()
        if self.faults.delay_seconds and not call.watches:
            await asyncio.sleep(self.faults.delay_seconds)
        status = self.faults.status(call)
        if status is not None:
            return _refusal(status)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _DROPPED}
        try:
            async with self._client.request(
                request.method,
                self._upstream + request.raw_path,
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as answer:
                return await self._passed_back(request, call, answer)
        except aiohttp.ClientError:
            # What a dead server does: the connection breaks, and no answer comes.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _passed_back(
        self, request: web.Request, call: Call, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in _DROPPED}
        if not call.watches:
            raw = await answer.read()
            change = self.faults.answer
            return web.Response(
                status=answer.status,
                headers=headers,
                body=raw if change is None else change(call, raw),
            )
        stream = web.StreamResponse(status=answer.status, headers=headers)
        await stream.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            async for chunk in answer.content.iter_any():
                if not self.faults.silent_watches:
                    await stream.write(chunk)
        return stream


def _refusal(status: int) -> web.Response:
    """A Status object, as the API server refuses."""
    said = {409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests"}
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": said.get(status, "InternalError"),
        "message": "the rig refuses",
        "code": status,
    }
    headers = {"Retry-After": "1"} if status in {429, 503} else {}
    return web.Response(
        status=status, headers=headers, body=json.dumps(body), content_type="application/json"
    )


Row = dict[str, Any]


@dataclass
class Samples:
    """Changes rows of Prometheus' answers, namespace by namespace.

    Attributes:
        changes: By namespace: what a row is replaced by; no row drops it.
    """

    changes: dict[str, Callable[[str, Row], list[Row]]] = field(default_factory=dict)

    def __call__(self, call: Call, raw: bytes) -> bytes:
        """The answer with the rows changed."""
        if not call.path.endswith("/api/v1/query"):
            return raw
        answer = json.loads(raw)
        rows = answer.get("data", {}).get("result")
        if not isinstance(rows, list):
            return raw
        answer["data"]["result"] = [
            changed for row in rows for changed in self._changed(call.query.get("query", ""), row)
        ]
        return json.dumps(answer).encode()

    def _changed(self, query: str, row: Row) -> list[Row]:
        labels = row["metric"]
        namespace = labels.get("exported_namespace") or labels.get("namespace", "")
        change = self.changes.get(namespace)
        return [row] if change is None else change(query, row)


def valued(text: str) -> Callable[[str, Row], list[Row]]:
    """Every value replaced."""
    return lambda _, row: [{**row, "value": [row["value"][0], text]}]
