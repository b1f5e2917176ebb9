"""An API server in this process, for the faults that a real one can't be made to have on demand.

It keeps objects by path with resourceVersions, answers GET, POST, PATCH (merge) and DELETE, and
pushes watch events. Faults come first: a fault sees the request and may answer in its place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Fault = Callable[[Seen], web.Response | None]


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


def status(
    code: int, reason: str, message: str = "because", headers: dict[str, str] | None = None
) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return web.json_response({**body, "message": message}, status=code, headers=headers)


def fail_times(times: int, answer: Callable[[], web.Response], path: str = "") -> Fault:
    """A fault that happens so many times, on this path (on any without)."""
    left = [times]

    def fault(seen: Seen) -> web.Response | None:
        if left[0] == 0 or (path and seen.path != path):
            return None
        left[0] -= 1
        return answer()

    return fault


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@dataclass
class FakeApi:
    objects: dict[str, Json] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    """Collections whose CRD is not installed."""
    version: int = 100
    url: str = ""
    watches: list[asyncio.Queue[Any]] = field(default_factory=list)

    def requests(self, method: str, *, watch: bool = False) -> list[Seen]:
        found = [s for s in self.seen if s.method == method and s.path != "/version"]
        return [s for s in found if (s.query.get("watch") == "true") is watch]

    def put(self, path: str, obj: Json) -> Json:
        """Store an object under its path, with the next resourceVersion."""
        self.version += 1
        meta = {"name": path.rsplit("/", 1)[1], **obj.get("metadata", {})}
        parts = path.split("/")
        if "namespaces" in parts:
            meta.setdefault("namespace", parts[parts.index("namespaces") + 1])
        self.objects[path] = {**obj, "metadata": {**meta, "resourceVersion": str(self.version)}}
        return self.objects[path]

    def push(self, kind: str, obj: Any) -> None:
        """Send an event to every watch."""
        for queue in self.watches:
            queue.put_nowait({"type": kind, "object": obj})

    def end_watches(self) -> None:
        for queue in self.watches:
            queue.put_nowait(None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        seen = Seen(request.method, request.path, dict(request.query), dict(request.headers), body)
        self.seen.append(seen)
        for fault in self.faults:
            answer = fault(seen)
            if answer is not None:
                return answer
        if seen.path == "/version":
            return web.json_response({"gitVersion": "v1.36.3"})
        if seen.path in self.absent:
            return status(404, "NotFound", "the server could not find the requested resource")
        if seen.query.get("watch") == "true":
            return await self._watch(request)
        answers = {
            "GET": self._get,
            "POST": self._post,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        return answers[seen.method](seen)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.watches.append(queue)
        try:
            while (event := await queue.get()) is not None:
                line = event if isinstance(event, bytes) else json.dumps(event).encode()
                await response.write(line + b"\n")
        finally:
            self.watches.remove(queue)
        return response

    def _get(self, seen: Seen) -> web.Response:
        if seen.path in self.objects:
            return web.json_response(self.objects[seen.path])
        plural = seen.path.rsplit("/", 1)[1]
        if not plural.endswith("s"):
            return status(404, "NotFound", f"{plural} not found")
        inside = [
            obj
            for path, obj in self.objects.items()
            if path.rsplit("/", 2)[1] == plural
            and (path.startswith(seen.path) or "/namespaces/" not in seen.path)
        ]
        start, limit = int(seen.query.get("continue") or 0), int(seen.query.get("limit") or 500)
        meta = {"resourceVersion": str(self.version)}
        if start + limit < len(inside):
            meta["continue"] = str(start + limit)
        return web.json_response({"metadata": meta, "items": inside[start : start + limit]})

    def _post(self, seen: Seen) -> web.Response:
        path = f"{seen.path}/{seen.body['metadata']['name']}"
        if path in self.objects:
            return status(409, "AlreadyExists")
        return web.json_response(self.put(path, seen.body), status=201)

    def _patch(self, seen: Seen) -> web.Response:
        current = self.objects.get(seen.path)
        if current is None:
            return status(404, "NotFound")
        asked = seen.body.get("metadata", {}).get("resourceVersion")
        if asked and asked != current["metadata"]["resourceVersion"]:
            return status(409, "Conflict")
        return web.json_response(self.put(seen.path, merged(current, seen.body)))

    def _delete(self, seen: Seen) -> web.Response:
        if self.objects.pop(seen.path, None) is None:
            return status(404, "NotFound")
        self.version += 1
        return web.json_response({"kind": "Status", "status": "Success"})


async def start(api: FakeApi) -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    # Watches that still run at the end of a test need no grace.
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.05)
    api.url = str(server.make_url("")).rstrip("/")
    return server


def write_kubeconfig(path: Path, url: str, user: str = "{}") -> Path:
    path.write_text(
        f"""apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
clusters: [{{name: here, cluster: {{server: "{url}"}}}}]
users: [{{name: me, user: {user}}}]
"""
    )
    return path
