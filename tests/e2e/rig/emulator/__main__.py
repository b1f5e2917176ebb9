"""Run the emulator: ``python -m tests.e2e.rig.emulator --port 9800 --kubeconfig F``.

Prints ``listening on http://host:port`` once it answers. Ends on SIGINT or SIGTERM. Exit code 2:
a flag, the kubeconfig or the pools file can't be used; the message says why.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from pathlib import Path

from aiohttp import web
from kubernetes.config import ConfigException
from pydantic import TypeAdapter, ValidationError

from tests.e2e.rig.emulator.clock import Clock
from tests.e2e.rig.emulator.fleet import Fleet
from tests.e2e.rig.emulator.podwatch import ApiServer
from tests.e2e.rig.emulator.server import Server
from tests.e2e.rig.emulator.settings import PoolSettings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.rig.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument("--kubeconfig", help="default: as kubectl")
    parser.add_argument(
        "--operator",
        action="append",
        default=[],
        metavar="URL",
        help="where the operator serves the overflow value; once per replica",
    )
    parser.add_argument(
        "--pools", type=Path, metavar="FILE", help="JSON list of POST /pools bodies"
    )
    parser.add_argument("--time-factor", type=float, default=1.0, help="simulated seconds a second")
    return parser.parse_args()


def main() -> int:
    """Run until told to stop."""
    logging.basicConfig(stream=sys.stderr, format="emulator: %(levelname)s %(message)s")
    arguments = _arguments()
    try:
        fleet = Fleet(Clock(arguments.time_factor))
        api = ApiServer.from_kubeconfig(arguments.kubeconfig)
        text = arguments.pools.read_bytes() if arguments.pools else b"[]"
        pools = TypeAdapter(list[PoolSettings]).validate_json(text)
        listener = socket.create_server((arguments.host, arguments.port))
    except (ConfigException, ValidationError, ValueError, OSError) as error:
        print(f"emulator: {error}", file=sys.stderr)  # noqa: T201 - this is the command's output
        return 2
    server = Server(fleet, arguments.operator, api)
    app = server.app()

    async def add_pools(_: web.Application) -> None:
        for settings in pools:
            server.add_pool(settings)

    # aiohttp enters the app's contexts before, so the pools' watches have their session.
    app.on_startup.append(add_pools)
    # The socket listens from here on: a client that has read the line below can connect.
    host, port = listener.getsockname()[:2]
    print(f"listening on http://{host}:{port}", flush=True)  # noqa: T201 - the command's output
    web.run_app(app, sock=listener, access_log=None, print=None, shutdown_timeout=1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
