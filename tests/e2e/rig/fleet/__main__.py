"""The fleet's metrics over HTTP.

    python -m tests.e2e.rig.fleet --port P --kubeconfig FILE --pods N

| method and path | what |
|---|---|
| GET /fleet/{part} | engines' and DCGM's series of every `PARTS`-th pod, for honor_labels |
| GET /gateway/metrics | the gateways' |
| GET /pods/{namespace}/{pod}/metrics | a pod's own page |
| GET /healthz | how many pods it knows |
| POST /load | ``{"namespace", "pool", "rate"}``: requests a second and pod from now on |

It follows all pods with the label ``app``, which names their pool; its number is what stands behind
the last hyphen.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from aiohttp import web

from spillway.adapters.kube.client import Cluster
from spillway.adapters.kube.informer import Informer
from tests.e2e.rig.fleet import pages
from tests.e2e.rig.fleet.load import PoolLoad, engine_at, usual_rate
from tests.e2e.rig.fleet.process import PARTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Key = tuple[str, str]


def _pool_of(raw: dict[str, Any]) -> str | None:
    """What is kept of a pod: its pool, once it is ready."""
    meta, status = raw["metadata"], raw.get("status") or {}
    ready = any(
        c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []
    )
    app: str | None = meta.get("labels", {}).get("app")
    return app if ready and "deletionTimestamp" not in meta else None


class Exporter:
    """Serves the pages."""

    def __init__(self, kubeconfig: str, pods: int) -> None:
        self._kubeconfig, self._pods_a_pool = kubeconfig, pods
        self._pods: dict[Key, pages.FleetPod] = {}
        self._parts: tuple[set[Key], ...] = tuple(set() for _ in range(PARTS))
        self._loads: dict[Key, PoolLoad] = {}
        self._informer: Informer[str] | None = None

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_get("/fleet/{part}", self._fleet)
        app.router.add_get("/gateway/metrics", self._gateway)
        app.router.add_get("/pods/{namespace}/{pod}/metrics", self._own)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_post("/load", self._load)
        app.cleanup_ctx.append(self._following)
        return app

    async def _following(self, _: web.Application) -> AsyncIterator[None]:
        async with await Cluster.connect(self._kubeconfig) as cluster:
            self._informer = Informer(cluster, "/api/v1/pods", _pool_of, label_selector="app")
            self._informer.on_change(self._changed)
            task = asyncio.create_task(self._informer.run())
            yield
            task.cancel()

    def _changed(self, key: Key) -> None:
        if self._informer is None:
            return
        pool, known = self._informer.store.get(key), self._pods.get(key)
        if pool is None:
            if known is not None:
                del self._pods[key]
                self._parts[_part(key)].discard(key)
        elif known is None:
            now = time.time()
            load = self._load_of((key[0], pool), now)
            self._pods[key] = pages.FleetPod(*key, load, load.totals(now))
            self._parts[_part(key)].add(key)

    def _load_of(self, key: Key, now: float) -> PoolLoad:
        if key not in self._loads:
            rate = usual_rate(int(key[1].rpartition("-")[2]))
            self._loads[key] = PoolLoad(engine_at(rate), now)
        return self._loads[key]

    async def _fleet(self, request: web.Request) -> web.Response:
        part, now = int(request.match_info["part"]), time.time()
        return _page(pages.fleet_page([self._pods[key] for key in self._parts[part]], now))

    async def _gateway(self, _: web.Request) -> web.Response:
        return _page(pages.gateway_page(self._loads, self._pods_a_pool, time.time()))

    async def _own(self, request: web.Request) -> web.Response:
        pod = self._pods.get((request.match_info["namespace"], request.match_info["pod"]))
        if pod is None:
            raise web.HTTPNotFound
        return _page(pages.own_page(pod, time.time()))

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"pods": len(self._pods)})

    async def _load(self, request: web.Request) -> web.Response:
        body, now = await request.json(), time.time()
        load = self._load_of((body["namespace"], body["pool"]), now)
        load.change(engine_at(float(body["rate"])), now)
        return web.json_response({"at": now})


def _part(key: Key) -> int:
    """Which page a pod is on, for as long as it lives."""
    return crc32(key[1].encode()) % PARTS


def _page(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--pods", type=int, required=True, help="of a pool, behind its gateway")
    options = parser.parse_args()
    web.run_app(
        Exporter(options.kubeconfig, options.pods).app(),
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main()
